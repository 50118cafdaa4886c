/*
 * container.h - a container from CREATE to DELETE, as a table of states.
 */
#ifndef AGENT_CONTAINER_H
#define AGENT_CONTAINER_H

#include <sys/types.h>

#include "agent.h"

enum container_state {
    CONTAINER_CREATING, /* its first process builds its world */
    CONTAINER_CREATED,  /* and waits for the word to go */
    CONTAINER_STARTING, /* which was given; exec is under way */
    CONTAINER_RUNNING,
    CONTAINER_PAUSING, /* asked of the kernel, as is resuming */
    CONTAINER_PAUSED,
    CONTAINER_RESUMING,
    CONTAINER_ENDING,   /* its first process is reaped, an exec is not */
    CONTAINER_STOPPED,  /* reaped, EXITED was sent */
    CONTAINER_DELETING, /* killed, its end is waited for */
    CONTAINER_STATE_COUNT
};

enum container_event_type {
    CONTAINER_REPORT,     /* from its first process: ready, or what failed */
    CONTAINER_EXECUTED,   /* that process became the program, or is dying */
    CONTAINER_EXIT,       /* it was reaped */
    CONTAINER_EXECS_GONE, /* the last of its execs was */
    CONTAINER_START,      /* requests */
    CONTAINER_EXEC,
    CONTAINER_SIGNAL,
    CONTAINER_RESIZE,
    CONTAINER_PAUSE,
    CONTAINER_RESUME,
    CONTAINER_UPDATE,
    CONTAINER_DELETE,
    CONTAINER_EVENT_COUNT
};

struct child_report;

struct container_event {
    enum container_event_type type;
    const struct child_report *report;
    int status;       /* as waitpid(2) gives it */
    uint32_t request; /* to be answered */
    int signal;
    bool all;
    const struct proto_exec *exec;
    const struct proto_resize *resize;
    const struct proto_update *update;
};

/*
 * Answers the request once the container is ready or has failed. When this
 * itself fails nothing was made. The streams are opened in either case.
 */
int container_create(struct agent *agent, uint32_t request,
                     struct proto_create *create, struct err *e);

/* Fails with ENOENT. */
int container_find(struct agent *agent, const char *id,
                   struct container **container_out, struct err *e);

/*
 * What happens in this state; the container may be gone afterwards. Fails with
 * EBUSY for what its state does not allow, ESRCH for a signal to one that has
 * ended. START, EXEC, PAUSE, RESUME and DELETE that did not fail are answered
 * by the container, the others by the caller.
 */
int container_handle(struct container *c, const struct container_event *event,
                     struct err *e);

bool container_allows(enum container_state state,
                      enum container_event_type event);

/* A child of the agent has ended: a container's process, or an orphan. */
void container_reaped(struct agent *agent, pid_t pid, int status);

/* The descriptor of its cgroup, borrowed. */
int container_cgroup(const struct container *c);

#endif
