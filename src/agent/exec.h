/*
 * exec.h - a later process of a container, from EXEC to its end, as a table
 * of states.
 */
#ifndef AGENT_EXEC_H
#define AGENT_EXEC_H

#include "container.h"

/* At once in one container; each has a handful of the agent's descriptors. */
#define EXECS_MAX 1024

enum exec_state {
    EXEC_PREPARING, /* it joins the container */
    EXEC_EXECUTING, /* it is about to become the program */
    EXEC_RUNNING,   /* EXEC was answered */
    EXEC_FAILED,    /* its end is waited for */
    EXEC_STATE_COUNT
};

enum exec_event_type {
    EXEC_REPORT,   /* from the process: ready, or what failed */
    EXEC_EXECUTED, /* it became the program, or is dying */
    EXEC_TOO_LONG, /* its preparation */
    EXEC_EXIT,     /* it was reaped */
    EXEC_SIGNAL,   /* requests */
    EXEC_RESIZE,
    EXEC_EVENT_COUNT
};

struct exec;

struct exec_event {
    enum exec_event_type type;
    const struct child_report *report;
    int status; /* as waitpid(2) gives it */
    int signal;
    uint32_t width;
    uint32_t height;
};

/*
 * Answers the request once the process runs or has failed. When this itself
 * fails nothing was made, nor were the streams.
 */
int exec_create(struct container *c, uint32_t request,
                const struct proto_exec *exec, struct err *e);

/* Opens the streams of an EXEC that failed, to end them: the host may already
 * be sending on them. */
void exec_refuse_streams(struct agent *agent, const struct proto_exec *exec);

/* Fails with ENOENT. */
int exec_find(struct container *c, const char *name, struct exec **exec_out,
              struct err *e);

/* NULL when the pid is not of an exec. */
struct exec *exec_of_pid(struct container *c, pid_t pid);
const char *exec_name(const struct exec *x);

/* The exec may be gone afterwards. Fails with EBUSY for what its state does not
 * allow. */
int exec_handle(struct exec *x, const struct exec_event *event, struct err *e);

bool exec_allows(enum exec_state state, enum exec_event_type event);

/* It has ended: what it said before comes first. */
void exec_reaped(struct exec *x, int status);

#endif
