#include "events.h"

#include <errno.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "domus/buf.h"
#include "domus/log.h"
#include "domus/mem.h"
#include "forward.pb-c.h"
#include "ttrpc.h"
#include "ttrpc.pb-c.h"
#include "wellknown.pb-c.h"

#define QUEUE_MAX 1024
/* containerd's own deadline for one event. */
#define ANSWER_MS 5000
/* containerd may be away for long: tried at once, then ever less often. */
#define RETRY_FIRST_MS 200
#define RETRY_LAST_MS  5000
/* An event that containerd itself refuses is given up after so many tries. */
#define REFUSALS_MAX 5
#define SERVICE      "containerd.services.events.ttrpc.v1.Events"
#define EXIT_TOPIC   "/tasks/exit"

struct event {
    struct event *next;
    const char *topic;
    struct buf request; /* an encoded Forward request */
    unsigned refusals;
};

struct events {
    struct loop *loop; /* borrowed */
    char *address;
    char *namespace;
    struct event *queue; /* owned; the first is being sent */
    size_t count;
    int fd; /* -1 while not connected */
    struct loop_fd *source;
    struct loop_timer *timer; /* the answer's deadline, or the next try */
    struct ttrpc_reader reader;
    struct buf sending;
    uint32_t stream; /* of the event under way; 0: none */
    uint32_t last_stream;
    int64_t retry_ms;
    bool told; /* that containerd is away */
};

static void send_first(struct events *events);

static void event_free(struct event *event)
{
    buf_clear(&event->request);
    free(event);
}

static void drop_first(struct events *events)
{
    struct event *first = events->queue;

    events->queue = first->next;
    events->count--;
    event_free(first);
}

static void disconnect(struct events *events)
{
    loop_remove_timer(&events->timer);
    loop_remove_fd(&events->source);
    close_fd(&events->fd);
    ttrpc_reader_clear(&events->reader);
    buf_clear(&events->sending);
    events->stream = 0;
    events->last_stream = 0;
}

static void try_again(void *context)
{
    struct events *events = context;

    events->timer = NULL;
    send_first(events);
}

static void retry_later(struct events *events, const char *why)
{
    if (!events->told)
        log_warn("events wait, containerd does not take them: %s", why);
    events->told = true;
    disconnect(events);
    events->timer =
        loop_add_timer(events->loop, events->retry_ms, try_again, events);
    events->retry_ms *= 2;
    if (events->retry_ms > RETRY_LAST_MS)
        events->retry_ms = RETRY_LAST_MS;
}

static void no_answer(void *context)
{
    struct events *events = context;

    events->timer = NULL;
    retry_later(events, "no answer");
}

static bool flush(struct events *events)
{
    while (buf_len(&events->sending) > 0) {
        ssize_t n =
            send(events->fd, buf_data(&events->sending),
                 buf_len(&events->sending), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return false;
        buf_consume(&events->sending, (size_t)n);
    }
    loop_fd_events(events->source,
                   buf_len(&events->sending) > 0 ? POLLIN | POLLOUT : POLLIN);
    return true;
}

/* What containerd said to the event under way. */
static void answered(struct events *events, const struct ttrpc_frame *frame)
{
    Ttrpc__Response *response = (Ttrpc__Response *)ttrpc_unpack(
        &ttrpc__response__descriptor, frame->payload, frame->length);
    bool taken = response && (!response->status || !response->status->code);
    struct event *first = events->queue;

    loop_remove_timer(&events->timer);
    events->stream = 0;
    if (!taken && ++first->refusals < REFUSALS_MAX) {
        retry_later(events, response && response->status
                                ? response->status->message
                                : "its answer makes no sense");
    } else {
        if (!taken)
            log_error("event %s given up: containerd refuses it", first->topic);
        events->retry_ms = RETRY_FIRST_MS;
        events->told = false;
        drop_first(events);
    }
    if (response)
        protobuf_c_message_free_unpacked(&response->base, NULL);
}

static void ready(void *context, short revents)
{
    struct events *events = context;
    struct ttrpc_frame frame;
    ssize_t n;

    (void)revents;
    if (!flush(events)) {
        retry_later(events, "connection lost");
        return;
    }
    n = recv(events->fd, ttrpc_reader_room(&events->reader, 4096), 4096,
             MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        if (events->queue)
            retry_later(events, "connection lost");
        else
            disconnect(events);
        return;
    }
    ttrpc_reader_took(&events->reader, (size_t)n);
    while (events->fd >= 0 && ttrpc_reader_next(&events->reader, &frame))
        if (frame.type == TTRPC_RESPONSE && !frame.oversized &&
            events->stream && frame.stream == events->stream)
            answered(events, &frame);
    if (events->fd >= 0)
        send_first(events);
}

static int connect_now(struct events *events)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_fd_ int fd = -1;

    if (strlen(events->address) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, events->address, strlen(events->address));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    events->fd = steal_fd(&fd);
    events->source =
        loop_add_fd(events->loop, events->fd, POLLIN, ready, events);
    return 0;
}

static void send_first(struct events *events)
{
    int r;

    if (!events->queue || events->stream || events->timer)
        return;
    r = events->fd < 0 ? connect_now(events) : 0;
    if (r < 0) {
        retry_later(events, strerror(-r));
        return;
    }
    events->stream = events->last_stream ? events->last_stream + 2 : 1;
    events->last_stream = events->stream;
    ttrpc_put_frame(&events->sending, events->stream, TTRPC_REQUEST,
                    buf_data(&events->queue->request),
                    buf_len(&events->queue->request));
    events->timer = loop_add_timer(events->loop, ANSWER_MS, no_answer, events);
    if (!flush(events))
        retry_later(events, "connection lost");
}

/* Makes room without losing an exit, and without touching the first event,
 * which is under way. */
static void drop_one(struct events *events)
{
    struct event **at = &events->queue->next;
    struct event *victim;

    while (*at && strcmp((*at)->topic, EXIT_TOPIC) == 0)
        at = &(*at)->next;
    if (!*at)
        return;
    victim = *at;
    log_error("event %s given up: too many wait for containerd", victim->topic);
    *at = victim->next;
    events->count--;
    event_free(victim);
}

static void pack(const ProtobufCMessage *message, struct buf *out)
{
    size_t n = protobuf_c_message_get_packed_size(message);

    (void)protobuf_c_message_pack(message, buf_reserve(out, n));
    buf_commit(out, n);
}

static void encode(const struct events *events, const char *topic,
                   const ProtobufCMessage *message, struct buf *out)
{
    _cleanup_buf_ struct buf value = BUF_INIT, payload = BUF_INIT;
    Wellknown__Any any = WELLKNOWN__ANY__INIT;
    Wellknown__Timestamp when = WELLKNOWN__TIMESTAMP__INIT;
    Forward__Envelope envelope = FORWARD__ENVELOPE__INIT;
    Forward__Request forward = FORWARD__REQUEST__INIT;
    Ttrpc__KeyValue name = TTRPC__KEY_VALUE__INIT;
    Ttrpc__KeyValue *metadata[] = {&name};
    Ttrpc__Request request = TTRPC__REQUEST__INIT;
    struct timespec now;

    pack(message, &value);
    any.type_url = (char *)message->descriptor->name;
    any.value.data = buf_data(&value);
    any.value.len = buf_len(&value);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    when.seconds = now.tv_sec;
    when.nanos = (int32_t)now.tv_nsec;
    envelope.timestamp = &when;
    envelope.namespace_ = events->namespace;
    envelope.topic = (char *)topic;
    envelope.event = &any;
    forward.envelope = &envelope;
    pack(&forward.base, &payload);
    name.key = (char *)"containerd-namespace-ttrpc";
    name.value = events->namespace;
    request.service = (char *)SERVICE;
    request.method = (char *)"Forward";
    request.payload.data = buf_data(&payload);
    request.payload.len = buf_len(&payload);
    request.timeout_nano = (int64_t)ANSWER_MS * 1000000;
    request.metadata = metadata;
    request.n_metadata = 1;
    pack(&request.base, out);
}

void events_publish(struct events *events, const char *topic,
                    const ProtobufCMessage *message)
{
    struct event *event, **at = &events->queue;

    log_debug("event %s", topic);
    if (!events->address[0])
        return;
    if (events->count >= QUEUE_MAX)
        drop_one(events);
    event = xcalloc(1, sizeof(*event));
    event->topic = topic;
    encode(events, topic, message, &event->request);
    while (*at)
        at = &(*at)->next;
    *at = event;
    events->count++;
    send_first(events);
}

struct events *events_new(struct loop *loop, const char *address,
                          const char *namespace)
{
    struct events *events = xcalloc(1, sizeof(*events));

    events->loop = loop;
    events->address = xstrdup(address);
    events->namespace = xstrdup(namespace);
    events->fd = -1;
    events->retry_ms = RETRY_FIRST_MS;
    return events;
}

void events_free(struct events **events)
{
    struct events *e = *events;

    *events = NULL;
    if (!e)
        return;
    disconnect(e);
    while (e->queue)
        drop_first(e);
    free(e->address);
    free(e->namespace);
    free(e);
}

bool events_flushed(const struct events *events)
{
    return !events->queue;
}
