/* Every cell of the container's table of states, so that a hole is a decision.
 */
#include "tests/unit/unit.h"

#include "src/agent/container.h"

static const bool allowed[CONTAINER_STATE_COUNT][CONTAINER_EVENT_COUNT] = {
    [CONTAINER_CREATING] = {[CONTAINER_REPORT] = true, [CONTAINER_EXIT] = true},
    [CONTAINER_CREATED] = {[CONTAINER_EXIT] = true,
                           [CONTAINER_START] = true,
                           [CONTAINER_EXEC] = true,
                           [CONTAINER_SIGNAL] = true,
                           [CONTAINER_RESIZE] = true,
                           [CONTAINER_UPDATE] = true,
                           [CONTAINER_DELETE] = true},
    /* An exit while starting is handled as one while running: what the
     * process said is read first. */
    [CONTAINER_STARTING] = {[CONTAINER_REPORT] = true,
                            [CONTAINER_EXECUTED] = true,
                            [CONTAINER_SIGNAL] = true,
                            [CONTAINER_RESIZE] = true},
    [CONTAINER_RUNNING] = {[CONTAINER_EXIT] = true,
                           [CONTAINER_EXEC] = true,
                           [CONTAINER_SIGNAL] = true,
                           [CONTAINER_RESIZE] = true,
                           [CONTAINER_PAUSE] = true,
                           [CONTAINER_UPDATE] = true,
                           [CONTAINER_DELETE] = true},
    [CONTAINER_PAUSING] = {[CONTAINER_EXIT] = true,
                           [CONTAINER_SIGNAL] = true,
                           [CONTAINER_RESIZE] = true,
                           [CONTAINER_DELETE] = true},
    [CONTAINER_PAUSED] = {[CONTAINER_EXIT] = true,
                          [CONTAINER_SIGNAL] = true,
                          [CONTAINER_RESIZE] = true,
                          [CONTAINER_RESUME] = true,
                          [CONTAINER_UPDATE] = true,
                          [CONTAINER_DELETE] = true},
    [CONTAINER_RESUMING] = {[CONTAINER_EXIT] = true,
                            [CONTAINER_SIGNAL] = true,
                            [CONTAINER_RESIZE] = true,
                            [CONTAINER_DELETE] = true},
    [CONTAINER_ENDING] = {[CONTAINER_EXECS_GONE] = true,
                          [CONTAINER_SIGNAL] = true,
                          [CONTAINER_DELETE] = true},
    /* A signal is allowed, to be told that there is nobody left. */
    [CONTAINER_STOPPED] =
        {[CONTAINER_SIGNAL] = true, [CONTAINER_DELETE] = true},
    [CONTAINER_DELETING] =
        {[CONTAINER_EXIT] = true, [CONTAINER_EXECS_GONE] = true},
};

static void test_table(void **state)
{
    (void)state;
    for (unsigned s = 0; s < CONTAINER_STATE_COUNT; s++)
        for (unsigned v = 0; v < CONTAINER_EVENT_COUNT; v++)
            if (container_allows(s, v) != allowed[s][v])
                fail_msg("state %u, event %u", s, v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests_name("agent container", tests, NULL, NULL);
}
