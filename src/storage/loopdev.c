#include "loopdev.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "domus/mem.h"

/* Others may take the free device between our two calls. */
#define ATTACH_TRIES 64
#define NUMBER_MAX   (1 << 20)

static int set_numbers(struct loopdev *dev, int number, int fd, struct err *e)
{
    struct stat st;

    dev->number = number;
    if (fstat(fd, &st) < 0)
        return err_errno(e, "%s", dev->path);
    if (!S_ISBLK(st.st_mode))
        return err_set(e, ENOTBLK, "%s is not a block device", dev->path);
    dev->major = major(st.st_rdev);
    dev->minor = minor(st.st_rdev);
    return 0;
}

static int open_device(struct loopdev *dev, int number)
{
    (void)snprintf(dev->path, sizeof(dev->path), "/dev/loop%d", number);
    return open(dev->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

int loopdev_attach(int file, const char *name, struct loopdev *dev_out,
                   struct err *e)
{
    _cleanup_fd_ int control =
        open("/dev/loop-control", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (control < 0)
        return err_errno(e, "/dev/loop-control");
    for (int i = 0; i < ATTACH_TRIES; i++) {
        struct loop_config config = {
            .fd = (uint32_t)file,
            .info = {.lo_flags = LO_FLAGS_READ_ONLY},
        };
        struct loopdev dev = {.number = -1};
        _cleanup_fd_ int fd = -1;
        int number = ioctl(control, LOOP_CTL_GET_FREE);

        if (number < 0)
            return err_errno(e, "no free loop device");
        fd = open_device(&dev, number);
        if (fd < 0)
            return err_errno(e, "%s", dev.path);
        /* The kernel cuts it; sysfs has the path whole. */
        (void)snprintf((char *)config.info.lo_file_name,
                       sizeof(config.info.lo_file_name), "%s", name);
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            int r = set_numbers(&dev, number, fd, e);

            if (r < 0)
                return r;
            *dev_out = dev;
            return 0;
        }
        if (errno != EBUSY)
            return err_errno(e, "%s over '%s'", dev.path, name);
    }
    return err_set(e, EBUSY, "no loop device stayed free for '%s'", name);
}

/* True when the device carries the file of that inode. */
static bool carries(int fd, dev_t device, ino_t inode)
{
    struct loop_info64 info;

    return ioctl(fd, LOOP_GET_STATUS64, &info) == 0 &&
           info.lo_device == device && info.lo_inode == inode;
}

int loopdev_detach(const struct loopdev *dev, dev_t device, ino_t inode,
                   struct err *e)
{
    struct loopdev copy = *dev;
    _cleanup_fd_ int fd = open_device(&copy, dev->number);

    if (fd < 0 && (errno == ENOENT || errno == ENXIO))
        return 0;
    if (fd < 0)
        return err_errno(e, "%s", copy.path);
    if (!carries(fd, device, inode))
        return 0;
    if (ioctl(fd, LOOP_CLR_FD) < 0 && errno != EBUSY && errno != ENXIO)
        return err_errno(e, "%s: detach", copy.path);
    /* With our descriptor closed it is gone unless others have one. */
    close_fd(&fd);
    fd = open_device(&copy, dev->number);
    if (fd >= 0 && carries(fd, device, inode))
        return err_set(e, EBUSY, "%s is still in use", copy.path);
    return 0;
}

static void scan_one(const char *sys_name, const char *dir, size_t dir_length,
                     loopdev_found_fn *fn, void *context)
{
    _cleanup_free_ char *path =
        xasprintf("/sys/block/%s/loop/backing_file", sys_name);
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    struct loopdev dev = {.number = -1};
    char name[4096], *end = NULL;
    _cleanup_fd_ int fd = -1;
    struct loop_info64 info;
    struct err ignored = ERR_INIT;
    long number;

    if (!f || !fgets(name, sizeof(name), f))
        return;
    name[strcspn(name, "\n")] = '\0';
    if (strncmp(name, dir, dir_length) != 0 || name[dir_length] != '/')
        return;
    number = strtol(sys_name + 4, &end, 10);
    if (*end || number < 0 || number > NUMBER_MAX)
        return;
    fd = open_device(&dev, (int)number);
    if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0 ||
        set_numbers(&dev, (int)number, fd, &ignored) < 0)
        return;
    close_fd(&fd);
    fn(context, &dev, name + dir_length + 1, (dev_t)info.lo_device,
       (ino_t)info.lo_inode);
}

int loopdev_scan(const char *dir, loopdev_found_fn *fn, void *context,
                 struct err *e)
{
    _cleanup_closedir_ DIR *block = opendir("/sys/block");
    struct dirent *entry;

    if (!block)
        return err_errno(e, "/sys/block");
    while ((entry = readdir(block)))
        if (strncmp(entry->d_name, "loop", 4) == 0)
            scan_one(entry->d_name, dir, strlen(dir), fn, context);
    return 0;
}
