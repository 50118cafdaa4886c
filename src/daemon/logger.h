/*
 * logger.h - the programs of binary:// log URIs. They read a container's
 * output from descriptors 3 and 4 until its end, and live on when domusd ends.
 * Which programs may be one is host policy (loggers in domus.conf). One that
 * goes on when its output has ended is ended.
 */
#ifndef DOMUS_LOGGER_H
#define DOMUS_LOGGER_H

#include "daemon.h"

/* The program's 3, 4 and 5, and a socket whose other end is the shim's: either
 * side sees by it that the other has done with the logger. */
enum { LOGGER_OUT, LOGGER_ERR, LOGGER_READY, LOGGER_LIFE, LOGGER_FDS };

/* From the end of its output to SIGTERM, which containerd sends at once, and
 * from there to SIGKILL, as with containerd. */
#define LOGGER_END_MS  5000
#define LOGGER_TERM_MS 12000
/* Until the program runs; its readiness the shim waits for. */
#define LOGGER_START_MS 5000

/* fds: borrowed. Answers RESULT when the program runs. */
void logger_start(struct daemon *daemon, uint64_t peer, uint32_t id,
                  const struct ctl_logger *request, const int fds[LOGGER_FDS]);
/* They go on. */
void loggers_free(struct daemon *daemon);

#endif
