/*
 * cgroup.h - a container's control group, in the unified hierarchy.
 *
 * A container may make groups beneath its own, so whoever counts, signals or
 * removes walks down, to a bounded depth.
 */
#ifndef AGENT_CGROUP_H
#define AGENT_CGROUP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "domus/err.h"
#include "domus/proto.h"
#include "domus/spec.h"

/* Lets groups beneath base (a directory) use every controller there is. */
int cgroup_enable_controllers(int base, struct err *e);

/* Writes each file. Fails with ENOTSUP when the guest's kernel lacks the
 * controller, EINVAL for a name that is not the client's to set. */
int cgroup_set(int cgroup, const struct spec_setting_list *settings,
               struct err *e);

/* Makes the group name with its settings, or nothing. */
int cgroup_make(int base, const char *name,
                const struct spec_setting_list *settings, int *cgroup_out,
                struct err *e);

/* Kills everything in it. */
int cgroup_kill(int cgroup, struct err *e);
int cgroup_signal(int cgroup, int signal, struct err *e);

/* Process ids, at most max of them; how many there were. */
size_t cgroup_pids(int cgroup, pid_t *pids, size_t max);

/* Adds the files that statistics are made of, as they are. */
void cgroup_stats(int cgroup, struct spec_setting_list *files_out);

/* EBUSY while a process is left. */
int cgroup_remove(int base, const char *name, struct err *e);

#endif
