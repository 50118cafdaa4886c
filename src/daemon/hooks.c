#include "hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domus/mem.h"
#include "program.h"

#define READS_PER_ROUND 4

struct hook_run {
    struct hook_run *next;
    struct daemon *daemon; /* borrowed */
    uint64_t peer;
    uint32_t id;
    struct ctl_hooks hooks;   /* owned */
    struct program *programs; /* owned; one for each */
    size_t at;
    /* Of the hook that runs. */
    pid_t pid;
    int status_fd;
    int stderr_fd;
    struct loop_fd *source;
    struct loop_timer *deadline;
    bool late;
    bool abandoned; /* whoever asked is gone */
    bool waiting;   /* for earlier ones of its container */
    char untrusted_said[HOOKS_STDERR_MAX];
    size_t said;
};

static void start(struct hook_run *run);
static void start_waiting(struct daemon *daemon);

static const struct spec_hook *current(const struct hook_run *run)
{
    return &run->hooks.hooks.v[run->at];
}

static uint32_t timeout_s(const struct hook_run *run)
{
    uint32_t own = current(run)->timeout_s;

    return own ? own : run->daemon->config.start_timeout_s;
}

static void end_process(struct hook_run *run)
{
    loop_remove_fd(&run->source);
    loop_remove_timer(&run->deadline);
    close_fd(&run->stderr_fd);
    close_fd(&run->status_fd);
    run->pid = 0;
}

static void run_free(struct hook_run *run)
{
    struct daemon *daemon = run->daemon;
    struct hook_run **at = &daemon->hook_runs;

    while (*at && *at != run)
        at = &(*at)->next;
    if (*at)
        *at = run->next;
    end_process(run);
    for (size_t i = 0; i < run->hooks.hooks.n && run->programs; i++)
        program_close(&run->programs[i]);
    free(run->programs);
    wire_clear(ctl_protocol.types[CTL_HOOKS].desc, &run->hooks);
    free(run);
}

static void finish(struct hook_run *run, struct err *error)
{
    struct daemon *daemon = run->daemon;

    if (error) {
        (void)err_wrap(error, "hook %s", current(run)->path);
        (void)err_wrap(error, "container %s: %s", run->hooks.id,
                       run->hooks.kind);
        log_warn("%s", error->text);
    }
    server_result(run->daemon->server, run->peer, run->id, error);
    run_free(run);
    start_waiting(daemon);
}

/* Bounded, since hooks may write faster than this reads. */
static void take_stderr(struct hook_run *run)
{
    char bytes[4096];
    ssize_t n = 1;

    for (int i = 0; i < READS_PER_ROUND; i++) {
        n = read(run->stderr_fd, bytes, sizeof(bytes));
        if (n <= 0)
            break;
        size_t room = sizeof(run->untrusted_said) - run->said;
        size_t taken = (size_t)n < room ? (size_t)n : room;

        memcpy(run->untrusted_said + run->said, bytes, taken);
        run->said += taken;
    }
    if (n == 0)
        loop_remove_fd(&run->source);
}

static void stderr_readable(void *context, short revents)
{
    (void)revents;
    take_stderr(context);
}

static int judge(const struct hook_run *run, int status, struct err *e)
{
    size_t n = run->said;

    while (n > 0 && run->untrusted_said[n - 1] == '\n')
        n--;
    if (program_status(run->status_fd, e) < 0)
        return -e->code;
    if (run->abandoned)
        return err_set(e, ECANCELED, "the shim is gone, was killed");
    if (run->late)
        return err_set(e, ETIMEDOUT, "did not end within %u s, was killed",
                       timeout_s(run));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return err_set(e, EIO, "%s %d%s%s",
                   WIFSIGNALED(status) ? "was killed by signal"
                                       : "ended with status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                   n > 0 ? ": " : "", LOG_Q(run->untrusted_said, n));
}

static struct hook_run *find(struct daemon *daemon, pid_t pid)
{
    struct hook_run *run = daemon->hook_runs;

    while (run && run->pid != pid)
        run = run->next;
    return run;
}

static void ended(void *context, pid_t pid, int status)
{
    struct hook_run *run = find(context, pid);
    struct err e = ERR_INIT;

    if (!run)
        return;
    take_stderr(run);
    if (judge(run, status, &e) < 0) {
        finish(run, &e);
        return;
    }
    end_process(run);
    run->at++;
    start(run);
}

/* With what it started; then ended() is called. */
static void kill_hook(const struct hook_run *run)
{
    (void)kill(-run->pid, SIGKILL);
    (void)kill(run->pid, SIGKILL);
}

static void late(void *context)
{
    struct hook_run *run = context;

    run->deadline = NULL;
    run->late = true;
    kill_hook(run);
}

/* No pipe, which a hook that does not read could fill. */
static int state_fd(const char *state, struct err *e)
{
    size_t n = strlen(state);
    int fd = memfd_create("state", MFD_CLOEXEC);

    if (fd < 0 || write(fd, state, n) != (ssize_t)n ||
        lseek(fd, 0, SEEK_SET) < 0) {
        int r = err_errno(e, "its state");

        close_fd(&fd);
        return r;
    }
    return fd;
}

/* With a NULL at the end. */
static char **vector(const struct string_list *list, char *instead)
{
    char **v = xcalloc(list->n + 2, sizeof(*v));

    if (list->n > 0)
        memcpy(v, list->v, list->n * sizeof(*v));
    else
        v[0] = instead;
    return v;
}

static int start_process(struct hook_run *run, struct err *e)
{
    const struct spec_hook *hook = current(run);
    /* runc's hooks without env have that of runc. */
    char path[] =
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    _cleanup_free_ char **argv = vector(&hook->args, hook->path);
    _cleanup_free_ char **envp = vector(&hook->env, path);
    _cleanup_fd_ int state = state_fd(run->hooks.state, e);
    struct program_start how = {
        .argv = argv, .envp = envp, .cwd = run->hooks.bundle, .fd_count = 3};
    int errors[2], r;

    if (state < 0)
        return state;
    if (pipe2(errors, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(e, "pipe");
    run->stderr_fd = errors[0];
    how.fds[0] = state;
    how.fds[1] = -1;
    how.fds[2] = errors[1];
    /* Ours does not block, the hook's does. */
    (void)fcntl(errors[1], F_SETFL, 0);
    run->late = false;
    run->said = 0;
    r = program_start(&run->programs[run->at], &how, &run->pid, &run->status_fd,
                      e);
    close_fd(&errors[1]);
    if (r < 0)
        return r;
    r = loop_add_child(run->daemon->loop, run->pid, ended, run->daemon, e);
    if (r < 0) {
        (void)kill(run->pid, SIGKILL);
        (void)waitpid(run->pid, NULL, 0);
        return r;
    }
    run->source = loop_add_fd(run->daemon->loop, run->stderr_fd, POLLIN,
                              stderr_readable, run);
    run->deadline = loop_add_timer(run->daemon->loop,
                                   (int64_t)timeout_s(run) * 1000, late, run);
    return 0;
}

static void start(struct hook_run *run)
{
    struct err e = ERR_INIT;

    if (run->at == run->hooks.hooks.n)
        finish(run, NULL);
    else if (start_process(run, &e) < 0)
        finish(run, &e);
}

/* A container's hooks run one after the other, though the shim that asked for
 * the first may be gone. */
static bool is_first_of_its_container(const struct hook_run *run)
{
    const struct hook_run *r = run->daemon->hook_runs;

    while (strcmp(r->hooks.id, run->hooks.id) != 0 ||
           strcmp(r->hooks.namespace, run->hooks.namespace) != 0)
        r = r->next;
    return r == run;
}

static void start_waiting(struct daemon *daemon)
{
    struct hook_run *run = daemon->hook_runs;

    while (run) {
        if (!run->waiting || !is_first_of_its_container(run)) {
            run = run->next;
            continue;
        }
        run->waiting = false;
        start(run);
        run = daemon->hook_runs; /* it may be another list by now */
    }
}

static int check(struct daemon *daemon, const struct ctl_hooks *hooks,
                 struct err *e)
{
    static const char *const kinds[] = {"prestart", "createRuntime",
                                        "poststart", "poststop"};
    size_t n = 0, i = 0;

    while (i < ARRAY_SIZE(kinds) && strcmp(kinds[i], hooks->kind) != 0)
        i++;
    if (i == ARRAY_SIZE(kinds))
        return err_set(e, EINVAL, "'%.64s' is no kind of hook of the host",
                       hooks->kind);
    if (!spec_id_valid(hooks->namespace) || !spec_id_valid(hooks->id))
        return err_set(e, EINVAL, "invalid namespace or id");
    if (hooks->bundle[0] != '/')
        return err_set(e, EINVAL, "bundle '%.256s' is not an absolute path",
                       hooks->bundle);
    for (struct hook_run *run = daemon->hook_runs; run; run = run->next)
        n++;
    if (n >= HOOKS_RUNS_MAX)
        return err_set(e, EBUSY, "hooks of %zu containers run, try again", n);
    return 0;
}

/* All of them, before the first runs. */
static int open_programs(struct hook_run *run, struct err *e)
{
    size_t n = run->hooks.hooks.n;

    run->programs = xcalloc(n + 1, sizeof(*run->programs));
    for (size_t i = 0; i < n; i++)
        run->programs[i].fd = -1;
    for (run->at = 0; run->at < n; run->at++)
        if (program_open(&run->daemon->config.hooks, "hooks",
                         current(run)->path, &run->programs[run->at], e) < 0)
            return -e->code;
    run->at = 0;
    return 0;
}

void hooks_run(struct daemon *daemon, uint64_t peer, uint32_t id,
               const struct ctl_hooks *hooks)
{
    struct hook_run *run, **at = &daemon->hook_runs;
    struct err e = ERR_INIT;

    if (check(daemon, hooks, &e) < 0) {
        (void)err_wrap(&e, "hooks of container %.76s", hooks->id);
        server_result(daemon->server, peer, id, &e);
        return;
    }
    run = xcalloc(1, sizeof(*run));
    run->daemon = daemon;
    run->peer = peer;
    run->id = id;
    run->status_fd = run->stderr_fd = -1;
    /* It was decoded by the same table, so it fits. */
    (void)wire_copy(ctl_protocol.types[CTL_HOOKS].desc, hooks, &run->hooks, &e);
    while (*at)
        at = &(*at)->next;
    *at = run;
    if (open_programs(run, &e) < 0) {
        finish(run, &e);
        return;
    }
    run->waiting = true;
    start_waiting(daemon);
}

void hooks_peer_gone(struct daemon *daemon, uint64_t peer)
{
    struct hook_run *run = daemon->hook_runs, *next;

    for (; run; run = next) {
        next = run->next;
        if (run->peer != peer)
            continue;
        run->abandoned = true;
        if (run->pid > 0)
            kill_hook(run);
        else
            run_free(run);
    }
}

void hooks_free(struct daemon *daemon)
{
    while (daemon->hook_runs) {
        if (daemon->hook_runs->pid > 0)
            (void)kill(-daemon->hook_runs->pid, SIGKILL);
        run_free(daemon->hook_runs);
    }
}
