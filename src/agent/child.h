/*
 * child.h - a container's first process between clone() and exec: it builds
 * its own world, reports that it is ready or what failed, waits for the word
 * to go, and becomes the container's program.
 */
#ifndef AGENT_CHILD_H
#define AGENT_CHILD_H

#include "domus/spec.h"

struct child {
    const struct spec_container *spec;
    const char *device;   /* path of the root device */
    const char *terminal; /* path of the pty, or NULL */
    const char *cgroup;   /* path of the container's own */
    int sync;
    const int *stdio; /* what becomes 0, 1 and 2 */
};

_Noreturn void child_run(const struct child *child);

#endif
