#include "process.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "domus/mem.h"
#include "events.pb-c.h"
#include "task.pb-c.h"
#include "task_internal.h"

struct waiter {
    struct waiter *next;
    struct call *call;
};

void process_init(struct process *process, struct task *task, const char *exec)
{
    *process = (struct process){
        .task = task,
        .exec = xstrdup(exec),
        .stdio = STDIO_INIT,
    };
}

void process_clear(struct process *process)
{
    loop_remove_timer(&process->timer);
    process_open_cancel(process);
    stdio_close(&process->stdio);
    stdio_paths_clear(&process->paths);
    if (process->spec)
        wire_clear(&spec_process_desc, process->spec);
    free(process->spec);
    free(process->exec);
    while (process->waiters) {
        struct waiter *waiter = process->waiters;

        process->waiters = waiter->next;
        free(waiter);
    }
    *process = (struct process){0};
}

void process_answer_waiters(struct process *process)
{
    Task__WaitResponse response = TASK__WAIT_RESPONSE__INIT;
    Wellknown__Timestamp when = TASK_TIMESTAMP(process->exited_ns);
    struct err e = ERR_INIT;

    response.exit_status = process->status;
    response.exited_at = &when;
    if (process->exec[0])
        (void)err_set(&e, ENOENT, "container %s: process %s never ran",
                      process->task->id, process->exec);
    else
        (void)err_set(&e, ENOENT, "container %s was not created",
                      process->task->id);
    while (process->waiters) {
        struct waiter *waiter = process->waiters;

        process->waiters = waiter->next;
        if (process->exited)
            call_reply(&waiter->call, &response.base);
        else
            call_fail(&waiter->call, &e);
        free(waiter);
    }
}

void process_wait(struct process *process, struct call *call)
{
    struct waiter *waiter = xcalloc(1, sizeof(*waiter));

    waiter->call = call;
    waiter->next = process->waiters;
    process->waiters = waiter;
    /* The record of the first process is written before its end is told. */
    if (process->state == TASK_STOPPED || process->state == TASK_DELETING)
        process_answer_waiters(process);
}

static void sink_done(void *context, uint32_t id)
{
    struct process *process = context;

    (void)id;
    process->sinks--;
    if (process->sinks == 0)
        task_drained(process);
}

uint32_t process_add_output(struct process *process, struct link *link,
                            enum process_stream which)
{
    struct stdio_stream *stream =
        which == PROCESS_OUT ? &process->stdio.out : &process->stdio.err;
    uint32_t id = process->first_stream + (uint32_t)which;

    if (stream->fd < 0)
        return 0;
    process->sinks++;
    (void)stream_add_sink(link, id, steal_fd(&stream->fd), sink_done, process);
    return id;
}

uint32_t process_input_id(const struct process *process)
{
    return process->stdio.in.fd >= 0 ? process->first_stream + PROCESS_IN : 0;
}

void process_add_input(struct process *process, struct link *link)
{
    uint32_t id = process->first_stream + PROCESS_IN;

    if (process->stdio.in.fd < 0)
        return;
    (void)stream_add_source(link, id, steal_fd(&process->stdio.in.fd), NULL,
                            NULL);
    if (process->input_closed)
        stream_finish(link, id);
}

void process_exit(struct process *process, uint32_t status)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    process->exited = true;
    process->status = status;
    process->exited_ns =
        (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void process_publish_exit(struct process *process)
{
    Containerd__Events__TaskExit event = CONTAINERD__EVENTS__TASK_EXIT__INIT;
    Wellknown__Timestamp when = TASK_TIMESTAMP(process->exited_ns);
    struct task *task = process->task;

    event.container_id = task->id;
    event.id = process->exec[0] ? process->exec : task->id;
    event.pid = (uint32_t)getpid();
    event.exit_status = process->status;
    event.exited_at = &when;
    events_publish(task->events, "/tasks/exit", &event.base);
}
