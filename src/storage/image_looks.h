/*
 * image_looks.h - the looks at layers before their image is searched or built:
 * whether they are there, and by what they are known. Each in a child process
 * with a deadline, since a layer may be on a file system that does not answer.
 */
#ifndef DOMUS_IMAGE_LOOKS_H
#define DOMUS_IMAGE_LOOKS_H

#include "domus/loop.h"
#include "image.h"
#include "rootfs.h"

struct image_looks;

/* rootfs: as rootfs_check() leaves it, may be taken; identity: of an immutable
 * one. With an error, neither. done is the asker's. */
typedef void image_looked_fn(void *context, struct rootfs *rootfs,
                             const struct digest *identity,
                             const struct err *error, image_done_fn *done,
                             void *done_context);

/* loop and context are borrowed. */
struct image_looks *image_looks_new(struct loop *loop, image_looked_fn *looked,
                                    void *context);
/* Ends those that run; tells nobody. */
void image_looks_free(struct image_looks *looks);

/* Takes rootfs over when it succeeds; done is told of through looked. */
int image_looks_add(struct image_looks *looks, struct rootfs *rootfs,
                    image_done_fn *done, void *context, struct err *e);

/* done will not be told; false when it does not wait. */
bool image_looks_cancel(struct image_looks *looks, image_done_fn *done,
                        void *context);

#endif
