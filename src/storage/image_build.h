/*
 * image_build.h - turns the layers of a rootfs into an EROFS image, in a child
 * process.
 *
 * The layers are merged by an overlay mount in a mount namespace of the
 * child's own, so nothing is ever mounted in dom0's, however it ends. Nothing
 * in dom0 follows a path inside the layers but mkfs.erofs's walk, which does
 * not follow links.
 */
#ifndef DOMUS_IMAGE_BUILD_H
#define DOMUS_IMAGE_BUILD_H

#include "digest.h"
#include "rootfs.h"

struct image_build {
    const struct rootfs *rootfs; /* borrowed */
    const char *staging;         /* an empty directory to mount over */
    const char *output;          /* file to write; exists, empty */
    uint64_t memory_max;         /* bytes of data for mkfs.erofs */
};

/* An image_child_run_fn: job is a struct image_build, the answer a struct
 * digest, the image's. */
int image_build_run(const void *job, void *answer, struct err *e);

/* Checks that an image is whole: its superblock fits its size. */
int image_check(int fd, struct err *e);

#endif
