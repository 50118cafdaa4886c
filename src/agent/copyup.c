#include "copyup.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"

/* What is copied is memory of the guest, and keeps CREATE waiting. */
#define ENTRIES_MAX 65536
#define DEPTH_MAX   64

struct copy {
    unsigned entries;
};

static int copy_tree(struct copy *copy, int from, int to, unsigned depth,
                     struct err *e);

static int copy_bytes(int from, int to, const char *name, struct err *e)
{
    ssize_t n;

    do {
        n = sendfile(to, from, NULL, INT_MAX & ~0xfff);
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 ? err_errno(e, "copy %s", name) : 0;
}

static int copy_file(int from, int to, const char *name, struct err *e)
{
    _cleanup_fd_ int in =
        openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    _cleanup_fd_ int out = -1;

    if (in < 0)
        return err_errno(e, "open %s", name);
    out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                 0600);
    if (out < 0)
        return err_errno(e, "make %s", name);
    return copy_bytes(in, out, name, e);
}

static int copy_link(int from, int to, const char *name, struct err *e)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

    if (n < 0)
        return err_errno(e, "read the link %s", name);
    target[n] = '\0';
    return symlinkat(target, to, name) < 0
               ? err_errno(e, "make the link %s", name)
               : 0;
}

static int copy_directory(struct copy *copy, int from, int to, const char *name,
                          unsigned depth, struct err *e)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    _cleanup_fd_ int in = openat(from, name, flags);
    _cleanup_fd_ int out = -1;

    if (in < 0)
        return err_errno(e, "open %s", name);
    if (mkdirat(to, name, 0700) < 0)
        return err_errno(e, "make %s", name);
    out = openat(to, name, flags);
    if (out < 0)
        return err_errno(e, "open %s", name);
    return copy_tree(copy, in, out, depth + 1, e);
}

/* The owner first: a change of it takes set-user-id bits away. */
static int copy_attributes(int to, const char *name, const struct stat *st,
                           struct err *e)
{
    const struct timespec times[] = {st->st_atim, st->st_mtim};

    if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        (!S_ISLNK(st->st_mode) &&
         fchmodat(to, name, st->st_mode & 07777, 0) < 0) ||
        utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "set owner and mode of %s", name);
    return 0;
}

static int copy_entry(struct copy *copy, int from, int to, const char *name,
                      unsigned depth, struct err *e)
{
    struct stat st;
    int r;

    if (++copy->entries > ENTRIES_MAX || depth > DEPTH_MAX)
        return err_set(e, EFBIG,
                       "more than %d files, or more than %d directories "
                       "deep, cannot be copied",
                       ENTRIES_MAX, DEPTH_MAX);
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(e, "%s", name);
    if (S_ISDIR(st.st_mode))
        r = copy_directory(copy, from, to, name, depth, e);
    else if (S_ISREG(st.st_mode))
        r = copy_file(from, to, name, e);
    else if (S_ISLNK(st.st_mode))
        r = copy_link(from, to, name, e);
    else if (mknodat(to, name, st.st_mode & (S_IFMT | 0600), st.st_rdev) < 0)
        r = err_errno(e, "make %s", name);
    else
        r = 0;
    return r < 0 ? r : copy_attributes(to, name, &st, e);
}

/* from is read from its beginning. */
static int copy_tree(struct copy *copy, int from, int to, unsigned depth,
                     struct err *e)
{
    int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int r = 0;

    if (!dir) {
        r = err_errno(e, "read the directory");
        close_fd(&fd);
        return r;
    }
    while (r == 0 && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = copy_entry(copy, from, to, entry->d_name, depth, e);
    return r;
}

int copyup(int from, int to, struct err *e)
{
    struct copy copy = {0};
    struct stat st;
    int r;

    if (fstat(from, &st) < 0)
        return err_errno(e, "copy the image's files");
    r = copy_tree(&copy, from, to, 0, e);
    if (r == 0)
        r = copy_attributes(to, ".", &st, e);
    return r < 0 ? err_wrap(e, "copy the image's files") : 0;
}
