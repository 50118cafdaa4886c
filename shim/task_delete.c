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

    task->sinks = 0;
    if (!guest)
        return;
    (void)err_set(&e, EPIPE, "the guest is being taken down");
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

static void finish(struct task *task)
{
    Task__DeleteResponse response = TASK__DELETE_RESPONSE__INIT;
    Wellknown__Timestamp when = TASK_TIMESTAMP(task->record.exited_ns);

    task->record.sandbox = false;
    task_save_record(task);
    task->state = TASK_NONE;
    stdio_paths_clear(&task->paths);
    task_answer_waiters(task);
    publish_deleted(task);
    response.pid = (uint32_t)getpid();
    response.exit_status = task->record.status;
    response.exited_at = &when;
    call_reply(&task->delete_call, &response.base);
}

static void destroyed(void *context, const struct packet *reply,
                      const struct err *why)
{
    struct task *task = context;
    struct err e;

    (void)reply;
    if (!why) {
        finish(task);
        return;
    }
    e = *why;
    (void)err_wrap(&e, "container %s: delete", task->id);
    log_error("%s", e.text);
    task->state = TASK_STOPPED;
    if (e.code == ENOENT)
        e.code = EAGAIN;
    call_fail(&task->delete_call, &e);
}

static void take_down(struct task *task)
{
    loop_remove_timer(&task->timer);
    loop_remove_timer(&task->kill_timer);
    task->draining = false;
    task_drop_guest(task);
    stdio_close(&task->stdio);
    control_set_attached(task->control, false);
    if (task->record.sandbox)
        control_request(task->control, CTL_DESTROY, NULL, TASK_DESTROY_MS,
                        destroyed, task);
    else
        finish(task);
}

static void drain_late(void *context)
{
    struct task *task = context;

    task->timer = NULL;
    log_warn("output of the task is not read; the rest is dropped");
    take_down(task);
}

/* Not from inside the link's own callbacks. */
static void take_down_soon(void *context)
{
    struct task *task = context;

    task->timer = NULL;
    take_down(task);
}

void task_drained(struct task *task)
{
    if (!task->draining)
        return;
    loop_remove_timer(&task->timer);
    task->timer = loop_add_timer(task->loop, 0, take_down_soon, task);
}

void task_delete(struct task *task, const Task__ProcessRequest *request,
                 struct call *call)
{
    bool never_ran = task->state == TASK_CREATED;

    if (task_refuses(task, CALL_DELETE, request->id, request->exec_id, call))
        return;
    task->delete_call = call;
    if (never_ran)
        task_stopped(task, 128 + 9, false);
    task->state = TASK_DELETING;
    loop_remove_timer(&task->timer);
    if (task->guest && task->sinks > 0 && !never_ran) {
        task->draining = true;
        task->timer =
            loop_add_timer(task->loop, TASK_DRAIN_MS, drain_late, task);
        return;
    }
    take_down(task);
}
