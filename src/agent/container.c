#include "container_impl.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "domus/mem.h"
#include "exec.h"
#include "start.h"
#include "streams.h"

#define DELETE_DEADLINE_MS 10000
#define DELETE_RETRY_MS    10
/* Between the end of the first process and that of the others, which were
 * killed. */
#define ENDING_DEADLINE_MS 10000

static int finish_delete(struct container *c, struct err *e);
static void delete_too_long(void *context);

const char *const container_state_names[CONTAINER_STATE_COUNT] = {
    [CONTAINER_CREATING] = "being created",
    [CONTAINER_CREATED] = "created",
    [CONTAINER_STARTING] = "being started",
    [CONTAINER_RUNNING] = "running",
    [CONTAINER_PAUSING] = "being paused",
    [CONTAINER_PAUSED] = "paused",
    [CONTAINER_RESUMING] = "being resumed",
    [CONTAINER_ENDING] = "ending",
    [CONTAINER_STOPPED] = "stopped",
    [CONTAINER_DELETING] = "being deleted",
};

static void close_sync(struct container *c)
{
    loop_remove_fd(&c->sync_source);
    close_fd(&c->sync);
}

void container_free(struct container *c)
{
    close_sync(c);
    loop_remove_timer(&c->timer);
    loop_remove_fd(&c->events_source);
    close_fd(&c->events);
    container_unwatch_memory(c);
    close_fd(&c->cgroup);
    close_fd(&c->pidfd);
    close_fd(&c->terminal);
    wire_clear(&spec_container_desc, &c->kept);
    free(c->cgroup_name);
    free(c->id);
    free(c);
}

void container_unlink(struct container *c)
{
    struct container **at = &c->agent->containers;

    while (*at && *at != c)
        at = &(*at)->next;
    if (*at)
        *at = c->next;
    container_free(c);
}

int container_find(struct agent *agent, const char *id,
                   struct container **container_out, struct err *e)
{
    for (struct container *c = agent->containers; c; c = c->next)
        if (strcmp(c->id, id) == 0) {
            *container_out = c;
            return 0;
        }
    return err_set(e, ENOENT, "there is no container %s in this guest", id);
}

int container_cgroup(const struct container *c)
{
    return c->cgroup;
}

/* --- what happens in which state --- */

void container_answer(struct container *c, const struct err *e, pid_t pid)
{
    session_answer(c->agent, c->request, e, (uint32_t)pid);
}

static int on_created(struct container *c, const struct container_event *event,
                      struct err *e)
{
    (void)e;
    if (event->report->code) {
        (void)err_set(&c->failure, (int)event->report->code, "%s",
                      event->report->text);
        return 0; /* it is ending; CREATE is answered when it has */
    }
    loop_remove_timer(&c->timer);
    c->state = CONTAINER_CREATED;
    container_answer(c, NULL, c->pid);
    return 0;
}

static int on_start(struct container *c, const struct container_event *event,
                    struct err *e)
{
    if (send(c->sync, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
        return err_errno(e, "start container %s", c->id);
    c->request = event->request;
    c->state = CONTAINER_STARTING;
    return 0;
}

static int on_start_failed(struct container *c,
                           const struct container_event *event, struct err *e)
{
    (void)e;
    (void)err_set(&c->failure, (int)event->report->code, "%s",
                  event->report->text);
    return 0;
}

static int on_executed(struct container *c, const struct container_event *event,
                       struct err *e)
{
    (void)event;
    (void)e;
    c->state = CONTAINER_RUNNING;
    container_answer(c, &c->failure, c->failure.code ? 0 : c->pid);
    return 0;
}

static int on_exec(struct container *c, const struct container_event *event,
                   struct err *e)
{
    return exec_create(c, event->request, event->exec, e);
}

static int on_signal(struct container *c, const struct container_event *event,
                     struct err *e)
{
    if (event->all)
        return cgroup_signal(c->cgroup, event->signal, e);
    if (kill(c->pid, event->signal) < 0)
        return err_errno(e, "signal container %s", c->id);
    return 0;
}

static int on_resize(struct container *c, const struct container_event *event,
                     struct err *e)
{
    int r = streams_resize(c->terminal, event->resize->width,
                           event->resize->height, e);

    return r < 0 ? err_wrap(e, "container %s", c->id) : 0;
}

static int on_update(struct container *c, const struct container_event *event,
                     struct err *e)
{
    const struct proto_update *u = event->update;

    if (cgroup_update(c->cgroup, &u->cgroup, u->check_memory, e) < 0)
        return err_wrap(e, "update container %s", c->id);
    return 0;
}

static int on_signal_ending(struct container *c,
                            const struct container_event *event, struct err *e)
{
    if (event->all)
        return cgroup_signal(c->cgroup, event->signal, e);
    return err_set(e, ESRCH, "container %s has ended", c->id);
}

static int on_signal_stopped(struct container *c,
                             const struct container_event *event, struct err *e)
{
    (void)event;
    return err_set(e, ESRCH, "container %s has ended", c->id);
}

/* Before it was ready, so there never was a container. */
static int on_create_failed(struct container *c,
                            const struct container_event *event, struct err *e)
{
    if (!c->failure.code)
        (void)err_set(&c->failure, EIO,
                      "the first process of container %s ended before it was "
                      "ready (wait status 0x%x)",
                      c->id, (unsigned)event->status);
    container_answer(c, &c->failure, 0);
    (void)cgroup_kill(c->cgroup, e);
    if (cgroup_remove(c->agent->cgroup, c->cgroup_name, e) < 0)
        session_warn(c->agent, e);
    /* What still comes of its input must not meet it. */
    if (c->stdin_stream)
        stream_abandon(c->agent->link, c->stdin_stream);
    container_unlink(c);
    return 0;
}

uint32_t container_exit_code(int status)
{
    return WIFSIGNALED(status) ? 128 + (uint32_t)WTERMSIG(status)
                               : (uint32_t)WEXITSTATUS(status);
}

static void take_exit(struct container *c, int status)
{
    c->pid = 0;
    c->status = status;
    c->exit_due = true;
    close_sync(c);
    close_fd(&c->pidfd);
}

static void tell_exit(struct container *c)
{
    if (!c->exit_due)
        return;
    c->exit_due = false;
    container_check_memory(c);
    session_exited(c->agent, c->id, "", container_exit_code(c->status));
}

static int stop(struct container *c)
{
    loop_remove_timer(&c->timer);
    c->state = CONTAINER_STOPPED;
    tell_exit(c);
    return 0;
}

static void ending_too_long(void *context)
{
    struct container *c = context;
    struct err e = ERR_INIT;

    c->timer = NULL;
    (void)err_set(&e, ETIMEDOUT,
                  "%zu killed processes of container %s are not gone after "
                  "%d s",
                  c->exec_count, c->id, ENDING_DEADLINE_MS / 1000);
    session_warn(c->agent, &e);
    (void)stop(c);
}

/* The kernel ends a pid namespace with its first process; without one, what
 * that process left behind is ended here. Either way execs end first. */
static int on_exit_usual(struct container *c,
                         const struct container_event *event, struct err *e)
{
    take_exit(c, event->status);
    if ((!c->pid_namespace || c->execs) && cgroup_kill(c->cgroup, e) < 0)
        session_warn(c->agent, e);
    if (!c->execs)
        return stop(c);
    c->state = CONTAINER_ENDING;
    c->timer =
        loop_add_timer(c->agent->loop, ENDING_DEADLINE_MS, ending_too_long, c);
    return 0;
}

static int on_exit_freezing(struct container *c,
                            const struct container_event *event, struct err *e)
{
    container_freeze_give_up(c, "has ended");
    return on_exit_usual(c, event, e);
}

static int on_execs_gone(struct container *c,
                         const struct container_event *event, struct err *e)
{
    (void)event;
    (void)e;
    return stop(c);
}

static void begin_delete(struct container *c, uint32_t request)
{
    loop_remove_timer(&c->timer);
    c->request = request;
    c->state = CONTAINER_DELETING;
    c->delete_until = loop_now() + DELETE_DEADLINE_MS;
}

static int on_delete_dead(struct container *c,
                          const struct container_event *event, struct err *e)
{
    begin_delete(c, event->request);
    return finish_delete(c, e);
}

static int on_delete_live(struct container *c,
                          const struct container_event *event, struct err *e)
{
    int r = cgroup_kill(c->cgroup, e);

    if (r < 0)
        return r;
    begin_delete(c, event->request);
    c->timer =
        loop_add_timer(c->agent->loop, DELETE_DEADLINE_MS, delete_too_long, c);
    return 0;
}

static int on_delete_freezing(struct container *c,
                              const struct container_event *event,
                              struct err *e)
{
    container_freeze_give_up(c, "is being deleted");
    return on_delete_live(c, event, e);
}

/* A process that waits in the kernel; DELETE may come again. */
static void delete_too_long(void *context)
{
    struct container *c = context;
    struct err e = ERR_INIT;

    c->timer = NULL;
    c->state = c->pid ? CONTAINER_RUNNING : CONTAINER_ENDING;
    (void)err_set(&e, EBUSY,
                  "processes of container %s did not end within "
                  "%d s of being killed",
                  c->id, DELETE_DEADLINE_MS / 1000);
    container_answer(c, &e, 0);
}

static int on_execs_gone_deleting(struct container *c,
                                  const struct container_event *event,
                                  struct err *e)
{
    (void)event;
    if (c->pid)
        return 0;
    loop_remove_timer(&c->timer);
    tell_exit(c);
    return finish_delete(c, e);
}

static int on_exit_deleting(struct container *c,
                            const struct container_event *event, struct err *e)
{
    take_exit(c, event->status);
    return c->execs ? 0 : on_execs_gone_deleting(c, event, e);
}

static void delete_again(void *context)
{
    struct container *c = context;
    struct err e = ERR_INIT;

    c->timer = NULL;
    (void)finish_delete(c, &e);
}

/* Removes what is left of it, once nothing runs in it any more. */
static int finish_delete(struct container *c, struct err *e)
{
    struct err why = ERR_INIT;

    (void)e;
    if (c->execs)
        (void)err_set(&why, EBUSY, "container %s has processes left", c->id);
    else
        (void)cgroup_remove(c->agent->cgroup, c->cgroup_name, &why);
    if (why.code == EBUSY && loop_now() < c->delete_until) {
        (void)cgroup_kill(c->cgroup, &why);
        c->timer =
            loop_add_timer(c->agent->loop, DELETE_RETRY_MS, delete_again, c);
        return 0;
    }
    if (why.code == EBUSY) {
        c->state = CONTAINER_STOPPED;
        container_answer(c, &why, 0);
        return 0;
    }
    if (c->stdin_stream)
        stream_abandon(c->agent->link, c->stdin_stream);
    container_answer(c, why.code ? &why : NULL, 0);
    container_unlink(c);
    return 0;
}

typedef int container_act_fn(struct container *c,
                             const struct container_event *event,
                             struct err *e);

/* An empty cell is what a state does not allow. */
static container_act_fn
    *const act[CONTAINER_STATE_COUNT][CONTAINER_EVENT_COUNT] = {
        [CONTAINER_CREATING] =
            {
                [CONTAINER_REPORT] = on_created,
                [CONTAINER_EXIT] = on_create_failed,
            },
        [CONTAINER_CREATED] =
            {
                [CONTAINER_EXIT] = on_exit_usual,
                [CONTAINER_START] = on_start,
                [CONTAINER_EXEC] = on_exec,
                [CONTAINER_SIGNAL] = on_signal,
                [CONTAINER_RESIZE] = on_resize,
                [CONTAINER_UPDATE] = on_update,
                [CONTAINER_DELETE] = on_delete_live,
            },
        [CONTAINER_STARTING] =
            {
                [CONTAINER_REPORT] = on_start_failed,
                [CONTAINER_EXECUTED] = on_executed,
                [CONTAINER_SIGNAL] = on_signal,
                [CONTAINER_RESIZE] = on_resize,
            },
        [CONTAINER_RUNNING] =
            {
                [CONTAINER_EXIT] = on_exit_usual,
                [CONTAINER_EXEC] = on_exec,
                [CONTAINER_SIGNAL] = on_signal,
                [CONTAINER_RESIZE] = on_resize,
                [CONTAINER_PAUSE] = container_pause,
                [CONTAINER_UPDATE] = on_update,
                [CONTAINER_DELETE] = on_delete_live,
            },
        [CONTAINER_PAUSING] =
            {
                [CONTAINER_EXIT] = on_exit_freezing,
                [CONTAINER_SIGNAL] = on_signal,
                [CONTAINER_RESIZE] = on_resize,
                [CONTAINER_DELETE] = on_delete_freezing,
            },
        [CONTAINER_PAUSED] =
            {
                [CONTAINER_EXIT] = on_exit_usual,
                [CONTAINER_SIGNAL] = on_signal,
                [CONTAINER_RESIZE] = on_resize,
                [CONTAINER_RESUME] = container_resume,
                [CONTAINER_UPDATE] = on_update,
                [CONTAINER_DELETE] = on_delete_live,
            },
        [CONTAINER_RESUMING] =
            {
                [CONTAINER_EXIT] = on_exit_freezing,
                [CONTAINER_SIGNAL] = on_signal,
                [CONTAINER_RESIZE] = on_resize,
                [CONTAINER_DELETE] = on_delete_freezing,
            },
        [CONTAINER_ENDING] =
            {
                [CONTAINER_EXECS_GONE] = on_execs_gone,
                [CONTAINER_SIGNAL] = on_signal_ending,
                [CONTAINER_DELETE] = on_delete_live,
            },
        [CONTAINER_STOPPED] =
            {
                [CONTAINER_SIGNAL] = on_signal_stopped,
                [CONTAINER_DELETE] = on_delete_dead,
            },
        [CONTAINER_DELETING] =
            {
                [CONTAINER_EXIT] = on_exit_deleting,
                [CONTAINER_EXECS_GONE] = on_execs_gone_deleting,
            },
};

bool container_allows(enum container_state state,
                      enum container_event_type event)
{
    return act[state][event] != NULL;
}

int container_handle(struct container *c, const struct container_event *event,
                     struct err *e)
{
    if (!container_allows(c->state, event->type))
        return err_set(e, EBUSY, "container %s is %s", c->id,
                       container_state_names[c->state]);
    return act[c->state][event->type](c, event, e);
}

/* --- what its first process says, and its end --- */

/* It says nothing more. */
static void end_sync(struct container *c)
{
    struct container_event event = {.type = CONTAINER_EXECUTED};
    struct err ignored = ERR_INIT;

    close_sync(c);
    (void)container_handle(c, &event, &ignored);
}

/* True while there may be more. */
static bool read_sync(struct container *c)
{
    struct child_report report;
    struct container_event event = {.type = CONTAINER_REPORT,
                                    .report = &report};
    struct err ignored = ERR_INIT;
    ssize_t n = recv(c->sync, &report, sizeof(report), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n == (ssize_t)sizeof(report)) {
        report.text[sizeof(report.text) - 1] = '\0';
        (void)container_handle(c, &event, &ignored);
        return true;
    }
    end_sync(c);
    return false;
}

void container_sync_ready(void *context, short revents)
{
    (void)revents;
    (void)read_sync(context);
}

static void first_reaped(struct container *c, int status)
{
    struct container_event event = {.type = CONTAINER_EXIT, .status = status};
    struct err e = ERR_INIT;

    /* First what it said before it died, so that START is answered before
     * the exit is told. */
    while (c->sync >= 0 && read_sync(c))
        continue;
    /* A process that may trace can have taken its end of the socket. */
    if (c->sync >= 0)
        end_sync(c);
    (void)container_handle(c, &event, &e);
}

void container_reaped(struct agent *agent, pid_t pid, int status)
{
    for (struct container *c = agent->containers; c; c = c->next) {
        struct exec *x = exec_of_pid(c, pid);

        if (c->pid == pid) {
            first_reaped(c, status);
            return;
        }
        if (x) {
            exec_reaped(x, status);
            return;
        }
    }
}
