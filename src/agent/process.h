/*
 * process.h - what a process of a container is, from the inside: limits,
 * user, capabilities, working directory, environment, program. Everything
 * here changes the calling process, which is to become that process.
 */
#ifndef AGENT_PROCESS_H
#define AGENT_PROCESS_H

#include "domus/err.h"
#include "domus/spec.h"

/* What every process of a container has in common, a later one too. All of it
 * is borrowed from whoever keeps the container's specification. */
struct process_seal {
    struct byte_list seccomp; /* empty: none */
    uint64_t seccomp_flags;
    bool has_personality;
    uint32_t personality;
};

struct process_seal process_seal_of(const struct spec_container *spec);

/*
 * The way of a process, first or later, once it is in its namespaces:
 *
 *   process_set_oom_score()   needs the guest's /proc
 *   process_environment()     inside the new root, where the user may read
 *                             less than root
 *   process_become()
 *   process_find_program()
 *   process_execute()
 */
int process_set_oom_score(const struct spec_process *p, struct err *e);

/* Raises the limits that process_become() is to set as far as only the guest's
 * root user may: before a user namespace. They hold later, since what is done
 * until then is not the process's. */
int process_allow_limits(const struct spec_process *p, struct err *e);

/*
 * Scheduler, limits, working directory, user and capabilities. Without
 * no_new_privs only a privileged process may load a seccomp filter, so then it
 * is loaded here, before the capabilities go.
 */
int process_become(const struct spec_process *p,
                   const struct process_seal *seal, struct err *e);

/* The list as execve(2) takes it; the caller frees it, not its strings. */
char **process_vector(const struct string_list *list);

/* With no_new_privs the filter is loaded here, so that it need not allow
 * anything but execve(2). Returns only when that failed. */
int process_execute(const struct spec_process *p,
                    const struct process_seal *seal, const char *program,
                    const struct string_list *env, struct err *e);

/* What env says, each variable once. Its strings are env's; .v is the
 * caller's. */
struct string_list process_variables(const struct spec_process *p);

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
