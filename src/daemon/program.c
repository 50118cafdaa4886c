#include "program.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"

/* Where descriptors are parked while 0, 1, 2, … are filled. */
#define PARKED 64

static int check_file(int fd, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_errno(e, "fstat");
    if (!S_ISREG(st.st_mode))
        return err_set(e, EPERM, "not a regular file");
    if (st.st_uid != 0)
        return err_set(e, EPERM, "belongs to user %u, it must be root's",
                       st.st_uid);
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return err_set(e, EPERM,
                       "may be written by others than root (mode %04o)",
                       st.st_mode & 07777);
    if (!(st.st_mode & S_IXUSR))
        return err_set(e, EACCES, "is not executable");
    return 0;
}

int program_open(const struct string_list *allowed, const char *setting,
                 const char *path, struct program *program_out, struct err *e)
{
    _cleanup_fd_ int fd = -1;
    char magic[2] = "";
    size_t i = 0;
    int r;

    while (i < allowed->n && strcmp(allowed->v[i], path) != 0)
        i++;
    if (i == allowed->n)
        return err_set(e, EPERM,
                       "not allowed on this host: '%s' in domus.conf does not "
                       "name it",
                       setting);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return err_errno(e, "open");
    r = check_file(fd, e);
    if (r < 0)
        return r;
    program_out->script =
        pread(fd, magic, 2, 0) == 2 && magic[0] == '#' && magic[1] == '!';
    program_out->fd = steal_fd(&fd);
    return 0;
}

void program_close(struct program *program)
{
    close_fd(&program->fd);
}

/* --- in the child ----------------------------------------------------------
 */

enum stage { STAGE_DESCRIPTORS, STAGE_CWD, STAGE_EXECUTE };

static const char *const stages[] = {
    [STAGE_DESCRIPTORS] = "its descriptors",
    [STAGE_CWD] = "its working directory",
    [STAGE_EXECUTE] = "it cannot be executed",
};

struct report {
    enum stage stage;
    int code;
};

static _Noreturn void fail(int status_fd, enum stage stage)
{
    struct report report = {.stage = stage, .code = errno};

    (void)!write(status_fd, &report, sizeof(report));
    _exit(127);
}

static void reset_signals(void)
{
    sigset_t none;

    for (int n = 1; n < NSIG; n++)
        (void)signal(n, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The unit spares domusd; that is not for other people's programs. */
static void reset_oom_score(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    (void)!write(fd, "0", 1);
}

static bool place(const struct program_start *start, int *exec_fd,
                  int *status_fd)
{
    int parked[PROGRAM_FDS_MAX];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    *status_fd = fcntl(*status_fd, F_DUPFD_CLOEXEC, PARKED);
    *exec_fd = fcntl(*exec_fd, F_DUPFD_CLOEXEC, PARKED);
    if (null < 0 || *status_fd < 0 || *exec_fd < 0)
        return false;
    for (size_t i = 0; i < start->fd_count; i++) {
        int fd = start->fds[i] >= 0 ? start->fds[i] : null;

        parked[i] = fcntl(fd, F_DUPFD_CLOEXEC, PARKED);
        if (parked[i] < 0)
            return false;
    }
    for (size_t i = 0; i < start->fd_count; i++)
        if (dup2(parked[i], (int)i) < 0)
            return false;
    return close_range((unsigned int)start->fd_count, ~0u,
                       CLOSE_RANGE_CLOEXEC) == 0;
}

static _Noreturn void child(const struct program *program,
                            const struct program_start *start, pid_t parent,
                            int status_fd)
{
    int exec_fd = program->fd;

    if (!start->outlives_us) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(127);
    }
    reset_signals();
    reset_oom_score();
    (void)setsid();
    (void)umask(0022);
    if (!place(start, &exec_fd, &status_fd))
        fail(status_fd, STAGE_DESCRIPTORS);
    if (chdir(start->cwd ? start->cwd : "/") < 0)
        fail(status_fd, STAGE_CWD);
    /* A script's interpreter opens it again, as /dev/fd/…. */
    if (program->script)
        (void)fcntl(exec_fd, F_SETFD, 0);
    (void)fexecve(exec_fd, start->argv, start->envp);
    fail(status_fd, STAGE_EXECUTE);
}

int program_start(const struct program *program,
                  const struct program_start *start, pid_t *pid_out,
                  int *status_fd_out, struct err *e)
{
    pid_t parent = getpid(), pid;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(e, "pipe");
    pid = fork();
    if (pid == 0)
        child(program, start, parent, ends[1]);
    close_fd(&ends[1]);
    if (pid < 0) {
        int r = err_errno(e, "fork");

        close_fd(&ends[0]);
        return r;
    }
    *pid_out = pid;
    *status_fd_out = ends[0];
    return 0;
}

int program_status(int status_fd, struct err *e)
{
    struct report report;
    ssize_t n;

    do {
        n = read(status_fd, &report, sizeof(report));
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n == 0)
        return 1;
    if (n != (ssize_t)sizeof(report))
        return err_set(e, EIO, "the new process told nothing");
    return err_set(e, report.code, "%s: %s", stages[report.stage],
                   strerror(report.code));
}
