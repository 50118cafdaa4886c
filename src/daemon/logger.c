#include "logger.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "domus/mem.h"
#include "program.h"

struct logger {
    struct logger *next;
    struct daemon *daemon; /* borrowed */
    uint64_t peer;
    uint32_t id;
    char *name; /* of its container, and its own; owned */
    pid_t pid;
    int status_fd;
    struct loop_fd *source;      /* NULL once it is answered */
    struct loop_timer *deadline; /* of its start */
    int life;                    /* owned; the shim sees it end with this */
    struct loop_fd *life_source; /* NULL once the shim is done with it */
    struct loop_timer *end_timer;
};

static void logger_free(struct logger *logger)
{
    struct logger **at = &logger->daemon->loggers;

    while (*at && *at != logger)
        at = &(*at)->next;
    if (*at)
        *at = logger->next;
    loop_remove_fd(&logger->source);
    loop_remove_timer(&logger->deadline);
    loop_remove_fd(&logger->life_source);
    loop_remove_timer(&logger->end_timer);
    close_fd(&logger->status_fd);
    close_fd(&logger->life);
    free(logger->name);
    free(logger);
}

static void refuse(struct daemon *daemon, uint64_t peer, uint32_t id,
                   const struct ctl_logger *request, struct err *e)
{
    (void)err_wrap(e, "container %.76s: logger %.256s", request->id,
                   request->path);
    log_warn("%s", e->text);
    server_result(daemon->server, peer, id, e);
}

static void answer(struct logger *logger, struct err *error)
{
    loop_remove_fd(&logger->source);
    loop_remove_timer(&logger->deadline);
    close_fd(&logger->status_fd);
    if (error) {
        (void)err_wrap(error, "%s", logger->name);
        log_warn("%s", error->text);
    }
    server_result(logger->daemon->server, logger->peer, logger->id, error);
}

static void started(void *context, short revents)
{
    struct logger *logger = context;
    struct err e = ERR_INIT;
    int r = program_status(logger->status_fd, &e);

    (void)revents;
    if (r != 0)
        answer(logger, r < 0 ? &e : NULL);
}

static void not_started(void *context)
{
    struct logger *logger = context;
    struct err e = ERR_INIT;

    logger->deadline = NULL;
    (void)kill(logger->pid, SIGKILL);
    (void)err_set(&e, ETIMEDOUT, "it was not executed within %d ms",
                  LOGGER_START_MS);
    answer(logger, &e);
}

/* With what it started: its session is its own, and it is not reaped yet. */
static void kill_late(void *context)
{
    struct logger *logger = context;

    logger->end_timer = NULL;
    (void)kill(-logger->pid, SIGKILL);
}

static void end_late(void *context)
{
    struct logger *logger = context;

    log_warn("%s does not end; it is ended", logger->name);
    (void)kill(-logger->pid, SIGTERM);
    logger->end_timer =
        loop_add_timer(logger->daemon->loop, LOGGER_TERM_MS, kill_late, logger);
}

/* The shim has closed its end, or is gone. */
static void forsaken(void *context, short revents)
{
    struct logger *logger = context;

    (void)revents;
    loop_remove_fd(&logger->life_source);
    logger->end_timer =
        loop_add_timer(logger->daemon->loop, LOGGER_END_MS, end_late, logger);
}

static void ended(void *context, pid_t pid, int status)
{
    struct daemon *daemon = context;
    struct logger *logger = daemon->loggers;

    while (logger && logger->pid != pid)
        logger = logger->next;
    if (!logger)
        return;
    /* It ended before we looked. */
    if (logger->source)
        started(logger, POLLIN);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        log_debug("%s ended", logger->name);
    else
        log_warn("%s %s %d", logger->name,
                 WIFSIGNALED(status) ? "was killed by signal"
                                     : "ended with status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    logger_free(logger);
}

static int start(struct logger *logger, const struct program *program,
                 const struct ctl_logger *request, const int *fds,
                 struct err *e)
{
    _cleanup_free_ char *id = xasprintf("CONTAINER_ID=%s", request->id);
    _cleanup_free_ char *namespace =
        xasprintf("CONTAINER_NAMESPACE=%s", request->namespace);
    char *const envp[] = {id, namespace, NULL};
    char *argv[CTL_LOGGER_ARGS_MAX + 2] = {request->path};
    struct program_start how = {
        .argv = argv,
        .envp = envp,
        .fds = {-1, -1, -1, fds[0], fds[1], fds[2]},
        .fd_count = 6,
        .outlives_us = true,
    };
    int r;

    for (size_t i = 0; i < request->args.n; i++)
        argv[i + 1] = request->args.v[i];
    r = program_start(program, &how, &logger->pid, &logger->status_fd, e);
    if (r < 0)
        return r;
    r = loop_add_child(logger->daemon->loop, logger->pid, ended, logger->daemon,
                       e);
    if (r < 0) {
        (void)kill(logger->pid, SIGKILL);
        (void)waitpid(logger->pid, NULL, 0);
    }
    return r;
}

/* Programs that do more than logging, which a log URI could choose by its
 * arguments; and such URIs have come from image labels (GHSA-xhf5-7wjv-pqxp).
 */
static int check_use(const struct ctl_logger *request, struct err *e)
{
    static const struct {
        const char *name;
        const char *first;
        size_t count;
    } uses[] = {{"nerdctl", "_NERDCTL_INTERNAL_LOGGING", 2}};
    const char *slash = strrchr(request->path, '/');
    const char *name = slash ? slash + 1 : request->path;
    const struct string_list *args = &request->args;

    for (size_t i = 0; i < ARRAY_SIZE(uses); i++)
        if (strcmp(name, uses[i].name) == 0 &&
            (args->n != uses[i].count ||
             strcmp(args->v[0], uses[i].first) != 0))
            return err_set(e, EPERM,
                           "%s is a logger with %s and a directory only",
                           uses[i].name, uses[i].first);
    return 0;
}

void logger_start(struct daemon *daemon, uint64_t peer, uint32_t id,
                  const struct ctl_logger *request, const int fds[LOGGER_FDS])
{
    struct program program = {.fd = -1};
    struct logger *logger;
    struct err e = ERR_INIT;
    int r = 0;

    if (!spec_id_valid(request->namespace) || !spec_id_valid(request->id))
        r = err_set(&e, EINVAL, "invalid namespace or id");
    if (r == 0)
        r = program_open(&daemon->config.loggers, "loggers", request->path,
                         &program, &e);
    if (r == 0)
        r = check_use(request, &e);
    if (r < 0) {
        program_close(&program);
        refuse(daemon, peer, id, request, &e);
        return;
    }
    logger = xcalloc(1, sizeof(*logger));
    logger->daemon = daemon;
    logger->peer = peer;
    logger->id = id;
    logger->name =
        xasprintf("container %.76s: logger %.256s", request->id, request->path);
    logger->status_fd = -1;
    logger->life = fcntl(fds[LOGGER_LIFE], F_DUPFD_CLOEXEC, 0);
    r = logger->life < 0 ? err_errno(&e, "descriptor")
                         : start(logger, &program, request, fds, &e);
    program_close(&program);
    if (r < 0) {
        refuse(daemon, peer, id, request, &e);
        logger_free(logger);
        return;
    }
    logger->next = daemon->loggers;
    daemon->loggers = logger;
    logger->source =
        loop_add_fd(daemon->loop, logger->status_fd, POLLIN, started, logger);
    logger->deadline =
        loop_add_timer(daemon->loop, LOGGER_START_MS, not_started, logger);
    logger->life_source =
        loop_add_fd(daemon->loop, logger->life, 0, forsaken, logger);
}

void loggers_free(struct daemon *daemon)
{
    while (daemon->loggers)
        logger_free(daemon->loggers);
}
