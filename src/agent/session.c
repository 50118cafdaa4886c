/* The guest protocol as the agent sees it. docs/PROTOCOL.md describes it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "agent.h"
#include "cgroup.h"
#include "container.h"
#include "exec.h"
#include "domus/log.h"
#include "domus/mem.h"

/* What one PIDS_RESULT carries. */
#define PIDS_MAX 4096
/* An entry without its name, and what is left of a frame for entries. */
#define PIDS_ENTRY     8
#define PIDS_BYTES_MAX (PROTO_FROM_GUEST_MAX - 64)
/* A LOG and a RESULT carry no longer text. */
#define TEXT_MAX 1000

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};

    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Fails only on a link that is closed, which ends the agent anyway. */
static void send_message(struct agent *agent, struct proto_message *message)
{
    struct err e = ERR_INIT;

    if (link_send(agent->link, message, &e) < 0 && e.code != EPIPE)
        log_error("%s", e.text);
}

/* Cut to what a message may carry. */
static void cut_text(const struct err *e, char text[TEXT_MAX + 1])
{
    (void)snprintf(text, TEXT_MAX + 1, "%.*s", TEXT_MAX, e ? e->text : "");
}

void session_answer(struct agent *agent, uint32_t request, const struct err *e,
                    uint32_t pid)
{
    char text[TEXT_MAX + 1] = "";
    struct proto_message message = {.type = PROTO_RESULT, .id = request};

    if (e && e->code) {
        message.body.result.code = (uint32_t)e->code;
        cut_text(e, text);
    }
    message.body.result.text = text;
    message.body.result.pid = pid;
    send_message(agent, &message);
}

void session_exited(struct agent *agent, const char *container,
                    const char *exec, uint32_t status)
{
    _cleanup_free_ char *id = xstrdup(container);
    _cleanup_free_ char *name = xstrdup(exec);
    struct proto_message message = {.type = PROTO_EXITED};

    message.body.exited = (struct proto_exited){
        .container = id,
        .exec = name,
        .status = status,
        .wall_clock_ns = clock_ns(CLOCK_REALTIME),
    };
    send_message(agent, &message);
}

void session_oom(struct agent *agent, const char *container)
{
    _cleanup_free_ char *id = xstrdup(container);
    struct proto_message message = {.type = PROTO_OOM};

    message.body.container.container = id;
    send_message(agent, &message);
}

void session_warn(struct agent *agent, const struct err *e)
{
    char text[TEXT_MAX + 1];
    struct proto_message message = {.type = PROTO_LOG};

    log_warn("%s", e->text);
    cut_text(e, text);
    message.body.log.level = LOG_WARN;
    message.body.log.text = text;
    send_message(agent, &message);
}

/* --- requests: 0 when the answer was sent or will be --- */

static int on_welcome(struct agent *agent, struct proto_message *message,
                      struct err *e)
{
    const struct proto_welcome *w = &message->body.welcome;
    struct timespec now = {
        .tv_sec = (time_t)(w->wall_clock_ns / 1000000000),
        .tv_nsec = (long)(w->wall_clock_ns % 1000000000),
    };

    if (w->version != PROTO_VERSION)
        return err_set(e, EPROTONOSUPPORT,
                       "the host speaks version %u, this agent %u", w->version,
                       PROTO_VERSION);
    agent->welcomed = true;
    /* Only where the kernel is this guest's own. */
    if (!agent->options.channel && clock_settime(CLOCK_REALTIME, &now) < 0) {
        struct err why = ERR_INIT;

        (void)err_errno(&why, "set the clock");
        session_warn(agent, &why);
    }
    return 0;
}

static int on_create(struct agent *agent, struct proto_message *message,
                     struct err *e)
{
    return container_create(agent, message->id, &message->body.create, e);
}

/* The container of a request that is not for its execs. */
static int find(struct agent *agent, const char *id, const char *exec,
                struct container **container_out, struct err *e)
{
    if (*exec)
        return err_set(e, EINVAL, "not for process %s alone of container %s",
                       exec, id);
    return container_find(agent, id, container_out, e);
}

static int on_simple(struct agent *agent, struct proto_message *message,
                     enum container_event_type type, struct err *e)
{
    const struct proto_process *p = &message->body.process;
    struct container_event event = {.type = type, .request = message->id};
    struct container *c;
    int r = find(agent, p->container, p->exec, &c, e);

    return r < 0 ? r : container_handle(c, &event, e);
}

static int on_start(struct agent *agent, struct proto_message *message,
                    struct err *e)
{
    return on_simple(agent, message, CONTAINER_START, e);
}

static int on_delete(struct agent *agent, struct proto_message *message,
                     struct err *e)
{
    return on_simple(agent, message, CONTAINER_DELETE, e);
}

static int on_exec(struct agent *agent, struct proto_message *message,
                   struct err *e)
{
    const struct proto_exec *exec = &message->body.exec;
    struct container_event event = {
        .type = CONTAINER_EXEC, .request = message->id, .exec = exec};
    struct container *c;
    int r = container_find(agent, exec->container, &c, e);

    if (r == 0)
        r = container_handle(c, &event, e);
    if (r < 0)
        exec_refuse_streams(agent, exec);
    return r;
}

/* For the container when exec is empty. Answered at once. */
static int to_process(struct agent *agent, uint32_t request, const char *id,
                      const char *exec, const struct container_event *first,
                      const struct exec_event *later, struct err *e)
{
    struct container *c;
    struct exec *x;
    int r = container_find(agent, id, &c, e);

    if (r == 0 && *exec)
        r = exec_find(c, exec, &x, e);
    if (r == 0)
        r = *exec ? exec_handle(x, later, e) : container_handle(c, first, e);
    if (r == 0)
        session_answer(agent, request, NULL, 0);
    return r;
}

static int on_signal(struct agent *agent, struct proto_message *message,
                     struct err *e)
{
    const struct proto_signal *s = &message->body.signal;
    const struct container_event first = {
        .type = CONTAINER_SIGNAL, .signal = (int)s->signal, .all = s->all};
    const struct exec_event later = {.type = EXEC_SIGNAL,
                                     .signal = (int)s->signal};

    if (s->signal < 1 || s->signal > (uint32_t)SIGRTMAX)
        return err_set(e, EINVAL, "there is no signal %u", s->signal);
    return to_process(agent, message->id, s->container, s->all ? "" : s->exec,
                      &first, &later, e);
}

static int on_resize(struct agent *agent, struct proto_message *message,
                     struct err *e)
{
    const struct proto_resize *size = &message->body.resize;
    const struct container_event first = {.type = CONTAINER_RESIZE,
                                          .resize = size};
    const struct exec_event later = {
        .type = EXEC_RESIZE, .width = size->width, .height = size->height};

    return to_process(agent, message->id, size->container, size->exec, &first,
                      &later, e);
}

static int on_update(struct agent *agent, struct proto_message *message,
                     struct err *e)
{
    const struct proto_update *update = &message->body.update;
    const struct container_event first = {.type = CONTAINER_UPDATE,
                                          .update = update};

    return to_process(agent, message->id, update->container, "", &first, NULL,
                      e);
}

static int freeze(struct agent *agent, struct proto_message *message,
                  enum container_event_type type, struct err *e)
{
    struct container_event event = {.type = type, .request = message->id};
    struct container *c;
    int r = container_find(agent, message->body.container.container, &c, e);

    return r < 0 ? r : container_handle(c, &event, e);
}

static int on_pause(struct agent *agent, struct proto_message *message,
                    struct err *e)
{
    return freeze(agent, message, CONTAINER_PAUSE, e);
}

static int on_resume(struct agent *agent, struct proto_message *message,
                     struct err *e)
{
    return freeze(agent, message, CONTAINER_RESUME, e);
}

/* As many as fit; n on the way in and out. */
static void name_pids(struct container *c, const pid_t *pids, size_t *n,
                      struct proto_pid *list)
{
    static char none[] = "";
    size_t bytes = 0, i = 0;

    for (; i < *n; i++) {
        struct exec *x = exec_of_pid(c, pids[i]);
        char *name = x ? (char *)exec_name(x) : none;

        bytes += PIDS_ENTRY + strlen(name);
        if (bytes > PIDS_BYTES_MAX)
            break;
        list[i] = (struct proto_pid){.pid = (uint32_t)pids[i], .exec = name};
    }
    *n = i;
}

static int on_pids(struct agent *agent, struct proto_message *message,
                   struct err *e)
{
    const struct proto_process *p = &message->body.process;
    struct proto_message reply = {.type = PROTO_PIDS_RESULT, .id = message->id};
    _cleanup_free_ struct proto_pid *list = NULL;
    _cleanup_free_ pid_t *pids = NULL;
    struct container *c;
    size_t n;
    int r = find(agent, p->container, p->exec, &c, e);

    if (r < 0)
        return r;
    pids = xcalloc(PIDS_MAX, sizeof(*pids));
    n = cgroup_pids(container_cgroup(c), pids, PIDS_MAX);
    list = xcalloc(n, sizeof(*list));
    name_pids(c, pids, &n, list);
    reply.body.pids_result.pids.v = list;
    reply.body.pids_result.pids.n = n;
    send_message(agent, &reply);
    return 0;
}

static int on_stats(struct agent *agent, struct proto_message *message,
                    struct err *e)
{
    const struct proto_process *p = &message->body.process;
    struct proto_message reply = {.type = PROTO_STATS_RESULT,
                                  .id = message->id};
    struct container *c;
    int r = find(agent, p->container, p->exec, &c, e);

    if (r < 0)
        return r;
    cgroup_stats(container_cgroup(c), &reply.body.stats_result.untrusted_files);
    send_message(agent, &reply);
    proto_clear(&reply);
    return 0;
}

static int on_poweroff(struct agent *agent, struct proto_message *message,
                       struct err *e)
{
    (void)message;
    (void)e;
    loop_stop(agent->loop);
    return 0;
}

static int (*const handlers[PROTO_TYPE_COUNT])(struct agent *,
                                               struct proto_message *,
                                               struct err *) = {
    [PROTO_WELCOME] = on_welcome, [PROTO_CREATE] = on_create,
    [PROTO_START] = on_start,     [PROTO_SIGNAL] = on_signal,
    [PROTO_PIDS] = on_pids,       [PROTO_STATS] = on_stats,
    [PROTO_DELETE] = on_delete,   [PROTO_POWEROFF] = on_poweroff,
    [PROTO_EXEC] = on_exec,       [PROTO_RESIZE] = on_resize,
    [PROTO_PAUSE] = on_pause,     [PROTO_RESUME] = on_resume,
    [PROTO_UPDATE] = on_update,
};

/* A request that fails is answered; only a breach of the protocol ends the
 * channel, and with it the guest. */
static int handle_message(void *context, struct proto_message *message,
                          struct err *e)
{
    struct agent *agent = context;
    struct err why = ERR_INIT;

    if (!handlers[message->type])
        return err_set(e, EBADMSG, "the host sent %s",
                       proto_type_name(message->type));
    if (!agent->welcomed && message->type != PROTO_WELCOME &&
        message->type != PROTO_POWEROFF)
        return err_set(e, EBADMSG, "the host sent %s before WELCOME",
                       proto_type_name(message->type));
    if (handlers[message->type](agent, message, &why) == 0)
        return 0;
    if (message->type == PROTO_WELCOME) {
        *e = why;
        return -e->code;
    }
    session_answer(agent, message->id, &why, 0);
    return 0;
}

static void handle_closed(void *context, const struct err *why)
{
    struct agent *agent = context;

    if (why->code != EPIPE)
        log_error("channel to the host: %s", why->text);
    loop_stop(agent->loop);
}

static const struct link_handler link_handler = {
    .message = handle_message,
    .closed = handle_closed,
};

int session_begin(struct agent *agent, struct chan *chan, struct err *e)
{
    struct proto_message message = {.type = PROTO_HELLO};
    char version[] = DOMUS_VERSION;
    struct utsname names;

    if (uname(&names) < 0)
        return err_errno(e, "uname");
    agent->link =
        link_new(agent->loop, chan, PROTO_TO_GUEST, &link_handler, agent);
    message.body.hello = (struct proto_hello){
        .version = PROTO_VERSION,
        .agent = version,
        .kernel = names.release,
        .uptime_ns = clock_ns(CLOCK_BOOTTIME),
    };
    return link_send(agent->link, &message, e);
}
