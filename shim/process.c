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
    struct process *process;
    struct call *call;
    struct loop_timer *deadline;
};

void process_init(struct process *process, struct task *task, const char *exec)
{
    *process = (struct process){
        .task = task,
        .exec = xstrdup(exec),
        .stdio = STDIO_INIT,
    };
    for (int i = 0; i < PROCESS_WRITERS; i++)
        process->writers[i].fd = -1;
}

/* Takes it out of the list and frees it. */
static struct call *waiter_end(struct waiter *waiter)
{
    struct waiter **at = &waiter->process->waiters;
    struct call *call = waiter->call;

    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    waiter->process->waiter_count--;
    loop_remove_timer(&waiter->deadline);
    free(waiter);
    return call;
}

void process_clear(struct process *process)
{
    loop_remove_timer(&process->timer);
    process_open_cancel(process);
    process_close_streams(process);
    stdio_paths_clear(&process->paths);
    if (process->spec)
        wire_clear(&spec_process_desc, process->spec);
    free(process->spec);
    process_answer_waiters(process);
    free(process->exec);
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
        struct call *call = waiter_end(process->waiters);

        if (process->exited)
            call_reply(&call, &response.base);
        else
            call_fail(&call, &e);
    }
}

static void waiter_give_up(struct waiter *waiter)
{
    struct call *call = waiter_end(waiter);

    call_fail_code(&call, TTRPC_DEADLINE_EXCEEDED, "it has not ended yet");
}

static void waiter_late(void *context)
{
    struct waiter *waiter = context;

    waiter->deadline = NULL;
    waiter_give_up(waiter);
}

/* Whose connection is gone. */
static void drop_orphans(struct process *process)
{
    struct waiter *next;

    for (struct waiter *w = process->waiters; w; w = next) {
        next = w->next;
        if (!call_wanted(w->call))
            waiter_give_up(w);
    }
}

void process_wait(struct process *process, struct call *call)
{
    int64_t timeout = call_timeout(call);
    struct waiter *waiter;

    if (process->waiter_count == WAITERS_MAX)
        drop_orphans(process);
    if (process->waiter_count == WAITERS_MAX) {
        struct err e = ERR_INIT;

        (void)err_set(&e, ENOSPC, "%d calls wait for it already", WAITERS_MAX);
        task_name_error(process, "wait", &e);
        call_fail(&call, &e);
        return;
    }
    call_uncount(call);
    waiter = xcalloc(1, sizeof(*waiter));
    waiter->process = process;
    waiter->call = call;
    waiter->next = process->waiters;
    process->waiters = waiter;
    process->waiter_count++;
    if (timeout >= 0)
        waiter->deadline =
            loop_add_timer(process->task->loop, timeout, waiter_late, waiter);
    /* The record of the first process is written before its end is told. */
    if (process->state == TASK_STOPPED || process->state == TASK_DELETING)
        process_answer_waiters(process);
}

static void sink_done(void *context, uint32_t id)
{
    struct process *process = context;

    (void)id;
    process->sinks--;
    if (process_written(process))
        task_drained(process);
}

bool process_written(const struct process *process)
{
    return process->sinks == 0 && !process_has_writer(process);
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

bool process_output_moves(struct process *process, struct link *link)
{
    bool moves = false;

    /* One that was never started has no streams. */
    for (uint32_t i = PROCESS_OUT; process->sinks > 0 && i <= PROCESS_ERR; i++)
        if (stream_activity(link, process->first_stream + i) == STREAM_MOVES)
            moves = true;
    return moves;
}

void process_end_silent_output(struct process *process, struct link *link)
{
    for (uint32_t i = PROCESS_OUT; process->sinks > 0 && i <= PROCESS_ERR; i++)
        if (stream_activity(link, process->first_stream + i) == STREAM_SILENT)
            stream_end(link, process->first_stream + i);
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
