/* CREATE: a cgroup, the first process, its streams. */
#include "container_impl.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <linux/sched.h>

#include "child.h"
#include "domus/mem.h"
#include "early.h"
#include "streams.h"

/* More than the wait for a root device takes, see rootfs.c. */
#define CREATE_DEADLINE_MS 40000

uint32_t container_outside_id(const struct spec_id_map_list *maps, uint32_t id)
{
    for (size_t i = 0; i < maps->n; i++)
        if (id >= maps->v[i].inside && id - maps->v[i].inside < maps->v[i].size)
            return maps->v[i].outside + (id - maps->v[i].inside);
    return id;
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
    if (spec->namespaces & ~(uint64_t)CONTAINER_NAMESPACES_KNOWN)
        return err_set(e, ENOTSUP, "namespaces 0x%llx are not supported",
                       (unsigned long long)spec->namespaces &
                           ~(unsigned long long)CONTAINER_NAMESPACES_KNOWN);
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

static int spawn(struct container *c, const struct child *child, struct err *e)
{
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_INTO_CGROUP | CLONE_PIDFD |
                 (child->spec->namespaces & CONTAINER_NAMESPACES_CLONE),
        .pidfd = (uint64_t)(uintptr_t)&c->pidfd,
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
    const struct streams_wanted wanted = {
        .stream = {create->stdin_stream != 0, create->stdout_stream != 0,
                   create->stderr_stream != 0},
        .uid = container_outside_id(&child.spec->uid_maps,
                                    child.spec->process.uid),
        .gid = container_outside_id(&child.spec->gid_maps, 0),
        .tty_gid =
            container_outside_id(&child.spec->gid_maps, STREAMS_TTY_GROUP),
    };
    int ends[2];
    int r = device_path(&c->agent->options, create->root_device, &device, e);

    if (r == 0)
        r = streams_open(&wanted, &create->container.process, stdio, e);
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
    c->cgroup = c->sync = c->pidfd = c->terminal = -1;
    c->events = c->memory_events = -1;
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

/* What later processes need; the first has its own copy by now. */
static void keep(struct container *c, struct spec_container *spec)
{
    const struct spec_process *first = &spec->process;

    c->kept = (struct spec_container){
        /* That of the network is everybody's, and not to be joined. */
        .namespaces =
            (spec->namespaces | CLONE_NEWNS) & ~(uint64_t)CLONE_NEWNET,
        .uid_maps = spec->uid_maps,
        .gid_maps = spec->gid_maps,
        .has_personality = spec->has_personality,
        .personality = spec->personality,
        .seccomp_flags = spec->seccomp_flags,
        .seccomp = spec->seccomp,
        .process = {.has_capabilities = first->has_capabilities,
                    .capabilities = first->capabilities,
                    .has_oom_score_adj = first->has_oom_score_adj,
                    .oom_score_adj = first->oom_score_adj,
                    .has_io_priority = first->has_io_priority,
                    .io_class = first->io_class,
                    .io_priority = first->io_priority,
                    .has_scheduler = first->has_scheduler,
                    .scheduler = first->scheduler},
    };
    spec->uid_maps.v = NULL;
    spec->gid_maps.v = NULL;
    spec->seccomp.v = NULL;
    spec->uid_maps.n = spec->gid_maps.n = spec->seccomp.n = 0;
}

static void stdin_done(void *context, uint32_t id)
{
    struct container *c = context;

    (void)id;
    c->stdin_stream = 0;
}

int container_create(struct agent *agent, uint32_t request,
                     struct proto_create *create, struct err *e)
{
    _cleanup_(streams_close) struct streams stdio = STREAMS_INIT;
    const uint32_t ids[] = {create->stdin_stream, create->stdout_stream,
                            create->stderr_stream};
    struct container *c = NULL;
    int r = create_all(agent, create, &stdio, &c, e);

    /* The host may already be sending on them. */
    if (r < 0) {
        streams_close(&stdio);
        streams_attach(agent->link, ids, &stdio, NULL, NULL);
        return r;
    }
    streams_attach(agent->link, ids, &stdio, stdin_done, c);
    c->terminal = steal_fd(&stdio.master);
    keep(c, &create->container);
    container_watch_memory(c);
    c->request = request;
    c->sync_source =
        loop_add_fd(agent->loop, c->sync, POLLIN, container_sync_ready, c);
    c->timer =
        loop_add_timer(agent->loop, CREATE_DEADLINE_MS, create_too_long, c);
    c->next = agent->containers;
    agent->containers = c;
    return 0;
}
