#include "image.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "image_builds.h"
#include "image_cache.h"
#include "image_looks.h"

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

struct image_store {
    struct loop *loop; /* borrowed */
    struct image_cache cache;
    char *staging;
    struct image_limits limits;
    struct image *images;    /* in use */
    struct image *detaching; /* not any more */
    struct image_looks *looks;
    struct image_builds *builds;
};

void image_store_free(struct image_store *store)
{
    struct image *lists[] = {store->images, store->detaching};

    if (store->looks)
        image_looks_free(store->looks);
    if (store->builds)
        image_builds_free(store->builds);
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

static void built(void *context, const struct digest *digest,
                  const struct err *error, image_done_fn *done,
                  void *done_context)
{
    struct image *image = NULL;
    struct err e = ERR_INIT;

    if (!error && use_image(context, digest, &image, &e) < 0)
        error = &e;
    done(done_context, image, error);
}

static void build_ended(void *context, bool full)
{
    struct image_store *store = context;

    trim(store, full ? 0 : store->limits.cache_max);
}

static void looked(void *context, struct rootfs *rootfs,
                   const struct digest *identity, const struct err *error,
                   image_done_fn *done, void *done_context)
{
    struct image_store *store = context;
    struct image *image = NULL;
    struct err e = ERR_INIT;
    struct digest digest;

    if (error)
        done(done_context, NULL, error);
    else if (!rootfs->immutable ||
             !image_cache_find(&store->cache, identity, &digest))
        image_builds_add(store->builds, rootfs, identity, done, done_context);
    else if (use_image(store, &digest, &image, &e) < 0)
        done(done_context, NULL, &e);
    else
        done(done_context, image, NULL);
}

static void make_builds(struct image_store *store)
{
    const struct image_builds_setup setup = {
        .loop = store->loop,
        .cache = &store->cache,
        .staging = store->staging,
        .memory_max = store->limits.build_memory_max,
        .built = built,
        .ended = build_ended,
        .context = store,
    };

    store->builds = image_builds_new(&setup);
}

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
    store->looks = image_looks_new(loop, looked, store);
    make_builds(store);
    return store;
}

void image_prepare(struct image_store *store,
                   const struct ctl_mount_list *mounts, const char *path,
                   image_done_fn *done, void *context)
{
    _cleanup_(rootfs_clear) struct rootfs rootfs = {.overlay = false};
    struct err e = ERR_INIT;
    int r = rootfs_parse(mounts, path, &rootfs, &e);

    if (r == 0)
        r = image_looks_add(store->looks, &rootfs, done, context, &e);
    if (r < 0)
        done(context, NULL, &e);
}

bool image_cancel(struct image_store *store, image_done_fn *done, void *context)
{
    return image_looks_cancel(store->looks, done, context) ||
           image_builds_cancel(store->builds, done, context);
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
