#include "domus/chan.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "domus/mem.h"

static ssize_t socket_read(struct chan *c, void *bytes, size_t n)
{
    ssize_t got = recv(c->fd, bytes, n, MSG_DONTWAIT);

    if (got > 0)
        return got;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return -EPIPE;
}

static ssize_t socket_write(struct chan *c, const void *bytes, size_t n)
{
    ssize_t put = send(c->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (put >= 0)
        return put;
    return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
}

static short socket_events(struct chan *c, bool want_write)
{
    (void)c;
    return want_write ? POLLIN | POLLOUT : POLLIN;
}

static void socket_woken(struct chan *c)
{
    (void)c;
}

static void socket_close(struct chan *c)
{
    close_fd(&c->fd);
    free(c);
}

static const struct chan_ops socket_ops = {
    .read = socket_read,
    .write = socket_write,
    .events = socket_events,
    .woken = socket_woken,
    .close = socket_close,
};

struct chan *chan_from_socket(int fd)
{
    struct chan *c = xcalloc(1, sizeof(*c));

    c->ops = &socket_ops;
    c->fd = fd;
    return c;
}

void chan_close(struct chan **c)
{
    if (*c)
        (*c)->ops->close(*c);
    *c = NULL;
}
