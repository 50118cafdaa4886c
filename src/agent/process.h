/*
 * process.h - what a process of a container is, from the inside: limits,
 * user, capabilities, working directory, environment, program. Everything
 * here changes the calling process, which is to become that process.
 */
#ifndef AGENT_PROCESS_H
#define AGENT_PROCESS_H

#include "domus/err.h"
#include "domus/spec.h"

/* Needs the guest's /proc, so it comes before the change of root. */
int process_set_oom_score(const struct spec_process *p, struct err *e);

/* Limits, user, capabilities and working directory, inside the new root. */
int process_become(const struct spec_process *p, struct err *e);

/* The environment to run with: env, and HOME from /etc/passwd if missing. */
struct string_list process_environment(const struct spec_process *p);

/*
 * Finds the program of args[0] as a shell would, in the PATH of the process's
 * own environment. Fails as Go's exec.LookPath says it, since users know that
 * text from other runtimes.
 */
int process_find_program(const struct spec_process *p, char **path_out,
                         struct err *e);

#endif
