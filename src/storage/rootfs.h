/*
 * rootfs.h - what containerd's list of rootfs mounts says about where a
 * container's files are: directories, the upper one first.
 *
 * Only directories are ever read. A block device, a partition or a file named
 * as a source is refused, so that no mistake in an image's layers can hand a
 * device of the host to a guest.
 */
#ifndef DOMUS_ROOTFS_H
#define DOMUS_ROOTFS_H

#include <sys/types.h>

#include "digest.h"
#include "domus/ctl.h"

/* containerd itself stops at 127 layers; the kernel's overlay at 500. */
#define ROOTFS_LAYERS_MAX 256

struct rootfs {
    struct string_list layers; /* absolute paths, the upper one first */
    /* Several layers, or one with whiteouts in it: needs an overlay mount to
     * be seen as the container should see it. */
    bool overlay;
    bool userxattr; /* the layers' overlay marks are in user.* */
    /* The layers are committed snapshots, which never change: the same
     * layers are the same image. */
    bool immutable;
    /* An upper directory was there and is empty: only its own attributes are
     * of the image, as its root's. */
    bool has_root;
    mode_t root_mode; /* 07777 at most */
    uid_t root_uid;
    gid_t root_gid;
};

/* Reads the list, or path where the list is empty; looks at no file. Fails
 * with EINVAL or ENOTSUP, naming what is wrong. */
int rootfs_parse(const struct ctl_mount_list *mounts, const char *path,
                 struct rootfs *rootfs_out, struct err *e);

/* Opens every layer to see that it is a directory; drops an upper directory
 * that is empty, as it is for a container that never ran, but for what it
 * says of the root. */
int rootfs_check(struct rootfs *rootfs, struct err *e);

/* Of the upper directory, which is empty, what it says of the root remains. */
void rootfs_take_root(struct rootfs *rootfs, mode_t mode, uid_t uid, gid_t gid);

/* Names the layers: paths with inode and change time of each, and the root. */
int rootfs_identity(const struct rootfs *rootfs, struct digest *identity_out,
                    struct err *e);

void rootfs_clear(struct rootfs *rootfs);

#endif
