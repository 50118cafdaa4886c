#include "streams.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "domus/mem.h"

/* The group that owns terminals, by every distribution's convention. */
#define TTY_GROUP 5

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
}

static int set_nonblocking(int fd, struct err *e)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return err_errno(e, "make a stream not block");
    return 0;
}

static int open_pipe(int i, bool wanted, uint32_t uid, uint32_t gid,
                     struct streams *s, struct err *e)
{
    bool input = i == STDIN_FILENO;
    int ends[2];

    if (!wanted) {
        s->process[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        return s->process[i] < 0 ? err_errno(e, "open /dev/null") : 0;
    }
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "make a pipe");
    s->process[i] = ends[input ? 0 : 1];
    s->agent[i] = ends[input ? 1 : 0];
    if (fchown(s->process[i], uid, gid) < 0)
        return err_errno(e, "give a pipe to user %u", uid);
    return set_nonblocking(s->agent[i], e);
}

int streams_open_pipes(const bool wanted[3], uint32_t uid, uint32_t gid,
                       struct streams *streams_out, struct err *e)
{
    _cleanup_(streams_close) struct streams s = STREAMS_INIT;

    for (int i = 0; i < 3; i++) {
        int r = open_pipe(i, wanted[i], uid, gid, &s, e);

        if (r < 0)
            return r;
    }
    *streams_out = s;
    s = (struct streams)STREAMS_INIT;
    return 0;
}

static int open_pty(uint32_t uid, uint32_t columns, uint32_t rows, int *ours,
                    struct streams *s, struct err *e)
{
    struct winsize size = {.ws_col = (unsigned short)columns,
                           .ws_row = (unsigned short)rows};
    int number, zero = 0;

    *ours = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*ours < 0 || ioctl(*ours, TIOCSPTLCK, &zero) < 0 ||
        ioctl(*ours, TIOCGPTN, &number) < 0)
        return err_errno(e, "open a terminal");
    (void)snprintf(s->terminal, sizeof(s->terminal), "/dev/pts/%d", number);
    s->process[0] = open(s->terminal, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (s->process[0] < 0)
        return err_errno(e, "open %s", s->terminal);
    if (columns && rows && ioctl(*ours, TIOCSWINSZ, &size) < 0)
        return err_errno(e, "set the window's size");
    if (fchown(s->process[0], uid, TTY_GROUP) < 0)
        return err_errno(e, "give %s to user %u", s->terminal, uid);
    for (int i = 1; i < 3; i++) {
        s->process[i] = fcntl(s->process[0], F_DUPFD_CLOEXEC, 3);
        if (s->process[i] < 0)
            return err_errno(e, "copy a terminal");
    }
    return set_nonblocking(*ours, e);
}

int streams_open_terminal(const bool wanted[3], uint32_t uid, uint32_t columns,
                          uint32_t rows, struct streams *streams_out,
                          struct err *e)
{
    _cleanup_(streams_close) struct streams s = STREAMS_INIT;
    _cleanup_fd_ int ours = -1;
    int r = open_pty(uid, columns, rows, &ours, &s, e);

    if (r < 0)
        return r;
    for (int i = 0; i < 2; i++) {
        if (!wanted[i])
            continue;
        s.agent[i] = fcntl(ours, F_DUPFD_CLOEXEC, 3);
        if (s.agent[i] < 0)
            return err_errno(e, "copy a terminal");
    }
    *streams_out = s;
    s = (struct streams)STREAMS_INIT;
    return 0;
}
