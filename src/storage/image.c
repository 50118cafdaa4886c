#include "image.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "image_build.h"
#include "image_cache.h"

/* Two gigabytes of layers under an emulator take their time. */
#define BUILD_DEADLINE_MS (300 * 1000)
/* The block back end closes its device a little after the domain is gone. */
#define DETACH_RETRY_MS 20
#define DETACH_TRIES    150

struct image {
    struct image *next;
    struct image_store *store; /* borrowed */
    struct digest digest;
    unsigned int users;
    struct loopdev device;
    dev_t file_device; /* of the image's file */
    ino_t file_inode;
    /* Once nobody uses it: */
    unsigned int tries;
    image_released_fn *released;
    void *released_context;
    struct loop_timer *timer;
};

struct waiter {
    struct waiter *next;
    image_done_fn *done;
    void *context;
};

struct build {
    struct build *next;
    struct image_store *store; /* borrowed */
    struct rootfs rootfs;      /* owned; if immutable, the build is shared by */
    struct digest identity;    /* all who want this one */
    bool started;
    bool again; /* after the disk was full */
    char *path; /* of the new file; owned */
    pid_t pid;  /* 0 before and once reaped */
    int fd;     /* the child's answer */
    struct loop_fd *source;
    struct loop_timer *timer;
    bool timed_out;
    char answer[IMAGE_BUILD_ANSWER_MAX];
    size_t answer_n;
    struct waiter *waiters;
};

struct image_store {
    struct loop *loop; /* borrowed */
    struct image_cache cache;
    char *staging;
    struct image_limits limits;
    struct image *images;    /* in use */
    struct image *detaching; /* not any more */
    struct build *builds;    /* the oldest first */
};

static void start_builds(struct image_store *store);

struct image_store *image_store_new(struct loop *loop, const char *dir,
                                    const char *staging,
                                    const struct image_limits *limits,
                                    struct err *e)
{
    struct image_store *store = xcalloc(1, sizeof(*store));

    store->loop = loop;
    store->limits = *limits;
    store->staging = xstrdup(staging);
    if (image_cache_open(&store->cache, dir, e) < 0) {
        image_store_free(store);
        return NULL;
    }
    if (mkdir(staging, 0700) < 0 && errno != EEXIST) {
        (void)err_errno(e, "%s", staging);
        image_store_free(store);
        return NULL;
    }
    return store;
}

/* As it was before its start. */
static void build_reset(struct build *build)
{
    if (build->pid > 0)
        (void)kill(build->pid, SIGKILL);
    build->pid = 0;
    loop_remove_fd(&build->source);
    loop_remove_timer(&build->timer);
    close_fd(&build->fd);
    if (build->path)
        (void)unlink(build->path);
    free(build->path);
    build->path = NULL;
    memset(build->answer, 0, sizeof(build->answer));
    build->answer_n = 0;
    build->started = false;
}

static void build_free(struct build *build)
{
    struct build **at = &build->store->builds;

    while (*at && *at != build)
        at = &(*at)->next;
    if (*at)
        *at = build->next;
    build_reset(build);
    rootfs_clear(&build->rootfs);
    while (build->waiters) {
        struct waiter *waiter = build->waiters;

        build->waiters = waiter->next;
        free(waiter);
    }
    free(build);
}

void image_store_free(struct image_store *store)
{
    struct image *lists[] = {store->images, store->detaching};

    while (store->builds)
        build_free(store->builds);
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        while (lists[i]) {
            struct image *image = lists[i];

            lists[i] = image->next;
            loop_remove_timer(&image->timer);
            free(image);
        }
    }
    image_cache_close(&store->cache);
    free(store->staging);
    free(store);
}

static bool in_use(void *context, const struct digest *digest)
{
    struct image_store *store = context;

    for (struct image *i = store->images; i; i = i->next)
        if (strcmp(i->digest.hex, digest->hex) == 0)
            return true;
    for (struct image *i = store->detaching; i; i = i->next)
        if (strcmp(i->digest.hex, digest->hex) == 0)
            return true;
    return false;
}

static void trim(struct image_store *store, uint64_t max_bytes)
{
    struct err e = ERR_INIT;

    if (image_cache_trim(&store->cache, max_bytes, in_use, store, &e) < 0)
        log_warn("image cache: %s", e.text);
}

/* The image of that content, attached, one user more. */
static int use_image(struct image_store *store, const struct digest *digest,
                     struct image **image_out, struct err *e)
{
    _cleanup_free_ char *name = NULL;
    _cleanup_fd_ int fd = -1;
    struct image *image;
    struct stat st;
    struct loopdev device;
    int r;

    for (image = store->images; image; image = image->next) {
        if (strcmp(image->digest.hex, digest->hex) == 0) {
            image->users++;
            *image_out = image;
            return 0;
        }
    }
    r = image_cache_open_image(&store->cache, digest, &fd, e);
    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "image %s", digest->hex);
    name = xasprintf("%s/%s" IMAGE_SUFFIX, store->cache.dir, digest->hex);
    r = loopdev_attach(fd, name, &device, e);
    if (r < 0)
        return r;
    image = xcalloc(1, sizeof(*image));
    image->store = store;
    image->digest = *digest;
    image->users = 1;
    image->device = device;
    image->file_device = st.st_dev;
    image->file_inode = st.st_ino;
    image->next = store->images;
    store->images = image;
    *image_out = image;
    return 0;
}

/* Tells all who wait; error NULL: the image is there. */
static void build_finish(struct build *build, const struct digest *digest,
                         const struct err *error)
{
    struct image_store *store = build->store;
    struct waiter *waiters = steal_ptr(&build->waiters);

    build_free(build);
    while (waiters) {
        struct waiter *waiter = waiters;
        struct image *image = NULL;
        struct err e = ERR_INIT;

        waiters = waiter->next;
        if (!error && use_image(store, digest, &image, &e) < 0)
            waiter->done(waiter->context, NULL, &e);
        else
            waiter->done(waiter->context, image, error);
        free(waiter);
    }
    if (!error)
        trim(store, store->limits.cache_max);
    start_builds(store);
}

static void build_ended(struct build *build)
{
    struct image_store *store = build->store;
    struct err e = ERR_INIT;
    struct digest digest;
    int r;

    if (build->timed_out) {
        (void)err_set(&e, ETIMEDOUT, "image not built within %d s",
                      BUILD_DEADLINE_MS / 1000);
        build_finish(build, NULL, &e);
        return;
    }
    r = image_build_answer(build->answer, &digest, &e);
    if (r == 0)
        r = image_cache_store(&store->cache, build->path, &digest,
                              build->rootfs.immutable ? &build->identity : NULL,
                              &e);
    if (r == 0) {
        free(build->path);
        build->path = NULL;
    }
    if (r == -ENOSPC && !build->again) {
        log_warn("no space left for an image: removing the unused ones");
        build_reset(build);
        build->again = true;
        trim(store, 0);
        start_builds(store);
        return;
    }
    build_finish(build, &digest, r < 0 ? &e : NULL);
}

static void build_reaped(void *context, pid_t pid, int status)
{
    struct image_store *store = context;

    (void)status;
    for (struct build *build = store->builds; build; build = build->next) {
        if (build->pid != pid)
            continue;
        build->pid = 0;
        if (build->fd < 0)
            build_ended(build);
        return;
    }
}

static void build_readable(void *context, short revents)
{
    struct build *build = context;
    size_t room = sizeof(build->answer) - 1 - build->answer_n;
    ssize_t n = read(build->fd, build->answer + build->answer_n, room);

    (void)revents;
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0) {
        build->answer_n += (size_t)n;
        return;
    }
    loop_remove_fd(&build->source);
    close_fd(&build->fd);
    if (build->pid == 0)
        build_ended(build);
}

static void build_late(void *context)
{
    struct build *build = context;

    build->timer = NULL;
    build->timed_out = true;
    if (build->pid > 0)
        (void)kill(build->pid, SIGKILL);
}

static void add_waiter(struct build *build, image_done_fn *done, void *context)
{
    struct waiter *waiter = xcalloc(1, sizeof(*waiter));

    waiter->done = done;
    waiter->context = context;
    waiter->next = build->waiters;
    build->waiters = waiter;
}

static int build_start(struct build *build, struct err *e)
{
    struct image_store *store = build->store;
    struct image_build job = {
        .rootfs = &build->rootfs,
        .staging = store->staging,
        .memory_max = store->limits.build_memory_max,
    };
    int r;

    build->started = true;
    r = image_cache_new_file(&store->cache, &build->path, e);
    if (r == 0) {
        job.output = build->path;
        r = image_build_start(&job, &build->pid, &build->fd, e);
    }
    if (r == 0)
        r = loop_add_child(store->loop, build->pid, build_reaped, store, e);
    if (r < 0)
        return r;
    build->source =
        loop_add_fd(store->loop, build->fd, POLLIN, build_readable, build);
    build->timer =
        loop_add_timer(store->loop, BUILD_DEADLINE_MS, build_late, build);
    return 0;
}

static struct build *next_build(const struct image_store *store)
{
    struct build *next = NULL;
    size_t n = 0;

    for (struct build *build = store->builds; build; build = build->next) {
        if (build->started)
            n++;
        else if (!next)
            next = build;
    }
    return n < IMAGE_BUILDS_MAX ? next : NULL;
}

static void start_builds(struct image_store *store)
{
    struct build *build;

    while ((build = next_build(store))) {
        struct err e = ERR_INIT;

        if (build_start(build, &e) < 0)
            build_finish(build, NULL, &e);
    }
}

/* Takes rootfs over. */
static struct build *build_new(struct image_store *store, struct rootfs *rootfs,
                               const struct digest *identity)
{
    struct build *build = xcalloc(1, sizeof(*build)), **at = &store->builds;

    build->store = store;
    build->fd = -1;
    build->identity = *identity;
    build->rootfs = *rootfs;
    *rootfs = (struct rootfs){.overlay = false};
    while (*at)
        at = &(*at)->next;
    *at = build;
    return build;
}

static struct build *find_build(struct image_store *store,
                                const struct digest *identity)
{
    for (struct build *build = store->builds; build; build = build->next)
        if (build->rootfs.immutable &&
            strcmp(build->identity.hex, identity->hex) == 0)
            return build;
    return NULL;
}

/* 0 with *image_out NULL: a build is under way. */
static int prepare(struct image_store *store,
                   const struct ctl_mount_list *mounts, const char *path,
                   image_done_fn *done, void *context, struct image **image_out,
                   struct err *e)
{
    _cleanup_(rootfs_clear) struct rootfs rootfs = {.overlay = false};
    struct digest identity = {{0}}, digest;
    struct build *build;
    int r = rootfs_parse(mounts, path, &rootfs, e);

    if (r == 0)
        r = rootfs_check(&rootfs, e);
    if (r == 0 && rootfs.immutable)
        r = rootfs_identity(&rootfs, &identity, e);
    if (r < 0)
        return r;
    if (rootfs.immutable && image_cache_find(&store->cache, &identity, &digest))
        return use_image(store, &digest, image_out, e);
    build = rootfs.immutable ? find_build(store, &identity) : NULL;
    if (!build)
        build = build_new(store, &rootfs, &identity);
    add_waiter(build, done, context);
    start_builds(store);
    return 0;
}

void image_prepare(struct image_store *store,
                   const struct ctl_mount_list *mounts, const char *path,
                   image_done_fn *done, void *context)
{
    struct err e = ERR_INIT;
    struct image *image = NULL;

    if (prepare(store, mounts, path, done, context, &image, &e) < 0)
        done(context, NULL, &e);
    else if (image)
        done(context, image, NULL);
}

static void released(struct image *image, const struct err *error)
{
    struct image_store *store = image->store;
    image_released_fn *done = image->released;
    void *context = image->released_context;
    struct image **at = &store->detaching;

    while (*at != image)
        at = &(*at)->next;
    *at = image->next;
    free(image);
    trim(store, store->limits.cache_max);
    done(context, error);
}

/* The kernel freed the device between two tries and it was attached again, may
 * be over the same file. */
static bool is_given_again(const struct image *image)
{
    for (struct image *i = image->store->images; i; i = i->next)
        if (i->device.number == image->device.number)
            return true;
    return false;
}

static void detach(void *context)
{
    struct image *image = context;
    struct err e = ERR_INIT;
    int r = is_given_again(image)
                ? 0
                : loopdev_detach(&image->device, image->file_device,
                                 image->file_inode, &e);

    image->timer = NULL;
    if (r == -EBUSY && ++image->tries < DETACH_TRIES)
        image->timer =
            loop_add_timer(image->store->loop, DETACH_RETRY_MS, detach, image);
    else
        released(image, r < 0 ? &e : NULL);
}

void image_release(struct image *image, image_released_fn *done, void *context)
{
    struct image_store *store = image->store;
    struct image **at = &store->images;

    if (--image->users > 0) {
        done(context, NULL);
        return;
    }
    while (*at != image)
        at = &(*at)->next;
    *at = image->next;
    image->next = store->detaching;
    store->detaching = image;
    image->released = done;
    image->released_context = context;
    detach(image);
}

const char *image_digest(const struct image *image)
{
    return image->digest.hex;
}

const struct loopdev *image_device(const struct image *image)
{
    return &image->device;
}

struct search {
    struct image_store *store;
    const char *digest; /* NULL: all that are not in use */
    int number;
    struct image *found;
};

static void found_wanted(void *context, const struct loopdev *dev,
                         const char *file_name, dev_t device, ino_t inode)
{
    struct search *search = context;
    struct digest digest;
    struct image *image;

    if (dev->number != search->number || search->found ||
        !image_cache_name_valid(file_name, &digest) ||
        strcmp(digest.hex, search->digest) != 0)
        return;
    image = xcalloc(1, sizeof(*image));
    image->store = search->store;
    image->digest = digest;
    image->device = *dev;
    image->file_device = device;
    image->file_inode = inode;
    search->found = image;
}

int image_adopt(struct image_store *store, const char *digest, int number,
                struct image **image_out, struct err *e)
{
    struct search search = {.store = store, .digest = digest, .number = number};
    struct image *image;
    int r;

    for (image = store->images; image; image = image->next) {
        if (strcmp(image->digest.hex, digest) == 0 &&
            image->device.number == number) {
            image->users++;
            *image_out = image;
            return 0;
        }
    }
    r = loopdev_scan(store->cache.dir, found_wanted, &search, e);
    if (r < 0)
        return r;
    if (!search.found)
        return err_set(e, ENODEV,
                       "/dev/loop%d does not carry image %s any "
                       "more",
                       number, digest);
    search.found->users = 1;
    search.found->next = store->images;
    store->images = search.found;
    *image_out = search.found;
    return 0;
}

static void found_stray(void *context, const struct loopdev *dev,
                        const char *file_name, dev_t device, ino_t inode)
{
    struct image_store *store = context;
    struct err e = ERR_INIT;

    for (struct image *image = store->images; image; image = image->next)
        if (image->device.number == dev->number)
            return;
    log_info("detaching %s, left behind over %s", dev->path, file_name);
    if (loopdev_detach(dev, device, inode, &e) < 0)
        log_warn("%s", e.text);
}

void image_sweep(struct image_store *store)
{
    struct err e = ERR_INIT;

    if (loopdev_scan(store->cache.dir, found_stray, store, &e) < 0)
        log_warn("%s", e.text);
    trim(store, store->limits.cache_max);
}
