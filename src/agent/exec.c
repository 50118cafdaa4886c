#include "exec.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "container_impl.h"
#include "domus/mem.h"
#include "exec_child.h"
#include "start.h"
#include "streams.h"

/* As at CREATE. Little is to be done, but a guest with one processor may have
 * very many to begin at once; the shim waits for a minute. */
#define EXEC_DEADLINE_MS 40000

struct exec {
    struct exec *next;
    struct container *container; /* borrowed */
    enum exec_state state;
    char *name;
    pid_t pid;
    int sync;
    struct loop_fd *sync_source;
    struct loop_timer *timer; /* deadline of the preparation */
    uint32_t request;
    bool answered;
    uint32_t stdin_stream; /* 0 when there is none any more */
    int terminal;          /* owned; its pty's master, or -1 */
    struct err failure;
};

static const char *const state_names[EXEC_STATE_COUNT] = {
    [EXEC_PREPARING] = "being started",
    [EXEC_EXECUTING] = "being started",
    [EXEC_RUNNING] = "running",
    [EXEC_FAILED] = "ending, as it could not be started",
};

static void close_sync(struct exec *x)
{
    loop_remove_fd(&x->sync_source);
    close_fd(&x->sync);
}

/* The container may be gone afterwards, when it waited for this. */
static void exec_remove(struct exec *x)
{
    struct container_event gone = {.type = CONTAINER_EXECS_GONE};
    struct container *c = x->container;
    struct exec **at = &c->execs;
    struct err ignored = ERR_INIT;

    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
    c->exec_count--;
    if (x->stdin_stream)
        stream_abandon(c->agent->link, x->stdin_stream);
    close_sync(x);
    loop_remove_timer(&x->timer);
    close_fd(&x->terminal);
    free(x->name);
    free(x);
    if (!c->execs)
        (void)container_handle(c, &gone, &ignored);
}

static void answer(struct exec *x)
{
    loop_remove_timer(&x->timer);
    if (!x->answered)
        session_answer(x->container->agent, x->request, &x->failure,
                       x->failure.code ? 0 : (uint32_t)x->pid);
    x->answered = true;
}

/* --- what happens in which state --- */

/* A failure is answered when the process is gone, so that nothing of it is
 * left then. */
static int on_report(struct exec *x, const struct exec_event *event,
                     struct err *e)
{
    (void)e;
    if (event->report->code == 0) {
        x->state = EXEC_EXECUTING;
        return 0;
    }
    (void)err_set(&x->failure, (int)event->report->code, "%s",
                  event->report->text);
    x->state = EXEC_FAILED;
    return 0;
}

static int on_died(struct exec *x, const struct exec_event *event,
                   struct err *e)
{
    (void)event;
    (void)e;
    (void)err_set(&x->failure, EIO,
                  "process %s of container %s ended before it was ready",
                  x->name, x->container->id);
    x->state = EXEC_FAILED;
    return 0;
}

static int on_executed(struct exec *x, const struct exec_event *event,
                       struct err *e)
{
    (void)event;
    (void)e;
    x->state = EXEC_RUNNING;
    answer(x);
    return 0;
}

/* Its end may never come, if it waits in the kernel. */
static int on_too_long(struct exec *x, const struct exec_event *event,
                       struct err *e)
{
    (void)event;
    (void)e;
    if (!x->failure.code)
        (void)err_set(&x->failure, ETIMEDOUT,
                      "process %s of container %s was not started within %d s",
                      x->name, x->container->id, EXEC_DEADLINE_MS / 1000);
    (void)kill(x->pid, SIGKILL);
    x->state = EXEC_FAILED;
    answer(x);
    return 0;
}

static int on_end(struct exec *x, const struct exec_event *event, struct err *e)
{
    (void)e;
    container_check_memory(x->container);
    session_exited(x->container->agent, x->container->id, x->name,
                   container_exit_code(event->status));
    exec_remove(x);
    return 0;
}

static int on_end_failed(struct exec *x, const struct exec_event *event,
                         struct err *e)
{
    (void)event;
    (void)e;
    container_check_memory(x->container);
    answer(x);
    exec_remove(x);
    return 0;
}

static int on_signal(struct exec *x, const struct exec_event *event,
                     struct err *e)
{
    if (kill(x->pid, event->signal) < 0)
        return err_errno(e, "signal process %s of container %s", x->name,
                         x->container->id);
    return 0;
}

static int on_resize(struct exec *x, const struct exec_event *event,
                     struct err *e)
{
    return streams_resize(x->terminal, event->width, event->height, e);
}

typedef int exec_act_fn(struct exec *x, const struct exec_event *event,
                        struct err *e);

/* An empty cell is what a state does not allow. An exit is told after what the
 * process said, so it meets the last two states only. */
static exec_act_fn *const act[EXEC_STATE_COUNT][EXEC_EVENT_COUNT] = {
    [EXEC_PREPARING] =
        {
            [EXEC_REPORT] = on_report,
            [EXEC_EXECUTED] = on_died,
            [EXEC_TOO_LONG] = on_too_long,
        },
    [EXEC_EXECUTING] =
        {
            [EXEC_REPORT] = on_report,
            [EXEC_EXECUTED] = on_executed,
            [EXEC_TOO_LONG] = on_too_long,
        },
    [EXEC_RUNNING] =
        {
            [EXEC_EXIT] = on_end,
            [EXEC_SIGNAL] = on_signal,
            [EXEC_RESIZE] = on_resize,
        },
    [EXEC_FAILED] =
        {
            [EXEC_TOO_LONG] = on_too_long,
            [EXEC_EXIT] = on_end_failed,
        },
};

bool exec_allows(enum exec_state state, enum exec_event_type event)
{
    return act[state][event] != NULL;
}

int exec_handle(struct exec *x, const struct exec_event *event, struct err *e)
{
    if (!exec_allows(x->state, event->type))
        return err_set(e, EBUSY, "process %s of container %s is %s", x->name,
                       x->container->id, state_names[x->state]);
    return act[x->state][event->type](x, event, e);
}

/* --- what it says, and its end --- */

/* It says nothing more. */
static void end_sync(struct exec *x)
{
    struct exec_event event = {.type = EXEC_EXECUTED};
    struct err ignored = ERR_INIT;

    close_sync(x);
    (void)exec_handle(x, &event, &ignored);
}

/* True while there may be more. */
static bool read_sync(struct exec *x)
{
    struct child_report report;
    struct exec_event event = {.type = EXEC_REPORT, .report = &report};
    struct err ignored = ERR_INIT;
    ssize_t n = recv(x->sync, &report, sizeof(report), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n == (ssize_t)sizeof(report)) {
        report.text[sizeof(report.text) - 1] = '\0';
        (void)exec_handle(x, &event, &ignored);
        return true;
    }
    end_sync(x);
    return false;
}

static void sync_ready(void *context, short revents)
{
    (void)revents;
    (void)read_sync(context);
}

static void too_long(void *context)
{
    struct exec *x = context;
    struct exec_event event = {.type = EXEC_TOO_LONG};
    struct err ignored = ERR_INIT;

    x->timer = NULL;
    (void)exec_handle(x, &event, &ignored);
}

void exec_reaped(struct exec *x, int status)
{
    struct exec_event event = {.type = EXEC_EXIT, .status = status};
    struct err ignored = ERR_INIT;

    while (x->sync >= 0 && read_sync(x))
        continue;
    /* A process that may trace can have taken its end of the socket. */
    if (x->sync >= 0)
        end_sync(x);
    (void)exec_handle(x, &event, &ignored);
}

int exec_find(struct container *c, const char *name, struct exec **exec_out,
              struct err *e)
{
    for (struct exec *x = c->execs; x; x = x->next)
        if (strcmp(x->name, name) == 0) {
            *exec_out = x;
            return 0;
        }
    return err_set(e, ENOENT, "container %s has no process %s", c->id, name);
}

struct exec *exec_of_pid(struct container *c, pid_t pid)
{
    struct exec *x = c->execs;

    while (x && x->pid != pid)
        x = x->next;
    return x;
}

const char *exec_name(const struct exec *x)
{
    return x->name;
}

/* --- creation --- */

static int check_exec(struct container *c, const struct proto_exec *exec,
                      struct err *e)
{
    struct exec *other;
    struct err none = ERR_INIT;

    if (!spec_id_valid(exec->exec))
        return err_set(e, EINVAL, "exec id is not valid");
    if (exec_find(c, exec->exec, &other, &none) == 0)
        return err_set(e, EEXIST, "container %s has a process %s", c->id,
                       exec->exec);
    if (c->exec_count >= EXECS_MAX)
        return err_set(e, EAGAIN,
                       "container %s has %d processes by exec, the most that "
                       "it may have at once",
                       c->id, EXECS_MAX);
    if (exec->process.args.n == 0)
        return err_set(e, EINVAL, "process.args is empty");
    return 0;
}

/* What it does not say of these is the container's, as with runc. */
static void inherit(struct spec_process *process,
                    const struct spec_process *first)
{
    if (!process->has_capabilities) {
        process->has_capabilities = first->has_capabilities;
        process->capabilities = first->capabilities;
    }
    if (!process->has_oom_score_adj) {
        process->has_oom_score_adj = first->has_oom_score_adj;
        process->oom_score_adj = first->oom_score_adj;
    }
    if (!process->has_io_priority) {
        process->has_io_priority = first->has_io_priority;
        process->io_class = first->io_class;
        process->io_priority = first->io_priority;
    }
    if (!process->has_scheduler) {
        process->has_scheduler = first->has_scheduler;
        process->scheduler = first->scheduler;
    }
}

static int spawn(struct exec *x, const struct proto_exec *exec,
                 struct streams *stdio, struct err *e)
{
    struct container *c = x->container;
    const struct process_seal seal = process_seal_of(&c->kept);
    _cleanup_fd_ int theirs = -1;
    _cleanup_fd_ int inner = -1;
    struct spec_process process = exec->process;
    struct exec_child child = {
        .process = &process,
        .seal = &seal,
        .namespaces = c->kept.namespaces,
        .first = c->pidfd,
        .cgroup = c->cgroup,
        .stdio = stdio->process,
        .terminal = stdio->terminal[0] ? stdio->terminal : NULL,
    };
    int ends[2], r;

    inherit(&process, &c->kept.process);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_errno(e, "make a socket pair");
    x->sync = ends[0];
    child.sync = theirs = ends[1];
    r = exec_child_spawn(&child, &x->pid, e);
    /* A group that gives controllers to groups beneath has no processes of its
     * own any more: then it is where the container put its first one. */
    if (r == -EBUSY && cgroup_find(c->cgroup, c->pid, &inner, e) == 0) {
        child.cgroup = inner;
        *e = (struct err)ERR_INIT;
        r = exec_child_spawn(&child, &x->pid, e);
    }
    return r;
}

static int make(struct container *c, const struct proto_exec *exec,
                struct streams *stdio, struct exec **exec_out, struct err *e)
{
    const struct streams_wanted wanted = {
        .stream = {exec->stdin_stream != 0, exec->stdout_stream != 0,
                   exec->stderr_stream != 0},
        .uid = container_outside_id(&c->kept.uid_maps, exec->process.uid),
        .gid = container_outside_id(&c->kept.gid_maps, 0),
        .tty_gid = container_outside_id(&c->kept.gid_maps, STREAMS_TTY_GROUP),
        .container = c->pid,
    };
    struct exec *x;
    int r = check_exec(c, exec, e);

    if (r == 0)
        r = streams_open(&wanted, &exec->process, stdio, e);
    if (r < 0)
        return r;
    x = xcalloc(1, sizeof(*x));
    x->container = c;
    x->sync = -1;
    r = spawn(x, exec, stdio, e);
    streams_close_process(stdio);
    if (r < 0) {
        close_fd(&x->sync);
        free(x);
        return err_wrap(e, "exec in container %s", c->id);
    }
    x->name = xstrdup(exec->exec);
    *exec_out = x;
    return 0;
}

static void stdin_done(void *context, uint32_t id)
{
    struct exec *x = context;

    (void)id;
    x->stdin_stream = 0;
}

void exec_refuse_streams(struct agent *agent, const struct proto_exec *exec)
{
    struct streams none = STREAMS_INIT;
    const uint32_t ids[] = {exec->stdin_stream, exec->stdout_stream,
                            exec->stderr_stream};

    streams_attach(agent->link, ids, &none, NULL, NULL);
}

int exec_create(struct container *c, uint32_t request,
                const struct proto_exec *exec, struct err *e)
{
    _cleanup_(streams_close) struct streams stdio = STREAMS_INIT;
    const uint32_t ids[] = {exec->stdin_stream, exec->stdout_stream,
                            exec->stderr_stream};
    struct exec *x = NULL;
    int r = make(c, exec, &stdio, &x, e);

    if (r < 0)
        return r;
    x->terminal = steal_fd(&stdio.master);
    x->request = request;
    x->stdin_stream = exec->stdin_stream;
    x->sync_source =
        loop_add_fd(c->agent->loop, x->sync, POLLIN, sync_ready, x);
    x->timer = loop_add_timer(c->agent->loop, EXEC_DEADLINE_MS, too_long, x);
    x->next = c->execs;
    c->execs = x;
    c->exec_count++;
    streams_attach(c->agent->link, ids, &stdio, stdin_done, x);
    return 0;
}
