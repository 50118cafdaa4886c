#include "streams.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "domus/log.h"
#include "domus/mem.h"

#define FIFO_SCHEME "fifo://"

/* The path behind "fifo://" or a plain path; other schemes are refused. */
static int fifo_path(const char *uri, const char **path_out, struct err *e)
{
    const char *path = uri;

    if (strncmp(uri, FIFO_SCHEME, strlen(FIFO_SCHEME)) == 0)
        path = uri + strlen(FIFO_SCHEME);
    else if (strstr(uri, "://"))
        return err_set(e, ENOTSUP,
                       "%s: only FIFOs are supported for standard streams",
                       LOG_Q(uri, strlen(uri)));
    if (path[0] != '/')
        return err_set(e, EINVAL, "%s: not an absolute path",
                       LOG_Q(uri, strlen(uri)));
    *path_out = path;
    return 0;
}

/* Looked at before it is opened for real: opening a device may do things. */
static int find_fifo(const char *uri, int *fd_out, struct err *e)
{
    _cleanup_fd_ int fd = -1;
    const char *path;
    struct stat st;
    int r = fifo_path(uri, &path, e);

    if (r < 0)
        return r;
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

static int open_input(const char *uri, struct stdio_stream *in, struct err *e)
{
    _cleanup_fd_ int fifo = -1;
    int r = find_fifo(uri, &fifo, e);

    return r < 0 ? r : open_fifo(fifo, O_RDONLY, uri, &in->fd, e);
}

/* The read end first, since an end to write to can only be opened without
 * blocking when there is a reader. */
static int open_output(const char *uri, struct stdio_stream *out, struct err *e)
{
    _cleanup_fd_ int fifo = -1;
    int r = find_fifo(uri, &fifo, e);

    if (r == 0)
        r = open_fifo(fifo, O_RDONLY, uri, &out->hold, e);
    return r < 0 ? r : open_fifo(fifo, O_WRONLY, uri, &out->fd, e);
}

static int open_all(const struct stdio_paths *paths, struct stdio *stdio,
                    struct err *e)
{
    int r = 0;

    if (paths->in[0])
        r = open_input(paths->in, &stdio->in, e);
    if (r < 0)
        return err_wrap(e, "standard input");
    if (paths->out[0])
        r = open_output(paths->out, &stdio->out, e);
    if (r < 0)
        return err_wrap(e, "standard output");
    /* A terminal has one output. */
    if (paths->err[0] && !paths->terminal)
        r = open_output(paths->err, &stdio->err, e);
    return r < 0 ? err_wrap(e, "standard error") : 0;
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

void stdio_close(struct stdio *stdio)
{
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
