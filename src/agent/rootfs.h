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
/* Of a user namespace, which cannot mount them itself; see userns.h. */
#define ROOTFS_PROC  "/container-proc"
#define ROOTFS_SYSFS "/container-sysfs"

/* Waits for the block device (a path) and forms the root over it, and the
 * device nodes of the spec, where the guest's root user is needed. */
int rootfs_prepare(const struct spec_container *spec, const char *device,
                   struct err *e);

/*
 * Makes the mounts and devices of the spec in it, and makes it the root of
 * this process. terminal: path of the pty in the guest, or NULL. cgroup: the
 * container's own, as a path in the guest.
 */
int rootfs_enter(const struct spec_container *spec, const char *terminal,
                 const char *cgroup, struct err *e);

/* The filter of spec's rules, once the agent has done what it does with
 * devices itself. Before the user namespace, which may not. */
int rootfs_limit_devices(const struct spec_container *spec, const char *cgroup,
                         struct err *e);

#endif
