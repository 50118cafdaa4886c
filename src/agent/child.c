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

static int build_world(const struct child *child,
                       const struct process_seal *seal, int *sync,
                       struct err *e)
{
    const struct spec_container *spec = child->spec;
    int r = start_take_stdio(child->stdio, child->terminal, e);

    /* From inside its group, so that the group becomes the namespace's root.
     */
    if (r == 0 && (spec->namespaces & CLONE_NEWCGROUP) &&
        unshare(CLONE_NEWCGROUP) < 0)
        r = err_errno(e, "make a cgroup namespace");
    if (r == 0)
        r = process_set_oom_score(&spec->process, e);
    if (r == 0)
        r = set_names(spec, e);
    /* The guest's /proc shows a process the parameters of its namespaces. */
    if (r == 0)
        r = sysctl_apply(&spec->sysctls, e);
    if (r == 0)
        r = rootfs_enter(spec, child->device, child->terminal, child->cgroup,
                         e);
    if (r == 0)
        r = start_keep_only(sync, e);
    if (r == 0)
        r = process_become(&spec->process, seal, e);
    return r;
}

void child_run(const struct child *child)
{
    const struct spec_process *p = &child->spec->process;
    const struct process_seal seal = process_seal_of(child->spec);
    const struct err ready = ERR_INIT;
    struct err e = ERR_INIT;
    int sync = child->sync;
    struct string_list env;
    char *program;
    char go;

    start_reset_signals();
    if (build_world(child, &seal, &sync, &e) < 0 ||
        process_find_program(p, &program, &e) < 0) {
        start_report(sync, &e);
        _exit(START_EXIT_CANNOT_RUN);
    }
    env = process_environment(p);
    start_report(sync, &ready);
    /* The agent's end closes when the container is not to start at all. */
    if (recv(sync, &go, 1, 0) != 1)
        _exit(START_EXIT_CANNOT_RUN);
    if (hooks_run(&child->spec->start_container_hooks, HOOKS_START_CONTAINER,
                  -1, child->spec->hook_state, &e) == 0)
        (void)process_execute(p, &seal, program, &env, &e);
    start_report(sync, &e);
    _exit(e.code == ENOENT ? START_EXIT_NOT_FOUND : START_EXIT_CANNOT_RUN);
}
