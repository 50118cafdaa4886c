#include "rootfs.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device_filter.h"
#include "devices.h"
#include "domus/mem.h"
#include "hooks.h"
#include "image.h"
#include "mount.h"
#include "mounts.h"
#include "process.h"

/* A /dev of the user's own stays as it is. */
static int make_devices(const struct spec_container *spec, int root,
                        const char *terminal, struct err *e)
{
    const struct spec_mount *dev = mounts_find_dev(spec);
    bool own = dev && mounts_is_bind(dev);
    int r = own ? 0 : devices_make_default(root, &spec->devices, terminal, e);

    return r < 0 ? r : devices_make(root, &spec->devices, own, terminal, e);
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
        r = mount_create("tmpfs", "tmpfs", MS_RDONLY | MS_NODEV,
                         "nr_blocks=1,nr_inodes=1", &mount, e);
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

int rootfs_limit_devices(const struct spec_container *spec, const char *cgroup,
                         struct err *e)
{
    _cleanup_fd_ int fd = -1;

    if (spec->device_rules.n == 0)
        return 0;
    fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "open the container's cgroup");
    return device_filter_attach(fd, &spec->device_rules, e);
}

static int run_create_hooks(const struct spec_container *spec, int root,
                            struct err *e)
{
    struct string_list env = process_variables(&spec->process);
    int r = hooks_run(&spec->create_container_hooks, HOOKS_CREATE_CONTAINER,
                      root, spec->hook_state, &env, e);

    free(env.v);
    return r;
}

static int fill_root(const struct spec_container *spec, int root,
                     const char *terminal, const char *cgroup, struct err *e)
{
    int r = mounts_make(spec, root, cgroup, e);

    if (r == 0)
        r = make_devices(spec, root, terminal, e);
    if (r == 0 && !(spec->namespaces & CLONE_NEWUSER))
        r = rootfs_limit_devices(spec, cgroup, e);
    return r < 0 ? r : run_create_hooks(spec, root, e);
}

/* What hooks may still write to, and processes may not. */
static int close_root(const struct spec_container *spec, int root,
                      struct err *e)
{
    _cleanup_fd_ int cwd = -1;
    int r = 0;

    if (spec->process.cwd[0])
        r = tree_make_directory(root, spec->process.cwd, &cwd, e);
    if (r == 0)
        r = mounts_close(spec, root, e);
    if (r == 0)
        r = protect_paths(spec, root, e);
    if (r == 0 && spec->root_readonly)
        r = mount_change(root, MS_RDONLY, e);
    return r;
}

int rootfs_prepare(const struct spec_container *spec, const char *device,
                   struct err *e)
{
    int r = image_mount(device, e);

    return r < 0 ? r : devices_prepare(spec, e);
}

/* What came from the guest's user namespace cannot be moved or left, but a
 * copy of it can. */
static int own_root(struct err *e)
{
    _cleanup_fd_ int place = -1;
    _cleanup_fd_ int copy = -1;
    int r = mount_clone(AT_FDCWD, ROOTFS_ROOT, false, &copy, e);

    if (r < 0)
        return r;
    place = open(ROOTFS_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (place < 0)
        return err_errno(e, "open %s", ROOTFS_ROOT);
    return mount_attach(copy, place, e);
}

int rootfs_enter(const struct spec_container *spec, const char *terminal,
                 const char *cgroup, struct err *e)
{
    _cleanup_fd_ int root = -1;
    int r = spec->namespaces & CLONE_NEWUSER ? own_root(e) : 0;

    if (r < 0)
        return r;
    root = open(ROOTFS_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(e, "open %s", ROOTFS_ROOT);
    r = fill_root(spec, root, terminal, cgroup, e);
    if (r == 0)
        r = close_root(spec, root, e);
    if (r == 0)
        r = change_root(root, e);
    if (r == 0 && spec->root_propagation &&
        mount(NULL, "/", NULL, spec->root_propagation, NULL) < 0)
        r = err_errno(e, "set the propagation of the root");
    return r;
}
