/*
 * domain.h - the life of a domain: built paused, given its devices and
 * unpaused, destroyed until nothing is left, listed.
 */
#ifndef DOMUS_BUILDER_DOMAIN_H
#define DOMUS_BUILDER_DOMAIN_H

#include "xl.h"

/* A failed build leaves no domain. */
int domain_build(struct xl *xl, const struct job_build *build,
                 struct job_built *built_out, struct err *e);

/* After a failure the domain is the caller's to destroy. */
int domain_start(struct xl *xl, const struct job_start *start, struct err *e);

/* Both are success when it is so already. */
int domain_pause(struct xl *xl, const struct job_domain *domain, struct err *e);
int domain_resume(struct xl *xl, const struct job_domain *domain,
                  struct err *e);

int domain_sched(struct xl *xl, const struct job_sched *sched, struct err *e);

/*
 * 0 when the domain is gone, or was not there. What takes longer than a few
 * seconds is -ETIMEDOUT: to be asked for again, and no worker is held up.
 */
int domain_destroy(struct xl *xl, const struct job_domain *domain,
                   struct err *e);

/* Domains of our name, and those without one: only the uuid tells whose. */
int domain_list(struct xl *xl, struct job_list_result *result_out,
                struct err *e);

#endif
