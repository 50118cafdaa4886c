#include "server.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "ttrpc.pb-c.h"

/* containerd needs one, a person's tools a few more. */
#define CONNECTIONS_MAX 128
/* That one connection may have open, but Waits. */
#define CALLS_MAX 1024
#define READ_STEP 16384
#define NS_PER_MS 1000000
/* Until it is tried again to take a connection that there was no descriptor
 * for: poll(2) goes on telling of it. */
#define AGAIN_MS 100
/* With so much unsent the connection is not read from. */
#define SEND_ROOM (64 * 1024)

struct connection {
    struct connection *next;
    struct server *server; /* borrowed */
    int fd;                /* owned */
    struct loop_fd *source;
    struct ttrpc_reader reader;
    struct buf sending;
    uint32_t last_stream;
    size_t calls; /* not yet answered, of those that are counted */
    bool reading; /* inside handle_frames() */
    bool broken;  /* to be closed when that returns */
    bool held;    /* frames were left until answers are read */
};

struct call {
    struct call *next;
    struct server *server;         /* NULL once that is gone */
    struct connection *connection; /* NULL once that is gone */
    uint32_t stream;
    int64_t timeout_ns;
    bool counted;
};

struct server {
    struct loop *loop; /* borrowed */
    int fd;            /* owned */
    struct loop_fd *source;
    struct loop_timer *again; /* no descriptor was left; listens then */
    struct connection *connections;
    size_t connection_count;
    struct call *calls;
    const char *const *services;
    server_call_fn *fn;
    void *context;
};

static void connection_close(struct connection *c)
{
    struct connection **at = &c->server->connections;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->server->connection_count--;
    for (struct call *call = c->server->calls; call; call = call->next)
        if (call->connection == c)
            call->connection = NULL;
    loop_remove_fd(&c->source);
    close_fd(&c->fd);
    ttrpc_reader_clear(&c->reader);
    buf_clear(&c->sending);
    free(c);
}

static void connection_break(struct connection *c)
{
    c->broken = true;
    if (!c->reading)
        connection_close(c);
}

/* False when the connection is gone. */
static bool connection_flush(struct connection *c)
{
    size_t left;

    while (!c->broken && buf_len(&c->sending) > 0) {
        ssize_t n = send(c->fd, buf_data(&c->sending), buf_len(&c->sending),
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            connection_break(c);
            return false;
        }
        buf_consume(&c->sending, (size_t)n);
    }
    left = buf_len(&c->sending);
    if (left == 0)
        buf_clear(&c->sending);
    loop_fd_events(c->source, (short)((left < SEND_ROOM ? POLLIN : 0) |
                                      (left > 0 || c->held ? POLLOUT : 0)));
    return true;
}

static void refuse(struct connection *c, uint32_t stream, enum ttrpc_code code,
                   const char *text)
{
    ttrpc_put_error(&c->sending, stream, code, text);
}

static bool knows_service(const struct server *server, const char *name)
{
    for (size_t i = 0; server->services[i]; i++)
        if (strcmp(server->services[i], name) == 0)
            return true;
    return false;
}

static void handle_request(struct connection *c,
                           const struct ttrpc_frame *frame)
{
    struct server *server = c->server;
    Ttrpc__Request *request;
    struct call *call;

    if (frame->flags & TTRPC_FLAG_REMOTE_OPEN) {
        refuse(c, frame->stream, TTRPC_UNIMPLEMENTED,
               "streams are not supported");
        return;
    }
    if (c->calls >= CALLS_MAX) {
        refuse(c, frame->stream, TTRPC_RESOURCE_EXHAUSTED,
               "too many calls wait for an answer on this connection");
        return;
    }
    request = (Ttrpc__Request *)ttrpc_unpack(&ttrpc__request__descriptor,
                                             frame->payload, frame->length);
    if (!request) {
        refuse(c, frame->stream, TTRPC_INVALID_ARGUMENT,
               "the frame holds no ttrpc request");
        return;
    }
    if (!knows_service(server, request->service)) {
        refuse(c, frame->stream, TTRPC_UNIMPLEMENTED,
               "this shim does not have that service");
    } else {
        call = xcalloc(1, sizeof(*call));
        call->server = server;
        call->connection = c;
        call->stream = frame->stream;
        call->timeout_ns = request->timeout_nano;
        call->counted = true;
        call->next = server->calls;
        server->calls = call;
        c->calls++;
        server->fn(server->context, call, request->method,
                   request->payload.data, request->payload.len);
    }
    protobuf_c_message_free_unpacked(&request->base, NULL);
}

static void handle_frame(struct connection *c, const struct ttrpc_frame *frame)
{
    if (frame->oversized) {
        refuse(c, frame->stream, TTRPC_RESOURCE_EXHAUSTED,
               "the message is larger than 4194304 bytes");
        return;
    }
    if (frame->type == TTRPC_DATA) {
        refuse(c, frame->stream, TTRPC_INVALID_ARGUMENT,
               "data for a stream that is not open");
        return;
    }
    if (frame->type != TTRPC_REQUEST)
        return;
    if (frame->stream % 2 == 0) {
        refuse(c, frame->stream, TTRPC_INVALID_ARGUMENT,
               "the stream id of a client must be odd");
        return;
    }
    if (frame->stream <= c->last_stream) {
        refuse(c, frame->stream, TTRPC_INVALID_ARGUMENT,
               "stream ids must increase");
        return;
    }
    c->last_stream = frame->stream;
    handle_request(c, frame);
}

/* Stops while the peer leaves its answers unread. */
static void handle_frames(struct connection *c)
{
    struct ttrpc_frame frame;

    c->reading = true;
    while (!c->broken && buf_len(&c->sending) < SEND_ROOM &&
           ttrpc_reader_next(&c->reader, &frame))
        handle_frame(c, &frame);
    c->reading = false;
    c->held = buf_len(&c->sending) >= SEND_ROOM;
    if (c->broken)
        connection_close(c);
    else
        (void)connection_flush(c);
}

static void connection_ready(void *context, short revents)
{
    struct connection *c = context;
    ssize_t n;

    if ((revents & POLLOUT) && !connection_flush(c))
        return;
    if (buf_len(&c->sending) >= SEND_ROOM) {
        if (revents & (POLLERR | POLLHUP))
            connection_break(c);
        return;
    }
    n = recv(c->fd, ttrpc_reader_room(&c->reader, READ_STEP), READ_STEP,
             MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        connection_break(c);
        return;
    }
    if (n > 0)
        ttrpc_reader_took(&c->reader, (size_t)n);
    handle_frames(c);
}

/* The socket is 0600 in a directory of 0700; this says so a second time. */
static bool peer_is_us(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           peer.uid == geteuid();
}

static void listen_again(void *context)
{
    struct server *server = context;

    server->again = NULL;
    loop_fd_mute(server->source, 0);
}

static void server_ready(void *context, short revents)
{
    struct server *server = context;
    _cleanup_fd_ int fd =
        accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct connection *c;

    (void)revents;
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
        loop_fd_mute(server->source, 1);
        server->again =
            loop_add_timer(server->loop, AGAIN_MS, listen_again, server);
    }
    if (fd < 0)
        return;
    if (server->connection_count >= CONNECTIONS_MAX || !peer_is_us(fd)) {
        log_warn("connection refused: %s",
                 server->connection_count >= CONNECTIONS_MAX
                     ? "too many are open"
                     : "it comes from another user");
        return;
    }
    c = xcalloc(1, sizeof(*c));
    c->server = server;
    c->fd = steal_fd(&fd);
    c->source = loop_add_fd(server->loop, c->fd, POLLIN, connection_ready, c);
    c->next = server->connections;
    server->connections = c;
    server->connection_count++;
}

struct server *server_new(struct loop *loop, int fd,
                          const char *const *services, server_call_fn *fn,
                          void *context)
{
    struct server *server = xcalloc(1, sizeof(*server));

    server->loop = loop;
    server->fd = fd;
    server->services = services;
    server->fn = fn;
    server->context = context;
    server->source = loop_add_fd(loop, fd, POLLIN, server_ready, server);
    return server;
}

void server_free(struct server **server)
{
    struct server *s = *server;

    *server = NULL;
    if (!s)
        return;
    while (s->connections)
        connection_close(s->connections);
    for (struct call *call = s->calls; call; call = call->next)
        call->server = NULL;
    loop_remove_timer(&s->again);
    loop_remove_fd(&s->source);
    close_fd(&s->fd);
    free(s);
}

bool server_flushed(const struct server *server)
{
    for (struct connection *c = server->connections; c; c = c->next)
        if (buf_len(&c->sending) > 0)
            return false;
    return true;
}

/* Takes the call out of its server; NULL when nobody waits any more. */
static struct connection *call_end(struct call *call)
{
    struct connection *c = call->connection;

    if (call->server) {
        struct call **at = &call->server->calls;

        while (*at != call)
            at = &(*at)->next;
        *at = call->next;
    }
    call_uncount(call);
    return c && !c->broken ? c : NULL;
}

void call_uncount(struct call *call)
{
    if (call->connection && call->counted)
        call->connection->calls--;
    call->counted = false;
}

bool call_wanted(const struct call *call)
{
    return call->connection != NULL;
}

int64_t call_timeout(const struct call *call)
{
    if (call->timeout_ns == 0)
        return -1;
    return call->timeout_ns < 0 ? 0 : call->timeout_ns / NS_PER_MS + 1;
}

void call_reply(struct call **call, const ProtobufCMessage *message)
{
    struct call *done = steal_ptr(call);
    struct connection *c = call_end(done);

    if (c) {
        ttrpc_put_reply(&c->sending, done->stream, message);
        if (!c->reading)
            (void)connection_flush(c);
    }
    free(done);
}

void call_fail_code(struct call **call, enum ttrpc_code code, const char *text)
{
    struct call *done = steal_ptr(call);
    struct connection *c = call_end(done);

    if (c) {
        refuse(c, done->stream, code, text);
        if (!c->reading)
            (void)connection_flush(c);
    }
    free(done);
}

void call_fail(struct call **call, const struct err *why)
{
    call_fail_code(call, ttrpc_code_of(why->code), why->text);
}
