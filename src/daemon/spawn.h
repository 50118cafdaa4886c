/*
 * spawn.h - starts builder processes: this program again under the name
 * domus-builder, or the one that the configuration names. A child has its
 * socket on JOB_FD, nothing else of ours but stderr, and dies with us.
 */
#ifndef DOMUS_SPAWN_H
#define DOMUS_SPAWN_H

#include <sys/types.h>

#include "domus/err.h"

#define SPAWN_BUILDER_NAME "domus-builder"

/* program: empty for this one; role: "worker" or "watcher". fd_out does not
 * block. */
int spawn_builder(const char *program, const char *role, pid_t *pid_out,
                  int *fd_out, struct err *e);

#endif
