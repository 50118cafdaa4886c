#include "rootfs.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices.h"
#include "domus/loop.h"
#include "domus/mem.h"
#include "mount.h"

/* A block device that was not attached by now will not come. */
#define DEVICE_WAIT_MS 20000

/* The disk may be hot-added after the kernel's own wait for devices. */
static int wait_for_device(const char *path, struct err *e)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int64_t deadline = loop_now() + DEVICE_WAIT_MS;
    struct stat st;

    while (stat(path, &st) < 0) {
        if (errno != ENOENT)
            return err_errno(e, "root device %s", path);
        if (loop_now() > deadline)
            return err_set(e, ETIMEDOUT,
                           "root device %s did not appear within %d s", path,
                           DEVICE_WAIT_MS / 1000);
        (void)nanosleep(&pause, NULL);
    }
    if (!S_ISBLK(st.st_mode))
        return err_set(e, ENOTBLK, "root device %s is no block device", path);
    return 0;
}

static int mount_at(const char *path, const char *type, const char *source,
                    uint64_t flags, const char *data, struct err *e)
{
    _cleanup_fd_ int mount = -1;
    _cleanup_fd_ int destination = -1;
    int r = mount_create(type, source, flags, data, &mount, e);

    if (r < 0)
        return r;
    destination = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (destination < 0)
        return err_errno(e, "open %s", path);
    return mount_attach(mount, destination, e);
}

/* An overlay shows the owner and mode of its upper root: give it the image's.
 */
static int make_upper(struct err *e)
{
    struct stat st;

    if (stat(ROOTFS_LOWER, &st) < 0)
        return err_errno(e, "the image's root");
    if (mkdir(ROOTFS_UPPER "/upper", 0755) < 0 ||
        mkdir(ROOTFS_UPPER "/work", 0700) < 0 ||
        chown(ROOTFS_UPPER "/upper", st.st_uid, st.st_gid) < 0 ||
        chmod(ROOTFS_UPPER "/upper", st.st_mode & 07777) < 0)
        return err_errno(e, "make the upper layer");
    return 0;
}

/* What is written goes to memory, at most half of it, and is charged to the
 * container's cgroup, in which this process already is. */
static int form_root(const char *device, struct err *e)
{
    int r = wait_for_device(device, e);

    if (r < 0)
        return r;
    r = mount_at(ROOTFS_LOWER, "erofs", device, MS_RDONLY | MS_NODEV, "ro", e);
    if (r < 0)
        return err_wrap(e, "root device %s", device);
    r = mount_at(ROOTFS_UPPER, "tmpfs", "upper", MS_NODEV, "size=50%,mode=755",
                 e);
    if (r == 0)
        r = make_upper(e);
    if (r == 0)
        r = mount_at(ROOTFS_ROOT, "overlay", "overlay", MS_NODEV,
                     "lowerdir=" ROOTFS_LOWER ",upperdir=" ROOTFS_UPPER
                     "/upper,workdir=" ROOTFS_UPPER "/work",
                     e);
    return r;
}

static bool is_bind(const struct spec_mount *m)
{
    return (m->flags & MS_BIND) || strcmp(m->type, "bind") == 0;
}

static bool is_cgroup(const struct spec_mount *m)
{
    return strcmp(m->type, "cgroup") == 0 || strcmp(m->type, "cgroup2") == 0;
}

static bool is_dev(const struct spec_mount *m)
{
    return strcmp(m->destination, "/dev") == 0;
}

/* The mount of a bind, with the kind of place that it needs. */
static int clone_source(const struct spec_mount *m, int *mount_out,
                        bool *directory_out, struct err *e)
{
    uint64_t change = m->flags & ~(uint64_t)(MS_BIND | MS_REC);
    _cleanup_fd_ int mount = -1;
    struct stat st;
    int r = mount_clone(AT_FDCWD, m->source, m->flags & MS_REC, &mount, e);

    if (r < 0)
        return r;
    if (fstat(mount, &st) < 0)
        return err_errno(e, "bind %s", m->source);
    /* A device may be handed in; a directory gives no right to make one. */
    if (S_ISDIR(st.st_mode))
        change |= MS_NODEV;
    if (change)
        r = mount_change(mount, change, e);
    if (r < 0)
        return r;
    *directory_out = S_ISDIR(st.st_mode);
    *mount_out = steal_fd(&mount);
    return 0;
}

/* The guest has the unified hierarchy only; without a cgroup namespace of its
 * own a container is shown just its own part. */
static int make_cgroup_mount(const struct spec_container *spec,
                             const struct spec_mount *m, const char *cgroup,
                             int *mount_out, struct err *e)
{
    uint64_t flags = m->flags & ~(uint64_t)MS_REC;
    int r;

    if (spec->namespaces & CLONE_NEWCGROUP)
        return mount_create("cgroup2", "cgroup", flags, NULL, mount_out, e);
    r = mount_clone(AT_FDCWD, cgroup, false, mount_out, e);
    if (r == 0)
        r = mount_change(*mount_out, flags, e);
    return r;
}

static int make_source(const struct spec_container *spec,
                       const struct spec_mount *m, const char *cgroup,
                       int *mount_out, bool *directory_out, struct err *e)
{
    uint64_t flags = m->flags;

    *directory_out = true;
    if (is_bind(m))
        return clone_source(m, mount_out, directory_out, e);
    if (is_cgroup(m))
        return make_cgroup_mount(spec, m, cgroup, mount_out, e);
    if (strcmp(m->type, "tmpfs") == 0)
        flags |= MS_NODEV;
    /* The default devices come first, see seal_dev(). */
    if (is_dev(m))
        flags &= ~(uint64_t)MS_RDONLY;
    return mount_create(m->type, m->source, flags, m->data, mount_out, e);
}

static int make_mount(const struct spec_container *spec,
                      const struct spec_mount *m, int root, const char *cgroup,
                      struct err *e)
{
    _cleanup_fd_ int mount = -1;
    _cleanup_fd_ int destination = -1;
    bool directory;
    int r = make_source(spec, m, cgroup, &mount, &directory, e);

    if (r < 0)
        return r;
    if (m->propagation) {
        r = mount_propagation(mount, m->propagation, e);
        if (r < 0)
            return r;
    }
    r = directory ? tree_make_directory(root, m->destination, &destination, e)
                  : tree_make_file(root, m->destination, &destination, e);
    /* Whoever writes to /proc must meet the kernel, not an image's link. */
    if (r == 0 &&
        (strcmp(m->type, "proc") == 0 || strcmp(m->type, "sysfs") == 0)) {
        close_fd(&destination);
        r = tree_open_strict(root, m->destination, O_PATH | O_DIRECTORY,
                             &destination, e);
    }
    if (r == 0)
        r = mount_attach(mount, destination, e);
    return r;
}

static int make_mounts(const struct spec_container *spec, int root,
                       const char *cgroup, struct err *e)
{
    for (size_t i = 0; i < spec->mounts.n; i++) {
        const struct spec_mount *m = &spec->mounts.v[i];
        int r = make_mount(spec, m, root, cgroup, e);

        if (r < 0)
            return err_wrap(e, "mount of %s at %s", m->type, m->destination);
    }
    return 0;
}

/* A /dev of the user's own stays as it is. */
static int make_devices(const struct spec_container *spec, int root,
                        const char *terminal, struct err *e)
{
    const struct spec_mount *dev = NULL;
    _cleanup_fd_ int mount = -1;
    int r;

    for (size_t i = 0; i < spec->mounts.n; i++)
        if (is_dev(&spec->mounts.v[i]))
            dev = &spec->mounts.v[i];
    if (dev && is_bind(dev))
        return 0;
    r = devices_make(root, terminal, e);
    if (r < 0 || !dev || !(dev->flags & MS_RDONLY))
        return r;
    r = tree_open(root, "/dev", O_PATH, &mount, e);
    return r < 0 ? r : mount_change(mount, MS_RDONLY, e);
}

static int hide(int root, const char *path, struct err *e)
{
    _cleanup_fd_ int place = -1;
    _cleanup_fd_ int mount = -1;
    struct stat st;
    int r = tree_open(root, path, O_PATH, &place, e);

    if (r == -ENOENT || r == -ENOTDIR)
        return 0;
    if (r < 0)
        return r;
    if (fstat(place, &st) < 0)
        return err_errno(e, "%s", path);
    if (S_ISDIR(st.st_mode))
        r = mount_create("tmpfs", "tmpfs", MS_RDONLY | MS_NODEV, NULL, &mount,
                         e);
    else
        r = mount_clone(AT_FDCWD, "/dev/null", false, &mount, e);
    return r < 0 ? r : mount_attach(mount, place, e);
}

static int make_readonly(int root, const char *path, struct err *e)
{
    _cleanup_fd_ int place = -1;
    _cleanup_fd_ int mount = -1;
    int r = tree_open(root, path, O_PATH, &place, e);

    if (r == -ENOENT || r == -ENOTDIR)
        return 0;
    if (r == 0)
        r = mount_clone(place, "", true, &mount, e);
    if (r == 0)
        r = mount_change(mount, MS_RDONLY, e);
    if (r == 0)
        r = mount_attach(mount, place, e);
    return r;
}

static int protect_paths(const struct spec_container *spec, int root,
                         struct err *e)
{
    for (size_t i = 0; i < spec->readonly_paths.n; i++)
        if (make_readonly(root, spec->readonly_paths.v[i], e) < 0)
            return err_wrap(e, "read-only path %s", spec->readonly_paths.v[i]);
    for (size_t i = 0; i < spec->masked_paths.n; i++)
        if (hide(root, spec->masked_paths.v[i], e) < 0)
            return err_wrap(e, "masked path %s", spec->masked_paths.v[i]);
    return 0;
}

/* The guest's own tree is below us after pivot_root, and then gone. */
static int change_root(int root, struct err *e)
{
    if (fchdir(root) < 0)
        return err_errno(e, "enter the container's root");
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_errno(e, "pivot_root");
    if (umount2(".", MNT_DETACH) < 0)
        return err_errno(e, "detach the guest's root");
    if (chdir("/") < 0)
        return err_errno(e, "enter the container's root");
    return 0;
}

int rootfs_enter(const struct spec_container *spec, const char *device,
                 const char *terminal, const char *cgroup, struct err *e)
{
    _cleanup_fd_ int root = -1;
    _cleanup_fd_ int cwd = -1;
    int r = form_root(device, e);

    if (r < 0)
        return r;
    root = open(ROOTFS_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(e, "open %s", ROOTFS_ROOT);
    r = make_mounts(spec, root, cgroup, e);
    if (r == 0)
        r = make_devices(spec, root, terminal, e);
    if (r == 0)
        r = protect_paths(spec, root, e);
    if (r == 0 && spec->process.cwd[0])
        r = tree_make_directory(root, spec->process.cwd, &cwd, e);
    if (r == 0 && spec->root_readonly)
        r = mount_change(root, MS_RDONLY, e);
    return r < 0 ? r : change_root(root, e);
}
