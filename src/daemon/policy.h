/*
 * policy.h - what a CREATE may ask for, and the domain it gets: the host's
 * configuration decides, annotations only where it allows them by name.
 */
#ifndef DOMUS_POLICY_H
#define DOMUS_POLICY_H

#include "config.h"
#include "domus/ctl.h"

struct domain_plan {
    enum domain_type type;
    uint64_t memory_kb;
    uint32_t vcpus;
    uint32_t cpu_weight; /* 0: the scheduler's default */
    uint32_t cpu_cap;    /* 0: not limited */
};

/* Whether there is such an annotation at all. */
bool policy_knows_annotation(const char *name);

/* Ids, paths and annotations; type may still be DOMAIN_AUTO. */
int policy_plan(const struct config *config, const struct ctl_create *create,
                struct domain_plan *plan_out, struct err *e);

/* Settles on PV or PVH, and checks that the domain fits into free_kb. */
int policy_settle(struct domain_plan *plan, bool has_hap, uint64_t free_kb,
                  struct err *e);

/* What an UPDATE may ask of a domain of so much memory; 0 and what changes of
 * the scheduling, or -ENOMEM: a domain's memory does not grow. */
int policy_update(const struct config *config, uint64_t memory_kb,
                  uint32_t vcpus, struct ctl_update *update, struct err *e);

#endif
