#include "devices.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "domus/mem.h"
#include "mount.h"
#include "rootfs.h"
#include "userns.h"

#define DEV "/dev/"

#define KCORE "/proc/kcore"

static const char *const nodes[] = {
    "null", "zero", "full", "random", "urandom", "tty",
};

static const struct {
    const char *name;
    const char *target;
} links[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
    {"ptmx", "pts/ptmx"},          {"core", KCORE},
};

/* What an image brought under that name is not to be trusted. */
static int clear_name(int dir, const char *name, struct err *e)
{
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return err_errno(e, "replace what the image has at %s", name);
    return 0;
}

/* Shows the guest's node (a path) under that name. */
static int show_node(int dir, const char *name, const char *guest_path,
                     struct err *e)
{
    _cleanup_fd_ int place = -1;
    _cleanup_fd_ int node = -1;
    _cleanup_fd_ int mount = -1;
    int r = clear_name(dir, name, e);

    if (r < 0)
        return r;
    place = openat(dir, name,
                   O_CREAT | O_EXCL | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (place < 0)
        return err_errno(e, "make %s", name);
    node = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (node < 0)
        return err_errno(e, "open %s", name);
    r = mount_clone(AT_FDCWD, guest_path, false, &mount, e);
    return r < 0 ? r : mount_attach(mount, node, e);
}

/* As runc: a container's terminals are its own, whatever its config lists. */
static bool is_terminals(const struct spec_device *device, const char *terminal)
{
    return strcmp(device->path, DEV "ptmx") == 0 ||
           (terminal && strcmp(device->path, DEV "console") == 0);
}

static bool is_listed(const struct spec_device_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++) {
        const char *path = list->v[i].path;

        if (strncmp(path, DEV, strlen(DEV)) == 0 &&
            strcmp(path + strlen(DEV), name) == 0)
            return true;
    }
    return false;
}

int devices_make_default(int root, const struct spec_device_list *others,
                         const char *terminal, struct err *e)
{
    _cleanup_fd_ int dev = -1;
    int r = tree_make_directory(root, "/dev", &dev, e);

    for (size_t i = 0; i < ARRAY_SIZE(nodes) && r == 0; i++) {
        _cleanup_free_ char *path = xasprintf(DEV "%s", nodes[i]);

        if (!is_listed(others, nodes[i]) &&
            show_node(dev, nodes[i], path, e) < 0)
            r = err_wrap(e, "device %s", path);
    }
    for (size_t i = 0; i < ARRAY_SIZE(links) && r == 0; i++) {
        /* As runc: no link to what the kernel was built without. */
        if (strcmp(links[i].target, KCORE) == 0 && access(KCORE, F_OK) < 0)
            continue;
        r = clear_name(dev, links[i].name, e);
        if (r == 0 && symlinkat(links[i].target, dev, links[i].name) < 0)
            r = err_errno(e, "link /dev/%s", links[i].name);
    }
    if (r == 0 && terminal && show_node(dev, "console", terminal, e) < 0)
        r = err_wrap(e, "device /dev/console");
    return r;
}

static const struct {
    uint32_t type;
    mode_t mode;
} types[] = {{'b', S_IFBLK}, {'c', S_IFCHR}, {'p', S_IFIFO}};

static int node_mode(const struct spec_device *d, mode_t *mode_out,
                     struct err *e)
{
    if (d->uid == UINT32_MAX || d->gid == UINT32_MAX || d->mode & ~07777u)
        return err_set(e, EINVAL, "owner %u:%u, mode 0%o are not possible",
                       d->uid, d->gid, d->mode);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (types[i].type == d->type) {
            *mode_out = types[i].mode;
            return 0;
        }
    return err_set(e, EINVAL, "there is no device type %u", d->type);
}

/* Who owns it, to the guest. */
static int find_owner(const struct spec_container *spec,
                      const struct spec_device *d, uint32_t *uid_out,
                      uint32_t *gid_out, struct err *e)
{
    int r;

    *uid_out = d->uid;
    *gid_out = d->gid;
    if (!(spec->namespaces & CLONE_NEWUSER))
        return 0;
    r = userns_map(&spec->uid_maps, d->uid, uid_out, e);
    return r < 0 ? r : userns_map(&spec->gid_maps, d->gid, gid_out, e);
}

/* The mode is set apart, since a umask is in the way of mknod(2). */
static int make_guest_node(const struct spec_container *spec,
                           const struct spec_device *d, const char *path,
                           struct err *e)
{
    uint32_t uid = 0, gid = 0;
    mode_t mode = 0;
    int r = node_mode(d, &mode, e);

    if (r == 0)
        r = find_owner(spec, d, &uid, &gid, e);
    if (r < 0)
        return r;
    if (mknod(path, mode | 0600, makedev(d->major, d->minor)) < 0 ||
        chown(path, uid, gid) < 0 || chmod(path, d->mode) < 0)
        return err_errno(e, "make a node %c %u:%u", (int)d->type, d->major,
                         d->minor);
    return 0;
}

int devices_prepare(const struct spec_container *spec, struct err *e)
{
    const struct spec_device_list *list = &spec->devices;
    _cleanup_fd_ int place = -1;
    _cleanup_fd_ int mount = -1;
    int r;

    if (list->n == 0)
        return 0;
    place = open(ROOTFS_DEVICES, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (place < 0)
        return err_errno(e, "open %s", ROOTFS_DEVICES);
    r = mount_create("tmpfs", "devices", MS_NOSUID | MS_NOEXEC,
                     "size=1m,mode=755", &mount, e);
    if (r == 0)
        r = mount_attach(mount, place, e);
    for (size_t i = 0; i < list->n && r == 0; i++) {
        _cleanup_free_ char *path = xasprintf(ROOTFS_DEVICES "/%zu", i);

        if (make_guest_node(spec, &list->v[i], path, e) < 0)
            r = err_wrap(e, "device %s", list->v[i].path);
    }
    return r;
}

static int make_device(int root, const struct spec_device *d,
                       const char *guest_path, struct err *e)
{
    _cleanup_free_ char *directory = xstrdup(d->path);
    _cleanup_fd_ int parent = -1;
    char *slash = strrchr(directory, '/');
    const char *name = slash ? slash + 1 : "";
    int r;

    if (d->path[0] != '/' || !*name || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0)
        return err_set(e, EINVAL, "the path is no absolute one of a file");
    *slash = '\0';
    r = tree_make_directory(root, directory, &parent, e);
    return r < 0 ? r : show_node(parent, name, guest_path, e);
}

int devices_make(int root, const struct spec_device_list *list, bool own_dev,
                 const char *terminal, struct err *e)
{
    int r = 0;

    for (size_t i = 0; i < list->n && r == 0; i++) {
        _cleanup_free_ char *path = xasprintf(ROOTFS_DEVICES "/%zu", i);
        const struct spec_device *d = &list->v[i];

        if (is_terminals(d, terminal) ||
            (own_dev && strncmp(d->path, DEV, strlen(DEV)) == 0))
            continue;
        if (make_device(root, d, path, e) < 0)
            r = err_wrap(e, "device %s", d->path);
    }
    return r;
}
