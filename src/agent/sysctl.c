#include "sysctl.h"

#include <ctype.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "domus/mem.h"

static bool is_path(const char *path)
{
    const char *part = path;

    for (const char *at = path;; at++) {
        if (*at && *at != '/') {
            if (!isgraph((unsigned char)*at))
                return false;
            continue;
        }
        if (at == part || *part == '.')
            return false;
        if (!*at)
            return true;
        part = at + 1;
    }
}

int sysctl_path(const char *name, char **path_out, struct err *e)
{
    _cleanup_free_ char *path = xstrdup(name);

    if (path[strcspn(path, "./")] == '.')
        for (char *at = path; *at; at++)
            *at = *at == '.' ? '/' : (char)(*at == '/' ? '.' : *at);
    if (!is_path(path))
        return err_set(e, EINVAL, "sysctl \"%s\": this is no name of one",
                       name);
    *path_out = steal_ptr(&path);
    return 0;
}

static bool is_proc(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

static int write_one(int base, const struct spec_setting *s, struct err *e)
{
    struct open_how how = {
        .flags = O_WRONLY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                   RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    _cleanup_free_ char *path = NULL;
    _cleanup_fd_ int fd = -1;
    int r = sysctl_path(s->name, &path, e);

    if (r < 0)
        return r;
    fd = (int)syscall(SYS_openat2, base, path, &how, sizeof(how));
    if (fd < 0 && errno == ENOENT)
        return err_set(e, ENOENT, "sysctl %s: the guest's kernel has none",
                       s->name);
    if (fd < 0)
        return err_errno(e, "sysctl %s", s->name);
    if (!is_proc(fd))
        return err_set(e, EINVAL, "sysctl %s is not the kernel's", s->name);
    if (write(fd, s->value, strlen(s->value)) < 0)
        return err_errno(e, "set sysctl %s to %s", s->name, s->value);
    return 0;
}

static bool is_of(const struct spec_setting *s, enum sysctl_part part)
{
    bool network = strncmp(s->name, "net", 3) == 0 &&
                   (s->name[3] == '.' || s->name[3] == '/');

    return network == (part == SYSCTL_NETWORK);
}

int sysctl_apply(const struct spec_setting_list *settings,
                 enum sysctl_part part, struct err *e)
{
    _cleanup_fd_ int base = -1;
    int r = 0;

    if (settings->n == 0)
        return 0;
    base = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (base < 0)
        return err_errno(e, "open /proc/sys");
    if (!is_proc(base))
        return err_set(e, EINVAL, "/proc/sys is not the kernel's");
    for (size_t i = 0; i < settings->n && r == 0; i++)
        if (is_of(&settings->v[i], part))
            r = write_one(base, &settings->v[i], e);
    return r;
}
