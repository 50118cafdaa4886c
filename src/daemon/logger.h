/*
 * logger.h - the programs of binary:// log URIs. They read a container's
 * output from descriptors 3 and 4 until its end, and live on when domusd ends.
 * Which programs may be one is host policy (loggers in domus.conf).
 */
#ifndef DOMUS_LOGGER_H
#define DOMUS_LOGGER_H

#include "daemon.h"

#define LOGGER_FDS 3
/* Until the program runs; its readiness the shim waits for. */
#define LOGGER_START_MS 5000

/* fds: borrowed. Answers RESULT when the program runs. */
void logger_start(struct daemon *daemon, uint64_t peer, uint32_t id,
                  const struct ctl_logger *request, const int fds[LOGGER_FDS]);
/* They go on. */
void loggers_free(struct daemon *daemon);

#endif
