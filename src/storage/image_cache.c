#include "image_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "domus/mem.h"
#include "image_build.h"

struct image_name {
    char text[DIGEST_HEX_LENGTH + sizeof(IMAGE_SUFFIX)];
};

static struct image_name name_of(const struct digest *digest)
{
    struct image_name name;

    (void)snprintf(name.text, sizeof(name.text), "%s" IMAGE_SUFFIX,
                   digest->hex);
    return name;
}

bool image_cache_name_valid(const char *file_name, struct digest *digest_out)
{
    if (strlen(file_name) != DIGEST_HEX_LENGTH + strlen(IMAGE_SUFFIX) ||
        strcmp(file_name + DIGEST_HEX_LENGTH, IMAGE_SUFFIX) != 0 ||
        !digest_hex_valid(file_name, DIGEST_HEX_LENGTH))
        return false;
    memset(digest_out, 0, sizeof(*digest_out));
    memcpy(digest_out->hex, file_name, DIGEST_HEX_LENGTH);
    return true;
}

/* A stream over a directory that is open already, from its start. */
static DIR *list_dir(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;

    if (!dir)
        close_fd(&copy);
    return dir;
}

static int make_parents(const char *path, struct err *e)
{
    _cleanup_free_ char *copy = xstrdup(path);

    for (char *at = strchr(copy + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return err_errno(e, "%s", copy);
        *at = '/';
    }
    if (mkdir(copy, 0700) < 0 && errno != EEXIST)
        return err_errno(e, "%s", copy);
    return 0;
}

static void remove_half_made(struct image_cache *cache)
{
    _cleanup_closedir_ DIR *dir = list_dir(cache->dir_fd);
    struct dirent *entry;

    while (dir && (entry = readdir(dir)))
        if (strncmp(entry->d_name, IMAGE_BUILD_PREFIX,
                    strlen(IMAGE_BUILD_PREFIX)) == 0)
            (void)unlinkat(cache->dir_fd, entry->d_name, 0);
}

int image_cache_open(struct image_cache *cache, const char *dir, struct err *e)
{
    _cleanup_free_ char *real = NULL;
    int r = make_parents(dir, e);

    cache->dir = NULL;
    cache->dir_fd = cache->keys_fd = -1;
    if (r < 0)
        return err_wrap(e, "image directory");
    /* As the kernel names the files behind loop devices. */
    real = realpath(dir, NULL);
    if (!real)
        return err_errno(e, "image directory %s", dir);
    cache->dir_fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cache->dir_fd < 0)
        return err_errno(e, "image directory %s", dir);
    if (mkdirat(cache->dir_fd, "keys", 0700) < 0 && errno != EEXIST)
        return err_errno(e, "%s/keys", dir);
    cache->keys_fd = openat(cache->dir_fd, "keys",
                            O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (cache->keys_fd < 0)
        return err_errno(e, "%s/keys", dir);
    cache->dir = steal_ptr(&real);
    remove_half_made(cache);
    return 0;
}

void image_cache_close(struct image_cache *cache)
{
    close_fd(&cache->dir_fd);
    close_fd(&cache->keys_fd);
    free(cache->dir);
    cache->dir = NULL;
}

static bool read_key(struct image_cache *cache, const char *key,
                     struct digest *digest_out)
{
    struct image_name name;
    ssize_t n = readlinkat(cache->keys_fd, key, name.text, sizeof(name.text));

    if (n < 0 || (size_t)n >= sizeof(name.text))
        return false;
    name.text[n] = '\0';
    return image_cache_name_valid(name.text, digest_out);
}

bool image_cache_find(struct image_cache *cache, const struct digest *identity,
                      struct digest *digest_out)
{
    struct err ignored = ERR_INIT;
    _cleanup_fd_ int fd = -1;

    return read_key(cache, identity->hex, digest_out) &&
           image_cache_open_image(cache, digest_out, &fd, &ignored) == 0;
}

int image_cache_new_file(struct image_cache *cache, char **path_out,
                         struct err *e)
{
    _cleanup_free_ char *path =
        xasprintf("%s/" IMAGE_BUILD_PREFIX "XXXXXX", cache->dir);
    _cleanup_fd_ int fd = mkostemp(path, O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, "%s", path);
    *path_out = steal_ptr(&path);
    return 0;
}

static int set_key(struct image_cache *cache, const struct digest *identity,
                   const struct image_name *name, struct err *e)
{
    /* One daemon has this directory, so the name is free. */
    static const char fresh[] = ".new";

    (void)unlinkat(cache->keys_fd, fresh, 0);
    if (symlinkat(name->text, cache->keys_fd, fresh) < 0 ||
        renameat(cache->keys_fd, fresh, cache->keys_fd, identity->hex) < 0)
        return err_errno(e, "%s/keys/%s", cache->dir, identity->hex);
    return 0;
}

int image_cache_store(struct image_cache *cache, const char *path,
                      const struct digest *digest,
                      const struct digest *identity, struct err *e)
{
    struct image_name name = name_of(digest);
    struct err ignored = ERR_INIT;
    _cleanup_fd_ int old = -1;

    /* A whole one of the same content may be in use: keep it. */
    if (image_cache_open_image(cache, digest, &old, &ignored) == 0) {
        (void)unlink(path);
    } else {
        if (chmod(path, 0400) < 0 ||
            renameat(AT_FDCWD, path, cache->dir_fd, name.text) < 0)
            return err_errno(e, "%s/%s", cache->dir, name.text);
        if (fsync(cache->dir_fd) < 0)
            return err_errno(e, "fsync %s", cache->dir);
    }
    return identity ? set_key(cache, identity, &name, e) : 0;
}

int image_cache_open_image(struct image_cache *cache,
                           const struct digest *digest, int *fd_out,
                           struct err *e)
{
    struct image_name name = name_of(digest);
    _cleanup_fd_ int fd =
        openat(cache->dir_fd, name.text, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    int r;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "image %s", name.text);
    if (!S_ISREG(st.st_mode))
        return err_set(e, EINVAL, "image %s is not a file", name.text);
    r = image_check(fd, e);
    if (r < 0)
        return err_wrap(e, "image %s", name.text);
    (void)futimens(fd, NULL);
    *fd_out = steal_fd(&fd);
    return 0;
}

struct unused {
    struct digest digest;
    struct timespec used;
    uint64_t bytes;
    bool has_key;
};

static int compare_digests(const void *a, const void *b)
{
    return strcmp(((const struct unused *)a)->digest.hex,
                  ((const struct unused *)b)->digest.hex);
}

static int compare_ages(const void *a, const void *b)
{
    const struct timespec *x = &((const struct unused *)a)->used;
    const struct timespec *y = &((const struct unused *)b)->used;

    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

static size_t list_unused(struct image_cache *cache, image_in_use_fn *in_use,
                          void *context, struct unused **list_out)
{
    _cleanup_closedir_ DIR *dir = list_dir(cache->dir_fd);
    struct unused *list = NULL;
    struct dirent *entry;
    size_t n = 0;

    while (dir && (entry = readdir(dir))) {
        struct unused one = {.has_key = false};
        struct stat st;

        if (!image_cache_name_valid(entry->d_name, &one.digest) ||
            in_use(context, &one.digest) ||
            fstatat(cache->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        one.used = st.st_mtim;
        one.bytes = (uint64_t)st.st_blocks * 512;
        list = xreallocarray(list, n + 1, sizeof(*list));
        list[n++] = one;
    }
    *list_out = list;
    return n;
}

/* Marks which have a key; removes the keys whose image is gone. */
static void read_keys(struct image_cache *cache, struct unused *list, size_t n)
{
    _cleanup_closedir_ DIR *dir = list_dir(cache->keys_fd);
    struct dirent *entry;

    if (n > 0)
        qsort(list, n, sizeof(*list), compare_digests);
    while (dir && (entry = readdir(dir))) {
        struct unused wanted = {.has_key = false}, *found = NULL;
        struct image_name name;
        struct stat st;

        if (!digest_hex_valid(entry->d_name, strlen(entry->d_name)))
            continue;
        if (read_key(cache, entry->d_name, &wanted.digest)) {
            if (n > 0)
                found =
                    bsearch(&wanted, list, n, sizeof(*list), compare_digests);
            if (found)
                found->has_key = true;
            name = name_of(&wanted.digest);
            if (found || fstatat(cache->dir_fd, name.text, &st,
                                 AT_SYMLINK_NOFOLLOW) == 0)
                continue;
        }
        (void)unlinkat(cache->keys_fd, entry->d_name, 0);
    }
}

/* What unused images of so many bytes may take, so that the disk keeps a rest:
 * a full one stops more than containers. */
static uint64_t leave_room(struct image_cache *cache, uint64_t total,
                           uint64_t max_bytes)
{
    struct statvfs fs;
    uint64_t rest, available;

    if (fstatvfs(cache->dir_fd, &fs) < 0)
        return max_bytes;
    rest = (uint64_t)fs.f_blocks * fs.f_frsize / IMAGE_DISK_REST;
    if (rest > IMAGE_DISK_REST_MAX)
        rest = IMAGE_DISK_REST_MAX;
    available = (uint64_t)fs.f_bavail * fs.f_frsize + total;
    available = available > rest ? available - rest : 0;
    return max_bytes < available ? max_bytes : available;
}

int image_cache_trim(struct image_cache *cache, uint64_t max_bytes,
                     image_in_use_fn *in_use, void *context, struct err *e)
{
    _cleanup_free_ struct unused *list = NULL;
    size_t n = list_unused(cache, in_use, context, &list);
    uint64_t total = 0;
    bool removed = false;

    read_keys(cache, list, n);
    for (size_t i = 0; i < n; i++)
        if (list[i].has_key)
            total += list[i].bytes;
    max_bytes = leave_room(cache, total, max_bytes);
    if (n > 0)
        qsort(list, n, sizeof(*list), compare_ages);
    for (size_t i = 0; i < n; i++) {
        struct image_name name = name_of(&list[i].digest);

        if (list[i].has_key && total <= max_bytes)
            continue;
        if (unlinkat(cache->dir_fd, name.text, 0) < 0 && errno != ENOENT)
            return err_errno(e, "%s/%s", cache->dir, name.text);
        if (list[i].has_key)
            total -= list[i].bytes;
        removed = true;
    }
    if (removed)
        read_keys(cache, NULL, 0);
    return 0;
}
