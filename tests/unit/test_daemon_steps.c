/*
 * Steps with undo: a table like that of a sandbox, a after nothing, b and c
 * after a, d after b and c. What was called is written down as letters: "a"
 * for a run, "A" for an undo.
 */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "domus/mem.h"
#include "src/daemon/permit.h"
#include "src/daemon/steps.h"

static struct steps steps;
static char calls[64];
static bool later;       /* steps end by finish() */
static bool cancellable; /* the third */
static int failing_run;  /* index, or -1 */
static int failing_undo; /* index, or -1 */
static char ran_text[ERR_TEXT_MAX], undone_text[ERR_TEXT_MAX];
static int ran_count, undone_count;

static void note(char c)
{
    size_t n = strlen(calls);

    assert_true(n + 1 < sizeof(calls));
    calls[n] = c;
    calls[n + 1] = '\0';
}

static void finish(unsigned int i, bool fails)
{
    struct err e = ERR_INIT;

    (void)err_set(&e, EIO, "no luck");
    steps_done(&steps, i, fails ? &e : NULL);
}

static void run_step(int i)
{
    note((char)('a' + i));
    if (!later)
        finish((unsigned int)i, failing_run == i);
}

static void undo_step(int i)
{
    note((char)('A' + i));
    if (!later)
        finish((unsigned int)i, failing_undo == i);
}

#define STEP(i)                   \
    static void run_##i(void *c)  \
    {                             \
        (void)c;                  \
        run_step(i);              \
    }                             \
    static void undo_##i(void *c) \
    {                             \
        (void)c;                  \
        undo_step(i);             \
    }
STEP(0)
STEP(1)
STEP(2)
STEP(3)

static bool cancel_2(void *c)
{
    (void)c;
    if (!cancellable)
        return false;
    note('-');
    finish(2, true);
    return true;
}

static const struct step table[] = {
    {"first", 0, run_0, undo_0, NULL},
    {"left", 1, run_1, undo_1, NULL},
    {"right", 1, run_2, undo_2, cancel_2},
    {"last", 6, run_3, undo_3, NULL},
};

static void ran(void *context, const struct err *error)
{
    (void)context;
    ran_count++;
    (void)snprintf(ran_text, sizeof(ran_text), "%s", error ? error->text : "");
}

static void undone(void *context, const struct err *error)
{
    (void)context;
    undone_count++;
    (void)snprintf(undone_text, sizeof(undone_text), "%s",
                   error ? error->text : "");
}

static int setup(void **state)
{
    (void)state;
    steps_init(&steps, table, ARRAY_SIZE(table), NULL);
    calls[0] = ran_text[0] = undone_text[0] = '\0';
    later = cancellable = false;
    failing_run = failing_undo = -1;
    ran_count = undone_count = 0;
    return 0;
}

static void all_at_once(void **state)
{
    (void)state;
    steps_run(&steps, ran);
    assert_string_equal(calls, "abcd");
    assert_int_equal(ran_count, 1);
    assert_string_equal(ran_text, "");
    steps_undo(&steps, undone);
    assert_string_equal(calls, "abcdDCBA");
    assert_int_equal(undone_count, 1);
    assert_int_equal(steps.begun, 0);
}

static void each_failure(void **state)
{
    static const char *const wanted[] = {"aA", "abBA", "abcCBA", "abcdDCBA"};
    static const char *const names[] = {"first", "left", "right", "last"};

    for (int i = 0; i < 4; i++) {
        (void)setup(state);
        failing_run = i;
        steps_run(&steps, ran);
        assert_string_equal(calls, wanted[i]);
        assert_int_equal(ran_count, 1);
        assert_non_null(strstr(ran_text, names[i]));
        assert_non_null(strstr(ran_text, "no luck"));
        assert_int_equal(steps.begun, 0);
    }
}

static void side_by_side(void **state)
{
    (void)state;
    later = true;
    steps_run(&steps, ran);
    assert_string_equal(calls, "a");
    finish(0, false);
    assert_string_equal(calls, "abc");
    finish(2, false);
    assert_string_equal(calls, "abc");
    finish(1, false);
    assert_string_equal(calls, "abcd");
    assert_int_equal(ran_count, 0);
    finish(3, false);
    assert_int_equal(ran_count, 1);
}

static void failure_waits_for_the_other(void **state)
{
    (void)state;
    later = true;
    steps_run(&steps, ran);
    finish(0, false);
    finish(1, true);
    assert_string_equal(calls, "abc");
    assert_int_equal(ran_count, 0);
    finish(2, false);
    assert_string_equal(calls, "abcC");
    finish(2, false);
    finish(1, false);
    finish(0, false);
    assert_string_equal(calls, "abcCBA");
    assert_int_equal(ran_count, 1);
    assert_non_null(strstr(ran_text, "left: no luck"));
}

static void what_takes_long_is_cancelled(void **state)
{
    (void)state;
    later = cancellable = true;
    steps_run(&steps, ran);
    finish(0, false);
    steps_undo(&steps, undone);
    assert_string_equal(calls, "abc-");
    steps_undo(&steps, undone);
    finish(1, false);
    finish(2, false);
    finish(1, false);
    finish(0, false);
    assert_string_equal(calls, "abc-CBA");
    assert_non_null(strstr(ran_text, "destroyed while being created"));
    assert_int_equal(ran_count, 1);
    assert_int_equal(undone_count, 1);
}

static void a_failure_cancels_what_takes_long(void **state)
{
    (void)state;
    later = cancellable = true;
    steps_run(&steps, ran);
    finish(0, false);
    finish(1, true);
    assert_string_equal(calls, "abc-C");
    finish(2, false);
    finish(1, false);
    finish(0, false);
    assert_string_equal(calls, "abc-CBA");
    assert_non_null(strstr(ran_text, "left: no luck"));
}

static void undone_while_it_runs(void **state)
{
    (void)state;
    later = true;
    steps_run(&steps, ran);
    finish(0, false);
    steps_undo(&steps, undone);
    steps_undo(&steps, undone);
    finish(1, false);
    assert_string_equal(calls, "abc");
    finish(2, false);
    finish(2, false);
    finish(1, false);
    assert_int_equal(undone_count, 0);
    finish(0, false);
    assert_string_equal(calls, "abcCBA");
    assert_int_equal(ran_count, 1);
    assert_non_null(strstr(ran_text, "destroyed while being created"));
    assert_int_equal(undone_count, 1);
    assert_string_equal(undone_text, "");
}

static void undo_fails_and_is_tried_again(void **state)
{
    (void)state;
    steps_run(&steps, ran);
    failing_undo = 1;
    steps_undo(&steps, undone);
    assert_string_equal(calls, "abcdDCB");
    assert_non_null(strstr(undone_text, "left: no luck"));
    assert_int_equal(steps.begun, 3);
    failing_undo = -1;
    steps_undo(&steps, undone);
    assert_string_equal(calls, "abcdDCBBA");
    assert_string_equal(undone_text, "");
    assert_int_equal(undone_count, 2);
}

static void permits(void **state)
{
    (void)state;
    assert_int_equal(permit_role(0), ROLE_ROOT);
    assert_int_equal(permit_role(1000), ROLE_OTHER);
    for (uint16_t type = 0; type < CTL_TYPE_COUNT + 2; type++) {
        static const bool requests[CTL_TYPE_COUNT + 2] = {
            [CTL_CREATE] = true,  [CTL_ATTACH] = true, [CTL_DESTROY] = true,
            [CTL_CONSOLE] = true, [CTL_LIST] = true,   [CTL_PAUSE] = true,
            [CTL_RESUME] = true,  [CTL_UPDATE] = true, [CTL_HOOKS] = true,
            [CTL_LOGGER] = true,
        };

        assert_int_equal(permit_allows(ROLE_ROOT, type), requests[type]);
        assert_false(permit_allows(ROLE_OTHER, type));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(all_at_once, setup),
        cmocka_unit_test_setup(each_failure, setup),
        cmocka_unit_test_setup(side_by_side, setup),
        cmocka_unit_test_setup(failure_waits_for_the_other, setup),
        cmocka_unit_test_setup(what_takes_long_is_cancelled, setup),
        cmocka_unit_test_setup(a_failure_cancels_what_takes_long, setup),
        cmocka_unit_test_setup(undone_while_it_runs, setup),
        cmocka_unit_test_setup(undo_fails_and_is_tried_again, setup),
        cmocka_unit_test(permits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
