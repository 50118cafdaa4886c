/*
 * agent.h - domus-init as a whole: its one channel and its containers.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "domus/link.h"
#include "domus/loop.h"

struct container;

/* From the command line. In a guest there are none: the kernel hands words
 * that it does not know to its first process, and those mean nothing. */
struct agent_options {
    const char *channel;     /* "unix:PATH"; NULL: a vchan */
    const char *cgroup;      /* directory; NULL: the hierarchy's root */
    const char *device_name; /* "xvda", and the path that stands for it */
    const char *device_path;
};

struct agent {
    struct agent_options options;
    struct loop *loop;            /* owned */
    struct link *link;            /* owned */
    struct container *containers; /* owned, a list */
    int cgroup;                   /* owned; containers' groups are beneath */
    bool welcomed;
};

/* --- session.c: the protocol's side --- */

/* Takes the channel and says HELLO on it. */
int session_begin(struct agent *agent, struct chan *chan, struct err *e);
/* e NULL or without a code: success. */
void session_answer(struct agent *agent, uint32_t request, const struct err *e,
                    uint32_t pid);
/* exec: empty for the first process. */
void session_exited(struct agent *agent, const char *container,
                    const char *exec, uint32_t status);
void session_oom(struct agent *agent, const char *container);
/* Something that no request is answered with, but people should know. */
void session_warn(struct agent *agent, const struct err *e);

#endif
