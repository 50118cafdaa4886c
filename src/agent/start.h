/*
 * start.h - what every process of a container goes through between clone()
 * and exec, the first one and a later one.
 *
 * The agent and it share a SOCK_SEQPACKET pair. Its end closes on exec, so
 * the agent sees the end of file when the program runs.
 */
#ifndef AGENT_START_H
#define AGENT_START_H

#include <stdint.h>

#include "domus/err.h"

#define START_TEXT_MAX 1024
/* Where the agent's socket lies while the process is prepared. */
#define START_SYNC_FD 3
/* As shells say it; seen only when exec itself fails. */
#define START_EXIT_NOT_FOUND  127
#define START_EXIT_CANNOT_RUN 126

/* code 0: ready. Else an errno value, and the process is ending. */
struct child_report {
    uint32_t code;
    char text[START_TEXT_MAX];
};

void start_report(int sync, const struct err *e);

/* An ignored signal or a mask would survive exec. */
void start_reset_signals(void);

/* stdio: what becomes 0, 1 and 2, in a session of its own. terminal: its path
 * when it is to be the session's, or NULL. */
int start_take_stdio(const int *stdio, const char *terminal, struct err *e);

/* Moves the socket to its place and closes all else but 0, 1 and 2. */
int start_keep_only(int *sync, struct err *e);

#endif
