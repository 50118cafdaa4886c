/*
 * devices.h - what the specification wants in every container's /dev.
 *
 * Nodes are bind mounts of the guest's own, so that every file system that a
 * container may write to can be mounted nodev: the right to make nodes, which
 * containers have by default, then gives access to no device.
 */
#ifndef AGENT_DEVICES_H
#define AGENT_DEVICES_H

#include "domus/err.h"

/* root: the container's; terminal: path in the guest, or NULL. */
int devices_make(int root, const char *terminal, struct err *e);

#endif
