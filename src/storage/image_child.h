/*
 * image_child.h - work on a container's layers, in a child of domusd's with a
 * deadline.
 *
 * Whoever touches a layer may have to wait for ever: on a network file system,
 * or one that a dead process served. The child is a copy of domusd with none of
 * its descriptors. It is killed when it is late, and not waited for: the kernel
 * does not end who waits for such a file system until that answers.
 */
#ifndef DOMUS_IMAGE_CHILD_H
#define DOMUS_IMAGE_CHILD_H

#include <stddef.h>

#include "domus/err.h"
#include "domus/loop.h"

/* In bytes. */
#define IMAGE_CHILD_ANSWER_MAX 2048

struct image_child;

/* In the child; answer: answer_size zeroes, to fill. */
typedef int image_child_run_fn(const void *job, void *answer, struct err *e);
/* Once, from the loop, when the child is gone; answer is NULL when it failed,
 * and else aligned for nothing. */
typedef void image_child_done_fn(void *context, const void *answer,
                                 const struct err *error);

struct image_child_setup {
    struct loop *loop; /* borrowed */
    image_child_run_fn *run;
    const void *job;    /* borrowed for the call */
    size_t answer_size; /* IMAGE_CHILD_ANSWER_MAX at most */
    int deadline_s;
    const char *late; /* what is not done by then; copied */
    image_child_done_fn *done;
    void *context;
};

/* NULL when it failed. */
struct image_child *image_child_start(const struct image_child_setup *setup,
                                      struct err *e);
/* done is not called any more; nothing happens to NULL. */
void image_child_kill(struct image_child **child);

#endif
