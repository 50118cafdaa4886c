#include "guest.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "domus/log.h"
#include "domus/mem.h"

#define VCHAN_SCHEME "vchan:"
#define UNIX_SCHEME  "unix:"
/* Lines of the guest's log in each ten seconds; more are counted only. */
#define LOG_BURST     20
#define LOG_PERIOD_MS 10000

struct request {
    struct request *next;
    struct guest *guest;
    uint32_t id;
    enum proto_type type;
    struct loop_timer *deadline;
    guest_reply_fn *fn;
    void *context;
};

struct guest {
    struct loop *loop; /* borrowed */
    struct link *link; /* owned */
    const struct guest_handler *handler;
    void *context;
    bool up;
    uint32_t last_id;
    struct request *requests;
    int64_t log_since;
    unsigned log_lines;
};

static void request_end(struct request *request,
                        const struct proto_message *reply,
                        const struct err *why)
{
    struct request **at = &request->guest->requests;
    guest_reply_fn *fn = request->fn;
    void *context = request->context;

    while (*at != request)
        at = &(*at)->next;
    *at = request->next;
    loop_remove_timer(&request->deadline);
    free(request);
    fn(context, reply, why);
}

static void request_late(void *context)
{
    struct request *request = context;
    struct err e = ERR_INIT;

    request->deadline = NULL;
    (void)err_set(&e, ETIMEDOUT, "the guest did not answer %s in time",
                  proto_type_name(request->type));
    request_end(request, NULL, &e);
}

static enum proto_type reply_type(enum proto_type request)
{
    if (request == PROTO_PIDS)
        return PROTO_PIDS_RESULT;
    if (request == PROTO_STATS)
        return PROTO_STATS_RESULT;
    return PROTO_RESULT;
}

static int handle_hello(struct guest *guest, const struct proto_hello *hello,
                        struct err *e)
{
    struct proto_message welcome = {.type = PROTO_WELCOME};
    struct timespec now;
    int r;

    if (guest->up)
        return err_set(e, EBADMSG, "a second HELLO");
    if (hello->version != PROTO_VERSION)
        return err_set(e, EPROTONOSUPPORT,
                       "the guest speaks protocol version %u, this is %d",
                       hello->version, PROTO_VERSION);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    welcome.body.welcome.version = PROTO_VERSION;
    welcome.body.welcome.wall_clock_ns =
        (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    r = link_send(guest->link, &welcome, e);
    if (r < 0)
        return r;
    guest->up = true;
    guest->handler->up(guest->context);
    return 0;
}

static int handle_reply(struct guest *guest,
                        const struct proto_message *message, struct err *e)
{
    struct request *request = guest->requests;
    struct err why = ERR_INIT;

    while (request && request->id != message->id)
        request = request->next;
    if (!request) {
        /* One that came too late; its deadline has been answered. */
        if (message->id != 0 && message->id <= guest->last_id)
            return 0;
        return err_set(e, EBADMSG, "%s answers request %u, which never was",
                       proto_type_name(message->type), message->id);
    }
    if (message->type == PROTO_RESULT && message->body.result.code != 0) {
        const char *untrusted_text = message->body.result.text;
        int code = (int)message->body.result.code;

        (void)err_set(&why, code > 0 && code < 4096 ? code : EIO, "%s",
                      LOG_Q(untrusted_text, strlen(untrusted_text)));
        request_end(request, NULL, &why);
        return 0;
    }
    if (message->type != reply_type(request->type))
        return err_set(e, EBADMSG, "%s answers %s",
                       proto_type_name(message->type),
                       proto_type_name(request->type));
    request_end(request, message, NULL);
    return 0;
}

static void handle_log(struct guest *guest, const struct proto_log *line)
{
    const char *untrusted_text = line->text;
    enum log_level level = LOG_ERROR;

    if (loop_now() - guest->log_since > LOG_PERIOD_MS) {
        guest->log_since = loop_now();
        guest->log_lines = 0;
    }
    if (++guest->log_lines > LOG_BURST)
        return;
    if (line->level < LOG_ERROR)
        level = (enum log_level)line->level;
    log_write(level, "guest: %s%s",
              LOG_Q(untrusted_text, strlen(untrusted_text)),
              guest->log_lines == LOG_BURST ? " (more lines are dropped)" : "");
}

static int handle_message(void *context, struct proto_message *message,
                          struct err *e)
{
    struct guest *guest = context;

    if (!guest->up && message->type != PROTO_HELLO &&
        message->type != PROTO_LOG)
        return err_set(e, EBADMSG, "%s before HELLO",
                       proto_type_name(message->type));
    switch ((int)message->type) {
    case PROTO_HELLO:
        return handle_hello(guest, &message->body.hello, e);
    case PROTO_EXITED:
        guest->handler->exited(guest->context, &message->body.exited);
        return 0;
    case PROTO_OOM:
        guest->handler->oom(guest->context, message->body.container.container);
        return 0;
    case PROTO_LOG:
        handle_log(guest, &message->body.log);
        return 0;
    case PROTO_RESULT:
    case PROTO_PIDS_RESULT:
    case PROTO_STATS_RESULT:
        return handle_reply(guest, message, e);
    }
    return err_set(e, EBADMSG, "unexpected %s", proto_type_name(message->type));
}

static void handle_closed(void *context, const struct err *why)
{
    struct guest *guest = context;

    guest->handler->lost(guest->context, why);
}

static void handle_first_data(void *context, uint32_t stream)
{
    struct guest *guest = context;

    guest->handler->first_data(guest->context, stream);
}

static const struct link_handler link_handler = {
    .message = handle_message,
    .closed = handle_closed,
    .first_data = handle_first_data,
};

static int connect_unix(const char *path, struct chan **chan_out, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(e, ENAMETOOLONG, "channel %s: path too long", path);
    memcpy(address.sun_path, path, strlen(path));
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(e, "channel %s", path);
    *chan_out = chan_from_socket(steal_fd(&fd));
    return 0;
}

static int connect_channel(const char *channel, struct chan **chan_out,
                           struct err *e)
{
    if (strncmp(channel, UNIX_SCHEME, strlen(UNIX_SCHEME)) == 0)
        return connect_unix(channel + strlen(UNIX_SCHEME), chan_out, e);
    if (strncmp(channel, VCHAN_SCHEME, strlen(VCHAN_SCHEME)) == 0) {
        char *end;
        unsigned long domid;

        errno = 0;
        domid = strtoul(channel + strlen(VCHAN_SCHEME), &end, 10);
        if (errno == 0 && *end == ':' && domid > 0 && domid <= UINT16_MAX)
            return chan_connect_vchan((uint32_t)domid, end + 1, chan_out, e);
    }
    return err_set(e, EBADMSG, "domusd named a channel that is none: %s",
                   channel);
}

int guest_connect(struct loop *loop, const char *channel,
                  const struct guest_handler *handler, void *context,
                  struct guest **guest_out, struct err *e)
{
    struct chan *chan;
    struct guest *guest;
    int r = connect_channel(channel, &chan, e);

    if (r < 0)
        return r;
    guest = xcalloc(1, sizeof(*guest));
    guest->loop = loop;
    guest->handler = handler;
    guest->context = context;
    guest->link = link_new(loop, chan, PROTO_FROM_GUEST, &link_handler, guest);
    *guest_out = guest;
    return 0;
}

void guest_free(struct guest **guest)
{
    struct guest *g = *guest;

    *guest = NULL;
    if (!g)
        return;
    while (g->requests) {
        struct request *request = g->requests;

        g->requests = request->next;
        loop_remove_timer(&request->deadline);
        free(request);
    }
    link_free(&g->link);
    free(g);
}

struct link *guest_link(struct guest *guest)
{
    return guest->link;
}

void guest_request(struct guest *guest, struct proto_message *message,
                   int64_t deadline_ms, guest_reply_fn *fn, void *context)
{
    struct request *request = xcalloc(1, sizeof(*request));
    struct err e = ERR_INIT;

    request->guest = guest;
    request->id = ++guest->last_id;
    request->type = message->type;
    request->fn = fn;
    request->context = context;
    request->next = guest->requests;
    guest->requests = request;
    request->deadline =
        loop_add_timer(guest->loop, deadline_ms, request_late, request);
    message->id = request->id;
    if (link_send(guest->link, message, &e) < 0)
        request_end(request, NULL, &e);
}

void guest_fail(struct guest *guest, const struct err *why)
{
    struct request *request = steal_ptr(&guest->requests);

    /* A callback may free the guest, so it is not touched any more. */
    while (request) {
        struct request *next = request->next;
        guest_reply_fn *fn = request->fn;
        void *context = request->context;

        loop_remove_timer(&request->deadline);
        free(request);
        fn(context, NULL, why);
        request = next;
    }
}
