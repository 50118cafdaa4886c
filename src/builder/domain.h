/*
 * domain.h - the life of a domain: built paused, given its devices and
 * unpaused, destroyed until nothing is left, listed.
 */
#ifndef DOMUS_BUILDER_DOMAIN_H
#define DOMUS_BUILDER_DOMAIN_H

#include "xl.h"

#define DOMAIN_NAME_PREFIX "domus-"

/* A failed build leaves no domain. */
int domain_build(struct xl *xl, const struct job_build *build,
                 struct job_built *built_out, struct err *e);

/* After a failure the domain is the caller's to destroy. */
int domain_start(struct xl *xl, const struct job_start *start, struct err *e);

/* 0 when the domain is gone, or was not there. */
int domain_destroy(struct xl *xl, const struct job_domain *domain,
                   struct err *e);

/* Domains of our name, and those without one: only the uuid tells whose. */
int domain_list(struct xl *xl, struct job_list_result *result_out,
                struct err *e);

#endif
