/*
 * exec_child.h - a later process of a container between clone() and exec: it
 * joins the namespaces of the first process instead of building a world.
 */
#ifndef AGENT_EXEC_CHILD_H
#define AGENT_EXEC_CHILD_H

#include <sys/types.h>

#include "domus/err.h"
#include "domus/spec.h"
#include "process.h"

struct exec_child {
    const struct spec_process *process;
    const struct process_seal *seal;
    uint64_t namespaces; /* CLONE_NEW bits of those to join */
    int first;           /* pidfd of the container's first process */
    int cgroup;
    int sync;
    const int *stdio;     /* what becomes 0, 1 and 2 */
    const char *terminal; /* its path, or NULL */
};

/*
 * Makes the process in the container's pid namespace and cgroup, a child of
 * the caller. It reports with code 0 when it is about to become the program.
 */
int exec_child_spawn(const struct exec_child *child, pid_t *pid_out,
                     struct err *e);

#endif
