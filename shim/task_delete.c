/*
 * Delete: the last output, the channel, the domain and what domusd holds for
 * it, then the answer.
 */
#include "task_internal.h"

#include <stdlib.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "events.pb-c.h"

void task_drop_guest(struct task *task)
{
    struct err e = ERR_INIT;
    struct guest *guest = steal_ptr(&task->guest);

    task->init.sinks = 0;
    for (struct process *p = task->execs; p; p = p->next)
        p->sinks = 0;
    (void)err_set(&e, EPIPE, "the guest is being taken down");
    task_fail_sleepers(task, &e);
    if (!guest)
        return;
    guest_fail(guest, &e);
    guest_free(&guest);
}

static void publish_deleted(struct task *task)
{
    Containerd__Events__TaskDelete event =
        CONTAINERD__EVENTS__TASK_DELETE__INIT;
    Wellknown__Timestamp when = TASK_TIMESTAMP(task->record.exited_ns);

    event.container_id = task->id;
    event.pid = (uint32_t)getpid();
    event.exit_status = task->record.status;
    event.exited_at = &when;
    events_publish(task->events, "/tasks/delete", &event.base);
}

static void finish(struct task *task, const struct err *why)
{
    Task__DeleteResponse response = TASK__DELETE_RESPONSE__INIT;
    Wellknown__Timestamp when = TASK_TIMESTAMP(task->record.exited_ns);

    if (why)
        log_warn("container %s: %s", task->id, why->text);
    task_clear_hooks(task);
    task->init.state = TASK_NONE;
    stdio_paths_clear(&task->init.paths);
    process_answer_waiters(&task->init);
    publish_deleted(task);
    response.pid = (uint32_t)getpid();
    response.exit_status = task->record.status;
    response.exited_at = &when;
    call_reply(&task->init.delete_call, &response.base);
}

/* Nothing is left of it; what its hooks may do is only told. */
static void gone(struct task *task)
{
    task->record.sandbox = false;
    task_save_record(task);
    task_free_execs(task);
    task_run_hooks(task, "poststop", &task->poststop_hooks, task->hook_state,
                   "stopped", finish);
}

static void destroyed(void *context, const struct packet *reply,
                      const struct err *why)
{
    struct task *task = context;
    struct err e;

    (void)reply;
    if (!why) {
        gone(task);
        return;
    }
    e = *why;
    (void)err_wrap(&e, "container %s: delete", task->id);
    log_error("%s", e.text);
    task->init.state = TASK_STOPPED;
    if (e.code == ENOENT)
        e.code = EAGAIN;
    call_fail(&task->init.delete_call, &e);
}

static void take_down(struct task *task)
{
    loop_remove_timer(&task->timer);
    loop_remove_timer(&task->kill_timer);
    loop_remove_timer(&task->output_timer);
    loop_remove_timer(&task->init.timer);
    task->init.draining = false;
    task_drop_guest(task);
    process_close_streams(&task->init);
    control_set_attached(task->control, false);
    if (task->record.sandbox)
        control_request(task->control, CTL_DESTROY, NULL, TASK_DESTROY_MS,
                        destroyed, task);
    else
        gone(task);
}

/* The exec is over and its output written, or given up. */
static void delete_exec(struct process *process)
{
    Task__DeleteResponse response = TASK__DELETE_RESPONSE__INIT;
    Wellknown__Timestamp when = TASK_TIMESTAMP(process->exited_ns);
    struct call *call = steal_ptr(&process->delete_call);

    response.pid = (uint32_t)getpid();
    response.exit_status = process->status;
    response.exited_at = &when;
    process_answer_waiters(process);
    task_free_exec(process);
    call_reply(&call, &response.base);
}

static void take_down_process(struct process *process)
{
    if (process == &process->task->init)
        take_down(process->task);
    else
        delete_exec(process);
}

static bool process_moves(struct process *process)
{
    return process->task->guest &&
           process_output_moves(process, guest_link(process->task->guest));
}

static void drain_late(void *context);

/* Not beyond the end of all draining. */
static int64_t in_bounds(const struct process *process, int64_t milliseconds)
{
    int64_t left = process->drain_until - loop_now();

    if (left < 0)
        return 0;
    return milliseconds < left ? milliseconds : left;
}

static void drain_for(struct process *process, int64_t milliseconds)
{
    loop_remove_timer(&process->timer);
    process->timer =
        loop_add_timer(process->task->loop, in_bounds(process, milliseconds),
                       drain_late, process);
}

/* By name: the process may be gone before the answer. */
struct probe {
    struct task *task;
    char *exec;
};

/* Any answer, or that there is none. */
static void guest_answered(void *context, const struct proto_message *reply,
                           const struct err *why)
{
    struct probe *probe = context;
    struct task *task = probe->task;
    struct process *process =
        probe->exec[0] ? task_find_exec(task, probe->exec) : &task->init;

    (void)reply;
    (void)why;
    free(probe->exec);
    free(probe);
    if (process && process->draining)
        drain_for(process, TASK_DRAIN_LAST_MS);
}

/* A guest that gets no processor is silent, too, and has what was written. */
static void probe_guest(struct process *process)
{
    struct proto_message message = {.type = PROTO_PIDS};
    struct probe *probe = xcalloc(1, sizeof(*probe));

    probe->task = process->task;
    probe->exec = xstrdup(process->exec);
    message.body.process.container = process->task->id;
    message.body.process.exec = (char *)"";
    task_request(process->task, &message, in_bounds(process, TASK_ANSWER_MS),
                 guest_answered, probe);
}

static void drain_late(void *context)
{
    struct process *process = context;
    bool in_time = loop_now() < process->drain_until;
    bool moves = process_moves(process);

    process->timer = NULL;
    if (moves && in_time) {
        process->probed = false;
        drain_for(process, TASK_DRAIN_MS);
        return;
    }
    if (process->sinks > 0 && process->task->guest && in_time &&
        !process->probed) {
        process->probed = true;
        probe_guest(process);
        return;
    }
    if (process->sinks > 0)
        log_warn("output of the process has no end, or nobody reads it; the "
                 "rest is dropped");
    else
        log_info("what writes down the process's output goes on without us");
    take_down_process(process);
}

/* Not from inside the link's own callbacks. */
static void take_down_soon(void *context)
{
    struct process *process = context;

    process->timer = NULL;
    take_down_process(process);
}

void task_drained(struct process *process)
{
    if (!process->draining)
        return;
    loop_remove_timer(&process->timer);
    process->timer =
        loop_add_timer(process->task->loop, 0, take_down_soon, process);
}

void task_delete(struct task *task, const Task__ProcessRequest *request,
                 struct call *call)
{
    struct process *process =
        task_process(task, CALL_DELETE, request->id, request->exec_id, call);
    bool never_ran;

    if (!process)
        return;
    never_ran = process->state == TASK_CREATED;
    process->delete_call = call;
    if (never_ran && process == &task->init) {
        /* A killed one may only have waited for them; then that ends it. */
        task_end_execs(task);
        if (!task->init.exited)
            task_stopped(task, TASK_KILLED, false);
    }
    process->state = TASK_DELETING;
    if (process == &task->init) {
        loop_remove_timer(&task->timer);
        /* It asks what moves, too, and would take our answers. */
        loop_remove_timer(&task->output_timer);
    }
    if (!process_written(process) && !never_ran) {
        process->draining = true;
        process->drain_until = loop_now() + TASK_DRAIN_ALL_MS;
        (void)process_moves(process);
        drain_for(process, TASK_DRAIN_MS);
        return;
    }
    take_down_process(process);
}
