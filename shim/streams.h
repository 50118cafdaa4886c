/*
 * streams.h - a process's standard streams: FIFOs that containerd's client
 * made, or pipes to the writer of a file or to a logger.
 *
 * The shim keeps the other end of a FIFO for standard output or error open as
 * well, so that a reader that is late or comes back finds what was written, and
 * a missing one neither blocks nor breaks the task. Standard input ends, as
 * with runc, when the last client has closed it or CloseIO was called; it may
 * be read only when poll says so, since before the first client it looks ended.
 */
#ifndef DOMUS_STREAMS_H
#define DOMUS_STREAMS_H

#include <stdbool.h>

#include "domus/err.h"
#include "log_uri.h"

/* As Create gave them; empty: none. The names follow containerd's. */
struct stdio_paths {
    char *in;
    char *out;
    char *err;
    bool terminal;
};

struct stdio_stream {
    int fd;   /* what the guest's stream reads or writes; handed over to it */
    int hold; /* the other end of an output */
};

/* The writer of a file is to be started, one for each output. */
#define STDIO_FILES 2

struct stdio_file {
    char *path; /* owned; NULL: there is none */
    int in;     /* what it reads */
};

/* What domusd gets for a logger that is to be started: its input, what it says
 * ready by, and domusd's end of its life. */
enum { LOGGER_OUT, LOGGER_ERR, LOGGER_READY, LOGGER_LIFE, LOGGER_FDS };

struct stdio_logger {
    struct log_uri uri; /* path NULL: there is none */
    int fds[LOGGER_FDS];
    int ready; /* ends when the logger has closed the other end */
    int life;  /* ends with the logger; closed, domusd sees that it ends */
};

struct stdio {
    struct stdio_stream in;
    struct stdio_stream out;
    struct stdio_stream err;
    struct stdio_file files[STDIO_FILES]; /* by LOGGER_OUT and LOGGER_ERR */
    struct stdio_logger logger;
};

#define STDIO_INIT                                        \
    {                                                     \
        .in = {-1, -1}, .out = {-1, -1}, .err = {-1, -1}, \
        .files = {{NULL, -1}, {NULL, -1}},                \
        .logger = {                                       \
            .fds = {-1, -1, -1, -1},                      \
            .ready = -1,                                  \
            .life = -1,                                   \
        },                                                \
    }

/* Nothing is open after a failure. */
int stdio_open(const struct stdio_paths *paths, struct stdio *stdio_out,
               struct err *e);
void stdio_close(struct stdio *stdio);
void stdio_close_logger(struct stdio_logger *logger);

void stdio_paths_clear(struct stdio_paths *paths);

#endif
