/*
 * image.h - the images that guests have as their root device: found in the
 * cache or built, attached to a loop device once, counted.
 *
 * Belongs to domusd's loop; nothing here waits. Containers that are created
 * from the same layers at the same time share one build.
 */
#ifndef DOMUS_IMAGE_H
#define DOMUS_IMAGE_H

#include "domus/loop.h"
#include "loopdev.h"
#include "rootfs.h"

/* Builds that run at a time; others wait. */
#define IMAGE_BUILDS_MAX 4

struct image_store;
struct image;

/* In bytes. */
struct image_limits {
    uint64_t cache_max;        /* what unused images may take of the disk */
    uint64_t build_memory_max; /* what each mkfs.erofs may take of memory */
};

/* dir: where images are kept; staging: an empty directory that builds mount
 * over. */
struct image_store *image_store_new(struct loop *loop, const char *dir,
                                    const char *staging,
                                    const struct image_limits *limits,
                                    struct err *e);
/* Kills the builds that run; loop devices stay. */
void image_store_free(struct image_store *store);

/* image is NULL when it failed; else the caller's until image_release(). */
typedef void image_done_fn(void *context, struct image *image,
                           const struct err *error);
/* done is called once, maybe before this returns. Layers that do not answer are
 * given up after a time. */
void image_prepare(struct image_store *store,
                   const struct ctl_mount_list *mounts, const char *path,
                   image_done_fn *done, void *context);

/* Of one that was not told yet: done will not be, and true. A build that others
 * want, or that the cache may keep, goes on. */
bool image_cancel(struct image_store *store, image_done_fn *done,
                  void *context);

/* error is NULL when the image's device is detached or others use it. */
typedef void image_released_fn(void *context, const struct err *error);
void image_release(struct image *image, image_released_fn *done, void *context);

const char *image_digest(const struct image *image);
const struct loopdev *image_device(const struct image *image);

/* After domusd's restart: takes the image again that a running guest has, by
 * its recorded digest and loop device. */
int image_adopt(struct image_store *store, const char *digest, int number,
                struct image **image_out, struct err *e);

/* Detaches loop devices over our images that nobody adopted, and trims. */
void image_sweep(struct image_store *store);

#endif
