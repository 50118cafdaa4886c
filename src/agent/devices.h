/*
 * devices.h - a container's device nodes: those that the specification wants
 * in every /dev, and the container's own.
 *
 * Nodes are bind mounts of the guest's own, so that every file system that a
 * container may write to can be mounted nodev: the right to make nodes, which
 * containers have by default, then gives access to no device.
 */
#ifndef AGENT_DEVICES_H
#define AGENT_DEVICES_H

#include <stdbool.h>

#include "domus/err.h"
#include "domus/spec.h"

/* root: the container's; others: replace default nodes of the same path;
 * terminal: path in the guest, or NULL. */
int devices_make_default(int root, const struct spec_device_list *others,
                         const char *terminal, struct err *e);

/* Makes the nodes of spec in the guest's ROOTFS_DEVICES, to be shown. */
int devices_prepare(const struct spec_container *spec, struct err *e);

/* Shows them at their paths. own_dev: the container brings a /dev of its own;
 * what would be there is left out, as other runtimes do. terminal: what is
 * /dev/console already, or NULL. */
int devices_make(int root, const struct spec_device_list *list, bool own_dev,
                 const char *terminal, struct err *e);

#endif
