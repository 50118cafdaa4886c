/*
 * streams.h - the standard streams of a process: pipes, or one pty.
 */
#ifndef AGENT_STREAMS_H
#define AGENT_STREAMS_H

#include <stdbool.h>
#include <stdint.h>

#include <sys/types.h>

#include "domus/link.h"

/* The group that owns terminals, by every distribution's convention. */
#define STREAMS_TTY_GROUP 5

struct streams {
    int process[3];    /* owned; what becomes 0, 1 and 2 of the process */
    int agent[3];      /* owned; the other ends, -1 when there is no stream */
    int master;        /* owned; of the pty, to resize it, or -1 */
    char terminal[32]; /* path of the pty, or empty */
};

#define STREAMS_INIT                                                  \
    {                                                                 \
        .process = {-1, -1, -1}, .agent = {-1, -1, -1}, .master = -1, \
    }

struct streams_wanted {
    bool stream[3]; /* the others are /dev/null */
    /* Who may open them again by name, as the agent sees these ids. */
    uint32_t uid;
    uint32_t gid; /* of pipes: root's, as with runc */
    uint32_t tty_gid;
    /* A process in whose root a pty's path is to exist, if that has a devpts;
     * else, and for 0, the pty is the guest's. */
    pid_t container;
};

/* Pipes, or a pty, which has no stderr of its own. */
int streams_open(const struct streams_wanted *wanted,
                 const struct spec_process *p, struct streams *streams_out,
                 struct err *e);

/* Makes streams of the link of those ids that are not 0, in the order of the
 * descriptors; one without an end is empty, or throws away. done is for the
 * first. */
void streams_attach(struct link *link, const uint32_t ids[3], struct streams *s,
                    stream_done_fn *done, void *context);

/* Fails with ENOTTY for a master of -1, EINVAL beyond 16 bits. */
int streams_resize(int master, uint32_t width, uint32_t height, struct err *e);

void streams_close_process(struct streams *s);
void streams_close(struct streams *s);

#endif
