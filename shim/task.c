#include "task_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "events.pb-c.h"

#define KILLED (128 + 9)
/* As a shell tells it. */
#define NOT_RUN   126
#define NOT_FOUND 127

static uint64_t wall_clock_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void task_save_record(struct task *task)
{
    struct err e = ERR_INIT;

    if (record_write(task->bundle, &task->record, &e) < 0)
        log_error("%s", e.text);
}

/* The last lines of the guest's console, printable. */
void task_add_console(struct err *e, const struct packet *reply)
{
    const struct ctl_console_result *console;
    size_t at = strlen(e->text), room = sizeof(e->text) - 64, n, from;

    if (!reply || reply->type != CTL_CONSOLE_RESULT)
        return;
    console = reply->body;
    n = console->untrusted_text.n;
    if (n == 0 || at >= room)
        return;
    at += (size_t)snprintf(e->text + at, sizeof(e->text) - at,
                           "; the end of the guest's console:\n");
    from = n > room - at ? n - (room - at) : 0;
    for (size_t i = from; i < n && at < room; i++) {
        char c = (char)console->untrusted_text.v[i];

        if (c == '\n' || (c >= 0x20 && c < 0x7f))
            e->text[at++] = c;
    }
    while (at > 0 && e->text[at - 1] == '\n')
        at--;
    e->text[at] = '\0';
}

static uint64_t since(uint64_t start, uint64_t then)
{
    return then > start ? (then - start) / 1000 : 0;
}

/* Where the time went, in microseconds after Create was received; 0: unknown
 * or not reached. tests/bench reads this line. */
static void tell_phases(struct task *task)
{
    const struct phases *p = &task->phases;
    uint64_t start = p->create_received;

    if (task->phases_told)
        return;
    task->phases_told = true;
    log_info("phases create_received_ns=%" PRIu64 " image_us=%" PRIu64
             " built_us=%" PRIu64 " unpaused_us=%" PRIu64
             " agent_up_us=%" PRIu64 " container_ready_us=%" PRIu64
             " start_received_us=%" PRIu64 " process_started_us=%" PRIu64
             " first_byte_us=%" PRIu64 " exited_us=%" PRIu64,
             start, since(start, p->image_ready), since(start, p->domain_built),
             since(start, p->unpaused), since(start, p->agent_up),
             since(start, p->container_ready), since(start, p->start_received),
             since(start, p->process_started), since(start, p->first_byte),
             since(start, p->exited));
}

void task_answer_waiters(struct task *task)
{
    Task__WaitResponse response = TASK__WAIT_RESPONSE__INIT;
    Wellknown__Timestamp when = TASK_TIMESTAMP(task->record.exited_ns);
    struct err e = ERR_INIT;

    response.exit_status = task->record.status;
    response.exited_at = &when;
    (void)err_set(&e, ENOENT, "container %s was not created", task->id);
    while (task->waiters) {
        struct waiter *waiter = task->waiters;

        task->waiters = waiter->next;
        if (task->record.exited)
            call_reply(&waiter->call, &response.base);
        else
            call_fail(&waiter->call, &e);
        free(waiter);
    }
}

static void publish_exit(struct task *task)
{
    Containerd__Events__TaskExit event = CONTAINERD__EVENTS__TASK_EXIT__INIT;
    Wellknown__Timestamp when = TASK_TIMESTAMP(task->record.exited_ns);

    event.container_id = task->id;
    event.id = task->id;
    event.pid = (uint32_t)getpid();
    event.exit_status = task->record.status;
    event.exited_at = &when;
    events_publish(task->events, "/tasks/exit", &event.base);
}

/* The process is over. tell is false for one that never ran: an exit may not
 * be published without a start. */
void task_stopped(struct task *task, uint32_t status, bool tell)
{
    task->state = TASK_STOPPED;
    task->phases.exited = loop_now_ns();
    task->record.exited = true;
    task->record.status = status;
    task->record.exited_ns = wall_clock_ns();
    task_save_record(task);
    loop_remove_timer(&task->kill_timer);
    tell_phases(task);
    if (tell)
        publish_exit(task);
    task_answer_waiters(task);
    if (task->guest)
        stream_abandon(guest_link(task->guest), TASK_STREAM_IN);
}

static void handle_up(void *context)
{
    task_create_up(context);
}

static void handle_exited(void *context, const struct proto_exited *exited)
{
    struct task *task = context;
    uint32_t status = exited->status & 0xff;

    if (strcmp(exited->container, task->id) != 0 || exited->exec[0]) {
        log_warn("the guest reports the end of a process that it was not "
                 "given");
        return;
    }
    if (task->state == TASK_STARTING) {
        task->exit_held = true;
        task->held_status = status;
    } else if (task->state == TASK_RUNNING || task->state == TASK_CREATED) {
        task_stopped(task, status, true);
    }
}

static void console_came(void *context, const struct packet *reply,
                         const struct err *why)
{
    struct task *task = context;
    struct err e = ERR_INIT;

    (void)why;
    (void)err_set(&e, EPIPE, "the guest is gone (%s)", task->end_reason);
    task_add_console(&e, reply);
    free(task->end_reason);
    task->end_reason = NULL;
    if (task->state != TASK_DELETING && task->state != TASK_STOPPED)
        log_error("container %s: %s", task->id, e.text);
    if (task->guest) {
        link_close(guest_link(task->guest));
        guest_fail(task->guest, &e);
    }
    if (task->state == TASK_CREATED || task->state == TASK_STARTING ||
        task->state == TASK_RUNNING)
        task_stopped(task, KILLED, true);
}

/* Its requests get the reason; what it wrote stays for a slow reader until
 * Delete has waited for it. */
void task_guest_ended(struct task *task, const char *reason)
{
    struct err e = ERR_INIT;

    if (task->state == TASK_CREATING) {
        (void)err_set(&e, EPIPE, "the guest is gone (%s)", reason);
        task_create_failed(task, &e, true);
        return;
    }
    if (task->ending || task->state == TASK_NONE)
        return;
    task->ending = true;
    task->end_reason = xstrdup(reason);
    control_request(task->control, CTL_CONSOLE, NULL, TASK_CONSOLE_MS,
                    console_came, task);
}

static void handle_lost(void *context, const struct err *why)
{
    task_guest_ended(context, why->text);
}

static void handle_first_data(void *context, uint32_t stream)
{
    struct task *task = context;

    (void)stream;
    if (!task->phases.first_byte)
        task->phases.first_byte = loop_now_ns();
    /* Otherwise told once START was answered. */
    if (task->state == TASK_RUNNING)
        tell_phases(task);
}

const struct guest_handler task_guest_handler = {
    .up = handle_up,
    .exited = handle_exited,
    .lost = handle_lost,
    .first_data = handle_first_data,
};

static void grace_over(void *context)
{
    struct task *task = context;

    task->timer = NULL;
    task_guest_ended(task, "domain ended");
}

/* What the guest sent before its end is read first. */
static void domain_died(void *context, const char *reason)
{
    struct task *task = context;

    log_info("domain ended: %s", LOG_Q(reason, strlen(reason)));
    if (task->state == TASK_CREATING) {
        task_guest_ended(task, reason);
        return;
    }
    if (task->state == TASK_CREATED || task->state == TASK_STARTING ||
        task->state == TASK_RUNNING) {
        loop_remove_timer(&task->timer);
        task->timer =
            loop_add_timer(task->loop, TASK_GRACE_MS, grace_over, task);
    }
}

static void channel_offered(void *context, const char *channel)
{
    task_create_channel(context, channel);
}

static const struct control_handler control_handler = {
    .channel = channel_offered,
    .died = domain_died,
};

bool task_refuses(struct task *task, enum task_call what, const char *id,
                  const char *exec, struct call *call)
{
    struct err e = ERR_INIT;
    int code = task_state_refuses(task->state, what);

    if (strcmp(id, task->id) != 0)
        (void)err_set(&e, ENOENT, "container \"%s\" not found",
                      LOG_Q(id, strlen(id)));
    else if (exec[0])
        (void)err_set(&e, ENOENT, "container %s: no process \"%s\"", task->id,
                      LOG_Q(exec, strlen(exec)));
    else if (code)
        (void)err_set(&e, code, "container %s %s", task->id,
                      task_state_text(task->state));
    else
        return false;
    call_fail(&call, &e);
    return true;
}

/* A command that is not there is the client's mistake; NotFound would mean
 * the task. */
static void start_failed(struct task *task, const struct err *why)
{
    uint32_t status = NOT_RUN;
    struct err e = *why;

    if (e.code == EPIPE || e.code == ETIMEDOUT)
        status = KILLED;
    else if (e.code == ENOENT)
        status = NOT_FOUND;
    task_stopped(task, status, false);
    if (e.code == ENOENT || e.code == EACCES)
        e.code = EINVAL;
    (void)err_wrap(&e, "container %s: start", task->id);
    log_error("%s", e.text);
    call_fail(&task->start_call, &e);
}

static void started(void *context, const struct proto_message *reply,
                    const struct err *why)
{
    struct task *task = context;
    Task__StartResponse response = TASK__START_RESPONSE__INIT;
    Containerd__Events__TaskStart event = CONTAINERD__EVENTS__TASK_START__INIT;

    (void)reply;
    if (why) {
        start_failed(task, why);
        return;
    }
    task->state = TASK_RUNNING;
    task->phases.process_started = loop_now_ns();
    event.container_id = task->id;
    event.pid = (uint32_t)getpid();
    events_publish(task->events, "/tasks/start", &event.base);
    response.pid = event.pid;
    call_reply(&task->start_call, &response.base);
    if (task->phases.first_byte)
        tell_phases(task);
    if (task->exit_held)
        task_stopped(task, task->held_status, true);
}

void task_start(struct task *task, const Task__ProcessRequest *request,
                struct call *call)
{
    struct proto_message message = {.type = PROTO_START};

    if (task_refuses(task, CALL_START, request->id, request->exec_id, call))
        return;
    task->phases.start_received = loop_now_ns();
    task->state = TASK_STARTING;
    task->start_call = call;
    message.body.process.container = task->id;
    message.body.process.exec = (char *)"";
    guest_request(task->guest, &message, TASK_PREPARE_MS, started, task);
}

bool task_gone(const struct task *task)
{
    return task->state == TASK_NONE;
}

struct task *task_new(struct loop *loop, struct events *events,
                      const char *namespace, const char *id, const char *bundle)
{
    struct task *task = xcalloc(1, sizeof(*task));

    task->loop = loop;
    task->events = events;
    task->namespace = xstrdup(namespace);
    task->id = xstrdup(id);
    task->bundle = xstrdup(bundle);
    task->stdio = (struct stdio)STDIO_INIT;
    task->record.shim = getpid();
    task->control = control_new(loop, namespace, id, &control_handler, task);
    return task;
}

void task_free(struct task **task)
{
    struct task *t = *task;

    *task = NULL;
    if (!t)
        return;
    control_free(&t->control);
    loop_remove_timer(&t->timer);
    loop_remove_timer(&t->kill_timer);
    guest_free(&t->guest);
    stdio_close(&t->stdio);
    stdio_paths_clear(&t->paths);
    free(t->end_reason);
    free(t->namespace);
    free(t->id);
    free(t->bundle);
    free(t);
}
