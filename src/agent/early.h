/*
 * early.h - what the agent needs before it can serve: devices for its
 * channel, then its own root with /proc, /sys, /dev and the cgroups.
 */
#ifndef AGENT_EARLY_H
#define AGENT_EARLY_H

#include "agent.h"

/* Where the containers' cgroups are, in the agent's root. */
#define EARLY_CGROUPS "/sys/fs/cgroup"

/* /dev with the nodes that a channel needs; standard streams on the console
 * where the kernel gave none. */
int early_devices(struct err *e);

/*
 * Moves to a root of the agent's own: a small tmpfs. The initramfs cannot be
 * the old root of a pivot_root(), by which containers get theirs; and the
 * agent's program is then under no path any more.
 */
int early_root(const struct agent_options *options, int *cgroup_out,
               struct err *e);

/* Brings up the loopback device: this kernel's network is the sandbox's. */
int early_network(struct err *e);

#endif
