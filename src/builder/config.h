/*
 * config.h - from a build job to libxl's domain configuration. Pure: no
 * context, no hypercall, so that every choice can be tested without Xen.
 */
#ifndef DOMUS_BUILDER_CONFIG_H
#define DOMUS_BUILDER_CONFIG_H

#include "xl.h"

#define CONFIG_VCPUS_MAX     128 /* what Xen gives a PVH domain */
#define CONFIG_MEMORY_KB_MIN 4096
#define CONFIG_MEMORY_KB_MAX (UINT64_C(1) << 32) /* 4 TiB */

#define CONFIG_WEIGHT_MAX 65535 /* of credit2 */

/* 0 is right for both: not said. */
int config_check_sched(uint32_t weight, uint32_t cap, struct err *e);

/*
 * Writes config_out only on success; the caller disposes of it. nodes is the
 * number of NUMA nodes of the host.
 */
int config_from_job(const struct job_build *build, uint32_t nodes,
                    libxl_domain_config *config_out, struct err *e);

/* What the domain takes of Xen's memory in all, about. */
uint64_t config_needs_kb(const struct job_build *build);

#endif
