/*
 * image_build.h - the child process that turns the layers of a rootfs into an
 * EROFS image.
 *
 * The layers are merged by an overlay mount in a mount namespace of the
 * child's own, so nothing is ever mounted in dom0's, however it ends. Nothing
 * in dom0 follows a path inside the layers but mkfs.erofs's walk, which does
 * not follow links.
 */
#ifndef DOMUS_IMAGE_BUILD_H
#define DOMUS_IMAGE_BUILD_H

#include <sys/types.h>

#include "digest.h"
#include "rootfs.h"

struct image_build {
    const struct rootfs *rootfs; /* borrowed */
    const char *staging;         /* an empty directory to mount over */
    const char *output;          /* file to write; exists, empty */
    uint64_t memory_max;         /* bytes of data for mkfs.erofs */
};

/* What the child leaves in its pipe: "OK digest" or the text of an error. */
#define IMAGE_BUILD_ANSWER_MAX 2048

/* Starts the child; fd_out: read the answer there, to its end. */
int image_build_start(const struct image_build *build, pid_t *pid_out,
                      int *fd_out, struct err *e);

/* Reads an answer of the child. */
int image_build_answer(const char *answer, struct digest *digest_out,
                       struct err *e);

/* Checks that an image is whole: its superblock fits its size. */
int image_check(int fd, struct err *e);

#endif
