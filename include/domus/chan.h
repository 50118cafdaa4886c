/*
 * chan.h - the byte stream between a shim and its guest: a vchan, or a socket
 * where the tests run both ends on one kernel.
 *
 * Never blocks. Readiness is edge-triggered on a vchan: after the descriptor
 * became readable call chan_woken(), then read and write until both fall
 * short. One header for both ends: in a guest the vchan is the server's side,
 * so that the guest grants its own pages and dom0 none.
 */
#ifndef DOMUS_CHAN_H
#define DOMUS_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "domus/err.h"

struct chan;

struct chan_ops {
    ssize_t (*read)(struct chan *c, void *bytes, size_t n);
    ssize_t (*write)(struct chan *c, const void *bytes, size_t n);
    short (*events)(struct chan *c, bool want_write);
    void (*woken)(struct chan *c);
    void (*close)(struct chan *c);
};

struct chan {
    const struct chan_ops *ops;
    int fd; /* to poll; belongs to the channel */
};

/* Takes fd, a connected stream socket. */
struct chan *chan_from_socket(int fd);

/* Guest: offers a vchan to dom0 at path, relative to the guest's own
 * directory of xenstore; ring: bytes in each direction, a power of two. */
int chan_serve_vchan(const char *path, size_t ring, struct chan **chan_out,
                     struct err *e);

/* dom0: connects to the vchan of a domain, absolute xenstore path. */
int chan_connect_vchan(uint32_t domid, const char *path, struct chan **chan_out,
                       struct err *e);

/* Bytes moved, 0 when it would block, -EPIPE when the peer is gone. */
static inline ssize_t chan_read(struct chan *c, void *bytes, size_t n)
{
    return c->ops->read(c, bytes, n);
}

static inline ssize_t chan_write(struct chan *c, const void *bytes, size_t n)
{
    return c->ops->write(c, bytes, n);
}

/* What to poll chan->fd for. */
static inline short chan_events(struct chan *c, bool want_write)
{
    return c->ops->events(c, want_write);
}

static inline void chan_woken(struct chan *c)
{
    c->ops->woken(c);
}

void chan_close(struct chan **c); /* accepts NULL */

#endif
