#include "exec_child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domus/mem.h"
#include "start.h"

/* Above what is to be laid in its place, and above each other. */
#define PARKED_FD 64

/* The descriptors of the new process until it has joined the namespaces. */
enum place { PLACE_SYNC = START_SYNC_FD, PLACE_FIRST, PLACE_CGROUP, PLACE_END };

struct helper {
    const struct exec_child *child;
    volatile pid_t pid; /* written by the one, read by the other */
    struct err *e;
};

static int place_descriptors(const struct exec_child *child, struct err *e)
{
    const int from[PLACE_END] = {
        child->stdio[0], child->stdio[1], child->stdio[2],
        child->sync,     child->first,    child->cgroup,
    };
    int parked[PLACE_END];

    for (int i = 0; i < PLACE_END; i++) {
        parked[i] = fcntl(from[i], F_DUPFD_CLOEXEC, PARKED_FD);
        if (parked[i] < 0)
            return err_errno(e, "copy a descriptor");
    }
    for (int i = 0; i < PLACE_END; i++)
        if (dup3(parked[i], i, i <= STDERR_FILENO ? 0 : O_CLOEXEC) < 0)
            return err_errno(e, "place a descriptor");
    if (close_range(PLACE_END, ~0u, 0) < 0)
        return err_errno(e, "close the agent's descriptors");
    return 0;
}

static int join(const struct exec_child *child, struct err *e)
{
    int r = process_set_oom_score(child->process, e);

    /* In a user namespace it may not raise them any more. */
    if (r == 0 && (child->namespaces & CLONE_NEWUSER))
        r = process_allow_limits(child->process, e);
    if (r == 0 && setns(PLACE_FIRST, (int)child->namespaces) < 0)
        r = err_errno(e, "join the container's namespaces");
    return r;
}

static _Noreturn void exec_child_run(const struct exec_child *child)
{
    static const int stdio[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    const struct spec_process *p = child->process;
    const struct err ready = ERR_INIT;
    struct err e = ERR_INIT;
    int sync = PLACE_SYNC;
    struct string_list env = {NULL, 0};
    int r;
    char *program;

    start_reset_signals();
    r = start_take_stdio(stdio, child->terminal, &e);
    if (r == 0)
        r = join(child, &e);
    if (r == 0)
        r = start_keep_only(&sync, &e);
    if (r == 0)
        env = process_environment(p);
    if (r < 0 || process_become(p, child->seal, &e) < 0 ||
        process_find_program(p, &program, &e) < 0) {
        start_report(sync, &e);
        _exit(START_EXIT_CANNOT_RUN);
    }
    start_report(sync, &ready);
    (void)process_execute(p, child->seal, program, &env, &e);
    start_report(sync, &e);
    _exit(e.code == ENOENT ? START_EXIT_NOT_FOUND : START_EXIT_CANNOT_RUN);
}

/*
 * Shares the memory of the agent, which waits for its end, but not descriptors:
 * those that a process of the container could reach are closed before there is
 * one in its pid namespace. That takes effect for children only, hence two.
 */
static int helper_run(struct helper *h)
{
    struct clone_args args = {
        .flags = CLONE_PARENT | CLONE_INTO_CGROUP,
        .cgroup = PLACE_CGROUP,
    };
    long pid;

    if (place_descriptors(h->child, h->e) < 0)
        return 1;
    if ((h->child->namespaces & CLONE_NEWPID) &&
        setns(PLACE_FIRST, CLONE_NEWPID) < 0) {
        (void)err_errno(h->e, "join the container's pid namespace");
        return 1;
    }
    pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        exec_child_run(h->child);
    if (pid < 0) {
        (void)err_errno(h->e, "make the process");
        return 1;
    }
    h->pid = (pid_t)pid;
    return 0;
}

int exec_child_spawn(const struct exec_child *child, pid_t *pid_out,
                     struct err *e)
{
    struct helper h = {.child = child, .e = e};
    pid_t pid = vfork();

    if (pid < 0)
        return err_errno(e, "make a process");
    if (pid == 0)
        _exit(helper_run(&h));
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (h.pid == 0)
        return e->code ? -e->code : err_set(e, EIO, "a helper process died");
    *pid_out = h.pid;
    return 0;
}
