/*
 * state.h - what may be asked of a task in which state, as one table.
 */
#ifndef DOMUS_STATE_H
#define DOMUS_STATE_H

enum task_state {
    TASK_NONE,     /* not created yet, or deleted */
    TASK_CREATING, /* its domain is being built and its guest prepared */
    TASK_CREATED,
    TASK_STARTING,
    TASK_RUNNING,
    TASK_STOPPED,
    TASK_DELETING,
    TASK_STATE_COUNT
};

enum task_call {
    CALL_CREATE,
    CALL_START,
    CALL_DELETE,
    CALL_STATE,
    CALL_PIDS,
    CALL_KILL,
    CALL_CLOSE_IO,
    CALL_WAIT,
    CALL_STATS,
    TASK_CALL_COUNT
};

/* 0 when the call is allowed, else the errno value to refuse it with. */
int task_state_refuses(enum task_state state, enum task_call call);

/* "is running", to be put behind the name of a task. */
const char *task_state_text(enum task_state state);

#endif
