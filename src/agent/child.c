#include "child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "domus/mem.h"
#include "process.h"
#include "rootfs.h"

/* Where the agent's socket lies while the world is built. */
#define SYNC_FD 3
/* As shells say it; seen only when exec itself fails. */
#define EXIT_NOT_FOUND  127
#define EXIT_CANNOT_RUN 126

static void report(int sync, const struct err *e)
{
    struct child_report r = {.code = (uint32_t)e->code};

    (void)snprintf(r.text, sizeof(r.text), "%.*s", CHILD_TEXT_MAX - 1, e->text);
    (void)send(sync, &r, sizeof(r), MSG_NOSIGNAL);
}

/* An ignored signal or a mask would survive exec. The system call itself, since
 * the C library leaves alone the two signals that it uses for threads. */
static void reset_signals(void)
{
    static const struct kernel_sigaction {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } by_default = {0};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        (void)syscall(SYS_rt_sigaction, sig, &by_default, NULL,
                      sizeof(by_default.mask));
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int take_stdio(const struct child *child, struct err *e)
{
    for (int i = 0; i < 3; i++)
        if (dup2(child->stdio[i], i) < 0)
            return err_errno(e, "set up standard stream %d", i);
    if (setsid() < 0)
        return err_errno(e, "make a session");
    if (child->terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
        return err_errno(e, "take the terminal %s", child->terminal);
    return 0;
}

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

/* No descriptor of the agent may be reached, not even by a working directory
 * such as /proc/self/fd/5, so they go before anything looks at one. */
static int keep_only(int *sync, struct err *e)
{
    if (*sync != SYNC_FD && dup3(*sync, SYNC_FD, O_CLOEXEC) < 0)
        return err_errno(e, "keep the agent's socket");
    *sync = SYNC_FD;
    if (close_range(SYNC_FD + 1, ~0u, 0) < 0)
        return err_errno(e, "close the agent's descriptors");
    return 0;
}

static int build_world(const struct child *child,
                       const struct process_seal *seal, int *sync,
                       struct err *e)
{
    const struct spec_container *spec = child->spec;
    int r = take_stdio(child, e);

    /* From inside its group, so that the group becomes the namespace's root.
     */
    if (r == 0 && (spec->namespaces & CLONE_NEWCGROUP) &&
        unshare(CLONE_NEWCGROUP) < 0)
        r = err_errno(e, "make a cgroup namespace");
    if (r == 0)
        r = process_set_oom_score(&spec->process, e);
    if (r == 0)
        r = set_names(spec, e);
    if (r == 0)
        r = rootfs_enter(spec, child->device, child->terminal, child->cgroup,
                         e);
    if (r == 0)
        r = keep_only(sync, e);
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

    reset_signals();
    if (build_world(child, &seal, &sync, &e) < 0 ||
        process_find_program(p, &program, &e) < 0) {
        report(sync, &e);
        _exit(EXIT_CANNOT_RUN);
    }
    env = process_environment(p);
    report(sync, &ready);
    /* The agent's end closes when the container is not to start at all. */
    if (recv(sync, &go, 1, 0) != 1)
        _exit(EXIT_CANNOT_RUN);
    (void)process_execute(p, &seal, program, &env, &e);
    report(sync, &e);
    _exit(e.code == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN);
}
