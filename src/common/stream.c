#include "domus/link.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "domus/mem.h"

struct stream {
    struct stream *next;
    struct link *link; /* borrowed: the link owns the stream */
    uint32_t id;
    int fd; /* owned; -1 when closed or none */
    struct loop_fd *source;
    bool is_source;
    bool began; /* sink: DATA came */
    bool ended; /* END was queued, or came */
    bool moved; /* sink: bytes came or were written since it was asked */
    bool last;  /* source: what is there now is all that comes */
    stream_done_fn *done;
    void *context;
    uint32_t credit;     /* source: bytes that may be sent; sink: may come */
    uint32_t unreturned; /* sink: written, credit not yet given back */
    struct buf waiting;  /* sink: not yet written */
};

static struct stream *find(struct link *link, uint32_t id)
{
    for (struct stream *s = *link_streams(link); s; s = s->next)
        if (s->id == id)
            return s;
    return NULL;
}

static void stream_unlink(struct stream *s)
{
    struct stream **at = link_streams(s->link);

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    loop_remove_fd(&s->source);
    close_fd(&s->fd);
    buf_clear(&s->waiting);
    free(s);
}

void stream_free_all(struct link *link)
{
    while (*link_streams(link))
        stream_unlink(*link_streams(link));
}

static void finish(struct stream *s)
{
    stream_done_fn *done = s->done;
    void *context = s->context;
    uint32_t id = s->id;

    stream_unlink(s);
    if (done)
        done(context, id);
}

static void send_simple(struct link *link, enum proto_type type, uint32_t id,
                        uint32_t bytes)
{
    struct proto_message message = {.type = type, .id = id};
    struct err ignored = ERR_INIT;

    if (type == PROTO_CREDIT)
        message.body.credit.bytes = bytes;
    /* Fails only on a link that is closed, which its owner learns anyway. */
    (void)link_send(link, &message, &ignored);
}

static void source_end(struct stream *s)
{
    s->ended = true;
    send_simple(s->link, PROTO_END, s->id, 0);
    finish(s);
}

static bool source_may_send(const struct stream *s)
{
    return s->credit > 0 && link_has_room(s->link);
}

static void source_ready(void *context, short revents)
{
    struct stream *s = context;
    uint8_t bytes[PROTO_DATA_MAX];

    (void)revents;
    do {
        size_t want = s->credit < sizeof(bytes) ? s->credit : sizeof(bytes);
        ssize_t n;

        if (!source_may_send(s))
            break;
        n = read(s->fd, bytes, want);
        if (n < 0 && (errno == EINTR || (errno == EAGAIN && !s->last)))
            return;
        /* A terminal whose last process is gone answers EIO. */
        if (n <= 0) {
            source_end(s);
            return;
        }
        s->credit -= (uint32_t)n;
        link_send_data(s->link, s->id, bytes, (size_t)n);
    } while (s->last);
    loop_fd_mute(s->source, !source_may_send(s));
}

/* There is credit or room again. An empty descriptor whose writer stays would
 * not wake the last reading, so that is done here. */
static void source_resume(struct stream *s)
{
    if (s->last)
        source_ready(s, 0);
    else
        loop_fd_mute(s->source, !source_may_send(s));
}

void stream_resume_sources(struct link *link)
{
    struct stream *next;

    for (struct stream *s = *link_streams(link); s; s = next) {
        next = s->next;
        if (s->is_source && s->source)
            source_resume(s);
    }
}

/* Half a window at a time, so that small writes cost few frames. */
static void sink_took(struct stream *s, size_t n)
{
    s->moved = true;
    s->unreturned += (uint32_t)n;
    if (s->ended || s->unreturned < PROTO_WINDOW / 2)
        return;
    s->credit += s->unreturned;
    send_simple(s->link, PROTO_CREDIT, s->id, s->unreturned);
    s->unreturned = 0;
}

static void sink_write(struct stream *s)
{
    while (buf_len(&s->waiting) > 0) {
        ssize_t n = buf_len(&s->waiting);

        if (s->fd >= 0)
            n = write(s->fd, buf_data(&s->waiting), buf_len(&s->waiting));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            /* Nobody reads any more: throw away from here on. */
            loop_remove_fd(&s->source);
            close_fd(&s->fd);
            continue;
        }
        buf_consume(&s->waiting, (size_t)n);
        sink_took(s, (size_t)n);
    }
    if (s->ended && buf_len(&s->waiting) == 0)
        finish(s);
    else if (s->source)
        loop_fd_mute(s->source, buf_len(&s->waiting) == 0);
}

/* No END can come any more. Sources end; what sinks have is still written. */
bool stream_end_one(struct link *link)
{
    struct stream *s = *link_streams(link);

    while (s && !s->is_source && s->ended)
        s = s->next;
    if (!s)
        return false;
    s->ended = true;
    if (s->is_source)
        finish(s);
    else
        sink_write(s);
    return true;
}

static void sink_ready(void *context, short revents)
{
    (void)revents;
    sink_write(context);
}

static struct stream *stream_new(struct link *link, uint32_t id, int fd,
                                 stream_done_fn *done, void *context)
{
    struct stream *s = xcalloc(1, sizeof(*s));

    s->link = link;
    s->id = id;
    s->fd = fd;
    s->done = done;
    s->context = context;
    s->credit = PROTO_WINDOW;
    s->next = *link_streams(link);
    *link_streams(link) = s;
    return s;
}

struct stream *stream_add_source(struct link *link, uint32_t id, int fd,
                                 stream_done_fn *done, void *context)
{
    struct stream *s = stream_new(link, id, fd, done, context);

    s->is_source = true;
    if (fd < 0) {
        source_end(s);
        return NULL;
    }
    s->source = loop_add_fd(link_loop(link), fd, POLLIN, source_ready, s);
    return s;
}

struct stream *stream_add_sink(struct link *link, uint32_t id, int fd,
                               stream_done_fn *done, void *context)
{
    struct stream *s = stream_new(link, id, fd, done, context);

    if (fd >= 0) {
        s->source = loop_add_fd(link_loop(link), fd, POLLOUT, sink_ready, s);
        loop_fd_mute(s->source, 1);
    }
    return s;
}

void stream_abandon(struct link *link, uint32_t id)
{
    struct stream *s = find(link, id);

    if (!s)
        return;
    s->done = NULL;
    if (s->is_source) {
        source_end(s);
        return;
    }
    loop_remove_fd(&s->source);
    close_fd(&s->fd);
    sink_write(s);
}

enum stream_activity stream_activity(struct link *link, uint32_t id)
{
    struct stream *s = find(link, id);
    bool moved;

    if (!s)
        return STREAM_SILENT;
    moved = s->moved;
    s->moved = false;
    if (moved)
        return STREAM_MOVES;
    return buf_len(&s->waiting) > 0 ? STREAM_BLOCKED : STREAM_SILENT;
}

void stream_end(struct link *link, uint32_t id)
{
    struct stream *s = find(link, id);
    stream_done_fn *done = s ? s->done : NULL;
    void *context = s ? s->context : NULL;

    if (!s || s->is_source || s->ended)
        return;
    stream_abandon(link, id);
    if (done)
        done(context, id);
}

void stream_finish(struct link *link, uint32_t id)
{
    struct stream *s = find(link, id);

    if (!s || !s->is_source)
        return;
    s->last = true;
    source_resume(s);
}

static int sink_data(struct stream *s, uint32_t id, const uint8_t *bytes,
                     size_t n, struct err *e)
{
    if (!s || s->is_source || s->ended)
        return err_set(e, EBADMSG, "DATA on stream %u, which is not open", id);
    if (n > s->credit)
        return err_set(e, EBADMSG, "stream %u overran its window", id);
    s->credit -= (uint32_t)n;
    if (!s->began) {
        s->began = true;
        link_first_data(s->link, id);
    }
    s->moved = true;
    buf_append(&s->waiting, bytes, n);
    sink_write(s);
    return 0;
}

static int source_credit(struct stream *s, const struct proto_header *header,
                         const uint8_t *untrusted_payload, struct err *e)
{
    struct proto_message message;
    int r = proto_decode(header, untrusted_payload, &message, e);

    if (r < 0)
        return r;
    /* Credit may still be on its way when a source has ended. */
    if (!s)
        return 0;
    if (!s->is_source || message.body.credit.bytes > PROTO_WINDOW - s->credit)
        return err_set(e, EBADMSG, "too much CREDIT on stream %u", header->id);
    s->credit += message.body.credit.bytes;
    source_resume(s);
    return 0;
}

int stream_handle(struct link *link, const struct proto_header *header,
                  const uint8_t *untrusted_payload, struct err *e)
{
    struct stream *s = find(link, header->id);

    if (header->type == PROTO_DATA)
        return sink_data(s, header->id, untrusted_payload, header->length, e);
    if (header->type == PROTO_CREDIT)
        return source_credit(s, header, untrusted_payload, e);
    if (!s || s->is_source || s->ended)
        return err_set(e, EBADMSG, "END on stream %u, which is not open",
                       header->id);
    s->ended = true;
    sink_write(s);
    return 0;
}
