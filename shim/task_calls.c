/*
 * The calls of a task that do not change what it is: what is asked of it and
 * what is asked of its guest. Only Kill may end it.
 */
#include "task_internal.h"

#include <signal.h>
#include <stdlib.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "details.pb-c.h"
#include "stats.h"

#define SIGNAL_MAX 64
/* An encoded ProcessDetails: an id, a number, and their tags. */
#define DETAILS_MAX (SPEC_ID_MAX + 16)

void task_describe(struct task *task, const Task__ProcessRequest *request,
                   struct call *call)
{
    static const Task__Status statuses[TASK_STATE_COUNT] = {
        [TASK_CREATING] = TASK__STATUS__UNKNOWN,
        [TASK_CREATED] = TASK__STATUS__CREATED,
        [TASK_STARTING] = TASK__STATUS__CREATED,
        [TASK_RUNNING] = TASK__STATUS__RUNNING,
        [TASK_PAUSING] = TASK__STATUS__PAUSING,
        [TASK_PAUSED] = TASK__STATUS__PAUSED,
        [TASK_RESUMING] = TASK__STATUS__PAUSED,
        [TASK_STOPPED] = TASK__STATUS__STOPPED,
        [TASK_DELETING] = TASK__STATUS__STOPPED,
    };
    const struct process *process =
        task_process(task, CALL_STATE, request->id, request->exec_id, call);
    Task__StateResponse response = TASK__STATE_RESPONSE__INIT;
    Wellknown__Timestamp when;

    if (!process)
        return;
    when = (Wellknown__Timestamp)TASK_TIMESTAMP(process->exited_ns);
    response.id = task->id;
    response.bundle = task->bundle;
    response.pid = (uint32_t)getpid();
    response.status = statuses[process->state];
    response.exec_id = process->exec;
    if (process->paths.in) {
        response.stdin = process->paths.in;
        response.stdout = process->paths.out;
        response.stderr = process->paths.err;
        response.terminal = process->paths.terminal;
    }
    /* Not before it is told: execs may still have to end. */
    if (process->exited && !task_state_live(process->state)) {
        response.exit_status = process->status;
        response.exited_at = &when;
    }
    call_reply(&call, &response.base);
}

void task_wait(struct task *task, const Task__ProcessRequest *request,
               struct call *call)
{
    struct process *process =
        task_process(task, CALL_WAIT, request->id, request->exec_id, call);

    if (process)
        process_wait(process, call);
}

/*
 * The processes are the guest's and have no pids here: containerd's is the
 * shim's own, for each of them, since it may use it. Which process it is, and
 * its pid in the guest, stand beside it.
 */
static void reply_pids(struct task *task, const struct proto_pid_list *list,
                       struct call *call)
{
    size_t n = list ? list->n : 0;
    Task__PidsResponse response = TASK__PIDS_RESPONSE__INIT;
    Task__ProcessInfo *infos = xcalloc(n + 1, sizeof(*infos));
    Task__ProcessInfo **pointers = xcalloc(n + 1, sizeof(*pointers));
    Wellknown__Any *anys = xcalloc(n + 1, sizeof(*anys));
    uint8_t(*bytes)[DETAILS_MAX] = xcalloc(n + 1, sizeof(*bytes));
    size_t count = 1;

    for (size_t i = 0; i <= n; i++) {
        task__process_info__init(&infos[i]);
        infos[i].pid = (uint32_t)getpid();
        pointers[i] = &infos[i];
    }
    for (size_t i = 0; i < n; i++) {
        Containerd__Runc__V1__ProcessDetails details =
            CONTAINERD__RUNC__V1__PROCESS_DETAILS__INIT;
        const char *untrusted_exec = list->v[i].exec;

        if (list->v[i].pid == task->init.guest_pid ||
            (untrusted_exec[0] && !task_find_exec(task, untrusted_exec)))
            continue;
        details.exec_id = list->v[i].exec;
        details.pid = list->v[i].pid;
        wellknown__any__init(&anys[count]);
        anys[count].type_url = (char *)details.base.descriptor->name;
        anys[count].value.data = bytes[count];
        anys[count].value.len =
            protobuf_c_message_pack(&details.base, bytes[count]);
        infos[count].info = &anys[count];
        count++;
    }
    response.n_processes = count;
    response.processes = pointers;
    call_reply(&call, &response.base);
    free(infos);
    free(pointers);
    free(anys);
    free(bytes);
}

static void pids_came(void *context, const struct proto_message *reply,
                      const struct err *why)
{
    struct simple_call *simple = context;

    if (why)
        log_warn("processes of the container: %s", why->text);
    reply_pids(simple->task, reply ? &reply->body.pids_result.pids : NULL,
               simple->call);
    free(simple);
}

/* Never empty: containerd takes a task without processes for a lost one. */
void task_pids(struct task *task, const Task__TaskRequest *request,
               struct call *call)
{
    struct proto_message message = {.type = PROTO_PIDS};
    struct simple_call *simple;

    if (task_refuses(task, CALL_PIDS, request->id, call))
        return;
    if (!task_state_live(task->init.state) || !task->guest) {
        reply_pids(task, NULL, call);
        return;
    }
    simple = xcalloc(1, sizeof(*simple));
    simple->task = task;
    simple->call = call;
    message.body.process.container = task->id;
    message.body.process.exec = (char *)"";
    task_request(task, &message, TASK_ANSWER_MS, pids_came, simple);
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

/* By default, of a process that has no handler for it. */
static bool signal_ends(uint32_t signal)
{
    static const uint32_t others[] = {SIGCHLD, SIGCONT, SIGURG,  SIGWINCH,
                                      SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};

    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        if (signal == others[i])
            return false;
    return true;
}

void task_kill(struct task *task, const Task__KillRequest *request,
               struct call *call)
{
    struct proto_message message = {.type = PROTO_SIGNAL};
    struct process *process =
        task_process(task, CALL_KILL, request->id, request->exec_id, call);
    struct err e = ERR_INIT;

    if (!process)
        return;
    if (request->signal == 0 || request->signal > SIGNAL_MAX)
        (void)err_set(&e, EINVAL, "there is no signal %u", request->signal);
    else if (task->ended)
        (void)err_set(&e, ENOENT, "it has ended");
    if (e.code) {
        task_name_error(process, "kill", &e);
        call_fail(&call, &e);
        return;
    }
    message.body.signal.container = task->id;
    message.body.signal.exec = process->exec;
    message.body.signal.signal = request->signal;
    if (process->state == TASK_CREATED && signal_ends(request->signal)) {
        /* A pid namespace would keep it from its first process. */
        task_init_ended(task, 128 + request->signal);
        message.body.signal.signal = SIGKILL;
        task_simple_request(task, &message, "kill", call);
        return;
    }
    if (process != &task->init && process->state == TASK_STARTING) {
        task_hold_kill(process, request->signal, call);
        return;
    }
    message.body.signal.all = request->all;
    if (request->signal == SIGKILL && process == &task->init &&
        !task->kill_timer)
        task->kill_timer =
            loop_add_timer(task->loop, TASK_KILL_MS, kill_late, task);
    task_simple_request(task, &message, "kill", call);
}

void task_close_io(struct task *task, const Task__CloseIORequest *request,
                   struct call *call)
{
    struct process *process =
        task_process(task, CALL_CLOSE_IO, request->id, request->exec_id, call);

    if (!process)
        return;
    if (request->stdin)
        process->input_closed = true;
    if (request->stdin && task->guest && process->first_stream)
        stream_finish(guest_link(task->guest),
                      process->first_stream + PROCESS_IN);
    call_reply(&call, NULL);
}

static void reply_stats(const struct buf *metrics, struct call *call)
{
    Task__StatsResponse response = TASK__STATS_RESPONSE__INIT;
    Wellknown__Any any = WELLKNOWN__ANY__INIT;

    any.type_url = (char *)stats_type_url();
    any.value.data = buf_data(metrics);
    any.value.len = buf_len(metrics);
    response.stats = &any;
    call_reply(&call, &response.base);
}

static void stats_came(void *context, const struct proto_message *reply,
                       const struct err *why)
{
    struct simple_call *simple = context;
    _cleanup_buf_ struct buf metrics = BUF_INIT;

    if (why) {
        struct err e = *why;

        (void)err_wrap(&e, "container %s: stats", simple->task->id);
        call_fail(&simple->call, &e);
    } else {
        stats_encode(&reply->body.stats_result, &metrics);
        reply_stats(&metrics, simple->call);
    }
    free(simple);
}

void task_stats(struct task *task, const Task__TaskRequest *request,
                struct call *call)
{
    struct proto_message message = {.type = PROTO_STATS};
    struct simple_call *simple;

    if (task_refuses(task, CALL_STATS, request->id, call))
        return;
    /* They do not change while the domain stands still. */
    if (task->domain != DOMAIN_AWAKE && buf_len(&task->stats) > 0) {
        reply_stats(&task->stats, call);
        return;
    }
    simple = xcalloc(1, sizeof(*simple));
    simple->task = task;
    simple->call = call;
    message.body.process.container = task->id;
    message.body.process.exec = (char *)"";
    task_request(task, &message, TASK_ANSWER_MS, stats_came, simple);
}

void task_connect(struct task *task, struct call *call)
{
    Task__ConnectResponse response = TASK__CONNECT_RESPONSE__INIT;

    response.shim_pid = (uint32_t)getpid();
    if (task->init.state != TASK_NONE)
        response.task_pid = response.shim_pid;
    response.version = (char *)DOMUS_VERSION;
    call_reply(&call, &response.base);
}
