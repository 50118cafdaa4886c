/*
 * cgroup.h - a container's control group, in the unified hierarchy.
 *
 * A container may make groups beneath its own, so whoever counts, signals or
 * removes walks down, to a bounded depth.
 */
#ifndef AGENT_CGROUP_H
#define AGENT_CGROUP_H

#include <stdbool.h>
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

/*
 * The same for a group in use: when one fails, those before it get their old
 * values back. check_memory: fails with EBUSY when a new memory.max is less
 * than what is used.
 */
int cgroup_update(int cgroup, const struct spec_setting_list *settings,
                  bool check_memory, struct err *e);

/* Makes the group name with its settings, or nothing. */
int cgroup_make(int base, const char *name,
                const struct spec_setting_list *settings, int *cgroup_out,
                struct err *e);

/* Kills everything in it. */
int cgroup_kill(int cgroup, struct err *e);
/* Asks for it; cgroup.events says when it is so. */
int cgroup_freeze(int cgroup, bool freeze, struct err *e);

/* A file of counters, to be polled for POLLPRI; or a negative errno. */
int cgroup_open_events(int cgroup, const char *name);
/* "name number" of such a file; reading it arms the poll. */
int cgroup_counter(int events, const char *name, uint64_t *value_out);

int cgroup_signal(int cgroup, int signal, struct err *e);

/* Process ids, at most max of them; how many there were. */
size_t cgroup_pids(int cgroup, pid_t *pids, size_t max);

/* The group that a process is in: this one, or one beneath. ESRCH. */
int cgroup_find(int cgroup, pid_t pid, int *group_out, struct err *e);

/* Adds the files that statistics are made of, as they are. */
void cgroup_stats(int cgroup, struct spec_setting_list *files_out);

/* EBUSY while a process is left. */
int cgroup_remove(int base, const char *name, struct err *e);

#endif
