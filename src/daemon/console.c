#include "console.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "domus/mem.h"

/* Devices of devpts, Linux's admin-guide/devices.txt. */
#define PTS_MAJOR_FIRST 136
#define PTS_MAJOR_LAST  143
/* A guest may write without end: other descriptors get their turn. */
#define READS_PER_ROUND 4

struct console {
    int fd;
    struct loop_fd *source;
    uint8_t untrusted_ring[CTL_CONSOLE_MAX];
    size_t total; /* bytes ever written into the ring */
};

/* Takes what is there. */
static void take(struct console *console)
{
    uint8_t chunk[1024];

    for (int i = 0; i < READS_PER_ROUND; i++) {
        ssize_t n = read(console->fd, chunk, sizeof(chunk));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            /* xenconsoled closed it: what was said is kept. */
            loop_remove_fd(&console->source);
            close_fd(&console->fd);
            return;
        }
        for (ssize_t k = 0; k < n; k++)
            console->untrusted_ring[console->total++ % CTL_CONSOLE_MAX] =
                chunk[k];
    }
}

static void readable(void *context, short revents)
{
    (void)revents;
    take(context);
}

int console_open(struct loop *loop, const char *path,
                 struct console **console_out, struct err *e)
{
    _cleanup_fd_ int fd = -1;
    struct console *console;
    struct stat st;

    if (!path[0])
        return err_set(e, ENODEV,
                       "the domain has no console terminal; xenconsoled must "
                       "run on this host");
    if (strncmp(path, "/dev/pts/", 9) != 0)
        return err_set(e, EINVAL, "console '%s' is not in /dev/pts", path);
    fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "console %s", path);
    if (!S_ISCHR(st.st_mode) || major(st.st_rdev) < PTS_MAJOR_FIRST ||
        major(st.st_rdev) > PTS_MAJOR_LAST)
        return err_set(e, EINVAL, "console %s is not a terminal", path);
    console = xcalloc(1, sizeof(*console));
    console->fd = steal_fd(&fd);
    console->source = loop_add_fd(loop, console->fd, POLLIN, readable, console);
    *console_out = console;
    return 0;
}

void console_free(struct console **console)
{
    if (!*console)
        return;
    loop_remove_fd(&(*console)->source);
    close_fd(&(*console)->fd);
    free(*console);
    *console = NULL;
}

struct byte_list console_untrusted_tail(struct console *console)
{
    struct byte_list tail = {.n = 0};
    size_t first;

    if (!console)
        return tail;
    /* The end of a domain is told sooner than its last words are read. */
    if (console->fd >= 0)
        take(console);
    if (console->total == 0)
        return tail;
    tail.n =
        console->total < CTL_CONSOLE_MAX ? console->total : CTL_CONSOLE_MAX;
    first = console->total - tail.n;
    tail.v = xmalloc(tail.n);
    for (size_t i = 0; i < tail.n; i++)
        tail.v[i] = console->untrusted_ring[(first + i) % CTL_CONSOLE_MAX];
    return tail;
}
