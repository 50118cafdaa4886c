#include "hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domus/loop.h"
#include "domus/mem.h"
#include "process.h"

/* What is repeated of a hook's words. */
#define SAID_MAX      512
#define READS_AT_ONCE 16
/* As a shell has it for a program that cannot be run. */
#define EXIT_NOT_RUN 126

/* All hooks of a moment together are given less than CREATE takes here and
 * START at the host, so that the error names the hook. */
static const struct {
    const char *name; /* of the member of OCI's hooks */
    const char *status;
    int64_t limit_ms;
} moments[] = {
    [HOOKS_CREATE_CONTAINER] = {"createContainer", "creating", 30000},
    [HOOKS_START_CONTAINER] = {"startContainer", "created", 50000},
};

/* A hook under way. */
struct run {
    pid_t pid;
    int pidfd;  /* readable when it has ended */
    int output; /* read end, -1 when there is no more */
    char said[SAID_MAX + 1];
    size_t n;
};

/* A file, so that a hook that reads nothing keeps nobody waiting. */
static int make_state(enum hooks_when when, const char *members, int *fd_out,
                      struct err *e)
{
    _cleanup_free_ char *text =
        xasprintf("{\"status\":\"%s\",\"pid\":%d%s%s}", moments[when].status,
                  (int)getpid(), *members ? "," : "", members);
    _cleanup_fd_ int fd = memfd_create("state", MFD_CLOEXEC);
    size_t size = strlen(text), done = 0;

    if (fd < 0)
        return err_errno(e, "make the file of the state");
    while (done < size) {
        ssize_t n = write(fd, text + done, size - done);

        if (n < 0)
            return err_errno(e, "write the state");
        done += (size_t)n;
    }
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(e, "rewind the state");
    *fd_out = steal_fd(&fd);
    return 0;
}

/* In the child. What cannot be done is said where the hook's words go. */
static _Noreturn void become_hook(const struct spec_hook *hook,
                                  const struct string_list *usual_env, int root,
                                  int state, int output)
{
    struct string_list only_path = {.v = (char **)&hook->path, .n = 1};
    char **args = process_vector(hook->args.n ? &hook->args : &only_path);
    char **env =
        process_vector(hook->env.n > 0 || !usual_env ? &hook->env : usual_env);

    /* A group of its own, so that all of it can be killed. */
    if (setsid() >= 0 && dup2(state, STDIN_FILENO) >= 0 &&
        dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0 &&
        (root < 0 || (fchdir(root) == 0 && chroot(".") == 0)))
        (void)execve(hook->path, args, env);
    (void)dprintf(output, "cannot run it: %s", strerror(errno));
    _exit(EXIT_NOT_RUN);
}

static int start(const struct spec_hook *hook,
                 const struct string_list *usual_env, int root, int state,
                 struct run *run, struct err *e)
{
    _cleanup_fd_ int ours = -1;
    _cleanup_fd_ int theirs = -1;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "make a pipe");
    ours = ends[0];
    theirs = ends[1];
    if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
        return err_errno(e, "prepare a pipe");
    run->pid = fork();
    if (run->pid < 0)
        return err_errno(e, "make a process");
    if (run->pid == 0)
        become_hook(hook, usual_env, root, state, theirs);
    run->output = steal_fd(&ours);
    run->pidfd = (int)syscall(SYS_pidfd_open, run->pid, 0);
    return run->pidfd < 0 ? err_errno(e, "watch the process") : 0;
}

/* Keeps the first bytes and throws the rest away, so that the hook goes on. A
 * pipe's worth at once: a hook that never ends to write is late one day. */
static void listen_to(struct run *run)
{
    char bytes[4096];
    ssize_t n = 1;

    for (int i = 0; i < READS_AT_ONCE; i++) {
        n = read(run->output, bytes, sizeof(bytes));
        if (n <= 0)
            break;
        size_t room = SAID_MAX - run->n;
        size_t more = (size_t)n < room ? (size_t)n : room;

        memcpy(run->said + run->n, bytes, more);
        run->n += more;
    }
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_fd(&run->output);
}

/* True when it ended by itself. */
static bool wait_until(struct run *run, int64_t deadline)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = run->pidfd, .events = POLLIN},
                               {.fd = run->output, .events = POLLIN}};
        int64_t left = deadline - loop_now();
        int r = left > 0 ? poll(fds, ARRAY_SIZE(fds), (int)left) : 0;

        if (r < 0 && errno == EINTR)
            continue;
        if (run->output >= 0)
            listen_to(run);
        if (fds[0].revents || r < 0)
            return r > 0;
        if (r == 0 && loop_now() >= deadline)
            return false;
    }
}

/* What a hook left behind on purpose stays, unless it is late. */
static void finish(struct run *run, bool ended, int *status_out)
{
    *status_out = 0;
    if (run->pid > 0) {
        if (!ended) {
            (void)kill(-run->pid, SIGKILL);
            (void)kill(run->pid, SIGKILL);
        }
        while (waitpid(run->pid, status_out, 0) < 0 && errno == EINTR)
            continue;
    }
    if (run->output >= 0)
        listen_to(run);
    close_fd(&run->output);
    close_fd(&run->pidfd);
    /* It goes into an error's text. */
    for (size_t i = 0; i < run->n; i++)
        if ((unsigned char)run->said[i] < ' ' || run->said[i] == 0x7f)
            run->said[i] = ' ';
    while (run->n > 0 && run->said[run->n - 1] == ' ')
        run->said[--run->n] = '\0';
}

static int judge(const struct run *run, int status, struct err *e)
{
    const char *words = run->n ? run->said : "it said nothing";

    if (WIFSIGNALED(status))
        return err_set(e, ECANCELED, "killed by signal %d: %s",
                       WTERMSIG(status), words);
    if (WEXITSTATUS(status))
        return err_set(e, ECANCELED, "exit status %d: %s", WEXITSTATUS(status),
                       words);
    return 0;
}

static int run_hook(const struct spec_hook *hook, enum hooks_when when,
                    const struct string_list *usual_env, int root,
                    const char *members, int64_t deadline, struct err *e)
{
    int64_t begin = loop_now();
    int64_t own = begin + (int64_t)hook->timeout_s * 1000;
    struct run run = {.pid = -1, .pidfd = -1, .output = -1};
    _cleanup_fd_ int state = -1;
    int status, r;
    bool ended;

    if (hook->path[0] != '/')
        return err_set(e, EINVAL, "the path is not absolute");
    r = make_state(when, members, &state, e);
    if (r == 0)
        r = start(hook, usual_env, root, state, &run, e);
    if (hook->timeout_s && own < deadline)
        deadline = own;
    ended = r == 0 && wait_until(&run, deadline);
    finish(&run, ended, &status);
    if (r < 0)
        return r;
    if (!ended)
        return err_set(e, ETIMEDOUT, "not done within %lld s, killed: %s",
                       (long long)((deadline - begin) / 1000),
                       run.n ? run.said : "it said nothing");
    return judge(&run, status, e);
}

int hooks_run(const struct spec_hook_list *hooks, enum hooks_when when,
              int root, const char *members, const struct string_list *env,
              struct err *e)
{
    int64_t deadline = loop_now() + moments[when].limit_ms;

    for (size_t i = 0; i < hooks->n; i++)
        if (run_hook(&hooks->v[i], when, env, root, members, deadline, e) < 0)
            return err_wrap(e, "%s hook %s", moments[when].name,
                            hooks->v[i].path);
    return 0;
}
