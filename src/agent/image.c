#include "image.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "domus/loop.h"
#include "domus/mem.h"
#include "mount.h"
#include "rootfs.h"

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
int image_mount(const char *device, struct err *e)
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
