#include "mounts.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "copyup.h"
#include "domus/mem.h"
#include "mount.h"
#include "rootfs.h"

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

/* Other mounts and devices may have their places in it, so it is closed when
 * they are there. */
static bool is_late_readonly(const struct spec_mount *m)
{
    return (m->flags & MS_RDONLY) && !is_bind(m) &&
           (is_dev(m) || strcmp(m->type, "tmpfs") == 0);
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
        return mount_create("cgroup2", "cgroup", flags, m->data, mount_out, e);
    if (m->data[0])
        return err_set(e, ENOTSUP,
                       "without a cgroup namespace it cannot have the options "
                       "%s",
                       m->data);
    r = mount_clone(AT_FDCWD, cgroup, false, mount_out, e);
    if (r == 0)
        r = mount_change(*mount_out, flags, e);
    return r;
}

static const struct {
    const char *type;
    const char *path;
} prepared[] = {{"proc", ROOTFS_PROC}, {"sysfs", ROOTFS_SYSFS}};

/* Where userns.c has mounted it for us, or NULL. */
static const char *find_prepared(const struct spec_container *spec,
                                 const struct spec_mount *m)
{
    if (!(spec->namespaces & CLONE_NEWUSER))
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(prepared); i++)
        if (strcmp(prepared[i].type, m->type) == 0)
            return prepared[i].path;
    return NULL;
}

static int take_prepared(const struct spec_mount *m, const char *path,
                         int *mount_out, struct err *e)
{
    int r;

    if (m->data[0])
        return err_set(e, ENOTSUP,
                       "in a user namespace it cannot have the options %s",
                       m->data);
    r = mount_clone(AT_FDCWD, path, false, mount_out, e);
    return r < 0 || !m->flags ? r : mount_change(*mount_out, m->flags, e);
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
    if (find_prepared(spec, m))
        return take_prepared(m, find_prepared(spec, m), mount_out, e);
    if (strcmp(m->type, "tmpfs") == 0)
        flags |= MS_NODEV;
    if (is_late_readonly(m))
        flags &= ~(uint64_t)MS_RDONLY;
    return mount_create(m->type, m->source, flags, m->data, mount_out, e);
}

/* True when no other container, and not the guest, has the file system. */
static bool is_own(const struct spec_container *spec, uint64_t magic)
{
    switch (magic) {
    case TMPFS_MAGIC:
    case DEVPTS_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
        return true;
    case PROC_SUPER_MAGIC:
        return spec->namespaces & CLONE_NEWPID;
    }
    return false;
}

static int reconfigure(const struct spec_container *spec,
                       const struct spec_mount *m, int mount, uint64_t magic,
                       uint64_t flags, struct err *e)
{
    if (is_bind(m))
        return 0;
    if (is_own(spec, magic))
        return mount_reconfigure(mount, m->type, flags, m->data, e);
    if (m->data[0])
        return err_set(e, ENOTSUP,
                       "it is not the container's alone, so it cannot have "
                       "the options %s",
                       m->data);
    return 0;
}

/* "remount" changes the mount that is at the destination. */
static int change_existing(const struct spec_container *spec,
                           const struct spec_mount *m, int root, struct err *e)
{
    uint64_t flags = m->flags & ~(uint64_t)(MS_REMOUNT | MS_BIND | MS_REC);
    _cleanup_fd_ int mount = -1;
    struct statfs status;
    int r = tree_open(root, m->destination, O_PATH, &mount, e);

    if (r < 0)
        return r;
    if (fstatfs(mount, &status) < 0)
        return err_errno(e, "%s", m->destination);
    if ((uint64_t)status.f_type == TMPFS_MAGIC)
        flags |= MS_NODEV;
    if (is_late_readonly(m))
        flags &= ~(uint64_t)MS_RDONLY;
    r = reconfigure(spec, m, mount, (uint64_t)status.f_type, flags, e);
    if (r == 0)
        r = mount_replace(mount, flags, e);
    if (r == 0)
        r = mount_change_all(mount, m->all_set, m->all_clear, e);
    if (r == 0 && m->propagation)
        r = mount_propagation(mount, m->propagation, e);
    return r;
}

static bool has_mode(const struct spec_mount *m)
{
    return strncmp(m->data, "mode=", strlen("mode=")) == 0 ||
           strstr(m->data, ",mode=");
}

/* What a new tmpfs takes from the place that it covers: all there is, if asked
 * to, and the mode, if it has none of its own, as other runtimes do. */
static int take_over(const struct spec_mount *m, int destination, int mount,
                     struct err *e)
{
    _cleanup_fd_ int top = -1;
    struct stat st;
    int r;

    if (strcmp(m->type, "tmpfs") != 0)
        return 0;
    top = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0 || fstat(has_mode(m) ? top : destination, &st) < 0)
        return err_errno(e, "the mode of the tmpfs");
    r = m->copy_up ? copyup(destination, mount, e) : 0;
    if (r == 0 && fchmod(top, st.st_mode & 07777) < 0)
        r = err_errno(e, "set the mode of the tmpfs");
    return r;
}

/* What is mounted there would cover the image's files, and be beneath what the
 * container sees as its root. */
static int refuse_root(int root, int destination, struct err *e)
{
    struct stat a, b;

    if (fstat(root, &a) < 0 || fstat(destination, &b) < 0)
        return err_errno(e, "the mount's destination");
    if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return err_set(e, EINVAL, "it is the container's root");
    return 0;
}

static int open_destination(const struct spec_mount *m, int root,
                            bool directory, int *destination_out, struct err *e)
{
    _cleanup_fd_ int made = -1;
    int r = directory ? tree_make_directory(root, m->destination, &made, e)
                      : tree_make_file(root, m->destination, &made, e);

    if (r < 0)
        return r;
    /* Whoever writes to /proc must meet the kernel, not an image's link. */
    if (strcmp(m->type, "proc") == 0 || strcmp(m->type, "sysfs") == 0)
        return tree_open_strict(root, m->destination, O_PATH | O_DIRECTORY,
                                destination_out, e);
    *destination_out = steal_fd(&made);
    return 0;
}

static bool is_there(int root, const char *path)
{
    _cleanup_fd_ int fd = -1;
    struct err ignored;

    return tree_open(root, path, O_PATH, &fd, &ignored) == 0;
}

static int make_mount(const struct spec_container *spec,
                      const struct spec_mount *m, int root, const char *cgroup,
                      struct err *e)
{
    _cleanup_fd_ int mount = -1;
    _cleanup_fd_ int destination = -1;
    bool directory, there;
    int r;

    if (m->flags & MS_REMOUNT)
        return change_existing(spec, m, root, e);
    there = is_there(root, m->destination);
    r = make_source(spec, m, cgroup, &mount, &directory, e);
    if (r == 0)
        r = open_destination(m, root, directory, &destination, e);
    if (r == 0)
        r = refuse_root(root, destination, e);
    if (r == 0 && !is_bind(m) && there)
        r = take_over(m, destination, mount, e);
    if (r == 0)
        r = mount_change_all(mount, m->all_set, m->all_clear, e);
    if (r == 0 && m->propagation)
        r = mount_propagation(mount, m->propagation, e);
    return r < 0 ? r : mount_attach(mount, destination, e);
}

int mounts_make(const struct spec_container *spec, int root, const char *cgroup,
                struct err *e)
{
    for (size_t i = 0; i < spec->mounts.n; i++) {
        const struct spec_mount *m = &spec->mounts.v[i];
        int r = make_mount(spec, m, root, cgroup, e);

        if (r < 0)
            return err_wrap(e, "mount of %s at %s", m->type, m->destination);
    }
    return 0;
}

int mounts_close(const struct spec_container *spec, int root, struct err *e)
{
    for (size_t i = 0; i < spec->mounts.n; i++) {
        const struct spec_mount *m = &spec->mounts.v[i];
        _cleanup_fd_ int mount = -1;
        int r = 0;

        if (is_late_readonly(m))
            r = tree_open(root, m->destination, O_PATH, &mount, e);
        /* With its other flags, which a remount may have taken away. */
        if (mount >= 0)
            r = mount_change(mount, m->flags & ~(uint64_t)(MS_REMOUNT | MS_REC),
                             e);
        if (r < 0)
            return err_wrap(e, "make %s read-only", m->destination);
    }
    return 0;
}

const struct spec_mount *mounts_find_dev(const struct spec_container *spec)
{
    const struct spec_mount *dev = NULL;

    for (size_t i = 0; i < spec->mounts.n; i++)
        if (is_dev(&spec->mounts.v[i]))
            dev = &spec->mounts.v[i];
    return dev;
}

bool mounts_is_bind(const struct spec_mount *m)
{
    return is_bind(m);
}
