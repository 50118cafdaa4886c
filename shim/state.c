#include "state.h"

#include <errno.h>

/* A column per call: create start delete state pids kill close-io wait stats
 * exec resize pause resume update. ENOENT: there is no such task or process;
 * EBUSY: not in this state. */
static const int tasks[TASK_STATE_COUNT][TASK_CALL_COUNT] = {
    [TASK_NONE] = {0, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT,
                   ENOENT, ENOENT, ENOENT, ENOENT, ENOENT, ENOENT},
    [TASK_CREATING] = {EEXIST, EBUSY, EBUSY, 0, 0, EBUSY, EBUSY, 0, EBUSY,
                       EBUSY, EBUSY, EBUSY, EBUSY, EBUSY},
    [TASK_CREATED] = {EEXIST, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, EBUSY, EBUSY, 0},
    [TASK_STARTING] = {EEXIST, EBUSY, EBUSY, 0, 0, 0, 0, 0, 0, EBUSY, 0, EBUSY,
                       EBUSY, 0},
    [TASK_RUNNING] = {EEXIST, EBUSY, EBUSY, 0, 0, 0, 0, 0, 0, 0, 0, 0, EBUSY,
                      0},
    [TASK_PAUSING] = {EEXIST, EBUSY, EBUSY, 0, 0, 0, 0, 0, 0, EBUSY, 0, EBUSY,
                      EBUSY, EBUSY},
    [TASK_PAUSED] = {EEXIST, EBUSY, EBUSY, 0, 0, 0, 0, 0, 0, EBUSY, 0, EBUSY, 0,
                     0},
    [TASK_RESUMING] = {EEXIST, EBUSY, EBUSY, 0, 0, 0, 0, 0, 0, EBUSY, 0, EBUSY,
                       EBUSY, EBUSY},
    [TASK_STOPPED] = {EEXIST, EBUSY, 0, 0, 0, ENOENT, 0, 0, EBUSY, EBUSY, EBUSY,
                      EBUSY, EBUSY, EBUSY},
    [TASK_DELETING] = {EEXIST, EBUSY, EBUSY, 0, 0, ENOENT, 0, 0, EBUSY, EBUSY,
                       EBUSY, EBUSY, EBUSY, EBUSY},
};

/* An exec is in no other state; what is asked of tasks only has no meaning. */
static const int execs[TASK_STATE_COUNT][TASK_CALL_COUNT] = {
    [TASK_CREATED] = {ENOENT, 0, 0, 0, ENOENT, EBUSY, 0, 0, ENOENT, EEXIST, 0,
                      ENOENT, ENOENT, ENOENT},
    [TASK_STARTING] = {ENOENT, EBUSY, EBUSY, 0, ENOENT, 0, 0, 0, ENOENT, EEXIST,
                       EBUSY, ENOENT, ENOENT, ENOENT},
    [TASK_RUNNING] = {ENOENT, EBUSY, EBUSY, 0, ENOENT, 0, 0, 0, ENOENT, EEXIST,
                      0, ENOENT, ENOENT, ENOENT},
    [TASK_STOPPED] = {ENOENT, EBUSY, 0, 0, ENOENT, ENOENT, 0, 0, ENOENT, EEXIST,
                      EBUSY, ENOENT, ENOENT, ENOENT},
    [TASK_DELETING] = {ENOENT, EBUSY, EBUSY, 0, ENOENT, ENOENT, 0, 0, ENOENT,
                       EEXIST, EBUSY, ENOENT, ENOENT, ENOENT},
};

static const struct {
    const char *text;
    bool live;
} states[TASK_STATE_COUNT] = {
    [TASK_NONE] = {"does not exist", false},
    [TASK_CREATING] = {"is still being created", false},
    [TASK_CREATED] = {"is created but not started", true},
    [TASK_STARTING] = {"is starting", true},
    [TASK_RUNNING] = {"is running", true},
    [TASK_PAUSING] = {"is being paused", true},
    [TASK_PAUSED] = {"is paused", true},
    [TASK_RESUMING] = {"is being resumed", true},
    [TASK_STOPPED] = {"has ended", false},
    [TASK_DELETING] = {"is being deleted", false},
};

int task_state_refuses(enum task_state state, enum task_call call)
{
    return tasks[state][call];
}

int exec_state_refuses(enum task_state state, enum task_call call)
{
    return execs[state][call];
}

bool task_state_live(enum task_state state)
{
    return states[state].live;
}

const char *task_state_text(enum task_state state)
{
    return states[state].text;
}
