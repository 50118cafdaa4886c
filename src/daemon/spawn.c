#include "spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "domus/job.h"
#include "domus/mem.h"

static void child(const char *program, const char *role, pid_t parent, int fd)
{
    const char *path = program[0] ? program : "/proc/self/exe";
    const char *const argv[] = {SPAWN_BUILDER_NAME, role, NULL};
    static const char text[] = "domus-builder: cannot be executed\n";
    sigset_t none;
    int null;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    if (fd == JOB_FD) {
        if (fcntl(fd, F_SETFD, 0) < 0)
            _exit(1);
    } else if (dup2(fd, JOB_FD) != JOB_FD) {
        _exit(1);
    }
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        _exit(1);
    (void)close_range(JOB_FD + 1, ~0u, 0);
    (void)execv(path, (char *const *)argv);
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(127);
}

int spawn_builder(const char *program, const char *role, pid_t *pid_out,
                  int *fd_out, struct err *e)
{
    pid_t parent = getpid(), pid;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(e, "socket pair");
    pid = fork();
    if (pid == 0)
        child(program, role, parent, pair[1]);
    (void)close(pair[1]);
    if (pid < 0 || fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
        int r = err_errno(e, "start a builder");

        if (pid > 0)
            (void)kill(pid, SIGKILL);
        (void)close(pair[0]);
        return r;
    }
    *pid_out = pid;
    *fd_out = pair[0];
    return 0;
}
