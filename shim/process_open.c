/*
 * A process's streams, and the logger that reads them where a binary:// URI
 * asks for one. domusd starts it, as host policy allows; it has got hold of its
 * work when it closes the pipe that it got for this (containerd's rule).
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "task_internal.h"

/* domusd's own deadline for it is shorter. */
#define LOGGER_START_MS 10000
#define LOGGER_READY_MS 10000

struct opening {
    struct process *process; /* NULL: cancelled, and domusd's answer is due */
    process_open_fn *fn;
    struct loop_fd *source;
    struct loop_timer *deadline;
};

static void opening_end(struct opening *opening, const struct err *why)
{
    struct process *process = opening->process;
    process_open_fn *fn = opening->fn;
    struct err e;

    process->opening = NULL;
    loop_remove_fd(&opening->source);
    loop_remove_timer(&opening->deadline);
    free(opening);
    if (why) {
        e = *why;
        if (e.code == ENOENT)
            e.code = EINVAL;
        (void)err_wrap(&e, "logger %s",
                       LOG_Q(process->stdio.logger.uri.path,
                             strlen(process->stdio.logger.uri.path)));
        stdio_close(&process->stdio);
        fn(process, &e);
        return;
    }
    stdio_close_logger(&process->stdio.logger);
    fn(process, NULL);
}

static void not_ready(void *context)
{
    struct opening *opening = context;
    struct err e = ERR_INIT;

    opening->deadline = NULL;
    (void)err_set(&e, ETIMEDOUT, "it was not ready within %d ms",
                  LOGGER_READY_MS);
    opening_end(opening, &e);
}

/* A byte or the end: runc takes either for its word. */
static void ready(void *context, short revents)
{
    struct opening *opening = context;
    char bytes[64];
    ssize_t n =
        read(opening->process->stdio.logger.ready, bytes, sizeof(bytes));

    (void)revents;
    if (n >= 0)
        opening_end(opening, NULL);
}

static void logger_runs(void *context, const struct packet *reply,
                        const struct err *why)
{
    struct opening *opening = context;
    struct stdio_logger *logger;
    struct loop *loop;

    (void)reply;
    if (!opening->process) {
        free(opening);
        return;
    }
    if (why) {
        opening_end(opening, why);
        return;
    }
    logger = &opening->process->stdio.logger;
    loop = opening->process->task->loop;
    /* From here on the logger alone holds these. */
    for (int i = 0; i < LOGGER_FDS; i++)
        close_fd(&logger->fds[i]);
    opening->source = loop_add_fd(loop, logger->ready, POLLIN, ready, opening);
    opening->deadline =
        loop_add_timer(loop, LOGGER_READY_MS, not_ready, opening);
}

void process_open(struct process *process, process_open_fn *fn)
{
    const struct stdio_logger *logger = &process->stdio.logger;
    struct task *task = process->task;
    struct ctl_logger body = {.namespace = task->namespace, .id = task->id};
    struct opening *opening;
    struct err e = ERR_INIT;

    if (stdio_open(&process->paths, &process->stdio, &e) < 0) {
        fn(process, &e);
        return;
    }
    if (!logger->uri.path) {
        fn(process, NULL);
        return;
    }
    opening = xcalloc(1, sizeof(*opening));
    opening->process = process;
    opening->fn = fn;
    process->opening = opening;
    body.path = logger->uri.path;
    body.args = logger->uri.args;
    control_request_fds(task->control, CTL_LOGGER, &body, logger->fds,
                        LOGGER_FDS, LOGGER_START_MS, logger_runs, opening);
}

void process_open_cancel(struct process *process)
{
    struct opening *opening = steal_ptr(&process->opening);

    if (!opening)
        return;
    /* Without a source domusd's answer is still to come, and frees it. */
    if (!opening->source) {
        opening->process = NULL;
        return;
    }
    loop_remove_fd(&opening->source);
    loop_remove_timer(&opening->deadline);
    free(opening);
}
