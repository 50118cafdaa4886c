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
    {TASK_NONE, "none", ".NNNNNNNNNNNNN"},
    {TASK_CREATING, "creating", "XBB..BB.BBBBBB"},
    {TASK_CREATED, "created", "X..........BB."},
    {TASK_STARTING, "starting", "XBB......B.BB."},
    {TASK_RUNNING, "running", "XBB.........B."},
    {TASK_PAUSING, "pausing", "XBB......B.BBB"},
    {TASK_PAUSED, "paused", "XBB......B.B.."},
    {TASK_RESUMING, "resuming", "XBB......B.BBB"},
    {TASK_STOPPED, "stopped", "XB...N..BBBBBB"},
    {TASK_DELETING, "deleting", "XBB..N..BBBBBB"},
};

static const struct row exec_rows[] = {
    {TASK_CREATED, "created", "N...NB..NX.NNN"},
    {TASK_STARTING, "starting", "NBB.N...NXBNNN"},
    {TASK_RUNNING, "running", "NBB.N...NX.NNN"},
    {TASK_STOPPED, "stopped", "NB..NN..NXBNNN"},
    {TASK_DELETING, "deleting", "NBB.NN..NXBNNN"},
};

typedef int refuses_fn(enum task_state state, enum task_call call);

static void check_row(const struct row *row, refuses_fn *refuses)
{
    assert_int_equal(strlen(row->calls), TASK_CALL_COUNT);
    for (int call = 0; call < TASK_CALL_COUNT; call++) {
        int wanted = 0;

        if (row->calls[call] == 'N')
            wanted = ENOENT;
        if (row->calls[call] == 'X')
            wanted = EEXIST;
        if (row->calls[call] == 'B')
            wanted = EBUSY;
        if (refuses(row->state, (enum task_call)call) != wanted)
            fail_msg("state %s, call %d: not %c", row->name, call,
                     row->calls[call]);
    }
    assert_true(strlen(task_state_text(row->state)) > 0);
}

static void test_every_cell(void **state)
{
    (void)state;
    assert_int_equal(sizeof(rows) / sizeof(rows[0]), TASK_STATE_COUNT);
    for (size_t i = 0; i < TASK_STATE_COUNT; i++)
        check_row(&rows[i], task_state_refuses);
}

static void test_every_cell_of_execs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(exec_rows) / sizeof(exec_rows[0]); i++)
        check_row(&exec_rows[i], exec_state_refuses);
}

static void test_what_lives(void **state)
{
    static const enum task_state dead[] = {TASK_NONE, TASK_CREATING,
                                           TASK_STOPPED, TASK_DELETING};
    int live = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(dead) / sizeof(dead[0]); i++)
        assert_false(task_state_live(dead[i]));
    for (int s = 0; s < TASK_STATE_COUNT; s++)
        live += task_state_live((enum task_state)s);
    assert_int_equal(live, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cell),
        cmocka_unit_test(test_every_cell_of_execs),
        cmocka_unit_test(test_what_lives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
