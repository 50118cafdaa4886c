#include "mount.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "domus/mem.h"
#include "domus/spec.h"

/* How often a lookup is tried again that a rename elsewhere disturbed. */
#define LOOKUP_TRIES 16
/* As many as the kernel follows in one lookup. */
#define LINKS_MAX 40

static int open_resolved(int root, const char *path, int flags,
                         uint64_t resolve, int *fd_out, struct err *e)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .resolve = resolve | RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    int fd = -1;

    for (int i = 0; i < LOOKUP_TRIES; i++) {
        fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    if (fd < 0)
        return err_errno(e, "open %s in the container", path);
    *fd_out = fd;
    return 0;
}

int tree_open(int root, const char *path, int flags, int *fd_out, struct err *e)
{
    return open_resolved(root, path, flags, 0, fd_out, e);
}

int tree_open_strict(int root, const char *path, int flags, int *fd_out,
                     struct err *e)
{
    return open_resolved(root, path, flags, RESOLVE_NO_SYMLINKS, fd_out, e);
}

/*
 * A link to what is not there: *path, whose part from begin to end it is,
 * becomes what it means. mkdir(2) would not follow it; and where it leads has
 * to be looked up from the root again.
 */
static int follow(int parent, char **path, size_t begin, size_t end,
                  unsigned *links, struct err *e)
{
    _cleanup_free_ char *name = xstrndup(*path + begin, end - begin);
    char target[PATH_MAX];
    ssize_t n = readlinkat(parent, name, target, sizeof(target));
    char *longer;

    if (n < 0)
        return err_errno(e, "read the link %.*s in the container", (int)end,
                         *path);
    if (++*links > LINKS_MAX)
        return err_set(e, ELOOP, "%s in the container: too many links", *path);
    longer = xasprintf("%.*s%.*s%s", target[0] == '/' ? 0 : (int)begin, *path,
                       (int)n, target, *path + end);
    free(*path);
    *path = longer;
    if (n == sizeof(target) || strlen(longer) >= PATH_MAX)
        return err_set(e, ENAMETOOLONG, "a link in the container is too long");
    return 0;
}

/* Each prefix is looked up from the root again: only so can a link in the
 * middle neither leave the root nor be followed by mkdir. Gives 1 when *path
 * changed and is to be begun anew. */
static int make_directories(int root, char **path, unsigned *links, int *fd_out,
                            struct err *e)
{
    _cleanup_fd_ int parent = -1;
    size_t begin = 0, end = 0;
    int r = tree_open(root, "/", O_PATH | O_DIRECTORY, &parent, e);

    while (r == 0) {
        _cleanup_free_ char *prefix = NULL;
        _cleanup_fd_ int next = -1;

        begin = end + strspn(*path + end, "/");
        end = begin + strcspn(*path + begin, "/");
        if (begin == end)
            break;
        prefix = xstrndup(*path, end);
        r = tree_open(root, prefix, O_PATH | O_DIRECTORY, &next, e);
        if (r == -ENOENT && mkdirat(parent, prefix + begin, 0755) == 0)
            r = tree_open(root, prefix, O_PATH | O_DIRECTORY, &next, e);
        else if (r == -ENOENT && errno == EEXIST)
            return follow(parent, path, begin, end, links, e) < 0 ? -e->code
                                                                  : 1;
        else if (r == -ENOENT)
            r = err_errno(e, "make the directory %s in the container", prefix);
        close_fd(&parent);
        parent = steal_fd(&next);
    }
    if (r == 0)
        *fd_out = steal_fd(&parent);
    return r;
}

int tree_make_directory(int root, const char *path, int *fd_out, struct err *e)
{
    _cleanup_free_ char *at = xstrdup(path);
    unsigned links = 0;
    int r;

    do
        r = make_directories(root, &at, &links, fd_out, e);
    while (r > 0);
    return r;
}

int tree_make_file(int root, const char *path, int *fd_out, struct err *e)
{
    _cleanup_free_ char *at = xstrdup(path);
    unsigned links = 0;
    int r = tree_open(root, at, O_PATH, fd_out, e);

    while (r == -ENOENT) {
        _cleanup_free_ char *directory = NULL;
        _cleanup_fd_ int parent = -1, file = -1;
        char *slash = strrchr(at, '/');

        if (!slash || slash[1] == '\0')
            return err_set(e, EINVAL, "%s is no name for a file", at);
        directory = xstrndup(at, (size_t)(slash - at));
        r = tree_make_directory(root, directory, &parent, e);
        if (r < 0)
            return r;
        file =
            openat(parent, slash + 1,
                   O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (file >= 0)
            return tree_open(root, at, O_PATH, fd_out, e);
        if (errno != EEXIST)
            return err_errno(e, "make the file %s in the container", at);
        r = follow(parent, &at, (size_t)(slash + 1 - at), strlen(at), &links,
                   e);
        if (r == 0)
            r = tree_open(root, at, O_PATH, fd_out, e);
    }
    return r;
}

static const struct {
    uint64_t flag;
    uint64_t attribute; /* of the mount */
    const char *option; /* of the file system */
    const char *undo;   /* its opposite, when a remount takes it back */
} mount_flags[] = {
    {MS_RDONLY, MOUNT_ATTR_RDONLY, NULL, NULL},
    {MS_NOSUID, MOUNT_ATTR_NOSUID, NULL, NULL},
    {MS_NODEV, MOUNT_ATTR_NODEV, NULL, NULL},
    {MS_NOEXEC, MOUNT_ATTR_NOEXEC, NULL, NULL},
    {MS_NOATIME, MOUNT_ATTR_NOATIME, NULL, NULL},
    {MS_STRICTATIME, MOUNT_ATTR_STRICTATIME, NULL, NULL},
    {MS_RELATIME, MOUNT_ATTR_RELATIME, NULL, NULL},
    {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME, NULL, NULL},
    {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW, NULL, NULL},
    {MS_SYNCHRONOUS, 0, "sync", "async"},
    {MS_DIRSYNC, 0, "dirsync", NULL},
    {MS_LAZYTIME, 0, "lazytime", "nolazytime"},
    {MS_MANDLOCK, 0, "mand", "nomand"},
    {MS_SILENT, 0, NULL, NULL},
    /* mount(2) takes them of any file system, which then knows better. */
    {MS_POSIXACL, 0, NULL, NULL},
    {MS_I_VERSION, 0, NULL, NULL},
};

#define ATIME_FLAGS (MS_NOATIME | MS_STRICTATIME | MS_RELATIME)

static int attributes_of(uint64_t flags, uint64_t *attributes_out,
                         struct err *e)
{
    uint64_t attributes = 0;

    for (size_t i = 0; i < ARRAY_SIZE(mount_flags); i++) {
        if (flags & mount_flags[i].flag)
            attributes |= mount_flags[i].attribute;
        flags &= ~mount_flags[i].flag;
    }
    if (flags)
        return err_set(e, EINVAL, "mount flags 0x%llx are not supported",
                       (unsigned long long)flags);
    /* To mount(2) it was the stronger one. */
    if (attributes & MOUNT_ATTR_STRICTATIME)
        attributes &= ~(uint64_t)MOUNT_ATTR_NOATIME;
    *attributes_out = attributes;
    return 0;
}

/* The kernel's own words about what it did not like, when it has any. */
static int context_error(int context, struct err *e, const char *what,
                         const char *type)
{
    char words[256];
    int code = errno;
    ssize_t n = read(context, words, sizeof(words) - 1);

    errno = code;
    if (n <= 2)
        return err_errno(e, "%s %s", what, type);
    words[n] = '\0';
    words[strcspn(words, "\n")] = '\0';
    return err_set(e, code, "%s %s: %s (%s)", what, type, strerror(code),
                   words + 2);
}

static int set_options(int context, const char *type, const char *data,
                       struct err *e)
{
    _cleanup_free_ char *copy = xstrdup(data ? data : "");
    char *rest = copy, *option;

    while ((option = strsep(&rest, ","))) {
        char *value = strchr(option, '=');
        int r;

        if (*option == '\0')
            continue;
        if (value)
            *value++ = '\0';
        r = value ? fsconfig(context, FSCONFIG_SET_STRING, option, value, 0)
                  : fsconfig(context, FSCONFIG_SET_FLAG, option, NULL, 0);
        if (r < 0)
            return context_error(context, e, "set an option of", type);
    }
    return 0;
}

int mount_create(const char *type, const char *source, uint64_t flags,
                 const char *data, int *mount_out, struct err *e)
{
    _cleanup_fd_ int context = -1;
    uint64_t attributes;
    int mount, r;

    r = attributes_of(flags, &attributes, e);
    if (r < 0)
        return r;
    context = fsopen(type, FSOPEN_CLOEXEC);
    if (context < 0)
        return err_errno(e, "the file system type %s", type);
    if (*source && fsconfig(context, FSCONFIG_SET_STRING, "source", source, 0))
        return context_error(context, e, "set the source of", type);
    for (size_t i = 0; i < ARRAY_SIZE(mount_flags); i++)
        if ((flags & mount_flags[i].flag) && mount_flags[i].option &&
            fsconfig(context, FSCONFIG_SET_FLAG, mount_flags[i].option, NULL,
                     0) < 0)
            return context_error(context, e, "set a flag of", type);
    r = set_options(context, type, data, e);
    if (r < 0)
        return r;
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return context_error(context, e, "mount", type);
    mount = fsmount(context, FSMOUNT_CLOEXEC, (unsigned)attributes);
    if (mount < 0)
        return context_error(context, e, "mount", type);
    *mount_out = mount;
    return 0;
}

int mount_reconfigure(int mount, const char *type, uint64_t flags,
                      const char *data, struct err *e)
{
    _cleanup_fd_ int context =
        fspick(mount, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
    int r;

    if (context < 0)
        return err_errno(e, "remount %s", type);
    for (size_t i = 0; i < ARRAY_SIZE(mount_flags); i++) {
        const char *option = flags & mount_flags[i].flag ? mount_flags[i].option
                                                         : mount_flags[i].undo;

        if (option && fsconfig(context, FSCONFIG_SET_FLAG, option, NULL, 0) < 0)
            return context_error(context, e, "set a flag of", type);
    }
    r = set_options(context, type, data, e);
    if (r == 0 && fsconfig(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0))
        r = context_error(context, e, "remount", type);
    return r;
}

int mount_clone(int dirfd, const char *path, bool recursive, int *mount_out,
                struct err *e)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    int mount = open_tree(dirfd, path, flags | (recursive ? AT_RECURSIVE : 0));

    if (mount < 0)
        return err_errno(e, "bind %s", *path ? path : "a directory");
    *mount_out = mount;
    return 0;
}

static int set_attributes(int mount, uint64_t flags, uint64_t clear,
                          struct err *e)
{
    struct mount_attr change = {.attr_clr = clear};
    uint64_t attributes;
    int r = attributes_of(flags, &attributes, e);

    if (r < 0)
        return r;
    change.attr_set = attributes;
    if (mount_setattr(mount, "", AT_EMPTY_PATH, &change, sizeof(change)) < 0)
        return err_errno(e, "set mount flags 0x%llx",
                         (unsigned long long)flags);
    return 0;
}

int mount_change(int mount, uint64_t flags, struct err *e)
{
    return set_attributes(mount, flags,
                          flags & ATIME_FLAGS ? MOUNT_ATTR__ATIME : 0, e);
}

int mount_replace(int mount, uint64_t flags, struct err *e)
{
    uint64_t clear = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                     MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;

    if (flags & (ATIME_FLAGS | MS_NODIRATIME))
        clear |= MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;
    return set_attributes(mount, flags, clear, e);
}

int mount_change_all(int mount, uint64_t set, uint64_t clear, struct err *e)
{
    struct mount_attr change = {.attr_set = set, .attr_clr = clear};

    if (!set && !clear)
        return 0;
    /* The kernel wants to be told that the old one goes. */
    if (set & MOUNT_ATTR__ATIME)
        change.attr_clr |= MOUNT_ATTR__ATIME;
    if (mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, &change,
                      sizeof(change)) < 0)
        return err_errno(e,
                         "set mount attributes 0x%llx, clear 0x%llx, of all "
                         "mounts there",
                         (unsigned long long)set, (unsigned long long)clear);
    return 0;
}

int mount_propagation(int mount, uint64_t propagation, struct err *e)
{
    struct mount_attr change = {.propagation = propagation & ~(uint64_t)MS_REC};
    unsigned flags = AT_EMPTY_PATH;

    if (propagation & MS_REC)
        flags |= AT_RECURSIVE;
    if (mount_setattr(mount, "", flags, &change, sizeof(change)) < 0)
        return err_errno(e, "set mount propagation 0x%llx",
                         (unsigned long long)propagation);
    return 0;
}

int mount_attach(int mount, int destination, struct err *e)
{
    if (move_mount(mount, "", destination, "",
                   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return err_errno(e, "attach the mount");
    return 0;
}
