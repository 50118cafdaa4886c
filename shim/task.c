#include "task_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "events.pb-c.h"

/* As a shell tells it. */
#define NOT_RUN   126
#define NOT_FOUND 127

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

/* On disk at once: `delete` may have to tell it. */
static void init_exited(struct task *task, uint32_t status)
{
    task->phases.exited = loop_now_ns();
    process_exit(&task->init, status);
    task->record.exited = true;
    task->record.status = status;
    task->record.exited_ns = task->init.exited_ns;
    task_save_record(task);
    loop_remove_timer(&task->kill_timer);
}

/* Every process is gone: a guest that breaks its word may not keep the readers.
 */
static void output_late(void *context)
{
    struct task *task = context;
    unsigned before = task->init.sinks, left;

    task->output_timer = NULL;
    for (struct process *p = task->execs; p; p = p->next)
        before += p->sinks;
    if (!task->guest || before == 0)
        return;
    process_end_silent_output(&task->init, guest_link(task->guest));
    left = task->init.sinks;
    for (struct process *p = task->execs; p; p = p->next) {
        process_end_silent_output(p, guest_link(task->guest));
        left += p->sinks;
    }
    if (left < before)
        log_warn("the guest did not end the output of processes that ended");
    if (left > 0)
        task->output_timer =
            loop_add_timer(task->loop, TASK_OUTPUT_MS, output_late, task);
}

static void finish_init(struct task *task, bool tell)
{
    loop_remove_timer(&task->execs_timer);
    task->ended = false;
    task->init.state = TASK_STOPPED;
    tell_phases(task);
    if (tell)
        process_publish_exit(&task->init);
    process_answer_waiters(&task->init);
    if (!task->guest)
        return;
    stream_abandon(guest_link(task->guest),
                   task->init.first_stream + PROCESS_IN);
    (void)process_output_moves(&task->init, guest_link(task->guest));
    task->output_timer =
        loop_add_timer(task->loop, TASK_OUTPUT_MS, output_late, task);
}

/* The first process is over. tell is false for one that never ran: an exit may
 * not be published without a start. */
void task_stopped(struct task *task, uint32_t status, bool tell)
{
    init_exited(task, status);
    finish_init(task, tell);
}

static void execs_late(void *context)
{
    struct task *task = context;

    task->execs_timer = NULL;
    log_warn("processes of the container did not end with it");
    task_end_execs(task);
    task_check_ended(task);
}

static bool has_live_exec(const struct task *task)
{
    for (const struct process *p = task->execs; p; p = p->next)
        if (p->state == TASK_STARTING || p->state == TASK_RUNNING)
            return true;
    return false;
}

void task_check_ended(struct task *task)
{
    if (task->ended && !has_live_exec(task))
        finish_init(task, true);
}

static void ignore_reply(void *context, const struct proto_message *reply,
                         const struct err *why)
{
    (void)context;
    (void)reply;
    (void)why;
}

void task_init_ended(struct task *task, uint32_t status)
{
    struct proto_message message = {.type = PROTO_SIGNAL};

    if (task->ended)
        return;
    task->ended = true;
    init_exited(task, status);
    for (struct process *p = task->execs; p; p = p->next) {
        if (p->state != TASK_RUNNING)
            continue;
        message.body.signal.container = task->id;
        message.body.signal.exec = p->exec;
        message.body.signal.signal = 9;
        task_request(task, &message, TASK_ANSWER_MS, ignore_reply, NULL);
    }
    task->execs_timer =
        loop_add_timer(task->loop, TASK_EXECS_MS, execs_late, task);
    task_check_ended(task);
}

static void handle_up(void *context)
{
    task_create_up(context);
}

static void handle_exited(void *context, const struct proto_exited *exited)
{
    struct task *task = context;
    struct process *process = &task->init;
    uint32_t status = exited->status & 0xff;

    if (exited->exec[0])
        process = task_find_exec(task, exited->exec);
    if (strcmp(exited->container, task->id) != 0 || !process) {
        log_debug("the guest reports the end of a process that it was not "
                  "given");
        return;
    }
    if (process->state == TASK_STARTING) {
        process->exit_held = true;
        process->held_status = status;
    } else if (process != &task->init) {
        task_exec_exited(process, status);
    } else if (task_state_live(process->state)) {
        task_init_ended(task, status);
    }
}

static void publish_oom(struct task *task)
{
    Containerd__Events__TaskOOM event = CONTAINERD__EVENTS__TASK_OOM__INIT;

    event.container_id = task->id;
    events_publish(task->events, "/tasks/oom", &event.base);
}

static void handle_oom(void *context, const char *container)
{
    struct task *task = context;

    if (strcmp(container, task->id) != 0)
        return;
    if (loop_now() - task->oom_since > TASK_OOM_PERIOD_MS) {
        task->oom_since = loop_now();
        task->oom_count = 0;
    }
    if (++task->oom_count > TASK_OOM_BURST)
        return;
    if (task->init.state == TASK_STARTING)
        task->oom_held = true;
    else if (task_state_live(task->init.state))
        publish_oom(task);
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
    if (task->init.state != TASK_DELETING && task->init.state != TASK_STOPPED)
        log_error("container %s: %s", task->id, e.text);
    if (task->guest) {
        link_close(guest_link(task->guest));
        guest_fail(task->guest, &e);
    }
    task_fail_sleepers(task, &e);
    task_end_execs(task);
    if (task->ended)
        task_check_ended(task);
    else if (task_state_live(task->init.state))
        task_stopped(task, TASK_KILLED, true);
}

/* Its requests get the reason; what it wrote stays for a slow reader until
 * Delete has waited for it. */
void task_guest_ended(struct task *task, const char *reason)
{
    struct err e = ERR_INIT;

    if (task->init.state == TASK_CREATING) {
        (void)err_set(&e, EPIPE, "the guest is gone (%s)", reason);
        task_create_failed(task, &e, true);
        return;
    }
    if (task->ending || task->init.state == TASK_NONE)
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
    if (task->init.state == TASK_RUNNING)
        tell_phases(task);
}

const struct guest_handler task_guest_handler = {
    .up = handle_up,
    .exited = handle_exited,
    .oom = handle_oom,
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
    if (task->init.state == TASK_CREATING) {
        task_guest_ended(task, reason);
        return;
    }
    /* After the first process's exit, too: its output may never come, and
     * whoever reads it waits for its end before Delete. */
    if (task_state_live(task->init.state) || task->init.state == TASK_STOPPED) {
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
                  struct call *call)
{
    struct err e = ERR_INIT;
    int code = task_state_refuses(task->init.state, what);

    if (strcmp(id, task->id) != 0)
        (void)err_set(&e, ENOENT, "container \"%s\" not found",
                      LOG_Q(id, strlen(id)));
    else if (code)
        (void)err_set(&e, code, "container %s %s", task->id,
                      task_state_text(task->init.state));
    else
        return false;
    call_fail(&call, &e);
    return true;
}

struct process *task_process(struct task *task, enum task_call what,
                             const char *id, const char *exec,
                             struct call *call)
{
    struct process *process;
    struct err e = ERR_INIT;
    int code;

    if (!exec[0])
        return task_refuses(task, what, id, call) ? NULL : &task->init;
    if (task_refuses(task, CALL_STATE, id, call))
        return NULL;
    process = task_find_exec(task, exec);
    code = process ? exec_state_refuses(process->state, what) : ENOENT;
    if (!code)
        return process;
    if (process)
        (void)err_set(&e, code, "container %s: process %s %s", task->id, exec,
                      task_state_text(process->state));
    else
        (void)err_set(&e, code, "container %s: no process \"%s\"", task->id,
                      LOG_Q(exec, strlen(exec)));
    call_fail(&call, &e);
    return NULL;
}

void task_name_error(const struct process *process, const char *what,
                     struct err *e)
{
    if (process->exec[0])
        (void)err_wrap(e, "container %s: process %s: %s", process->task->id,
                       process->exec, what);
    else
        (void)err_wrap(e, "container %s: %s", process->task->id, what);
}

uint32_t task_failed_status(const struct err *why)
{
    if (why->code == EPIPE || why->code == ETIMEDOUT)
        return TASK_KILLED;
    return why->code == ENOENT ? NOT_FOUND : NOT_RUN;
}

/* A command that is not there is the client's mistake; NotFound would mean
 * the task. */
static void start_failed(struct task *task, const struct err *why)
{
    struct err e = *why;

    task_end_execs(task);
    task_stopped(task, task_failed_status(why), false);
    if (e.code == ENOENT || e.code == EACCES)
        e.code = EINVAL;
    task_name_error(&task->init, "start", &e);
    log_error("%s", e.text);
    call_fail(&task->init.start_call, &e);
}

/* Failing, they are told of and nothing more, as the specification says. */
static void start_hooks_ran(struct task *task, const struct err *why)
{
    Task__StartResponse response = TASK__START_RESPONSE__INIT;

    if (why)
        log_warn("container %s: %s", task->id, why->text);
    response.pid = (uint32_t)getpid();
    if (task->init.start_call)
        call_reply(&task->init.start_call, &response.base);
}

static void started(void *context, const struct proto_message *reply,
                    const struct err *why)
{
    struct task *task = context;
    Containerd__Events__TaskStart event = CONTAINERD__EVENTS__TASK_START__INIT;

    /* Its guest died and the end was told. */
    if (task->init.state != TASK_STARTING)
        return;
    if (why) {
        start_failed(task, why);
        return;
    }
    task->init.state = TASK_RUNNING;
    task->init.guest_pid = reply->body.result.pid;
    task->phases.process_started = loop_now_ns();
    event.container_id = task->id;
    event.pid = (uint32_t)getpid();
    events_publish(task->events, "/tasks/start", &event.base);
    task_run_hooks(task, "poststart", &task->poststart_hooks, task->hook_state,
                   "running", start_hooks_ran);
    if (task->phases.first_byte)
        tell_phases(task);
    if (task->oom_held)
        publish_oom(task);
    if (task->init.exit_held)
        task_init_ended(task, task->init.held_status);
}

void task_start(struct task *task, const Task__ProcessRequest *request,
                struct call *call)
{
    struct proto_message message = {.type = PROTO_START};
    struct process *process =
        task_process(task, CALL_START, request->id, request->exec_id, call);

    if (!process)
        return;
    if (process != &task->init) {
        task_start_exec(process, call);
        return;
    }
    if (task->ended) {
        struct err e = ERR_INIT;

        (void)err_set(&e, EBUSY, "it has ended");
        task_name_error(process, "start", &e);
        call_fail(&call, &e);
        return;
    }
    task->phases.start_received = loop_now_ns();
    task->init.state = TASK_STARTING;
    task->init.start_call = call;
    message.body.process.container = task->id;
    message.body.process.exec = (char *)"";
    task_request(task, &message, TASK_PREPARE_MS, started, task);
}

bool task_gone(const struct task *task)
{
    return task->init.state == TASK_NONE;
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
    process_init(&task->init, task, "");
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
    loop_remove_timer(&t->execs_timer);
    loop_remove_timer(&t->output_timer);
    guest_free(&t->guest);
    task_free_execs(t);
    process_clear(&t->init);
    task_clear_hooks(t);
    buf_clear(&t->stats);
    free(t->end_reason);
    free(t->namespace);
    free(t->id);
    free(t->bundle);
    free(t);
}
