#include "hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
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
    int pidfd;        /* readable when it has ended */
    int input;        /* write end, -1 when all was written, or none is read */
    const char *left; /* of the state; borrowed */
    int output;       /* read end, -1 when there is no more */
    char said[SAID_MAX + 1];
    size_t n;
};

/* In the child. What cannot be done is said where the hook's words go. */
static _Noreturn void become_hook(const struct spec_hook *hook,
                                  const struct string_list *usual_env, int root,
                                  int input, int output)
{
    struct string_list only_path = {.v = (char **)&hook->path, .n = 1};
    char **args = process_vector(hook->args.n ? &hook->args : &only_path);
    char **env = process_vector(hook->env.n > 0 ? &hook->env : usual_env);

    (void)signal(SIGPIPE, SIG_DFL);
    /* A group of its own, so that all of it can be killed. */
    if (setsid() >= 0 && dup2(input, STDIN_FILENO) >= 0 &&
        dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0 &&
        (root < 0 || (fchdir(root) == 0 && chroot(".") == 0)))
        (void)execve(hook->path, args, env);
    (void)dprintf(output, "cannot run it: %s", strerror(errno));
    _exit(EXIT_NOT_RUN);
}

/* One end does not block: that of this process. */
static int make_pipe(int ends[2], int ours, struct err *e)
{
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "make a pipe");
    if (fcntl(ends[ours], F_SETFL, O_NONBLOCK) < 0)
        return err_errno(e, "prepare a pipe");
    return 0;
}

static int start(const struct spec_hook *hook,
                 const struct string_list *usual_env, int root, struct run *run,
                 struct err *e)
{
    enum { READ_END, WRITE_END };
    int input[2] = {-1, -1}, output[2] = {-1, -1};
    int r = make_pipe(input, WRITE_END, e);

    if (r == 0)
        r = make_pipe(output, READ_END, e);
    if (r == 0) {
        run->pid = fork();
        if (run->pid < 0)
            r = err_errno(e, "make a process");
        if (run->pid == 0)
            become_hook(hook, usual_env, root, input[READ_END],
                        output[WRITE_END]);
    }
    close_fd(&input[READ_END]);
    close_fd(&output[WRITE_END]);
    run->input = input[WRITE_END];
    run->output = output[READ_END];
    if (r < 0)
        return r;
    run->pidfd = (int)syscall(SYS_pidfd_open, run->pid, 0);
    return run->pidfd < 0 ? err_errno(e, "watch the process") : 0;
}

/* As much as it takes; it may also end without reading. */
static void tell(struct run *run)
{
    size_t size = strlen(run->left);
    ssize_t n = write(run->input, run->left, size);

    if (n > 0)
        run->left += n;
    if (*run->left == '\0' || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_fd(&run->input);
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
                               {.fd = run->output, .events = POLLIN},
                               {.fd = run->input, .events = POLLOUT}};
        int64_t left = deadline - loop_now();
        int r = left > 0 ? poll(fds, ARRAY_SIZE(fds), (int)left) : 0;

        if (r < 0 && errno == EINTR)
            continue;
        if (run->output >= 0)
            listen_to(run);
        if (fds[2].revents)
            tell(run);
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
    close_fd(&run->input);
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
    _cleanup_free_ char *state =
        xasprintf("{\"status\":\"%s\",\"pid\":%d%s%s}", moments[when].status,
                  (int)getpid(), *members ? "," : "", members);
    struct run run = {
        .pid = -1, .pidfd = -1, .input = -1, .output = -1, .left = state};
    int status, r;
    bool ended;

    if (hook->path[0] != '/')
        return err_set(e, EINVAL, "the path is not absolute");
    r = start(hook, usual_env, root, &run, e);
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
    int r = 0;

    /* Of one that ends without having read its state. */
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; r == 0 && i < hooks->n; i++) {
        r = run_hook(&hooks->v[i], when, env, root, members, deadline, e);
        if (r < 0)
            (void)err_wrap(e, "%s hook %s", moments[when].name,
                           hooks->v[i].path);
    }
    (void)signal(SIGPIPE, SIG_DFL);
    return r;
}
