#include "streams.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/log.h"
#include "domus/mem.h"

/* Looked at before it is opened for real: opening a device may do things. */
static int find_fifo(const char *path, int *fd_out, struct err *e)
{
    _cleanup_fd_ int fd = -1;
    struct stat st;

    fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(e, EINVAL, "FIFO %s does not exist",
                       LOG_Q(path, strlen(path)));
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, "FIFO %s", LOG_Q(path, strlen(path)));
    if (!S_ISFIFO(st.st_mode))
        return err_set(e, EINVAL, "%s is not a FIFO",
                       LOG_Q(path, strlen(path)));
    *fd_out = steal_fd(&fd);
    return 0;
}

static int open_fifo(int fifo, int how, const char *uri, int *fd_out,
                     struct err *e)
{
    char link[32];

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fifo);
    *fd_out = open(link, how | O_NONBLOCK | O_CLOEXEC);
    return *fd_out < 0 ? err_errno(e, "FIFO %s", LOG_Q(uri, strlen(uri))) : 0;
}

static int open_input(const char *text, struct stdio_stream *in, struct err *e)
{
    _cleanup_(log_uri_clear) struct log_uri uri = {0};
    _cleanup_fd_ int fifo = -1;
    int r = log_uri_parse(text, &uri, e);

    if (r == 0 && uri.kind != LOG_URI_FIFO)
        r = err_set(e, EINVAL, "\"%s\" is not a FIFO",
                    LOG_Q(text, strlen(text)));
    if (r == 0)
        r = find_fifo(uri.path, &fifo, e);
    return r < 0 ? r : open_fifo(fifo, O_RDONLY, text, &in->fd, e);
}

/* The read end first, since an end to write to can only be opened without
 * blocking when there is a reader. */
static int open_output_fifo(const char *path, struct stdio_stream *out,
                            struct err *e)
{
    _cleanup_fd_ int fifo = -1;
    int r = find_fifo(path, &fifo, e);

    if (r == 0)
        r = open_fifo(fifo, O_RDONLY, path, &out->hold, e);
    return r < 0 ? r : open_fifo(fifo, O_WRONLY, path, &out->fd, e);
}

static int open_pipe(int *read_end, int *write_end, struct err *e)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    *read_end = fds[0];
    *write_end = fds[1];
    return 0;
}

/* One program for both outputs; its ends of the pipes block, ours do not. */
static int open_logger(struct log_uri *uri, struct stdio_logger *logger,
                       struct err *e)
{
    int r = open_pipe(&logger->ready, &logger->fds[LOGGER_READY], e);
    int life[2];

    if (r < 0)
        return r;
    if (fcntl(logger->ready, F_SETFL, O_NONBLOCK) < 0)
        return err_errno(e, "pipe");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                   life) < 0)
        return err_errno(e, "socketpair");
    logger->life = life[0];
    logger->fds[LOGGER_LIFE] = life[1];
    logger->uri = *uri;
    *uri = (struct log_uri){0};
    return 0;
}

static int open_logged(struct stdio_stream *out, int *read_end, struct err *e)
{
    int r = open_pipe(read_end, &out->fd, e);

    if (r == 0 && fcntl(out->fd, F_SETFL, O_NONBLOCK) < 0)
        r = err_errno(e, "pipe");
    return r;
}

/* One writer for one file, so that what both outputs say keeps its order. */
static int open_file(struct log_uri *uri, int which, struct stdio *stdio,
                     struct err *e)
{
    struct stdio_stream *out = which == LOGGER_OUT ? &stdio->out : &stdio->err;
    const char *other = stdio->files[LOGGER_OUT].path;
    int r;

    if (which == LOGGER_ERR && other && strcmp(other, uri->path) == 0) {
        out->fd = fcntl(stdio->out.fd, F_DUPFD_CLOEXEC, 0);
        return out->fd < 0 ? err_errno(e, "pipe") : 0;
    }
    r = open_logged(out, &stdio->files[which].in, e);
    if (r == 0)
        stdio->files[which].path = steal_ptr(&uri->path);
    return r;
}

static int open_output(const char *text, int which, struct stdio *stdio,
                       struct err *e)
{
    _cleanup_(log_uri_clear) struct log_uri uri = {0};
    struct stdio_stream *out = which == LOGGER_OUT ? &stdio->out : &stdio->err;
    int r = log_uri_parse(text, &uri, e);

    if (r < 0)
        return r;
    switch (uri.kind) {
    case LOG_URI_FIFO:
        return open_output_fifo(uri.path, out, e);
    case LOG_URI_FILE:
        return open_file(&uri, which, stdio, e);
    case LOG_URI_BINARY:
        break;
    }
    if (!stdio->logger.uri.path)
        r = open_logger(&uri, &stdio->logger, e);
    return r < 0 ? r : open_logged(out, &stdio->logger.fds[which], e);
}

/* A logger always gets both pipes; one that nobody writes to ends at once. */
static int fill_logger(struct stdio_logger *logger, struct err *e)
{
    for (int i = LOGGER_OUT; logger->uri.path && i <= LOGGER_ERR; i++) {
        _cleanup_fd_ int unused = -1;
        int r = logger->fds[i] < 0 ? open_pipe(&logger->fds[i], &unused, e) : 0;

        if (r < 0)
            return r;
    }
    return 0;
}

static int open_all(const struct stdio_paths *paths, struct stdio *stdio,
                    struct err *e)
{
    bool logged = strncmp(paths->out, "binary:", 7) == 0 ||
                  strncmp(paths->err, "binary:", 7) == 0;
    /* A terminal has one output. */
    bool has_err = paths->err[0] && !paths->terminal;
    int r = 0;

    if (paths->in[0])
        r = open_input(paths->in, &stdio->in, e);
    if (r < 0)
        return err_wrap(e, "standard input");
    if (paths->out[0])
        r = open_output(paths->out, LOGGER_OUT, stdio, e);
    if (r < 0)
        return err_wrap(e, "standard output");
    if (has_err && logged && paths->out[0] &&
        strcmp(paths->out, paths->err) != 0)
        return err_set(e, EINVAL,
                       "standard output and error must have one logger");
    if (has_err)
        r = open_output(paths->err, LOGGER_ERR, stdio, e);
    if (r < 0)
        return err_wrap(e, "standard error");
    return fill_logger(&stdio->logger, e);
}

int stdio_open(const struct stdio_paths *paths, struct stdio *stdio_out,
               struct err *e)
{
    struct stdio stdio = STDIO_INIT;
    int r = open_all(paths, &stdio, e);

    if (r < 0)
        stdio_close(&stdio);
    else
        *stdio_out = stdio;
    return r;
}

static void close_stream(struct stdio_stream *stream)
{
    close_fd(&stream->fd);
    close_fd(&stream->hold);
}

void stdio_close_logger(struct stdio_logger *logger)
{
    for (int i = 0; i < LOGGER_FDS; i++)
        close_fd(&logger->fds[i]);
    close_fd(&logger->ready);
    close_fd(&logger->life);
    log_uri_clear(&logger->uri);
}

static void close_files(struct stdio *stdio)
{
    for (int i = 0; i < STDIO_FILES; i++) {
        close_fd(&stdio->files[i].in);
        free(stdio->files[i].path);
        stdio->files[i].path = NULL;
    }
}

void stdio_close(struct stdio *stdio)
{
    stdio_close_logger(&stdio->logger);
    close_files(stdio);
    close_stream(&stdio->in);
    close_stream(&stdio->out);
    close_stream(&stdio->err);
}

void stdio_paths_clear(struct stdio_paths *paths)
{
    free(paths->in);
    free(paths->out);
    free(paths->err);
    *paths = (struct stdio_paths){0};
}
