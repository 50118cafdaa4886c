#include "early.h"

#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"
#include "domus/mem.h"
#include "rootfs.h"

/* Where the new root is mounted first; a directory of the initramfs. */
#define NEW_ROOT "/run"
/* Never written to but for mount points. */
#define ROOT_OPTIONS "size=1m,mode=755"

#define SAFE (MS_NOSUID | MS_NOEXEC)

static int mount_one(const char *source, const char *target, const char *type,
                     unsigned long flags, const char *data, struct err *e)
{
    if (mount(source, target, type, flags, data) < 0)
        return err_errno(e, "mount %s at %s", type ? type : "a bind", target);
    return 0;
}

static int open_missing_streams(struct err *e)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return err_errno(e, "open /dev/null");
    } while (fd <= STDERR_FILENO);
    (void)close(fd);
    return 0;
}

int early_devices(struct err *e)
{
    int r;

    /* Nothing that is mounted here may show elsewhere, or the reverse. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_errno(e, "make mounts private");
    r = mount_one("devtmpfs", "/dev", "devtmpfs", SAFE, "mode=755", e);
    if (r < 0 && r != -EBUSY) /* which says that it is there */
        return r;
    return open_missing_streams(e);
}

static const char *const directories[] = {
    "/proc",      "/sys",      "/dev",         "/run",      ROOTFS_LOWER,
    ROOTFS_UPPER, ROOTFS_ROOT, ROOTFS_DEVICES, ROOTFS_PROC, ROOTFS_SYSFS,
};

static int make_directories(struct err *e)
{
    for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
        _cleanup_free_ char *path = xasprintf(NEW_ROOT "%s", directories[i]);

        if (mkdir(path, 0755) < 0)
            return err_errno(e, "make the directory %s", path);
    }
    return 0;
}

static int mount_cgroups(const char *directory, struct err *e)
{
    const char *place = NEW_ROOT EARLY_CGROUPS;

    if (directory)
        return mount_one(directory, place, NULL, MS_BIND, NULL, e);
    /* A container's own limits are not its to change, even where it has its
     * group writable in a namespace of its own: as systemd mounts it. */
    return mount_one("cgroup", place, "cgroup2", SAFE | MS_NODEV,
                     "nsdelegate,memory_recursiveprot", e);
}

static int fill_root(const char *cgroup, struct err *e)
{
    int r = make_directories(e);

    if (r == 0)
        r = mount_one("proc", NEW_ROOT "/proc", "proc", SAFE | MS_NODEV, NULL,
                      e);
    if (r == 0)
        r = mount_one("sysfs", NEW_ROOT "/sys", "sysfs", SAFE | MS_NODEV, NULL,
                      e);
    if (r == 0)
        r = mount_one("devtmpfs", NEW_ROOT "/dev", "devtmpfs", SAFE, "mode=755",
                      e);
    if (r == 0 && mkdir(NEW_ROOT "/dev/pts", 0755) < 0 && errno != EEXIST)
        r = err_errno(e, "make /dev/pts");
    if (r == 0)
        r = mount_one("devpts", NEW_ROOT "/dev/pts", "devpts", SAFE,
                      "mode=620,ptmxmode=600", e);
    if (r == 0)
        r = mount_cgroups(cgroup, e);
    return r;
}

static int open_cgroups(int *cgroup_out, struct err *e)
{
    _cleanup_fd_ int cgroup =
        open(EARLY_CGROUPS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (cgroup < 0)
        return err_errno(e, "open the cgroups");
    r = cgroup_enable_controllers(cgroup, e);
    if (r == 0)
        *cgroup_out = steal_fd(&cgroup);
    return r;
}

int early_root(const struct agent_options *options, int *cgroup_out,
               struct err *e)
{
    int r =
        mount_one("root", NEW_ROOT, "tmpfs", SAFE | MS_NODEV, ROOT_OPTIONS, e);

    if (r == 0)
        r = fill_root(options->cgroup, e);
    /* The agent's program is there, reachable by its /proc/PID/exe at most. */
    if (r == 0)
        r = mount_one(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL,
                      e);
    if (r == 0 &&
        (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
         chroot(".") < 0 || chdir("/") < 0))
        r = err_errno(e, "change to the agent's root");
    return r < 0 ? r : open_cgroups(cgroup_out, e);
}

int early_network(struct err *e)
{
    _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};

    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
        return err_errno(e, "find the loopback device");
    if (request.ifr_flags & IFF_UP)
        return 0;
    request.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return err_errno(e, "bring up the loopback device");
    return 0;
}
