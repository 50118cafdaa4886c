/*
 * streams.h - a process's standard streams: FIFOs that containerd's client
 * made, a file, or pipes to a logger.
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

/* What a logger that is to be started gets, and what it says ready by. */
enum { LOGGER_OUT, LOGGER_ERR, LOGGER_READY, LOGGER_FDS };

struct stdio_logger {
    struct log_uri uri; /* path NULL: there is none */
    int fds[LOGGER_FDS];
    int ready; /* ends when the logger has closed the other end */
};

struct stdio {
    struct stdio_stream in;
    struct stdio_stream out;
    struct stdio_stream err;
    struct stdio_logger logger;
};

#define STDIO_INIT                                                    \
    {                                                                 \
        .in = {-1, -1}, .out = {-1, -1}, .err = {-1, -1}, .logger = { \
            .fds = {-1, -1, -1},                                      \
            .ready = -1                                               \
        }                                                             \
    }

/* Nothing is open after a failure. */
int stdio_open(const struct stdio_paths *paths, struct stdio *stdio_out,
               struct err *e);
void stdio_close(struct stdio *stdio);
void stdio_close_logger(struct stdio_logger *logger);

void stdio_paths_clear(struct stdio_paths *paths);

#endif
