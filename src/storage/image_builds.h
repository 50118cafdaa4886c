/*
 * image_builds.h - the builds of images that run and that wait: so many at a
 * time, each with a deadline, one for all who want the same layers.
 */
#ifndef DOMUS_IMAGE_BUILDS_H
#define DOMUS_IMAGE_BUILDS_H

#include "domus/loop.h"
#include "image.h"
#include "image_cache.h"
#include "rootfs.h"

struct image_builds;

struct image_builds_setup {
    struct loop *loop;         /* this and the rest are borrowed */
    struct image_cache *cache; /* where images go */
    const char *staging;       /* an empty directory to mount over */
    uint64_t memory_max;       /* bytes, of each mkfs.erofs */
    /* For each who waits; error NULL: the image is in the cache. */
    void (*built)(void *context, const struct digest *digest,
                  const struct err *error, image_done_fn *done,
                  void *done_context);
    /* A build has ended, and all who waited know. full: it is tried once more
     * if there is room now. */
    void (*ended)(void *context, bool full);
    void *context;
};

struct image_builds *image_builds_new(const struct image_builds_setup *setup);
/* Kills those that run; tells nobody. */
void image_builds_free(struct image_builds *builds);

/* Takes rootfs over. identity: what an immutable one is known by. done is
 * handed to built(), maybe before this returns. */
void image_builds_add(struct image_builds *builds, struct rootfs *rootfs,
                      const struct digest *identity, image_done_fn *done,
                      void *context);

/* done will not be told; false when it does not wait. */
bool image_builds_cancel(struct image_builds *builds, image_done_fn *done,
                         void *context);

#endif
