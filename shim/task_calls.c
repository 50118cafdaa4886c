/*
 * The calls of a task that do not change what it is: what is asked of it and
 * what is asked of its guest. Only Kill may end it.
 */
#include "task_internal.h"

#include <stdlib.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "stats.h"

#define SIGNAL_MAX 64

void task_describe(struct task *task, const Task__ProcessRequest *request,
                   struct call *call)
{
    static const Task__Status statuses[TASK_STATE_COUNT] = {
        [TASK_CREATING] = TASK__STATUS__UNKNOWN,
        [TASK_CREATED] = TASK__STATUS__CREATED,
        [TASK_STARTING] = TASK__STATUS__CREATED,
        [TASK_RUNNING] = TASK__STATUS__RUNNING,
        [TASK_STOPPED] = TASK__STATUS__STOPPED,
        [TASK_DELETING] = TASK__STATUS__STOPPED,
    };
    Task__StateResponse response = TASK__STATE_RESPONSE__INIT;
    Wellknown__Timestamp when = TASK_TIMESTAMP(task->record.exited_ns);

    if (task_refuses(task, CALL_STATE, request->id, request->exec_id, call))
        return;
    response.id = task->id;
    response.bundle = task->bundle;
    response.pid = (uint32_t)getpid();
    response.status = statuses[task->state];
    if (task->paths.in) {
        response.stdin = task->paths.in;
        response.stdout = task->paths.out;
        response.stderr = task->paths.err;
        response.terminal = task->paths.terminal;
    }
    if (task->record.exited) {
        response.exit_status = task->record.status;
        response.exited_at = &when;
    }
    call_reply(&call, &response.base);
}

void task_wait(struct task *task, const Task__ProcessRequest *request,
               struct call *call)
{
    struct waiter *waiter;

    if (task_refuses(task, CALL_WAIT, request->id, request->exec_id, call))
        return;
    waiter = xcalloc(1, sizeof(*waiter));
    waiter->call = call;
    waiter->next = task->waiters;
    task->waiters = waiter;
    if (task->record.exited)
        task_answer_waiters(task);
}

/* The processes are the guest's and have no pids here. containerd knows the
 * task by the shim's own, and must find it as long as the task exists. */
void task_pids(struct task *task, const Task__TaskRequest *request,
               struct call *call)
{
    Task__PidsResponse response = TASK__PIDS_RESPONSE__INIT;
    Task__ProcessInfo info = TASK__PROCESS_INFO__INIT;
    Task__ProcessInfo *list[] = {&info};

    if (task_refuses(task, CALL_PIDS, request->id, "", call))
        return;
    info.pid = (uint32_t)getpid();
    response.n_processes = 1;
    response.processes = list;
    call_reply(&call, &response.base);
}

static void domain_killed(void *context, const struct packet *reply,
                          const struct err *why)
{
    struct task *task = context;

    (void)reply;
    if (why)
        log_error("destroying the domain: %s", why->text);
    else
        task_guest_ended(task, "killed, since SIGKILL had no effect");
}

/* The guest does not carry out SIGKILL, so its domain goes. */
static void kill_late(void *context)
{
    struct task *task = context;

    task->kill_timer = NULL;
    control_request(task->control, CTL_DESTROY, NULL, TASK_DESTROY_MS,
                    domain_killed, task);
}

struct simple_call {
    struct task *task;
    struct call *call;
};

static void signalled(void *context, const struct proto_message *reply,
                      const struct err *why)
{
    struct simple_call *simple = context;

    (void)reply;
    if (why) {
        struct err e = *why;

        (void)err_wrap(&e, "container %s: kill", simple->task->id);
        call_fail(&simple->call, &e);
    } else {
        call_reply(&simple->call, NULL);
    }
    free(simple);
}

void task_kill(struct task *task, const Task__KillRequest *request,
               struct call *call)
{
    struct proto_message message = {.type = PROTO_SIGNAL};
    struct simple_call *simple;
    struct err e = ERR_INIT;

    if (task_refuses(task, CALL_KILL, request->id, request->exec_id, call))
        return;
    if (request->signal == 0 || request->signal > SIGNAL_MAX) {
        (void)err_set(&e, EINVAL, "container %s: there is no signal %u",
                      task->id, request->signal);
        call_fail(&call, &e);
        return;
    }
    if (task->state == TASK_CREATED) {
        task_stopped(task, 128 + request->signal, true);
        call_reply(&call, NULL);
        return;
    }
    simple = xcalloc(1, sizeof(*simple));
    simple->task = task;
    simple->call = call;
    message.body.signal.container = task->id;
    message.body.signal.exec = (char *)"";
    message.body.signal.signal = request->signal;
    message.body.signal.all = request->all;
    if (request->signal == 9 && !task->kill_timer)
        task->kill_timer =
            loop_add_timer(task->loop, TASK_KILL_MS, kill_late, task);
    guest_request(task->guest, &message, TASK_ANSWER_MS, signalled, simple);
}

void task_close_io(struct task *task, const Task__CloseIORequest *request,
                   struct call *call)
{
    if (task_refuses(task, CALL_CLOSE_IO, request->id, request->exec_id, call))
        return;
    if (request->stdin && task->guest)
        stream_finish(guest_link(task->guest), TASK_STREAM_IN);
    call_reply(&call, NULL);
}

static void stats_came(void *context, const struct proto_message *reply,
                       const struct err *why)
{
    struct simple_call *simple = context;
    Task__StatsResponse response = TASK__STATS_RESPONSE__INIT;
    Wellknown__Any any = WELLKNOWN__ANY__INIT;
    _cleanup_buf_ struct buf metrics = BUF_INIT;

    if (why) {
        struct err e = *why;

        (void)err_wrap(&e, "container %s: stats", simple->task->id);
        call_fail(&simple->call, &e);
    } else {
        stats_encode(&reply->body.stats_result, &metrics);
        any.type_url = (char *)stats_type_url();
        any.value.data = buf_data(&metrics);
        any.value.len = buf_len(&metrics);
        response.stats = &any;
        call_reply(&simple->call, &response.base);
    }
    free(simple);
}

void task_stats(struct task *task, const Task__TaskRequest *request,
                struct call *call)
{
    struct proto_message message = {.type = PROTO_STATS};
    struct simple_call *simple;

    if (task_refuses(task, CALL_STATS, request->id, "", call))
        return;
    simple = xcalloc(1, sizeof(*simple));
    simple->task = task;
    simple->call = call;
    message.body.process.container = task->id;
    message.body.process.exec = (char *)"";
    guest_request(task->guest, &message, TASK_ANSWER_MS, stats_came, simple);
}

void task_connect(struct task *task, struct call *call)
{
    Task__ConnectResponse response = TASK__CONNECT_RESPONSE__INIT;

    response.shim_pid = (uint32_t)getpid();
    if (task->state != TASK_NONE)
        response.task_pid = response.shim_pid;
    response.version = (char *)DOMUS_VERSION;
    call_reply(&call, &response.base);
}
