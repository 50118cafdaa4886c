/*
 * A process's streams, and whoever takes its output where that is no reader of
 * a FIFO: the writer of a file, which we start, or the logger of a binary://
 * URI. That domusd starts, as host policy allows; it has got hold of its work
 * when it closes the pipe that it got for this (containerd's rule).
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "log_writer.h"
#include "task_internal.h"

/* domusd's own deadline for it is shorter. */
#define LOGGER_START_MS 10000
/* Also for opening a file, which a frozen disk may hold up. */
#define READY_MS 10000

struct opening {
    struct process *process; /* NULL: cancelled, and domusd's answer is due */
    process_open_fn *fn;
    bool asked;             /* domusd's answer is due */
    unsigned pending;       /* files and loggers that are not ready */
    struct loop_fd *source; /* the logger's word */
    struct loop_timer *deadline;
};

static void writer_close(struct writer *writer)
{
    loop_remove_fd(&writer->source);
    close_fd(&writer->fd);
}

void process_close_streams(struct process *process)
{
    for (int i = 0; i < PROCESS_WRITERS; i++)
        writer_close(&process->writers[i]);
    stdio_close(&process->stdio);
}

bool process_has_writer(const struct process *process)
{
    for (int i = 0; i < PROCESS_WRITERS; i++)
        if (process->writers[i].source)
            return true;
    return false;
}

static void opening_end(struct opening *opening, const struct err *why)
{
    struct process *process = opening->process;
    process_open_fn *fn = opening->fn;
    struct err e;

    process->opening = NULL;
    loop_remove_fd(&opening->source);
    loop_remove_timer(&opening->deadline);
    /* Nobody asks twice: domusd's answer finds this without a process. */
    if (opening->asked)
        opening->process = NULL;
    else
        free(opening);
    if (why) {
        e = *why;
        if (e.code == ENOENT)
            e.code = EINVAL;
        process_close_streams(process);
        fn(process, &e);
        return;
    }
    stdio_close_logger(&process->stdio.logger);
    fn(process, NULL);
}

static void one_ready(struct opening *opening)
{
    if (--opening->pending == 0)
        opening_end(opening, NULL);
}

static void name_logger(const struct process *process, struct err *e)
{
    const char *path = process->stdio.logger.uri.path;

    (void)err_wrap(e, "logger %s", LOG_Q(path, strlen(path)));
}

static void not_ready(void *context)
{
    struct opening *opening = context;
    struct process *process = opening->process;
    struct err e = ERR_INIT;

    opening->deadline = NULL;
    (void)err_set(&e, ETIMEDOUT, "it was not ready within %d ms", READY_MS);
    for (int i = 0; i < STDIO_FILES; i++) {
        const char *path = process->stdio.files[i].path;

        if (!path || process->writers[i].ready)
            continue;
        (void)err_wrap(&e, "file %s", LOG_Q(path, strlen(path)));
        opening_end(opening, &e);
        return;
    }
    /* How long domusd may take is bounded where it is asked. */
    if (opening->asked)
        return;
    name_logger(process, &e);
    opening_end(opening, &e);
}

/* --- files -----------------------------------------------------------------
 */

static void writer_reports(struct writer *writer, const struct err *said)
{
    struct process *process = writer->process;
    struct err e = *said;

    if (writer->ready) {
        task_name_error(process, "log", &e);
        log_warn("%s", e.text);
        return;
    }
    writer->ready = true;
    if (!process->opening)
        return;
    if (said->code == 0) {
        one_ready(process->opening);
        return;
    }
    (void)err_wrap(&e, "standard %s",
                   writer == &process->writers[LOGGER_ERR] ? "error"
                                                           : "output");
    opening_end(process->opening, &e);
}

static void writer_said(void *context, short revents)
{
    struct writer *writer = context;
    struct process *process = writer->process;
    struct err said = ERR_INIT;
    int r = log_writer_read(writer->fd, &said);

    (void)revents;
    if (r == 0)
        return;
    if (r > 0) {
        writer_reports(writer, &said);
        return;
    }
    writer_close(writer);
    if (!writer->ready ||
        (process->sinks > 0 && writer != &process->writers[PROCESS_LOGGER])) {
        (void)err_set(&said, EIO, "the writer of its file has ended");
        writer_reports(writer, &said);
    } else if (process_written(process)) {
        task_drained(process);
    }
}

static void watch(struct process *process, int which, int fd)
{
    struct writer *writer = &process->writers[which];

    writer->process = process;
    writer->fd = fd;
    writer->ready = which == PROCESS_LOGGER;
    writer->source =
        loop_add_fd(process->task->loop, fd, POLLIN, writer_said, writer);
}

static void reaped(void *context, pid_t pid, int status)
{
    (void)context;
    (void)pid;
    (void)status;
}

static int start_file(struct process *process, int which, struct err *e)
{
    struct stdio_file *file = &process->stdio.files[which];
    int reports, r;
    pid_t pid;

    if (!file->path)
        return 0;
    r = log_writer_start(file->path, file->in, &reports, &pid, e);
    if (r < 0)
        return r;
    close_fd(&file->in);
    watch(process, which, reports);
    process->opening->pending++;
    /* Otherwise it ends with its input, and is a zombie until we end: to wait
     * for it may take as long as its disk is frozen. */
    return loop_add_child(process->task->loop, pid, reaped, NULL, e);
}

/* --- loggers ---------------------------------------------------------------
 */

/* A byte or the end: runc takes either for its word. */
static void logger_ready(void *context, short revents)
{
    struct opening *opening = context;
    char bytes[64];
    ssize_t n =
        read(opening->process->stdio.logger.ready, bytes, sizeof(bytes));

    (void)revents;
    if (n < 0)
        return;
    loop_remove_fd(&opening->source);
    one_ready(opening);
}

static void logger_runs(void *context, const struct packet *reply,
                        const struct err *why)
{
    struct opening *opening = context;
    struct stdio_logger *logger;
    struct loop *loop;
    struct err e;

    (void)reply;
    if (!opening->process) {
        free(opening);
        return;
    }
    opening->asked = false;
    if (why) {
        e = *why;
        name_logger(opening->process, &e);
        opening_end(opening, &e);
        return;
    }
    logger = &opening->process->stdio.logger;
    loop = opening->process->task->loop;
    /* From here on the logger and domusd alone hold these. */
    for (int i = 0; i < LOGGER_FDS; i++)
        close_fd(&logger->fds[i]);
    watch(opening->process, PROCESS_LOGGER, steal_fd(&logger->life));
    opening->source =
        loop_add_fd(loop, logger->ready, POLLIN, logger_ready, opening);
    loop_remove_timer(&opening->deadline);
    opening->deadline = loop_add_timer(loop, READY_MS, not_ready, opening);
}

static void start_logger(struct process *process)
{
    const struct stdio_logger *logger = &process->stdio.logger;
    struct opening *opening = process->opening;
    struct task *task = process->task;
    struct ctl_logger body = {
        .namespace = task->namespace,
        .id = task->id,
        .path = logger->uri.path,
        .args = logger->uri.args,
    };

    if (!logger->uri.path)
        return;
    opening->pending++;
    opening->asked = true;
    control_request_fds(task->control, CTL_LOGGER, &body, logger->fds,
                        LOGGER_FDS, LOGGER_START_MS, logger_runs, opening);
}

void process_open(struct process *process, process_open_fn *fn)
{
    struct opening *opening;
    struct err e = ERR_INIT;
    int r = stdio_open(&process->paths, &process->stdio, &e);

    if (r < 0) {
        fn(process, &e);
        return;
    }
    opening = xcalloc(1, sizeof(*opening));
    opening->process = process;
    opening->fn = fn;
    /* Until all are asked. */
    opening->pending = 1;
    process->opening = opening;
    opening->deadline =
        loop_add_timer(process->task->loop, READY_MS, not_ready, opening);
    for (int i = 0; r == 0 && i < STDIO_FILES; i++)
        r = start_file(process, i, &e);
    if (r < 0) {
        opening_end(opening, &e);
        return;
    }
    start_logger(process);
    /* domusd may have refused at once. */
    if (process->opening)
        one_ready(opening);
}

void process_open_cancel(struct process *process)
{
    struct opening *opening = steal_ptr(&process->opening);

    if (!opening)
        return;
    loop_remove_fd(&opening->source);
    loop_remove_timer(&opening->deadline);
    opening->process = NULL;
    /* Otherwise domusd's answer frees it. */
    if (!opening->asked)
        free(opening);
}
