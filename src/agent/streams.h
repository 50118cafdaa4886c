/*
 * streams.h - the standard streams of a process: pipes, or one pty.
 */
#ifndef AGENT_STREAMS_H
#define AGENT_STREAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "domus/err.h"

struct streams {
    int process[3];    /* owned; what becomes 0, 1 and 2 of the process */
    int agent[3];      /* owned; the other ends, -1 when there is no stream */
    char terminal[32]; /* path of the pty in the guest, or empty */
};

#define STREAMS_INIT                                     \
    {                                                    \
        .process = {-1, -1, -1}, .agent = { -1, -1, -1 } \
    }

/* wanted: which of the three are streams; the others are /dev/null. The
 * process's ends belong to its user, who may open them again by name. */
int streams_open_pipes(const bool wanted[3], uint32_t uid, uint32_t gid,
                       struct streams *streams_out, struct err *e);
/* A terminal has no stderr of its own. */
int streams_open_terminal(const bool wanted[3], uint32_t uid, uint32_t columns,
                          uint32_t rows, struct streams *streams_out,
                          struct err *e);

void streams_close_process(struct streams *s);
void streams_close(struct streams *s);

#endif
