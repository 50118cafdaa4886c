#include "container.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/sched.h>

#include "cgroup.h"
#include "child.h"
#include "domus/mem.h"
#include "early.h"
#include "streams.h"

/* More than the wait for a root device takes, see rootfs.c. */
#define CREATE_DEADLINE_MS 40000
#define DELETE_DEADLINE_MS 10000
#define DELETE_RETRY_MS    10

/* The domain is the container's network namespace and user namespace: its
 * network belongs to the sandbox alone, and pods share it. */
#define NAMESPACES_CLONE (CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)
#define NAMESPACES_KNOWN \
    (NAMESPACES_CLONE | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWNET)

struct container {
    struct container *next;
    struct agent *agent; /* borrowed */
    enum container_state state;
    char *id;
    /* With a prefix: an id may be "cgroup.procs". */
    char *cgroup_name;
    int cgroup;
    bool pid_namespace;
    pid_t pid; /* of the first process, 0 once it was reaped */
    int sync;
    struct loop_fd *sync_source;
    struct loop_timer *timer; /* deadline of CREATE, next try of DELETE */
    int64_t delete_until;
    uint32_t request; /* CREATE, START or DELETE that waits for its answer */
    uint32_t stdin_stream;
    struct err failure; /* of CREATE or START, told by the first process */
};

static int finish_delete(struct container *c, struct err *e);

static const char *const state_names[CONTAINER_STATE_COUNT] = {
    [CONTAINER_CREATING] = "being created",
    [CONTAINER_CREATED] = "created",
    [CONTAINER_STARTING] = "being started",
    [CONTAINER_RUNNING] = "running",
    [CONTAINER_STOPPED] = "stopped",
    [CONTAINER_DELETING] = "being deleted",
};

static void close_sync(struct container *c)
{
    loop_remove_fd(&c->sync_source);
    close_fd(&c->sync);
}

static void container_free(struct container *c)
{
    close_sync(c);
    loop_remove_timer(&c->timer);
    close_fd(&c->cgroup);
    free(c->cgroup_name);
    free(c->id);
    free(c);
}

static void container_unlink(struct container *c)
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

static void answer(struct container *c, const struct err *e, pid_t pid)
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
    answer(c, NULL, c->pid);
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
    answer(c, &c->failure, c->failure.code ? 0 : c->pid);
    return 0;
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
    answer(c, &c->failure, 0);
    (void)cgroup_kill(c->cgroup, e);
    if (cgroup_remove(c->agent->cgroup, c->cgroup_name, e) < 0)
        session_warn(c->agent, e);
    container_unlink(c);
    return 0;
}

static void tell_exit(struct container *c, int status)
{
    uint32_t code = WIFSIGNALED(status) ? 128 + (uint32_t)WTERMSIG(status)
                                        : (uint32_t)WEXITSTATUS(status);

    c->pid = 0;
    close_sync(c);
    session_exited(c->agent, c->id, code);
}

/* The kernel ends a pid namespace with its first process; without one, what
 * that process left behind is ended here. */
static int on_exit_usual(struct container *c,
                         const struct container_event *event, struct err *e)
{
    c->state = CONTAINER_STOPPED;
    tell_exit(c, event->status);
    if (!c->pid_namespace && cgroup_kill(c->cgroup, e) < 0)
        session_warn(c->agent, e);
    return 0;
}

static int on_delete_dead(struct container *c,
                          const struct container_event *event, struct err *e)
{
    c->request = event->request;
    c->state = CONTAINER_DELETING;
    c->delete_until = loop_now() + DELETE_DEADLINE_MS;
    return finish_delete(c, e);
}

static int on_delete_live(struct container *c,
                          const struct container_event *event, struct err *e)
{
    int r = cgroup_kill(c->cgroup, e);

    if (r < 0)
        return r;
    c->request = event->request;
    c->state = CONTAINER_DELETING;
    c->delete_until = loop_now() + DELETE_DEADLINE_MS;
    return 0;
}

static int on_exit_deleting(struct container *c,
                            const struct container_event *event, struct err *e)
{
    tell_exit(c, event->status);
    return finish_delete(c, e);
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
    if (cgroup_remove(c->agent->cgroup, c->cgroup_name, &why) < 0 &&
        why.code == EBUSY && loop_now() < c->delete_until) {
        (void)cgroup_kill(c->cgroup, &why);
        c->timer =
            loop_add_timer(c->agent->loop, DELETE_RETRY_MS, delete_again, c);
        return 0;
    }
    if (why.code == EBUSY) {
        c->state = CONTAINER_STOPPED;
        answer(c, &why, 0);
        return 0;
    }
    if (c->stdin_stream)
        stream_abandon(c->agent->link, c->stdin_stream);
    answer(c, why.code ? &why : NULL, 0);
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
                [CONTAINER_SIGNAL] = on_signal,
                [CONTAINER_DELETE] = on_delete_live,
            },
        [CONTAINER_STARTING] =
            {
                [CONTAINER_REPORT] = on_start_failed,
                [CONTAINER_EXECUTED] = on_executed,
                [CONTAINER_SIGNAL] = on_signal,
            },
        [CONTAINER_RUNNING] =
            {
                [CONTAINER_EXIT] = on_exit_usual,
                [CONTAINER_SIGNAL] = on_signal,
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
                       state_names[c->state]);
    return act[c->state][event->type](c, event, e);
}

/* --- what its first process says, and its end --- */

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
    close_sync(c);
    event.type = CONTAINER_EXECUTED;
    (void)container_handle(c, &event, &ignored);
    return false;
}

static void sync_ready(void *context, short revents)
{
    (void)revents;
    (void)read_sync(context);
}

void container_reaped(struct agent *agent, pid_t pid, int status)
{
    struct container_event event = {.type = CONTAINER_EXIT, .status = status};
    struct err e = ERR_INIT;
    struct container *c = agent->containers;

    while (c && c->pid != pid)
        c = c->next;
    if (!c)
        return;
    /* First what it said before it died, so that START is answered before
     * the exit is told. */
    while (c->sync >= 0 && read_sync(c))
        continue;
    (void)container_handle(c, &event, &e);
}

static void create_too_long(void *context)
{
    struct container *c = context;
    struct err ignored = ERR_INIT;

    c->timer = NULL;
    (void)err_set(&c->failure, ETIMEDOUT,
                  "container %s was not set up within %d s", c->id,
                  CREATE_DEADLINE_MS / 1000);
    (void)cgroup_kill(c->cgroup, &ignored);
}

/* --- creation --- */

static int check_spec(struct agent *agent, const struct spec_container *spec,
                      struct err *e)
{
    struct container *other;
    struct err none = ERR_INIT;

    if (!spec_id_valid(spec->id))
        return err_set(e, EINVAL, "container id is not valid");
    if (container_find(agent, spec->id, &other, &none) == 0)
        return err_set(e, EEXIST, "container %s exists", spec->id);
    if (spec->process.args.n == 0)
        return err_set(e, EINVAL, "process.args is empty");
    if (spec->namespaces & ~(uint64_t)NAMESPACES_KNOWN)
        return err_set(e, ENOTSUP, "namespaces 0x%llx are not supported",
                       (unsigned long long)spec->namespaces &
                           ~(unsigned long long)NAMESPACES_KNOWN);
    return 0;
}

static int device_path(const struct agent_options *options, const char *name,
                       char **path_out, struct err *e)
{
    if (options->device_name && strcmp(options->device_name, name) == 0) {
        *path_out = xstrdup(options->device_path);
        return 0;
    }
    if (!*name || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789")])
        return err_set(e, EINVAL, "root device has no valid name");
    *path_out = xasprintf("/dev/%s", name);
    return 0;
}

static int open_stdio(const struct proto_create *create, struct streams *stdio,
                      struct err *e)
{
    const struct spec_process *p = &create->container.process;
    const bool wanted[3] = {create->stdin_stream != 0,
                            create->stdout_stream != 0,
                            create->stderr_stream != 0};

    if (p->terminal)
        return streams_open_terminal(wanted, p->uid, p->console_width,
                                     p->console_height, stdio, e);
    return streams_open_pipes(wanted, p->uid, p->gid, stdio, e);
}

/* An end of -1 makes a stream that is empty, or throws away. */
static void add_streams(struct agent *agent, const struct proto_create *create,
                        struct streams *stdio)
{
    const uint32_t sources[] = {create->stdout_stream, create->stderr_stream};

    if (create->stdin_stream)
        (void)stream_add_sink(agent->link, create->stdin_stream,
                              steal_fd(&stdio->agent[0]), NULL, NULL);
    for (int i = 0; i < 2; i++)
        if (sources[i])
            (void)stream_add_source(agent->link, sources[i],
                                    steal_fd(&stdio->agent[1 + i]), NULL, NULL);
}

static int spawn(struct container *c, const struct child *child, struct err *e)
{
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_INTO_CGROUP |
                 (child->spec->namespaces & NAMESPACES_CLONE),
        .exit_signal = SIGCHLD,
        .cgroup = (uint64_t)c->cgroup,
    };
    long pid = syscall(SYS_clone3, &args, sizeof(args));

    if (pid < 0)
        return err_errno(e, "make the first process of container %s", c->id);
    if (pid == 0)
        child_run(child);
    c->pid = (pid_t)pid;
    return 0;
}

static int start_first_process(struct container *c,
                               const struct proto_create *create,
                               struct streams *stdio, struct err *e)
{
    _cleanup_free_ char *device = NULL;
    _cleanup_free_ char *cgroup =
        xasprintf(EARLY_CGROUPS "/%s", c->cgroup_name);
    _cleanup_fd_ int theirs = -1;
    struct child child = {
        .spec = &create->container, .cgroup = cgroup, .stdio = stdio->process};
    int ends[2];
    int r = device_path(&c->agent->options, create->root_device, &device, e);

    if (r == 0)
        r = open_stdio(create, stdio, e);
    if (r < 0)
        return r;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_errno(e, "make a socket pair");
    c->sync = ends[0];
    theirs = ends[1];
    child.sync = theirs;
    child.device = device;
    child.terminal = stdio->terminal[0] ? stdio->terminal : NULL;
    r = spawn(c, &child, e);
    streams_close_process(stdio);
    return r;
}

static int create_all(struct agent *agent, const struct proto_create *create,
                      struct streams *stdio, struct container **container_out,
                      struct err *e)
{
    const struct spec_container *spec = &create->container;
    struct container *c;
    int r = check_spec(agent, spec, e);

    if (r < 0)
        return r;
    c = xcalloc(1, sizeof(*c));
    c->agent = agent;
    c->id = xstrdup(spec->id);
    c->cgroup_name = xasprintf("container-%s", spec->id);
    c->cgroup = c->sync = -1;
    c->pid_namespace = spec->namespaces & CLONE_NEWPID;
    c->stdin_stream = create->stdin_stream;
    r = cgroup_make(agent->cgroup, c->cgroup_name, &spec->cgroup, &c->cgroup,
                    e);
    if (r == 0) {
        r = start_first_process(c, create, stdio, e);
        if (r < 0) {
            struct err ignored = ERR_INIT;

            (void)cgroup_remove(agent->cgroup, c->cgroup_name, &ignored);
        }
    }
    if (r < 0) {
        container_free(c);
        return r;
    }
    *container_out = c;
    return 0;
}

int container_create(struct agent *agent, uint32_t request,
                     const struct proto_create *create, struct err *e)
{
    _cleanup_(streams_close) struct streams stdio = STREAMS_INIT;
    struct container *c = NULL;
    int r = create_all(agent, create, &stdio, &c, e);

    /* The host may already be sending on them. */
    if (r < 0)
        streams_close(&stdio);
    add_streams(agent, create, &stdio);
    if (r < 0)
        return r;
    c->request = request;
    c->sync_source = loop_add_fd(agent->loop, c->sync, POLLIN, sync_ready, c);
    c->timer =
        loop_add_timer(agent->loop, CREATE_DEADLINE_MS, create_too_long, c);
    c->next = agent->containers;
    agent->containers = c;
    return 0;
}
