#include "image_looks.h"

#include <string.h>

#include "domus/mem.h"
#include "image_child.h"

/* The answer is a matter of microseconds, or of a network that was away. */
#define LOOK_DEADLINE_S 20

struct look {
    struct look *next;
    struct image_looks *looks; /* borrowed */
    struct rootfs rootfs;      /* owned */
    struct image_child *child;
    image_done_fn *done;
    void *context;
};

struct image_looks {
    struct loop *loop; /* borrowed */
    image_looked_fn *looked;
    void *context;
    struct look *first;
};

struct answer {
    bool has_root; /* so the upper directory is dropped */
    mode_t root_mode;
    uid_t root_uid;
    gid_t root_gid;
    struct digest identity;
};

struct image_looks *image_looks_new(struct loop *loop, image_looked_fn *looked,
                                    void *context)
{
    struct image_looks *looks = xcalloc(1, sizeof(*looks));

    looks->loop = loop;
    looks->looked = looked;
    looks->context = context;
    return looks;
}

static void look_free(struct look *look)
{
    struct look **at = &look->looks->first;

    while (*at != look)
        at = &(*at)->next;
    *at = look->next;
    image_child_kill(&look->child);
    rootfs_clear(&look->rootfs);
    free(look);
}

void image_looks_free(struct image_looks *looks)
{
    while (looks->first)
        look_free(looks->first);
    free(looks);
}

static int run(const void *job, void *answer, struct err *e)
{
    const struct look *look = job;
    struct rootfs rootfs = look->rootfs; /* the child's own copy */
    struct answer found = {.has_root = false};
    int r = rootfs_check(&rootfs, e);

    if (r == 0 && rootfs.immutable)
        r = rootfs_identity(&rootfs, &found.identity, e);
    if (r < 0)
        return r;
    found.has_root = rootfs.has_root;
    found.root_mode = rootfs.root_mode;
    found.root_uid = rootfs.root_uid;
    found.root_gid = rootfs.root_gid;
    memcpy(answer, &found, sizeof(found));
    return 0;
}

static void ended(void *context, const void *answer, const struct err *error)
{
    struct look *look = context;
    struct image_looks *looks = look->looks;
    struct rootfs rootfs = look->rootfs;
    image_done_fn *done = look->done;
    void *done_context = look->context;
    struct answer found = {.has_root = false};

    look->child = NULL;
    look->rootfs = (struct rootfs){.overlay = false};
    look_free(look);
    if (answer)
        memcpy(&found, answer, sizeof(found));
    if (found.has_root)
        rootfs_take_root(&rootfs, found.root_mode, found.root_uid,
                         found.root_gid);
    looks->looked(looks->context, &rootfs, &found.identity, error, done,
                  done_context);
    rootfs_clear(&rootfs);
}

int image_looks_add(struct image_looks *looks, struct rootfs *rootfs,
                    image_done_fn *done, void *context, struct err *e)
{
    struct look *look = xcalloc(1, sizeof(*look));
    _cleanup_free_ char *late = xasprintf(
        "no answer from the file system of layer '%s'%s", rootfs->layers.v[0],
        rootfs->layers.n > 1 ? " or of one below it" : "");
    const struct image_child_setup child = {
        .loop = looks->loop,
        .run = run,
        .job = look,
        .answer_size = sizeof(struct answer),
        .deadline_s = LOOK_DEADLINE_S,
        .late = late,
        .done = ended,
        .context = look,
    };

    look->looks = looks;
    look->done = done;
    look->context = context;
    look->next = looks->first;
    looks->first = look;
    look->rootfs = *rootfs;
    look->child = image_child_start(&child, e);
    if (!look->child) {
        look->rootfs = (struct rootfs){.overlay = false};
        look_free(look);
        return -e->code;
    }
    *rootfs = (struct rootfs){.overlay = false};
    return 0;
}

bool image_looks_cancel(struct image_looks *looks, image_done_fn *done,
                        void *context)
{
    struct look *look = looks->first;

    while (look && (look->done != done || look->context != context))
        look = look->next;
    if (!look)
        return false;
    look_free(look);
    return true;
}
