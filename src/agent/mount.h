/*
 * mount.h - mounts by descriptor, and paths that stay beneath a root.
 *
 * An image is hostile: any part of a path in it may be a symbolic link to
 * anywhere. So a path inside a container's root is always resolved by
 * openat2() as if that root were "/", and mounts are attached to the
 * descriptor that came out, never to a path.
 */
#ifndef AGENT_MOUNT_H
#define AGENT_MOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "domus/err.h"

/* Opens path beneath root; flags as for open(2), close-on-exec is added. */
int tree_open(int root, const char *path, int flags, int *fd_out,
              struct err *e);
/* The same, and a symbolic link anywhere in path is an error. */
int tree_open_strict(int root, const char *path, int flags, int *fd_out,
                     struct err *e);

/* Makes what is missing of the directory (mode 0755) and opens it O_PATH. Where
 * a link leads to nothing, what it names beneath root is made, as runc does. */
int tree_make_directory(int root, const char *path, int *fd_out, struct err *e);
/* The same for an empty file in such a directory. */
int tree_make_file(int root, const char *path, int *fd_out, struct err *e);

/*
 * Creates a file system that is not attached anywhere yet. flags: MS_ bits;
 * data: options, comma-separated, may be NULL. Fails with EINVAL for a flag
 * that means nothing to a new mount.
 */
int mount_create(const char *type, const char *source, uint64_t flags,
                 const char *data, int *mount_out, struct err *e);

/* Copies the mount at dirfd/path (empty: dirfd itself) for a bind mount. */
int mount_clone(int dirfd, const char *path, bool recursive, int *mount_out,
                struct err *e);

/* Sets MS_ bits of a mount; those not in flags stay as they are. */
int mount_change(int mount, uint64_t flags, struct err *e);
/* Makes the MS_ bits of a mount be flags; of the times of access only when
 * flags has one of them, as mount(2) with MS_REMOUNT. */
int mount_replace(int mount, uint64_t flags, struct err *e);
/* Of the file system below a mount the MS_ bits that are its own, and the
 * options in data; type is for errors. */
int mount_reconfigure(int mount, const char *type, uint64_t flags,
                      const char *data, struct err *e);
/* Sets and clears MOUNT_ATTR_ bits of a mount and of all beneath it. */
int mount_change_all(int mount, uint64_t set, uint64_t clear, struct err *e);
/* MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, perhaps with MS_REC. */
int mount_propagation(int mount, uint64_t propagation, struct err *e);

/* Attaches what create or clone gave at an opened destination. */
int mount_attach(int mount, int destination, struct err *e);

#endif
