#include "image_builds.h"

#include <string.h>
#include <unistd.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "image_build.h"
#include "image_child.h"

/* Two gigabytes of layers under an emulator take their time. */
#define BUILD_DEADLINE_S 300

struct waiter {
    struct waiter *next;
    image_done_fn *done;
    void *context;
};

struct build {
    struct build *next;
    struct image_builds *builds; /* borrowed */
    struct rootfs rootfs;        /* owned; an immutable one's build is shared */
    struct digest identity;      /* by all who want this */
    bool again;                  /* after the disk was full */
    struct waiter *waiters;
    /* Once it runs: */
    bool started;
    char *path; /* of the new file; owned */
    struct image_child *child;
};

struct image_builds {
    struct image_builds_setup setup;
    struct build *first; /* the oldest */
};

static void start_next(struct image_builds *builds);

struct image_builds *image_builds_new(const struct image_builds_setup *setup)
{
    struct image_builds *builds = xcalloc(1, sizeof(*builds));

    builds->setup = *setup;
    return builds;
}

/* As it was before its start. */
static void reset(struct build *build)
{
    image_child_kill(&build->child);
    if (build->path)
        (void)unlink(build->path);
    free(build->path);
    build->path = NULL;
    build->started = false;
}

static void build_free(struct build *build)
{
    struct build **at = &build->builds->first;

    while (*at != build)
        at = &(*at)->next;
    *at = build->next;
    reset(build);
    rootfs_clear(&build->rootfs);
    while (build->waiters) {
        struct waiter *waiter = build->waiters;

        build->waiters = waiter->next;
        free(waiter);
    }
    free(build);
}

void image_builds_free(struct image_builds *builds)
{
    while (builds->first)
        build_free(builds->first);
    free(builds);
}

/* Tells all who wait; error NULL: the image is there. */
static void finish(struct build *build, const struct digest *digest,
                   const struct err *error)
{
    struct image_builds *builds = build->builds;
    const struct image_builds_setup *setup = &builds->setup;
    struct waiter *waiters = steal_ptr(&build->waiters);

    build_free(build);
    while (waiters) {
        struct waiter *waiter = waiters;

        waiters = waiter->next;
        setup->built(setup->context, digest, error, waiter->done,
                     waiter->context);
        free(waiter);
    }
    setup->ended(setup->context, false);
    start_next(builds);
}

static void try_again(struct build *build)
{
    struct image_builds *builds = build->builds;

    log_warn("no space left for an image: removing the unused ones");
    reset(build);
    build->again = true;
    builds->setup.ended(builds->setup.context, true);
    start_next(builds);
}

static void ended(void *context, const void *answer, const struct err *error)
{
    struct build *build = context;
    struct image_cache *cache = build->builds->setup.cache;
    struct err e = ERR_INIT;
    struct digest digest = {{0}};
    int r = 0;

    build->child = NULL;
    if (error) {
        r = err_set(&e, error->code, "%s", error->text);
    } else {
        memcpy(&digest, answer, sizeof(digest));
        r = image_cache_store(cache, build->path, &digest,
                              build->rootfs.immutable ? &build->identity : NULL,
                              &e);
    }
    if (r == 0) {
        free(build->path);
        build->path = NULL;
    }
    if (r == -ENOSPC && !build->again)
        try_again(build);
    else
        finish(build, &digest, r < 0 ? &e : NULL);
}

static int start(struct build *build, struct err *e)
{
    const struct image_builds_setup *setup = &build->builds->setup;
    struct image_build job = {
        .rootfs = &build->rootfs,
        .staging = setup->staging,
        .memory_max = setup->memory_max,
    };
    const struct image_child_setup child = {
        .loop = setup->loop,
        .run = image_build_run,
        .job = &job,
        .answer_size = sizeof(struct digest),
        .deadline_s = BUILD_DEADLINE_S,
        .late = "image not built",
        .done = ended,
        .context = build,
    };
    int r;

    build->started = true;
    r = image_cache_new_file(setup->cache, &build->path, e);
    if (r < 0)
        return r;
    job.output = build->path;
    build->child = image_child_start(&child, e);
    return build->child ? 0 : -e->code;
}

/* NULL: none waits, or as many run as may. */
static struct build *next_to_start(const struct image_builds *builds)
{
    struct build *next = NULL;
    size_t n = 0;

    for (struct build *build = builds->first; build; build = build->next) {
        if (build->started)
            n++;
        else if (!next)
            next = build;
    }
    return n < IMAGE_BUILDS_MAX ? next : NULL;
}

static void start_next(struct image_builds *builds)
{
    struct build *build;

    while ((build = next_to_start(builds))) {
        struct err e = ERR_INIT;

        if (start(build, &e) == 0)
            continue;
        if (e.code == ENOSPC && !build->again)
            try_again(build);
        else
            finish(build, NULL, &e);
    }
}

static struct build *build_new(struct image_builds *builds,
                               struct rootfs *rootfs,
                               const struct digest *identity)
{
    struct build *build = xcalloc(1, sizeof(*build)), **at = &builds->first;

    build->builds = builds;
    build->identity = *identity;
    build->rootfs = *rootfs;
    *rootfs = (struct rootfs){.overlay = false};
    while (*at)
        at = &(*at)->next;
    *at = build;
    return build;
}

static struct build *find_shared(const struct image_builds *builds,
                                 const struct digest *identity)
{
    struct build *build = builds->first;

    while (build && (!build->rootfs.immutable ||
                     strcmp(build->identity.hex, identity->hex) != 0))
        build = build->next;
    return build;
}

static bool take_waiter(struct build *build, image_done_fn *done, void *context)
{
    struct waiter **at = &build->waiters, *waiter;

    while (*at && ((*at)->done != done || (*at)->context != context))
        at = &(*at)->next;
    waiter = *at;
    if (!waiter)
        return false;
    *at = waiter->next;
    free(waiter);
    return true;
}

bool image_builds_cancel(struct image_builds *builds, image_done_fn *done,
                         void *context)
{
    struct build *build = builds->first;

    while (build && !take_waiter(build, done, context))
        build = build->next;
    if (!build)
        return false;
    /* Whoever gave up comes back, may be, and finds it in the cache. */
    if (!build->waiters && !(build->started && build->rootfs.immutable)) {
        build_free(build);
        start_next(builds);
    }
    return true;
}

void image_builds_add(struct image_builds *builds, struct rootfs *rootfs,
                      const struct digest *identity, image_done_fn *done,
                      void *context)
{
    struct build *build =
        rootfs->immutable ? find_shared(builds, identity) : NULL;
    struct waiter *waiter = xcalloc(1, sizeof(*waiter));

    if (build)
        rootfs_clear(rootfs);
    else
        build = build_new(builds, rootfs, identity);
    waiter->done = done;
    waiter->context = context;
    waiter->next = build->waiters;
    build->waiters = waiter;
    start_next(builds);
}
