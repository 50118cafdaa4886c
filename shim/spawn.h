/*
 * spawn.h - starts a program in a session of its own, with every signal as a
 * new process has it.
 */
#ifndef DOMUS_SPAWN_H
#define DOMUS_SPAWN_H

#include <spawn.h>
#include <sys/types.h>

#include "domus/err.h"

/* Of the shim itself, also when its file was replaced. */
#define SPAWN_SELF "/proc/self/exe"

/* program: by PATH when it has no slash. actions: what becomes of descriptors;
 * destroyed. The error names the program. */
int spawn(const char *program, char *const *argv,
          posix_spawn_file_actions_t *actions, pid_t *pid_out, struct err *e);

#endif
