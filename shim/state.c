#include "state.h"

#include <errno.h>

/* A column per call: create start delete state pids kill close-io wait stats.
 * ENOENT: there is no such task or process; EBUSY: not in this state. */
static const int table[TASK_STATE_COUNT][TASK_CALL_COUNT] = {
    [TASK_NONE] = {0, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT,
                   ENOENT},
    [TASK_CREATING] = {EEXIST, EBUSY, EBUSY, 0, 0, EBUSY, EBUSY, 0, EBUSY},
    [TASK_CREATED] = {EEXIST, 0, 0, 0, 0, 0, 0, 0, 0},
    [TASK_STARTING] = {EEXIST, EBUSY, EBUSY, 0, 0, 0, 0, 0, 0},
    [TASK_RUNNING] = {EEXIST, EBUSY, EBUSY, 0, 0, 0, 0, 0, 0},
    [TASK_STOPPED] = {EEXIST, EBUSY, 0, 0, 0, ENOENT, 0, 0, EBUSY},
    [TASK_DELETING] = {EEXIST, EBUSY, EBUSY, 0, 0, ENOENT, 0, 0, EBUSY},
};

static const char *const texts[TASK_STATE_COUNT] = {
    [TASK_NONE] = "does not exist",
    [TASK_CREATING] = "is still being created",
    [TASK_CREATED] = "is created but not started",
    [TASK_STARTING] = "is starting",
    [TASK_RUNNING] = "is running",
    [TASK_STOPPED] = "has ended",
    [TASK_DELETING] = "is being deleted",
};

int task_state_refuses(enum task_state state, enum task_call call)
{
    return table[state][call];
}

const char *task_state_text(enum task_state state)
{
    return texts[state];
}
