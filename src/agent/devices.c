#include "devices.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"
#include "mount.h"

static const char *const nodes[] = {
    "null", "zero", "full", "random", "urandom", "tty",
};

static const struct {
    const char *name;
    const char *target;
} links[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
    {"ptmx", "pts/ptmx"},          {"core", "/proc/kcore"},
};

/* What an image brought under that name is not to be trusted. */
static int clear_name(int dev, const char *name, struct err *e)
{
    if (unlinkat(dev, name, 0) < 0 && errno != ENOENT)
        return err_errno(e, "replace the image's /dev/%s", name);
    return 0;
}

static int make_node(int dev, const char *name, const char *guest_path,
                     struct err *e)
{
    _cleanup_fd_ int place = -1;
    _cleanup_fd_ int node = -1;
    _cleanup_fd_ int mount = -1;
    int r = clear_name(dev, name, e);

    if (r < 0)
        return r;
    place = openat(dev, name,
                   O_CREAT | O_EXCL | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (place < 0)
        return err_errno(e, "make /dev/%s", name);
    node = openat(dev, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (node < 0)
        return err_errno(e, "open /dev/%s", name);
    r = mount_clone(AT_FDCWD, guest_path, false, &mount, e);
    if (r == 0)
        r = mount_attach(mount, node, e);
    return r < 0 ? err_wrap(e, "/dev/%s", name) : 0;
}

int devices_make(int root, const char *terminal, struct err *e)
{
    _cleanup_fd_ int dev = -1;
    int r = tree_make_directory(root, "/dev", &dev, e);

    for (size_t i = 0; i < ARRAY_SIZE(nodes) && r == 0; i++) {
        _cleanup_free_ char *path = xasprintf("/dev/%s", nodes[i]);

        r = make_node(dev, nodes[i], path, e);
    }
    for (size_t i = 0; i < ARRAY_SIZE(links) && r == 0; i++) {
        r = clear_name(dev, links[i].name, e);
        if (r == 0 && symlinkat(links[i].target, dev, links[i].name) < 0)
            r = err_errno(e, "link /dev/%s", links[i].name);
    }
    if (r == 0 && terminal)
        r = make_node(dev, "console", terminal, e);
    return r;
}
