/*
 * rootfs.h - a container's file system tree, made by its own first process
 * in its own mount namespace, so that it goes away with the container.
 */
#ifndef AGENT_ROOTFS_H
#define AGENT_ROOTFS_H

#include "domus/err.h"
#include "domus/spec.h"

/* Directories of the guest's root where a container's tree is put together. */
#define ROOTFS_LOWER   "/lower"
#define ROOTFS_UPPER   "/upper"
#define ROOTFS_ROOT    "/rootfs"
#define ROOTFS_DEVICES "/devices" /* nodes that are shown in it */

/*
 * Waits for the block device (a path), forms the root over it, makes the
 * mounts and devices of the spec, and makes it the root of this process.
 * terminal: path of the pty in the guest, or NULL. cgroup: the container's
 * own, as a path in the guest.
 */
int rootfs_enter(const struct spec_container *spec, const char *device,
                 const char *terminal, const char *cgroup, struct err *e);

#endif
