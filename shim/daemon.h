/*
 * daemon.h - finding and starting domusd.
 */
#ifndef DOMUS_DAEMON_H
#define DOMUS_DAEMON_H

#include <stdint.h>
#include <sys/types.h>

#include "domus/err.h"

/* How long domusd may take to listen once it was started. */
#define DAEMON_START_MS 10000
/* And once the one that we started ended: another may be coming up. */
#define DAEMON_ENDED_MS 1500

/* DOMUS_SOCKET (for tests), else CTL_SOCKET. */
const char *daemon_socket_path(void);

/* A connected SOCK_SEQPACKET socket; ECONNREFUSED or ENOENT: nobody listens. */
int daemon_connect(int *fd_out, struct err *e);

/* Starts domusd in a session of its own; its log goes beside its socket. */
int daemon_start(pid_t *pid_out, struct err *e);

/* The end of that log, for an error message: appends to e. */
void daemon_add_log(struct err *e);

/* For programs without a loop: connects, starting domusd when necessary. */
int daemon_connect_or_start(int64_t milliseconds, int *fd_out, struct err *e);

#endif
