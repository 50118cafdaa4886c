/* The vchan side of chan.h, on libxenvchan. */
#include "domus/chan.h"

#include <libxenvchan.h>
#include <poll.h>
#include <stdlib.h>

#include "domus/mem.h"

struct vchan {
    struct chan chan; /* first, so that the two convert */
    struct libxenvchan *ctrl;
};

static struct vchan *vchan_of(struct chan *c)
{
    return (struct vchan *)c;
}

static ssize_t vchan_read(struct chan *c, void *bytes, size_t n)
{
    int got = libxenvchan_read(vchan_of(c)->ctrl, bytes, n);

    return got < 0 ? -EPIPE : got;
}

static ssize_t vchan_write(struct chan *c, const void *bytes, size_t n)
{
    int put = libxenvchan_write(vchan_of(c)->ctrl, bytes, n);

    return put < 0 ? -EPIPE : put;
}

/* Both directions are told by one event channel. */
static short vchan_events(struct chan *c, bool want_write)
{
    (void)c;
    (void)want_write;
    return POLLIN;
}

static void vchan_woken(struct chan *c)
{
    (void)libxenvchan_wait(vchan_of(c)->ctrl);
}

static void vchan_close(struct chan *c)
{
    libxenvchan_close(vchan_of(c)->ctrl);
    free(c);
}

static const struct chan_ops vchan_ops = {
    .read = vchan_read,
    .write = vchan_write,
    .events = vchan_events,
    .woken = vchan_woken,
    .close = vchan_close,
};

static struct chan *wrap(struct libxenvchan *ctrl)
{
    struct vchan *v = xcalloc(1, sizeof(*v));

    ctrl->blocking = 0; /* the library leaves it uninitialised */
    v->ctrl = ctrl;
    v->chan.ops = &vchan_ops;
    v->chan.fd = libxenvchan_fd_for_select(ctrl);
    return &v->chan;
}

int chan_serve_vchan(const char *path, size_t ring, struct chan **chan_out,
                     struct err *e)
{
    struct libxenvchan *ctrl =
        libxenvchan_server_init(NULL, 0, path, ring, ring);

    if (!ctrl)
        return err_errno(e, "cannot offer a vchan at %s", path);
    /* Whoever held the other end and let go does not come back. */
    ctrl->server_persist = 0;
    *chan_out = wrap(ctrl);
    return 0;
}

int chan_connect_vchan(uint32_t domid, const char *path, struct chan **chan_out,
                       struct err *e)
{
    struct libxenvchan *ctrl = libxenvchan_client_init(NULL, (int)domid, path);

    if (!ctrl)
        return err_errno(e, "cannot connect to the vchan at %s", path);
    *chan_out = wrap(ctrl);
    return 0;
}
