#include "domus/link.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"

/* Sources stop at the first mark; a peer that lets requests pile up to the
 * second is not reading and is given up. */
#define SEND_ROOM (128 * 1024)
#define SEND_MAX  (2 * PROTO_TO_GUEST_MAX)
#define READ_STEP (64 * 1024)
/* After so much in one go other descriptors get their turn. */
#define READ_ROUND (512 * 1024)

struct link {
    struct loop *loop; /* borrowed */
    struct chan *chan; /* owned */
    struct loop_fd *source;
    struct loop_timer *again; /* continues after READ_ROUND */
    enum proto_direction incoming;
    const struct link_handler *handler;
    void *context;
    struct buf received;
    struct buf sending;
    struct stream *streams; /* owned, see stream.c */
    bool closed;
    bool freed;    /* link_free() was called from a handler */
    unsigned busy; /* calls of pump() on the stack */
};

static void pump(struct link *link);

static void link_destroy(struct link *link)
{
    loop_remove_fd(&link->source);
    loop_remove_timer(&link->again);
    stream_free_all(link);
    chan_close(&link->chan);
    buf_clear(&link->received);
    buf_clear(&link->sending);
    free(link);
}

/* Whoever calls handlers is busy meanwhile, so that they may free the link. */
static void end_busy(struct link *link)
{
    link->busy--;
    if (link->freed && link->busy == 0)
        link_destroy(link);
}

/* why is NULL when it is the owner's wish. */
static void end(struct link *link, const struct err *why)
{
    if (link->closed)
        return;
    link->closed = true;
    loop_remove_fd(&link->source);
    loop_remove_timer(&link->again);
    /* At once: a mapping that stays keeps a dead domain as a zombie. */
    chan_close(&link->chan);
    if (why)
        link->handler->closed(link->context, why);
    while (!link->freed && stream_end_one(link))
        continue;
}

void link_close(struct link *link)
{
    link->busy++;
    end(link, NULL);
    end_busy(link);
}

static int flush(struct link *link, struct err *e)
{
    while (buf_len(&link->sending) > 0) {
        ssize_t n = chan_write(link->chan, buf_data(&link->sending),
                               buf_len(&link->sending));

        if (n < 0)
            return err_set(e, EPIPE, "the other end is gone");
        if (n == 0)
            break;
        buf_consume(&link->sending, (size_t)n);
    }
    loop_fd_events(link->source,
                   chan_events(link->chan, buf_len(&link->sending) > 0));
    return 0;
}

static int handle_frame(struct link *link, const struct proto_header *header,
                        const uint8_t *untrusted_payload, struct err *e)
{
    struct proto_message message;
    int r;

    if (header->type == PROTO_DATA || header->type == PROTO_CREDIT ||
        header->type == PROTO_END)
        return stream_handle(link, header, untrusted_payload, e);
    r = proto_decode(header, untrusted_payload, &message, e);
    if (r < 0)
        return r;
    r = link->handler->message(link->context, &message, e);
    proto_clear(&message);
    return r;
}

/* Handles every whole frame that is there. */
static int handle_received(struct link *link, struct err *e)
{
    while (buf_len(&link->received) >= PROTO_HEADER_SIZE) {
        struct proto_header header;
        size_t size;
        int r = proto_header_decode(buf_data(&link->received), link->incoming,
                                    &header, e);

        if (r < 0)
            return r;
        size = PROTO_HEADER_SIZE + (size_t)header.length;
        if (buf_len(&link->received) < size)
            break;
        r = handle_frame(link, &header,
                         buf_data(&link->received) + PROTO_HEADER_SIZE, e);
        if (r < 0 || link->closed || link->freed)
            return r;
        buf_consume(&link->received, size);
    }
    return 0;
}

static void read_again(void *context)
{
    struct link *link = context;

    link->again = NULL;
    pump(link);
}

static int receive(struct link *link, struct err *e)
{
    size_t total = 0;

    while (total < READ_ROUND) {
        uint8_t *room = buf_reserve(&link->received, READ_STEP);
        ssize_t n = chan_read(link->chan, room, READ_STEP);
        int r;

        if (n < 0)
            return err_set(e, EPIPE, "the other end is gone");
        if (n == 0)
            return 0;
        total += (size_t)n;
        buf_commit(&link->received, (size_t)n);
        r = handle_received(link, e);
        if (r < 0 || link->closed || link->freed)
            return r;
    }
    if (!link->again)
        link->again = loop_add_timer(link->loop, 0, read_again, link);
    return 0;
}

static void pump(struct link *link)
{
    struct err e = ERR_INIT;
    int r;

    if (link->closed)
        return;
    link->busy++;
    r = receive(link, &e);
    if (r == 0 && !link->closed && !link->freed) {
        r = flush(link, &e);
        /* What it sent before it left, which is less than one round. */
        if (r < 0)
            (void)receive(link, &e);
    }
    if (r == 0 && !link->closed && !link->freed)
        stream_resume_sources(link);
    if (r < 0 && !link->freed)
        end(link, &e);
    end_busy(link);
}

static void chan_ready(void *context, short revents)
{
    struct link *link = context;

    (void)revents;
    chan_woken(link->chan);
    pump(link);
}

struct link *link_new(struct loop *loop, struct chan *chan,
                      enum proto_direction incoming,
                      const struct link_handler *handler, void *context)
{
    struct link *link = xcalloc(1, sizeof(*link));

    link->loop = loop;
    link->chan = chan;
    link->incoming = incoming;
    link->handler = handler;
    link->context = context;
    link->source =
        loop_add_fd(loop, chan->fd, chan_events(chan, false), chan_ready, link);
    /* What came before we listened gives no event any more. */
    link->again = loop_add_timer(loop, 0, read_again, link);
    return link;
}

void link_free(struct link **link)
{
    struct link *l = *link;

    *link = NULL;
    if (!l)
        return;
    l->freed = true;
    if (l->busy == 0)
        link_destroy(l);
}

/* A failure to send is told from the loop, not from inside link_send(). */
static void flush_soon(struct link *link)
{
    struct err ignored = ERR_INIT;

    if (flush(link, &ignored) < 0 && !link->again)
        link->again = loop_add_timer(link->loop, 0, read_again, link);
}

int link_send(struct link *link, const struct proto_message *message,
              struct err *e)
{
    int r;

    if (link->closed)
        return err_set(e, EPIPE, "the channel to the guest is closed");
    if (buf_len(&link->sending) > SEND_MAX)
        return err_set(e, ENOBUFS, "the other end does not read its channel");
    r = proto_encode(message, &link->sending, e);
    if (r < 0)
        return r;
    flush_soon(link);
    return 0;
}

void link_send_data(struct link *link, uint32_t id, const void *bytes, size_t n)
{
    proto_encode_data(id, bytes, n, &link->sending);
    flush_soon(link);
}

bool link_has_room(const struct link *link)
{
    return !link->closed && buf_len(&link->sending) < SEND_ROOM;
}

bool link_flushed(const struct link *link)
{
    return buf_len(&link->sending) == 0;
}

void link_first_data(struct link *link, uint32_t id)
{
    if (link->handler->first_data)
        link->handler->first_data(link->context, id);
}

struct loop *link_loop(struct link *link)
{
    return link->loop;
}

struct stream **link_streams(struct link *link)
{
    return &link->streams;
}
