#include "child.h"

#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "domus/mem.h"
#include "hooks.h"
#include "process.h"
#include "rootfs.h"
#include "start.h"
#include "sysctl.h"
#include "timens.h"
#include "userns.h"

static int set_names(const struct spec_container *spec, struct err *e)
{
    /* runc leaves the host's name; that is not the guest's to know. */
    const char *name = spec->hostname[0] ? spec->hostname : spec->id;

    if (!(spec->namespaces & CLONE_NEWUTS))
        return 0;
    if (sethostname(name, strnlen(name, SPEC_HOSTNAME_MAX)) < 0)
        return err_errno(e, "set the host name");
    if (spec->domainname[0] &&
        setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
        return err_errno(e, "set the domain name");
    return 0;
}

/* What the guest's root user has to do, before there is a user namespace. */
static int prepare_world(const struct child *child, struct err *e)
{
    const struct spec_container *spec = child->spec;
    int r = start_take_stdio(child->stdio, child->terminal, e);

    if (r == 0)
        r = process_set_oom_score(&spec->process, e);
    /* The guest's /proc shows a process the parameters of its namespaces. */
    if (r == 0)
        r = sysctl_apply(&spec->sysctls, SYSCTL_NETWORK, e);
    if (r == 0)
        r = rootfs_prepare(spec, child->device, e);
    return r;
}

static int enter_userns(const struct child *child, struct err *e)
{
    const struct spec_container *spec = child->spec;
    int r = userns_prepare(e);

    if (r == 0)
        r = rootfs_limit_devices(spec, child->cgroup, e);
    if (r == 0)
        r = process_allow_limits(&spec->process, e);
    return r < 0 ? r : userns_leave(spec, e);
}

static int enter_namespaces(const struct child *child, struct err *e)
{
    const struct spec_container *spec = child->spec;
    bool user = spec->namespaces & CLONE_NEWUSER;
    int r = user ? enter_userns(child, e) : 0;

    /* From inside its group, so that the group becomes the namespace's root. */
    if (r == 0 && !user && (spec->namespaces & CLONE_NEWCGROUP) &&
        unshare(CLONE_NEWCGROUP) < 0)
        r = err_errno(e, "make a cgroup namespace");
    if (r == 0 && (spec->namespaces & CLONE_NEWTIME))
        r = timens_enter(&spec->monotonic, &spec->boottime, e);
    if (r == 0 && user)
        r = userns_become_root(spec, e);
    return r;
}

static int build_world(const struct child *child, int *sync, struct err *e)
{
    const struct spec_container *spec = child->spec;
    int r = prepare_world(child, e);

    if (r == 0)
        r = enter_namespaces(child, e);
    if (r == 0)
        r = set_names(spec, e);
    if (r == 0)
        r = sysctl_apply(&spec->sysctls, SYSCTL_OTHER, e);
    if (r == 0)
        r = rootfs_enter(spec, child->terminal, child->cgroup, e);
    return r < 0 ? r : start_keep_only(sync, e);
}

void child_run(const struct child *child)
{
    const struct spec_process *p = &child->spec->process;
    const struct process_seal seal = process_seal_of(child->spec);
    const struct err ready = ERR_INIT;
    struct err e = ERR_INIT;
    int sync = child->sync;
    struct string_list env = {NULL, 0};
    int r;
    char *program;
    char go;

    start_reset_signals();
    r = build_world(child, &sync, &e);
    if (r == 0)
        env = process_environment(p);
    if (r < 0 || process_become(p, &seal, &e) < 0 ||
        process_find_program(p, &program, &e) < 0) {
        start_report(sync, &e);
        _exit(START_EXIT_CANNOT_RUN);
    }
    start_report(sync, &ready);
    /* The agent's end closes when the container is not to start at all. */
    if (read(sync, &go, 1) != 1)
        _exit(START_EXIT_CANNOT_RUN);
    if (hooks_run(&child->spec->start_container_hooks, HOOKS_START_CONTAINER,
                  -1, child->spec->hook_state, &env, &e) == 0)
        (void)process_execute(p, &seal, program, &env, &e);
    start_report(sync, &e);
    _exit(e.code == ENOENT ? START_EXIT_NOT_FOUND : START_EXIT_CANNOT_RUN);
}
