#include "rootfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"

/* Options of an overlay mount that don't change what its files are. */
static const char *const harmless[] = {
    "ro",
    "rw",
    "workdir=",
    "index=",
    "xino=",
    "volatile",
    "noatime",
    "atime",
    "relatime",
    "nodiratime",
    "nosuid",
    "nodev",
    "metacopy=off",
    "redirect_dir=off",
    "redirect_dir=nofollow",
};

static bool is_harmless(const char *option)
{
    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++) {
        size_t n = strlen(harmless[i]);

        /* An entry that ends in "=" stands for any value. */
        if (harmless[i][n - 1] == '=' ? strncmp(option, harmless[i], n) == 0
                                      : strcmp(option, harmless[i]) == 0)
            return true;
    }
    return false;
}

static int add_layer(struct rootfs *rootfs, const char *path, size_t n,
                     struct err *e)
{
    _cleanup_free_ char *copy = xstrndup(path, n);

    if (copy[0] != '/')
        return err_set(e, EINVAL, "layer '%.256s' is not an absolute path",
                       copy);
    if (n > SPEC_PATH_MAX)
        return err_set(e, EINVAL, "the path of a layer is longer than %d",
                       SPEC_PATH_MAX);
    if (rootfs->layers.n >= ROOTFS_LAYERS_MAX)
        return err_set(e, EINVAL, "more than %d layers", ROOTFS_LAYERS_MAX);
    string_list_add(&rootfs->layers, copy);
    return 0;
}

static int parse_lowerdir(struct rootfs *rootfs, const char *list,
                          struct err *e)
{
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ":");
        int r;

        /* Never written by containerd, and not worth a parser. */
        if (memchr(at, '\\', n))
            return err_set(e, ENOTSUP, "lowerdir with a backslash");
        r = add_layer(rootfs, at, n, e);
        if (r < 0)
            return r;
        at += n;
        if (!*at)
            return 0;
    }
}

static int parse_overlay(const struct ctl_mount *mount, struct rootfs *rootfs,
                         struct err *e)
{
    const char *lower = NULL, *upper = NULL;
    int r;

    for (size_t i = 0; i < mount->options.n; i++) {
        const char *option = mount->options.v[i];

        if (strncmp(option, "lowerdir=", 9) == 0)
            lower = option + 9;
        else if (strncmp(option, "upperdir=", 9) == 0)
            upper = option + 9;
        else if (strcmp(option, "userxattr") == 0)
            rootfs->userxattr = true;
        else if (!is_harmless(option))
            return err_set(e, ENOTSUP,
                           "option '%.256s' of an overlay rootfs is not "
                           "supported",
                           option);
    }
    if (!lower)
        return err_set(e, EINVAL, "overlay rootfs without a lowerdir");
    rootfs->overlay = true;
    rootfs->immutable = true;
    if (upper) {
        /* rootfs_check() makes it immutable when the directory is empty. */
        rootfs->immutable = false;
        r = add_layer(rootfs, upper, strlen(upper), e);
        if (r < 0)
            return r;
    }
    return parse_lowerdir(rootfs, lower, e);
}

/* A snapshot that is one directory, complete: of the native snapshotter, or
 * the overlay snapshotter's view of one layer. */
static int parse_bind(const struct ctl_mount *mount, struct rootfs *rootfs,
                      struct err *e)
{
    for (size_t i = 0; i < mount->options.n; i++)
        if (strcmp(mount->options.v[i], "ro") == 0)
            rootfs->immutable = true;
    return add_layer(rootfs, mount->source, strlen(mount->source), e);
}

static int parse(const struct ctl_mount_list *mounts, const char *path,
                 struct rootfs *rootfs, struct err *e)
{
    const struct ctl_mount *mount = mounts->v;

    if (mounts->n == 0 && !path[0])
        return err_set(e, EINVAL,
                       "the rootfs is empty: no mounts and no root.path");
    if (mounts->n == 0 && path[0] == '/' && path[strspn(path, "/")] == '\0')
        return err_set(e, EINVAL, "the host's own root as a rootfs");
    if (mounts->n == 0)
        return add_layer(rootfs, path, strlen(path), e);
    if (mounts->n > 1)
        return err_set(e, ENOTSUP,
                       "a rootfs of %zu mounts is not supported, only of one",
                       mounts->n);
    if (strcmp(mount->type, "overlay") == 0)
        return parse_overlay(mount, rootfs, e);
    if (strcmp(mount->type, "bind") == 0)
        return parse_bind(mount, rootfs, e);
    return err_set(e, ENOTSUP,
                   "rootfs mount of type '%.64s' is not supported, only "
                   "overlay and bind: use the overlayfs or native snapshotter",
                   mount->type);
}

int rootfs_parse(const struct ctl_mount_list *mounts, const char *path,
                 struct rootfs *rootfs_out, struct err *e)
{
    _cleanup_(rootfs_clear) struct rootfs rootfs = {.overlay = false};
    int r = parse(mounts, path, &rootfs, e);

    if (r < 0)
        return r;
    *rootfs_out = rootfs;
    rootfs = (struct rootfs){.overlay = false};
    return 0;
}

static int dir_is_empty(int fd, const char *path, bool *empty_out,
                        struct err *e)
{
    _cleanup_closedir_ DIR *dir = NULL;
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *entry;

    if (copy >= 0)
        dir = fdopendir(copy);
    if (!dir) {
        close_fd(&copy);
        return err_errno(e, "layer '%s'", path);
    }
    *empty_out = true;
    while (*empty_out && (entry = readdir(dir)))
        *empty_out =
            strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    return 0;
}

void rootfs_take_root(struct rootfs *rootfs, mode_t mode, uid_t uid, gid_t gid)
{
    free(rootfs->layers.v[0]);
    rootfs->layers.n--;
    memmove(rootfs->layers.v, rootfs->layers.v + 1,
            rootfs->layers.n * sizeof(*rootfs->layers.v));
    rootfs->immutable = true;
    rootfs->has_root = true;
    rootfs->root_mode = mode & 07777;
    rootfs->root_uid = uid;
    rootfs->root_gid = gid;
}

int rootfs_check(struct rootfs *rootfs, struct err *e)
{
    bool first_empty = false;
    struct stat first = {.st_mode = 0};

    for (size_t i = 0; i < rootfs->layers.n; i++) {
        const char *path = rootfs->layers.v[i];
        _cleanup_fd_ int fd =
            open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
        int r;

        if (fd < 0 && errno == ENOTDIR)
            return err_set(e, EINVAL,
                           "'%s' is not a directory; files and devices of "
                           "the host are never given to a guest as a rootfs",
                           path);
        if (fd < 0)
            return err_errno(e, "layer '%s'", path);
        if (i > 0)
            continue;
        if (fstat(fd, &first) < 0)
            return err_errno(e, "layer '%s'", path);
        r = dir_is_empty(fd, path, &first_empty, e);
        if (r < 0)
            return r;
    }
    if (!rootfs->overlay && first_empty)
        return err_set(e, EINVAL, "the rootfs '%s' is an empty directory",
                       rootfs->layers.v[0]);
    if (rootfs->overlay && !rootfs->immutable && first_empty)
        rootfs_take_root(rootfs, first.st_mode, first.st_uid, first.st_gid);
    return 0;
}

int rootfs_identity(const struct rootfs *rootfs, struct digest *identity_out,
                    struct err *e)
{
    struct digester *d = digester_new();
    char root[64];

    /* So that images of another domus or mkfs.erofs are not taken. */
    digester_add(d, rootfs->userxattr ? "erofs 1 u" : "erofs 1 t", 10);
    for (size_t i = 0; i < rootfs->layers.n; i++) {
        const char *path = rootfs->layers.v[i];
        struct stat st;
        char numbers[96];

        if (stat(path, &st) < 0) {
            int r = err_errno(e, "layer '%s'", path);

            (void)digester_end(d);
            return r;
        }
        (void)snprintf(numbers, sizeof(numbers), "%llu %llu %lld.%09ld",
                       (unsigned long long)st.st_dev,
                       (unsigned long long)st.st_ino,
                       (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
        /* With their NULs, which no path contains. */
        digester_add(d, path, strlen(path) + 1);
        digester_add(d, numbers, strlen(numbers) + 1);
    }
    if (rootfs->has_root) {
        (void)snprintf(root, sizeof(root), "root %o %u %u",
                       (unsigned)rootfs->root_mode, rootfs->root_uid,
                       rootfs->root_gid);
        digester_add(d, root, strlen(root) + 1);
    }
    *identity_out = digester_end(d);
    return 0;
}

void rootfs_clear(struct rootfs *rootfs)
{
    string_list_clear(&rootfs->layers);
}
