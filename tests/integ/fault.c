/*
 * fault.so - preloaded into a shim: counts its calls of the C library, and
 * has one of them fail.
 *
 * DOMUS_FAULT=NAME:N:ERRNO  the N-th call of NAME fails, once
 * DOMUS_FAULT_ROLE=ROLE     in this process of a shim only: start, delete, or
 *                           server, which start leaves behind
 * DOMUS_FAULT_COUNTS=FILE   counts are kept there, as struct counts says; a
 *                           process that is killed leaves them, too
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUNCTIONS(X) \
    X(malloc)        \
    X(calloc)        \
    X(realloc)       \
    X(open)          \
    X(read)          \
    X(pread)         \
    X(write)         \
    X(send)          \
    X(sendmsg)       \
    X(recv)          \
    X(recvmsg)       \
    X(socket)        \
    X(connect)       \
    X(accept4)       \
    X(bind)          \
    X(listen)        \
    X(poll)          \
    X(fcntl)         \
    X(fstat)         \
    X(lstat)         \
    X(fsync)         \
    X(rename)        \
    X(unlink)        \
    X(mkdir)         \
    X(readlink)      \
    X(fopen)         \
    X(flock)         \
    X(memfd_create)  \
    X(signalfd)      \
    X(pipe2)         \
    X(socketpair)    \
    X(posix_spawnp)  \
    X(waitpid)       \
    X(umount2)       \
    X(syscall)

enum function {
#define X(name) F_##name,
    FUNCTIONS(X)
#undef X
        F_COUNT
};

static const char *const names[] = {
#define X(name) #name,
    FUNCTIONS(X)
#undef X
};

struct counts {
    uint32_t fired;
    uint32_t calls[F_COUNT];
};

static struct counts nowhere;
static struct counts *counts = &nowhere;
static bool active;
static enum function chosen = F_COUNT;
static unsigned long at;
static int code;

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

/* The action is the last word of a shim's command line, or not there. */
static bool is_role(const char *role)
{
    static const char *const actions[] = {"start", "delete"};
    char text[4096];
    int fd = (int)openat(AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = 0, got;
    const char *last;

    while (fd >= 0 && n < (ssize_t)sizeof(text) - 1 &&
           (got = pread(fd, text + n, sizeof(text) - 1 - (size_t)n, n)) > 0)
        n += got;
    if (fd >= 0)
        (void)close(fd);
    if (n < 2)
        return false;
    text[n] = '\0';
    last = text + n - 1;
    while (last > text && last[-1])
        last--;
    for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++)
        if (strcmp(last, actions[i]) == 0)
            return strcmp(role, last) == 0;
    return strcmp(role, "server") == 0;
}

__attribute__((constructor)) static void setup(void)
{
    const char *role = getenv("DOMUS_FAULT_ROLE");
    const char *file = getenv("DOMUS_FAULT_COUNTS");
    const char *fault = getenv("DOMUS_FAULT");
    char name[32] = "";
    int fd;

    if (!role || !is_role(role))
        return;
    fd = file ? (int)openat(AT_FDCWD, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600)
              : -1;
    if (fd >= 0 && ftruncate(fd, sizeof(*counts)) == 0)
        counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED,
                      fd, 0);
    if (fd >= 0)
        (void)close(fd);
    if (counts == MAP_FAILED)
        abort();
    if (fault && sscanf(fault, "%31[^:]:%lu:%d", name, &at, &code) == 3)
        for (int i = 0; i < F_COUNT; i++)
            if (strcmp(names[i], name) == 0)
                chosen = (enum function)i;
    *counts = (struct counts){0};
    active = true;
}

/* Whether this call is to fail; errno is set then. */
static bool fails(enum function f)
{
    if (!active || ++counts->calls[f] != at || f != chosen)
        return false;
    counts->fired++;
    errno = code;
    return true;
}

static void *next(enum function f)
{
    static void *found[F_COUNT];

    if (!found[f])
        found[f] = dlsym(RTLD_NEXT, names[f]);
    if (!found[f])
        abort();
    return found[f];
}

#define WRAP(type, name, failure, parameters, arguments)     \
    type name parameters;                                    \
    type name parameters                                     \
    {                                                        \
        if (fails(F_##name))                                 \
            return failure;                                  \
        return ((__typeof__(&name))next(F_##name))arguments; \
    }

#pragma GCC diagnostic ignored "-Wredundant-decls"
#pragma GCC diagnostic ignored "-Wnonnull"

void *malloc(size_t n)
{
    return fails(F_malloc) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return fails(F_calloc) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t n)
{
    return fails(F_realloc) ? NULL : __libc_realloc(old, n);
}

void *reallocarray(void *old, size_t n, size_t size)
{
    size_t all;

    if (__builtin_mul_overflow(n, size, &all)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(old, all);
}

int open(const char *path, int flags, ...)
{
    mode_t mode;
    va_list args;

    va_start(args, flags);
    mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails(F_open) ? -1 : openat(AT_FDCWD, path, flags, mode);
}

int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

int fcntl(int fd, int command, ...)
{
    void *argument;
    va_list args;

    va_start(args, command);
    argument = va_arg(args, void *);
    va_end(args);
    if (fails(F_fcntl))
        return -1;
    return ((__typeof__(&fcntl))next(F_fcntl))(fd, command, argument);
}

long syscall(long number, ...)
{
    long a[6];
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (fails(F_syscall))
        return -1;
    return ((__typeof__(&syscall))next(F_syscall))(number, a[0], a[1], a[2],
                                                   a[3], a[4], a[5]);
}

int posix_spawnp(pid_t *pid, const char *file,
                 const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const argv[],
                 char *const env[])
{
    if (fails(F_posix_spawnp))
        return code;
    return ((__typeof__(&posix_spawnp))next(F_posix_spawnp))(
        pid, file, actions, attributes, argv, env);
}

WRAP(ssize_t, read, -1, (int fd, void *bytes, size_t n), (fd, bytes, n))
WRAP(ssize_t, pread, -1, (int fd, void *bytes, size_t n, off_t from),
     (fd, bytes, n, from))
WRAP(ssize_t, write, -1, (int fd, const void *bytes, size_t n), (fd, bytes, n))
WRAP(ssize_t, send, -1, (int fd, const void *bytes, size_t n, int flags),
     (fd, bytes, n, flags))
WRAP(ssize_t, sendmsg, -1, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags))
WRAP(ssize_t, recv, -1, (int fd, void *bytes, size_t n, int flags),
     (fd, bytes, n, flags))
WRAP(ssize_t, recvmsg, -1, (int fd, struct msghdr *message, int flags),
     (fd, message, flags))
WRAP(int, socket, -1, (int domain, int type, int protocol),
     (domain, type, protocol))
WRAP(int, connect, -1, (int fd, const struct sockaddr *address, socklen_t n),
     (fd, address, n))
WRAP(int, accept4, -1,
     (int fd, struct sockaddr *address, socklen_t *n, int flags),
     (fd, address, n, flags))
WRAP(int, bind, -1, (int fd, const struct sockaddr *address, socklen_t n),
     (fd, address, n))
WRAP(int, listen, -1, (int fd, int backlog), (fd, backlog))
WRAP(int, poll, -1, (struct pollfd * fds, nfds_t n, int milliseconds),
     (fds, n, milliseconds))
WRAP(int, fstat, -1, (int fd, struct stat *st), (fd, st))
WRAP(int, lstat, -1, (const char *path, struct stat *st), (path, st))
WRAP(int, fsync, -1, (int fd), (fd))
WRAP(int, rename, -1, (const char *from, const char *to), (from, to))
WRAP(int, unlink, -1, (const char *path), (path))
WRAP(int, mkdir, -1, (const char *path, mode_t mode), (path, mode))
WRAP(ssize_t, readlink, -1, (const char *path, char *text, size_t n),
     (path, text, n))
WRAP(FILE *, fopen, NULL, (const char *path, const char *mode), (path, mode))
WRAP(int, flock, -1, (int fd, int operation), (fd, operation))
WRAP(int, memfd_create, -1, (const char *name, unsigned flags), (name, flags))
WRAP(int, signalfd, -1, (int fd, const sigset_t *mask, int flags),
     (fd, mask, flags))
WRAP(int, pipe2, -1, (int ends[2], int flags), (ends, flags))
WRAP(int, socketpair, -1, (int domain, int type, int protocol, int ends[2]),
     (domain, type, protocol, ends))
WRAP(pid_t, waitpid, -1, (pid_t pid, int *status, int options),
     (pid, status, options))
WRAP(int, umount2, -1, (const char *path, int flags), (path, flags))
