#include "streams.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "domus/mem.h"

#define DEVPTS_MAGIC 0x1cd1
/* Of a pty's multiplexer, by the kernel's list of devices. */
#define PTMX_MAJOR 5
#define PTMX_MINOR 2

void streams_close_process(struct streams *s)
{
    for (int i = 0; i < 3; i++)
        close_fd(&s->process[i]);
}

void streams_close(struct streams *s)
{
    streams_close_process(s);
    for (int i = 0; i < 3; i++)
        close_fd(&s->agent[i]);
    close_fd(&s->master);
}

static int set_nonblocking(int fd, struct err *e)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return err_errno(e, "make a stream not block");
    return 0;
}

static int open_pipe(int i, const struct streams_wanted *wanted,
                     struct streams *s, struct err *e)
{
    bool input = i == STDIN_FILENO;
    int ends[2];

    if (!wanted->stream[i]) {
        s->process[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        return s->process[i] < 0 ? err_errno(e, "open /dev/null") : 0;
    }
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "make a pipe");
    s->process[i] = ends[input ? 0 : 1];
    s->agent[i] = ends[input ? 1 : 0];
    if (fchown(s->process[i], wanted->uid, wanted->gid) < 0)
        return err_errno(e, "give a pipe to user %u", wanted->uid);
    return set_nonblocking(s->agent[i], e);
}

static int open_pipes(const struct streams_wanted *wanted, struct streams *s,
                      struct err *e)
{
    int r = 0;

    for (int i = 0; i < 3 && r == 0; i++)
        r = open_pipe(i, wanted, s, e);
    return r;
}

/*
 * The multiplexer of a container's own devpts, or -1. What is there is the
 * container's choice, so nothing is opened that was not found to be that
 * device, no link is followed, and RESOLVE_CACHED keeps the agent from waiting
 * for a file system that a process of the container serves.
 */
static int open_container_ptmx(pid_t container)
{
    _cleanup_free_ char *path = xasprintf("/proc/%d/root", (int)container);
    _cleanup_fd_ int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_fd_ int found = -1;
    _cleanup_free_ char *again = NULL;
    _cleanup_fd_ int master = -1;
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_CACHED,
    };
    struct statx st;
    struct statfs fs;

    if (root < 0)
        return -1;
    found = (int)syscall(SYS_openat2, root, "dev/pts/ptmx", &how, sizeof(how));
    if (found < 0 ||
        statx(found, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) <
            0 ||
        !S_ISCHR(st.stx_mode) || st.stx_rdev_major != PTMX_MAJOR ||
        st.stx_rdev_minor != PTMX_MINOR)
        return -1;
    again = xasprintf("/proc/self/fd/%d", found);
    master = open(again, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    /* A node elsewhere gives a pty of the devpts beside it. */
    if (master < 0 || fstatfs(master, &fs) < 0 || fs.f_type != DEVPTS_MAGIC)
        return -1;
    return steal_fd(&master);
}

static int open_pty(const struct streams_wanted *wanted,
                    const struct spec_process *p, struct streams *s,
                    struct err *e)
{
    int number, zero = 0;

    if (wanted->container)
        s->master = open_container_ptmx(wanted->container);
    if (s->master < 0)
        s->master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (s->master < 0 || ioctl(s->master, TIOCSPTLCK, &zero) < 0 ||
        ioctl(s->master, TIOCGPTN, &number) < 0)
        return err_errno(e, "open a terminal");
    (void)snprintf(s->terminal, sizeof(s->terminal), "/dev/pts/%d", number);
    s->process[0] =
        ioctl(s->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (s->process[0] < 0)
        return err_errno(e, "open %s", s->terminal);
    if (p->console_width && p->console_height &&
        streams_resize(s->master, p->console_width, p->console_height, e) < 0)
        return -e->code;
    if (fchown(s->process[0], wanted->uid, wanted->tty_gid) < 0)
        return err_errno(e, "give %s to user %u", s->terminal, wanted->uid);
    for (int i = 1; i < 3; i++) {
        s->process[i] = fcntl(s->process[0], F_DUPFD_CLOEXEC, 3);
        if (s->process[i] < 0)
            return err_errno(e, "copy a terminal");
    }
    return set_nonblocking(s->master, e);
}

static int open_terminal(const struct streams_wanted *wanted,
                         const struct spec_process *p, struct streams *s,
                         struct err *e)
{
    int r = open_pty(wanted, p, s, e);

    for (int i = 0; i < 2 && r == 0; i++) {
        if (!wanted->stream[i])
            continue;
        s->agent[i] = fcntl(s->master, F_DUPFD_CLOEXEC, 3);
        if (s->agent[i] < 0)
            r = err_errno(e, "copy a terminal");
    }
    return r;
}

int streams_open(const struct streams_wanted *wanted,
                 const struct spec_process *p, struct streams *streams_out,
                 struct err *e)
{
    _cleanup_(streams_close) struct streams s = STREAMS_INIT;
    int r = p->terminal ? open_terminal(wanted, p, &s, e)
                        : open_pipes(wanted, &s, e);

    if (r < 0)
        return r;
    *streams_out = s;
    s = (struct streams)STREAMS_INIT;
    return 0;
}

void streams_attach(struct link *link, const uint32_t ids[3], struct streams *s,
                    stream_done_fn *done, void *context)
{
    if (ids[0])
        (void)stream_add_sink(link, ids[0], steal_fd(&s->agent[0]), done,
                              context);
    for (int i = 1; i < 3; i++)
        if (ids[i])
            (void)stream_add_source(link, ids[i], steal_fd(&s->agent[i]), NULL,
                                    NULL);
}

int streams_resize(int master, uint32_t width, uint32_t height, struct err *e)
{
    struct winsize size = {.ws_col = (unsigned short)width,
                           .ws_row = (unsigned short)height};

    if (master < 0)
        return err_set(e, ENOTTY, "the process has no terminal");
    if (width > UINT16_MAX || height > UINT16_MAX)
        return err_set(e, EINVAL,
                       "terminal size %u x %u: neither may be more than %u",
                       width, height, UINT16_MAX);
    if (ioctl(master, TIOCSWINSZ, &size) < 0)
        return err_errno(e, "set the terminal's size");
    return 0;
}
