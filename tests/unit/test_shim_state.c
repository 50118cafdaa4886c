/* Every state and call against a list written by hand: a cell that changes is
 * a decision. */
#include "shim/state.h"
#include "unit.h"

#include <errno.h>

struct row {
    enum task_state state;
    const char *name;
    /* A letter for each call, in the order of enum task_call: . allowed, N no
     * such task or process, X exists already, B not in this state. */
    const char *calls;
};

static const struct row rows[] = {
    {TASK_NONE, "none", ".NNNNNNNN"},
    {TASK_CREATING, "creating", "XBB..BB.B"},
    {TASK_CREATED, "created", "X........"},
    {TASK_STARTING, "starting", "XBB......"},
    {TASK_RUNNING, "running", "XBB......"},
    {TASK_STOPPED, "stopped", "XB...N..B"},
    {TASK_DELETING, "deleting", "XBB..N..B"},
};

static void test_every_cell(void **state)
{
    (void)state;
    assert_int_equal(sizeof(rows) / sizeof(rows[0]), TASK_STATE_COUNT);
    for (size_t i = 0; i < TASK_STATE_COUNT; i++) {
        assert_int_equal(strlen(rows[i].calls), TASK_CALL_COUNT);
        for (int call = 0; call < TASK_CALL_COUNT; call++) {
            int wanted = 0;

            if (rows[i].calls[call] == 'N')
                wanted = ENOENT;
            if (rows[i].calls[call] == 'X')
                wanted = EEXIST;
            if (rows[i].calls[call] == 'B')
                wanted = EBUSY;
            if (task_state_refuses(rows[i].state, (enum task_call)call) !=
                wanted)
                fail_msg("state %s, call %d: not %c", rows[i].name, call,
                         rows[i].calls[call]);
        }
        assert_true(strlen(task_state_text(rows[i].state)) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cell),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
