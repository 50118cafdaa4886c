/*
 * link.h - frames of the guest protocol over a channel, in a loop; the same
 * code at both ends.
 *
 * The other end may be hostile: a header is checked before its payload is
 * waited for, a stream gets no more bytes than its window allows, and what
 * waits to be sent is bounded. A breach ends the link, once, with the reason.
 *
 * A stream moves bytes one way. Its source reads a descriptor and sends while
 * it has credit; its sink keeps what its descriptor will not take yet and
 * gives credit for what was written. Streams belong to the link.
 */
#ifndef DOMUS_LINK_H
#define DOMUS_LINK_H

#include "domus/chan.h"
#include "domus/loop.h"
#include "domus/proto.h"

struct link;
struct stream;

struct link_handler {
    /* Every frame but those of streams. The message is the link's; take what
     * you need out of it with steal_ptr(). Failing ends the link. */
    int (*message)(void *context, struct proto_message *message, struct err *e);
    /* Once: the peer is gone (why->code EPIPE) or broke the protocol. */
    void (*closed)(void *context, const struct err *why);
    /* May be NULL: the first DATA of a sink came; to measure, so that it must
     * not touch the link. */
    void (*first_data)(void *context, uint32_t id);
};

/* Takes the channel. incoming: what direction the frames come from. */
struct link *link_new(struct loop *loop, struct chan *chan,
                      enum proto_direction incoming,
                      const struct link_handler *handler, void *context);
/* Streams end without a word. May be called from the handlers. */
void link_free(struct link **link);
/* Closes the channel as if the peer were gone, but closed() is not called.
 * Streams end as said below. */
void link_close(struct link *link);

/* Queues and sends what the channel takes now. */
int link_send(struct link *link, const struct proto_message *message,
              struct err *e);

/* True when nothing waits to be sent. */
bool link_flushed(const struct link *link);

typedef void stream_done_fn(void *context, uint32_t id);

/*
 * Both take fd, which must not block; -1 is an empty source, and a sink that
 * throws away. done is called once: for a source when END was queued, for a
 * sink when END came and everything was written (fd is closed by then). A
 * channel that is closed ends them too: a source at once, a sink when it has
 * written what came, which is never when nobody reads.
 */
struct stream *stream_add_source(struct link *link, uint32_t id, int fd,
                                 stream_done_fn *done, void *context);
struct stream *stream_add_sink(struct link *link, uint32_t id, int fd,
                               stream_done_fn *done, void *context);

/* Ends a stream of ours by force, without calling done: a source sends END, a
 * sink closes its descriptor and from then on throws away what comes. */
void stream_abandon(struct link *link, uint32_t id);

/* What happened at a sink since it was last asked. */
enum stream_activity {
    STREAM_SILENT,  /* nothing came, and all was written; or there is none */
    STREAM_BLOCKED, /* its descriptor took nothing of what waits */
    STREAM_MOVES,
};
enum stream_activity stream_activity(struct link *link, uint32_t id);

/* A sink of a peer that does not say END: done is called, and what still comes
 * is thrown away. */
void stream_end(struct link *link, uint32_t id);

/* A source sends what its descriptor holds now, then END, although whoever
 * writes to it may stay. done is called. */
void stream_finish(struct link *link, uint32_t id);

/* For link.c only. */
int stream_handle(struct link *link, const struct proto_header *header,
                  const uint8_t *untrusted_payload, struct err *e);
void stream_resume_sources(struct link *link);
void stream_free_all(struct link *link);
/* For a channel that is closed; false when there is none left to end. */
bool stream_end_one(struct link *link);
struct loop *link_loop(struct link *link);
struct stream **link_streams(struct link *link);
bool link_has_room(const struct link *link);
void link_first_data(struct link *link, uint32_t id);
void link_send_data(struct link *link, uint32_t id, const void *bytes,
                    size_t n);

#endif
