/* domus-init: PID 1 of every guest, its agent and its container runtime. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agent.h"
#include "channel.h"
#include "container.h"
#include "domus/log.h"
#include "domus/mem.h"
#include "early.h"

#define OPEN_FILES 1048576 /* the kernel's own upper bound, fs.nr_open */

static struct agent agent = {.cgroup = -1};

/* Words that are not ours came from the kernel's command line. */
static void parse_options(struct agent_options *o, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i++) {
        char *value = argv[i + 1];

        if (strcmp(argv[i], "--channel") == 0) {
            o->channel = value;
        } else if (strcmp(argv[i], "--cgroup") == 0) {
            o->cgroup = value;
        } else if (strcmp(argv[i], "--device") == 0) {
            char *path = strchr(value, '=');

            if (path) {
                *path = '\0';
                o->device_name = value;
                o->device_path = path + 1;
            }
        }
    }
}

/* Containers write to nothing that outlives the guest but what sync() puts on
 * its disks. In a pid namespace reboot() ends just that. */
static _Noreturn void power_off(void)
{
    (void)kill(-1, SIGKILL);
    sync();
    (void)reboot(RB_POWER_OFF);
    log_error("power off: %s", strerror(errno));
    for (;;)
        (void)pause();
}

static void signal_ready(void *context, short revents)
{
    const int *fd = context;
    struct signalfd_siginfo info;
    int status;
    pid_t pid;

    (void)revents;
    while (read(*fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        if (info.ssi_signo != SIGCHLD)
            loop_stop(agent.loop);
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        container_reaped(&agent, pid, status);
}

/* Ctrl-alt-del arrives as SIGINT; SIGTERM is for people. */
static int watch_signals(int *fd_out, struct err *e)
{
    sigset_t set;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_errno(e, "block signals");
    *fd_out = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (*fd_out < 0)
        return err_errno(e, "signalfd");
    return 0;
}

/* No process of a container may look into this one, nor the kernel end it
 * before any of theirs. */
static void protect_self(void)
{
    _cleanup_fd_ int fd = -1;
    struct err e = ERR_INIT;

    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "-1000", 5) == 5)
        return;
    (void)err_errno(&e, "keep the agent from being killed when memory is out");
    session_warn(&agent, &e);
}

/*
 * The limits that the agent has and each process begins with, where its config
 * says nothing: those that runc passes on from containerd's unit. The tables
 * are the guest's own, so that its memory is what bounds them. A machine for
 * tests may not allow more than it has.
 */
static const struct {
    int resource;
    rlim_t value;
} limits[] = {
    {RLIMIT_NOFILE, OPEN_FILES}, /* each exec has some in the agent, too */
    {RLIMIT_NPROC, RLIM_INFINITY},
    {RLIMIT_CORE, RLIM_INFINITY},
};

static int raise_limits(struct err *e)
{
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        struct rlimit raised = {limits[i].value, limits[i].value};

        if (setrlimit(limits[i].resource, &raised) == 0)
            continue;
        if (errno != EPERM)
            return err_errno(e, "set resource limit %d", limits[i].resource);
        if (getrlimit(limits[i].resource, &raised) < 0)
            return err_errno(e, "read resource limit %d", limits[i].resource);
        raised.rlim_cur = raised.rlim_max;
        if (setrlimit(limits[i].resource, &raised) < 0)
            return err_errno(e, "raise resource limit %d", limits[i].resource);
    }
    return 0;
}

static int run(struct err *e)
{
    struct chan *chan = NULL;
    int signals = -1;
    int r = watch_signals(&signals, e);

    if (r == 0)
        r = raise_limits(e);
    if (r == 0)
        r = early_devices(e);
    /* First of all the channel: the host waits for it to appear, and connects
     * while the rest is made ready. */
    if (r == 0)
        r = channel_open(agent.options.channel, &chan, e);
    if (r < 0)
        return r;
    agent.loop = loop_new();
    r = session_begin(&agent, chan, e);
    if (r == 0)
        r = early_root(&agent.options, &agent.cgroup, e);
    if (r < 0)
        return r;
    protect_self();
    if (early_network(e) < 0)
        session_warn(&agent, e);
    (void)loop_add_fd(agent.loop, signals, POLLIN, signal_ready, &signals);
    return loop_run(agent.loop, e);
}

int main(int argc, char **argv)
{
    struct err e = ERR_INIT;

    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        (void)printf("domus-init %s\n", DOMUS_VERSION);
        return 0;
    }
    /* It would kill every process and power off the machine. */
    if (getpid() != 1) {
        (void)fprintf(stderr, "domus-init: this is the first process of a "
                              "domus guest, not for use elsewhere\n");
        return 1;
    }
    (void)umask(022); /* of directories that a container is given */
    log_set_fields("program=domus-init");
    parse_options(&agent.options, argc, argv);
    if (run(&e) < 0) {
        log_error("%s", e.text);
        if (agent.link)
            session_warn(&agent, &e);
    }
    power_off();
}
