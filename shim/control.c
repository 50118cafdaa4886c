#include "control.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "domus/log.h"
#include "domus/mem.h"

#define RETRY_FIRST_MS 20
#define RETRY_LAST_MS  1000
/* Whoever stopped domusd may be about to start it again; after this long a
 * shim that only keeps in touch starts it itself. */
#define PATIENCE_MS 5000
#define ATTACH_MS   10000

struct request {
    struct request *next;
    struct control *control;
    uint32_t id;
    enum ctl_type type;
    union ctl_body *body; /* owned */
    bool sent;
    int fds[PACKET_FDS_MAX]; /* owned, until it was sent */
    size_t fd_count;
    struct loop_timer *deadline;
    control_reply_fn *fn;
    void *context;
};

struct control {
    struct loop *loop; /* borrowed */
    struct ctl_name name;
    const struct control_handler *handler;
    void *context;
    int fd; /* -1 while not connected */
    struct loop_fd *source;
    struct loop_timer *retry;
    int64_t retry_ms;
    int64_t away_since; /* 0: not away */
    bool attached;
    bool starting; /* domusd was started and does not listen yet */
    int64_t ended; /* when that one ended, 0: it has not */
    uint32_t last_id;
    struct request *requests; /* oldest first */
};

static void connect_soon(struct control *control, int64_t milliseconds);

static const struct wire_desc *desc_of(enum ctl_type type)
{
    return ctl_protocol.types[type].desc;
}

static void close_fds(struct request *request)
{
    for (size_t i = 0; i < request->fd_count; i++)
        close_fd(&request->fds[i]);
    request->fd_count = 0;
}

static void request_free(struct request *request)
{
    close_fds(request);
    loop_remove_timer(&request->deadline);
    if (request->body && desc_of(request->type))
        wire_clear(desc_of(request->type), request->body);
    free(request->body);
    free(request);
}

static void request_end(struct request *request, const struct packet *reply,
                        const struct err *why)
{
    struct request **at = &request->control->requests;
    control_reply_fn *fn = request->fn;
    void *context = request->context;

    while (*at != request)
        at = &(*at)->next;
    *at = request->next;
    request_free(request);
    fn(context, reply, why);
}

static void request_late(void *context)
{
    struct request *request = context;
    struct err e = ERR_INIT;

    request->deadline = NULL;
    (void)err_set(&e, ETIMEDOUT, "domusd did not answer %s in time",
                  ctl_protocol.types[request->type].name);
    request_end(request, NULL, &e);
}

/* What must not be carried out twice. */
static bool once_only(enum ctl_type type)
{
    return type == CTL_CREATE || type == CTL_HOOKS || type == CTL_LOGGER;
}

/* Callbacks may add requests, so every round starts from the head. */
static void fail_requests(struct control *control, bool only_sent_once,
                          const struct err *why)
{
    struct request *request = control->requests;

    while (request) {
        if (!only_sent_once || (request->sent && once_only(request->type))) {
            request_end(request, NULL, why);
            request = control->requests;
        } else {
            request = request->next;
        }
    }
}

/* domusd is gone; most can be asked again. */
static void lost(struct control *control, const struct err *why)
{
    struct err e = ERR_INIT;

    loop_remove_fd(&control->source);
    close_fd(&control->fd);
    if (control->attached)
        log_warn("%s; the container goes on, trying again", why->text);
    control->away_since = loop_now();
    control->retry_ms = RETRY_FIRST_MS;
    (void)err_set(&e, EPIPE, "domusd went away while it worked on this: %s",
                  why->text);
    fail_requests(control, true, &e);
    for (struct request *r = control->requests; r; r = r->next)
        r->sent = false;
    if (control->requests || control->attached)
        connect_soon(control, RETRY_FIRST_MS);
}

static void send_request(struct control *control, struct request *request)
{
    struct err e = ERR_INIT;
    int r = packet_send_fds(control->fd, &ctl_protocol, (uint16_t)request->type,
                            request->id, request->body, request->fds,
                            request->fd_count, &e);

    request->sent = r == 0;
    if (request->sent)
        close_fds(request);
    /* A connection that broke is told by its descriptor. */
    if (r < 0 && r != -EPIPE && r != -ECONNRESET)
        request_end(request, NULL, &e);
}

static struct request *find(struct control *control, uint32_t id)
{
    for (struct request *r = control->requests; r; r = r->next)
        if (r->id == id && r->sent)
            return r;
    return NULL;
}

static void handle_packet(struct control *control, const struct packet *packet)
{
    const union ctl_body *body = packet->body;
    struct request *request;
    struct err e = ERR_INIT;

    if (packet->type == CTL_CHANNEL_READY) {
        control->handler->channel(control->context, body->channel.channel);
        return;
    }
    if (packet->type == CTL_DOMAIN_DIED) {
        control->handler->died(control->context, body->died.reason);
        return;
    }
    request = find(control, packet->id);
    if (!request)
        return;
    if (packet->type == CTL_RESULT && body->result.code != 0) {
        (void)err_set(&e, (int)body->result.code, "%s", body->result.text);
        request_end(request, NULL, &e);
        return;
    }
    request_end(request, packet, NULL);
}

static void ready(void *context, short revents)
{
    struct control *control = context;
    struct packet packet;
    struct err e = ERR_INIT;

    (void)revents;
    while (control->fd >= 0) {
        int r = packet_receive(control->fd, &ctl_protocol, &packet, &e);

        if (r == -EAGAIN)
            return;
        if (r < 0) {
            lost(control, &e);
            return;
        }
        handle_packet(control, &packet);
        packet_clear(&ctl_protocol, &packet);
    }
}

static void attach_answered(void *context, const struct packet *reply,
                            const struct err *why)
{
    struct control *control = context;

    if (reply && reply->type == CTL_SANDBOX) {
        const struct ctl_sandbox *sandbox = reply->body;

        log_info("attached to domusd again");
        if (sandbox->channel[0])
            control->handler->channel(control->context, sandbox->channel);
    } else if (why && why->code == ENOENT && control->attached) {
        control->handler->died(control->context, "gone while domusd was away");
    } else if (why) {
        log_warn("attaching to domusd: %s", why->text);
    }
}

static void connected(struct control *control)
{
    bool again = control->away_since != 0;

    control->away_since = 0;
    control->retry_ms = RETRY_FIRST_MS;
    control->starting = false;
    control->source =
        loop_add_fd(control->loop, control->fd, POLLIN, ready, control);
    if (again && control->attached)
        control_request(control, CTL_ATTACH, NULL, ATTACH_MS, attach_answered,
                        control);
    for (struct request *r = control->requests, *next; r; r = next) {
        next = r->next;
        if (!r->sent)
            send_request(control, r);
    }
}

static void daemon_ended(void *context, pid_t pid, int status)
{
    struct control *control = context;

    (void)pid;
    (void)status;
    if (control->starting)
        control->ended = loop_now();
}

/* Nobody listens. False when it makes no sense to go on trying. */
static bool start_daemon(struct control *control, struct err *e)
{
    struct err ignored = ERR_INIT;
    pid_t pid;
    bool wanted = loop_now() - control->away_since > PATIENCE_MS;

    /* A console is not worth it: a new domusd has nothing of it. */
    for (struct request *r = control->requests; r; r = r->next)
        if (r->type != CTL_CONSOLE && r->type != CTL_ATTACH)
            wanted = true;
    if (control->starting || !wanted)
        return true;
    if (daemon_start(&pid, e) < 0)
        return false;
    control->starting = true;
    control->ended = 0;
    control->away_since = loop_now();
    (void)loop_add_child(control->loop, pid, daemon_ended, control, &ignored);
    return true;
}

static void connect_now(void *context)
{
    struct control *control = context;
    struct err e = ERR_INIT;
    int64_t now = loop_now();
    int r;

    control->retry = NULL;
    if (control->fd >= 0)
        return;
    if (!control->away_since)
        control->away_since = loop_now();
    r = daemon_connect(&control->fd, &e);
    if (r == 0) {
        connected(control);
        return;
    }
    if (control->starting &&
        (now - control->away_since > DAEMON_START_MS ||
         (control->ended && now - control->ended > DAEMON_ENDED_MS))) {
        daemon_add_log(&e);
        control->starting = false;
        control->away_since = loop_now();
        fail_requests(control, false, &e);
    } else if ((r != -ENOENT && r != -ECONNREFUSED && r != -EAGAIN) ||
               !start_daemon(control, &e)) {
        fail_requests(control, false, &e);
    }
    if (!control->requests && !control->attached)
        return;
    connect_soon(control, control->retry_ms);
    control->retry_ms *= 2;
    if (control->retry_ms > RETRY_LAST_MS)
        control->retry_ms = RETRY_LAST_MS;
    if (control->starting && control->retry_ms > 4 * RETRY_FIRST_MS)
        control->retry_ms = 4 * RETRY_FIRST_MS;
}

static void connect_soon(struct control *control, int64_t milliseconds)
{
    if (!control->retry)
        control->retry =
            loop_add_timer(control->loop, milliseconds, connect_now, control);
}

void control_request(struct control *control, enum ctl_type type,
                     const void *body, int64_t deadline_ms,
                     control_reply_fn *fn, void *context)
{
    control_request_fds(control, type, body, NULL, 0, deadline_ms, fn, context);
}

void control_request_fds(struct control *control, enum ctl_type type,
                         const void *body, const int *fds, size_t n,
                         int64_t deadline_ms, control_reply_fn *fn,
                         void *context)
{
    struct request *request = xcalloc(1, sizeof(*request));
    struct request **at = &control->requests;
    struct err e = ERR_INIT;

    request->control = control;
    request->id = ++control->last_id;
    request->type = type;
    request->fn = fn;
    request->context = context;
    request->deadline =
        loop_add_timer(control->loop, deadline_ms, request_late, request);
    while (*at)
        at = &(*at)->next;
    *at = request;
    for (size_t i = 0; i < n; i++) {
        request->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        request->fd_count++;
        if (request->fds[i] < 0) {
            (void)err_errno(&e, "cannot pass descriptors on");
            request_end(request, NULL, &e);
            return;
        }
    }
    if (!body)
        body = &control->name;
    request->body = xcalloc(1, sizeof(*request->body));
    if (wire_copy(desc_of(type), body, request->body, &e) < 0) {
        request_end(request, NULL, &e);
        return;
    }
    if (control->fd >= 0) {
        send_request(control, request);
        return;
    }
    loop_remove_timer(&control->retry);
    connect_soon(control, 0);
}

void control_set_attached(struct control *control, bool attached)
{
    control->attached = attached;
}

struct control *control_new(struct loop *loop, const char *namespace,
                            const char *id,
                            const struct control_handler *handler,
                            void *context)
{
    struct control *control = xcalloc(1, sizeof(*control));

    control->loop = loop;
    control->name.namespace = xstrdup(namespace);
    control->name.id = xstrdup(id);
    control->handler = handler;
    control->context = context;
    control->fd = -1;
    control->retry_ms = RETRY_FIRST_MS;
    return control;
}

void control_free(struct control **control)
{
    struct control *c = *control;

    *control = NULL;
    if (!c)
        return;
    loop_remove_timer(&c->retry);
    loop_remove_fd(&c->source);
    close_fd(&c->fd);
    while (c->requests) {
        struct request *request = c->requests;

        c->requests = request->next;
        request_free(request);
    }
    free(c->name.namespace);
    free(c->name.id);
    free(c);
}
