/*
 * More processes in a container: Exec registers one, Start has the guest make
 * it. Its streams are opened only then, as runc does.
 */
#include "task_internal.h"

#include <stdlib.h>
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "events.pb-c.h"

#define PROCESS_TYPE "Process"

struct process *task_find_exec(struct task *task, const char *exec)
{
    for (struct process *p = task->execs; p; p = p->next)
        if (strcmp(p->exec, exec) == 0)
            return p;
    return NULL;
}

void task_free_exec(struct process *process)
{
    struct task *task = process->task;
    struct process **at = &task->execs;

    if (task->guest)
        for (uint32_t i = 0; process->first_stream && i < PROCESS_STREAMS; i++)
            stream_abandon(guest_link(task->guest), process->first_stream + i);
    while (*at != process)
        at = &(*at)->next;
    *at = process->next;
    task->exec_count--;
    process_clear(process);
    free(process);
}

/* With the task; whoever still asks about one gets an answer. */
void task_free_execs(struct task *task)
{
    struct err e = ERR_INIT;

    (void)err_set(&e, ENOENT, "container %s is gone", task->id);
    while (task->execs) {
        struct process *process = task->execs;

        process_answer_waiters(process);
        if (process->start_call)
            call_fail(&process->start_call, &e);
        if (process->delete_call)
            call_fail(&process->delete_call, &e);
        if (process->kill_call)
            call_fail(&process->kill_call, &e);
        task_free_exec(process);
    }
}

/* "types.containerd.io/opencontainers/runtime-spec/1/Process"; of the address
 * only the last part means anything. */
static int parse_spec(const Task__ExecRequest *request,
                      struct spec_process *process_out, struct err *e)
{
    const Wellknown__Any *spec = request->spec;
    const char *type;
    int r;

    if (!spec || spec->value.len == 0)
        return err_set(e, EINVAL, "the request has no process");
    type = strrchr(spec->type_url, '/');
    type = type ? type + 1 : spec->type_url;
    if (strcmp(type, PROCESS_TYPE) != 0)
        return err_set(e, EINVAL, "a process of type %s",
                       LOG_Q(type, strlen(type)));
    if (spec->value.len > OCI_CONFIG_MAX)
        return err_set(e, EFBIG, "a process of more than %d bytes",
                       OCI_CONFIG_MAX);
    r = oci_parse_process((const char *)spec->value.data, spec->value.len,
                          process_out, e);
    /* The request's word counts with runc: its streams are made for it. */
    if (r == 0)
        process_out->terminal = request->terminal;
    return r;
}

static int check_exec(struct task *task, const Task__ExecRequest *request,
                      struct spec_process *process_out, struct err *e)
{
    const char *exec = request->exec_id;

    if (!spec_id_valid(exec))
        return err_set(e, EINVAL, "not a valid process id: \"%s\"",
                       LOG_Q(exec, strlen(exec)));
    /* The exit of the first process goes by the container's id. */
    if (task_find_exec(task, exec) || strcmp(exec, task->id) == 0)
        return err_set(e, EEXIST, "process %s exists already", exec);
    if (task->exec_count >= TASK_EXECS_MAX)
        return err_set(e, ENOSPC, "it has %d processes already",
                       TASK_EXECS_MAX);
    if (task->last_stream > UINT32_MAX - PROCESS_STREAMS)
        return err_set(e, ENOSPC, "it had too many processes");
    return parse_spec(request, process_out, e);
}

static void publish_added(struct task *task, const char *exec)
{
    Containerd__Events__TaskExecAdded event =
        CONTAINERD__EVENTS__TASK_EXEC_ADDED__INIT;

    event.container_id = task->id;
    event.exec_id = (char *)exec;
    events_publish(task->events, "/tasks/exec-added", &event.base);
}

void task_exec(struct task *task, const Task__ExecRequest *request,
               struct call *call)
{
    struct process **at = &task->execs;
    struct spec_process spec = {0};
    struct process *process;
    struct err e = ERR_INIT;

    if (task_refuses(task, CALL_EXEC, request->id, call))
        return;
    if (check_exec(task, request, &spec, &e) < 0) {
        if (e.code == ENOENT)
            e.code = EINVAL;
        (void)err_wrap(&e, "container %s: exec", task->id);
        call_fail(&call, &e);
        return;
    }
    process = xcalloc(1, sizeof(*process));
    process_init(process, task, request->exec_id);
    process->state = TASK_CREATED;
    process->paths = (struct stdio_paths){
        .in = xstrdup(request->stdin),
        .out = xstrdup(request->stdout),
        .err = xstrdup(request->stderr),
        .terminal = request->terminal,
    };
    process->spec = xmalloc(sizeof(spec));
    *process->spec = spec;
    while (*at)
        at = &(*at)->next;
    *at = process;
    task->exec_count++;
    publish_added(task, process->exec);
    call_reply(&call, NULL);
}

void task_exec_exited(struct process *process, uint32_t status)
{
    struct task *task = process->task;

    if (process->state != TASK_RUNNING)
        return;
    process_exit(process, status);
    process->state = TASK_STOPPED;
    process_publish_exit(process);
    process_answer_waiters(process);
    if (task->guest)
        stream_abandon(guest_link(task->guest),
                       process->first_stream + PROCESS_IN);
    task_check_ended(task);
}

/* The guest does not know the process yet. A client that gives up a start
 * kills what it started, and would leave it running otherwise. */
void task_hold_kill(struct process *process, uint32_t signal, struct call *call)
{
    struct err e = ERR_INIT;

    if (process->kill_call) {
        (void)err_set(&e, EBUSY, "a signal waits for its start already");
        task_name_error(process, "kill", &e);
        call_fail(&call, &e);
        return;
    }
    process->kill_call = call;
    process->kill_signal = signal;
}

static void send_held_kill(struct process *process)
{
    struct proto_message message = {.type = PROTO_SIGNAL};

    if (!process->kill_call)
        return;
    message.body.signal.container = process->task->id;
    message.body.signal.exec = process->exec;
    message.body.signal.signal = process->kill_signal;
    task_simple_request(process->task, &message, "kill",
                        steal_ptr(&process->kill_call));
}

static void fail_held_kill(struct process *process)
{
    struct err e = ERR_INIT;

    if (!process->kill_call)
        return;
    (void)err_set(&e, ENOENT, "it has ended");
    task_name_error(process, "kill", &e);
    call_fail(&process->kill_call, &e);
}

/* It never ran: nothing is published, but who waits has to learn it. */
static void exec_failed(struct process *process, const struct err *why)
{
    struct task *task = process->task;
    struct err e = *why;

    process_exit(process, task_failed_status(why));
    process->state = TASK_STOPPED;
    process_answer_waiters(process);
    fail_held_kill(process);
    if (task->guest)
        for (uint32_t i = 0; i < PROCESS_STREAMS; i++)
            stream_abandon(guest_link(task->guest), process->first_stream + i);
    process->sinks = 0;
    process_open_cancel(process);
    process_close_streams(process);
    if (e.code == ENOENT || e.code == EACCES)
        e.code = EINVAL;
    task_name_error(process, "start", &e);
    call_fail(&process->start_call, &e);
    task_check_ended(task);
}

void task_end_execs(struct task *task)
{
    struct err e = ERR_INIT;

    (void)err_set(&e, EPIPE, "the container has ended");
    for (struct process *p = task->execs; p; p = p->next) {
        if (p->state == TASK_STARTING)
            exec_failed(p, &e);
        else
            task_exec_exited(p, TASK_KILLED);
    }
}

static void publish_started(struct process *process)
{
    Containerd__Events__TaskExecStarted event =
        CONTAINERD__EVENTS__TASK_EXEC_STARTED__INIT;
    struct task *task = process->task;

    event.container_id = task->id;
    event.exec_id = process->exec;
    event.pid = (uint32_t)getpid();
    events_publish(task->events, "/tasks/exec-started", &event.base);
}

/* By name: when its guest died the process may be gone before the reply. */
struct starting {
    struct task *task;
    char *exec;
};

static void exec_started(void *context, const struct proto_message *reply,
                         const struct err *why)
{
    struct starting *starting = context;
    struct task *task = starting->task;
    struct process *process = task_find_exec(task, starting->exec);
    Task__StartResponse response = TASK__START_RESPONSE__INIT;

    free(starting->exec);
    free(starting);
    if (!process || process->state != TASK_STARTING)
        return;
    if (why) {
        exec_failed(process, why);
        return;
    }
    process->state = TASK_RUNNING;
    process->guest_pid = reply->body.result.pid;
    if (task->guest)
        process_add_input(process, guest_link(task->guest));
    publish_started(process);
    response.pid = (uint32_t)getpid();
    call_reply(&process->start_call, &response.base);
    send_held_kill(process);
    if (process->exit_held)
        task_exec_exited(process, process->held_status);
}

static void send_exec(struct process *process, const struct err *why)
{
    struct task *task = process->task;
    struct proto_message message = {.type = PROTO_EXEC};
    struct proto_exec *exec = &message.body.exec;
    struct starting *starting;
    struct spec_process *spec;
    struct err e = ERR_INIT;
    struct link *link;

    if (!why && (!task->guest || task->ended || task->ending)) {
        (void)err_set(&e, EPIPE, "the container has ended");
        why = &e;
    }
    if (why) {
        exec_failed(process, why);
        return;
    }
    link = guest_link(task->guest);
    starting = xcalloc(1, sizeof(*starting));
    spec = steal_ptr(&process->spec);
    starting->task = task;
    starting->exec = xstrdup(process->exec);
    exec->container = task->id;
    exec->exec = process->exec;
    exec->process = *spec;
    exec->stdin_stream = process_input_id(process);
    exec->stdout_stream = process_add_output(process, link, PROCESS_OUT);
    exec->stderr_stream = process_add_output(process, link, PROCESS_ERR);
    task_request(task, &message, TASK_PREPARE_MS, exec_started, starting);
    wire_clear(&spec_process_desc, spec);
    free(spec);
}

void task_start_exec(struct process *process, struct call *call)
{
    struct task *task = process->task;

    if (task_refuses(task, CALL_EXEC, task->id, call))
        return;
    process->state = TASK_STARTING;
    process->start_call = call;
    process->first_stream = task->last_stream + 1;
    task->last_stream += PROCESS_STREAMS;
    process_open(process, send_exec);
}
