/*
 * state.h - what may be asked of a process in which state: one table for the
 * container's first process, which stands for the task, and one for execs.
 */
#ifndef DOMUS_STATE_H
#define DOMUS_STATE_H

#include <stdbool.h>

enum task_state {
    TASK_NONE,     /* not created yet, or deleted */
    TASK_CREATING, /* its domain is being built and its guest prepared */
    TASK_CREATED,
    TASK_STARTING,
    TASK_RUNNING,
    TASK_PAUSING,
    TASK_PAUSED,
    TASK_RESUMING,
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
    CALL_EXEC, /* and the start of an exec */
    CALL_RESIZE,
    CALL_PAUSE,
    CALL_RESUME,
    CALL_UPDATE,
    TASK_CALL_COUNT
};

/* 0 when the call is allowed, else the errno value to refuse it with. */
int task_state_refuses(enum task_state state, enum task_call call);

/* The same for an exec, by its own state. */
int exec_state_refuses(enum task_state state, enum task_call call);

/* It is in the guest, and its end will be told. */
bool task_state_live(enum task_state state);

/* "is running", to be put behind the name of a process. */
const char *task_state_text(enum task_state state);

#endif
