#include "tests/unit/unit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domus/loop.h"
#include "domus/mem.h"

static struct loop *loop;
static int ends[2];
static unsigned calls;
static char order[32];

static int set_up(void **state)
{
    (void)state;
    calls = 0;
    order[0] = '\0';
    loop = loop_new();
    return pipe2(ends, O_CLOEXEC | O_NONBLOCK);
}

static int tear_down(void **state)
{
    (void)state;
    loop_free(loop);
    close_fd(&ends[0]);
    close_fd(&ends[1]);
    return 0;
}

static void run(void)
{
    struct err e = ERR_INIT;

    assert_ok(loop_run(loop, &e), e);
}

static void stop(void *context)
{
    (void)context;
    loop_stop(loop);
}

static void note(void *context)
{
    strncat(order, context, sizeof(order) - strlen(order) - 1);
}

static void count_and_stop(void *context, short revents)
{
    (void)context;
    (void)revents;
    calls++;
    loop_stop(loop);
}

static void count_and_drain(void *context, short revents)
{
    char byte;

    (void)context;
    (void)revents;
    calls++;
    (void)!read(ends[0], &byte, 1);
}

static void timers_fire_in_order(void **state)
{
    int64_t start = loop_now();

    (void)state;
    loop_add_timer(loop, 30, note, (void *)"c");
    loop_add_timer(loop, 10, note, (void *)"a");
    loop_add_timer(loop, 20, note, (void *)"b");
    loop_add_timer(loop, 0, note, (void *)"0");
    loop_add_timer(loop, 0, note, (void *)"1");
    loop_add_timer(loop, 40, stop, NULL);
    run();
    assert_string_equal(order, "01abc");
    assert_true(loop_now() - start >= 40);
}

static struct loop_timer *doomed;

static void remove_doomed(void *context)
{
    note(context);
    loop_remove_timer(&doomed);
    assert_null(doomed);
}

static void timers_can_be_removed(void **state)
{
    struct loop_timer *timer = loop_add_timer(loop, 5, note, (void *)"x");

    (void)state;
    loop_remove_timer(&timer);
    assert_null(timer);
    loop_remove_timer(&timer);
    /* From the callback of another one that is due at the same time. */
    loop_add_timer(loop, 0, remove_doomed, (void *)"r");
    doomed = loop_add_timer(loop, 0, note, (void *)"x");
    loop_add_timer(loop, 10, stop, NULL);
    run();
    assert_string_equal(order, "r");
}

static void again(void *context)
{
    note(context);
    if (strlen(order) < 5)
        loop_add_timer(loop, 0, again, context);
    else
        loop_stop(loop);
}

static void timers_can_be_added_by_timers(void **state)
{
    (void)state;
    loop_add_timer(loop, 0, again, (void *)".");
    run();
    assert_string_equal(order, ".....");
}

static void descriptors_are_told(void **state)
{
    struct loop_fd *source =
        loop_add_fd(loop, ends[0], POLLIN, count_and_stop, NULL);

    (void)state;
    (void)!write(ends[1], "x", 1);
    run();
    assert_int_equal(calls, 1);
    loop_remove_fd(&source);
    assert_null(source);
    loop_remove_fd(&source);
    loop_add_timer(loop, 10, stop, NULL);
    run();
    assert_int_equal(calls, 1);
}

static void interest_can_change(void **state)
{
    struct loop_fd *source =
        loop_add_fd(loop, ends[0], 0, count_and_stop, NULL);

    (void)state;
    (void)!write(ends[1], "x", 1);
    loop_add_timer(loop, 10, stop, NULL);
    run();
    assert_int_equal(calls, 0);
    loop_fd_events(source, POLLIN);
    run();
    assert_int_equal(calls, 1);
}

static void muted_means_not_even_hang_up(void **state)
{
    struct loop_fd *source =
        loop_add_fd(loop, ends[0], 0, count_and_stop, NULL);

    (void)state;
    close_fd(&ends[1]);
    loop_fd_mute(source, 1);
    loop_add_timer(loop, 10, stop, NULL);
    run();
    assert_int_equal(calls, 0);
    loop_fd_mute(source, 0);
    run();
    assert_int_equal(calls, 1);
}

static struct loop_fd *first, *second;

static void remove_both(void *context, short revents)
{
    (void)context;
    (void)revents;
    calls++;
    loop_remove_fd(&first);
    loop_remove_fd(&second);
    loop_add_timer(loop, 10, stop, NULL);
}

static void a_callback_may_remove_everything(void **state)
{
    (void)state;
    (void)!write(ends[1], "x", 1);
    first = loop_add_fd(loop, ends[0], POLLIN, remove_both, NULL);
    second = loop_add_fd(loop, ends[1], POLLOUT, remove_both, NULL);
    run();
    /* Both were ready in that round; only one was called. */
    assert_int_equal(calls, 1);
}

static void add_more(void *context, short revents)
{
    (void)context;
    (void)revents;
    loop_remove_fd(&first);
    note((void *)"a");
    for (int i = 0; i < 40; i++)
        loop_add_fd(loop, ends[0], POLLIN, count_and_stop, NULL);
}

static void a_callback_may_add_many(void **state)
{
    (void)state;
    (void)!write(ends[1], "x", 1);
    first = loop_add_fd(loop, ends[0], POLLIN, add_more, NULL);
    run();
    assert_string_equal(order, "a");
    assert_int_equal(calls, 1);
}

static void busy_descriptors_do_not_starve_timers(void **state)
{
    (void)state;
    loop_add_fd(loop, ends[1], POLLOUT, count_and_drain, NULL);
    loop_add_timer(loop, 20, stop, NULL);
    run();
    assert_true(calls > 1);
}

static pid_t start_child(int how)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (how < 0)
            (void)kill(getpid(), -how);
        _exit(how);
    }
    assert_true(pid > 0);
    return pid;
}

static int ended_status;
static pid_t ended_pid;

static void child_ended(void *context, pid_t pid, int status)
{
    (void)context;
    ended_pid = pid;
    ended_status = status;
    if (++calls == 1)
        loop_stop(loop);
}

static void children_are_reaped(void **state)
{
    const int how[] = {0, 7, 255, -SIGKILL, -SIGTERM};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
        pid_t pid = start_child(how[i]);
        struct err e = ERR_INIT;

        calls = 0;
        assert_ok(loop_add_child(loop, pid, child_ended, NULL, &e), e);
        run();
        assert_int_equal(ended_pid, pid);
        if (how[i] < 0)
            assert_int_equal(WTERMSIG(ended_status), -how[i]);
        else
            assert_int_equal(WEXITSTATUS(ended_status), how[i]);
        assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
    }
}

static void a_stranger_cannot_be_watched(void **state)
{
    pid_t pid = start_child(0);
    struct err e = ERR_INIT;

    (void)state;
    (void)waitpid(pid, NULL, 0);
    assert_int_equal(loop_add_child(loop, pid, child_ended, NULL, &e), -ESRCH);
    assert_said(e, ESRCH, "cannot watch process");
}

static void freeing_a_full_loop_leaves_nothing(void **state)
{
    pid_t pid = start_child(0);
    struct err e = ERR_INIT;

    (void)state;
    loop_add_fd(loop, ends[0], POLLIN, count_and_stop, NULL);
    loop_add_timer(loop, 1000, stop, NULL);
    assert_ok(loop_add_child(loop, pid, child_ended, NULL, &e), e);
    loop_free(loop);
    loop = NULL;
    loop_free(loop);
    (void)waitpid(pid, NULL, 0);
    assert_int_equal(calls, 0);
}

static void the_clock_goes_forward(void **state)
{
    uint64_t a = loop_now_ns();
    int64_t b = loop_now();

    (void)state;
    assert_true(b >= (int64_t)(a / 1000000));
    assert_true(loop_now_ns() >= a);
}

#define with_loop(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_loop(timers_fire_in_order),
        with_loop(timers_can_be_removed),
        with_loop(timers_can_be_added_by_timers),
        with_loop(descriptors_are_told),
        with_loop(interest_can_change),
        with_loop(muted_means_not_even_hang_up),
        with_loop(a_callback_may_remove_everything),
        with_loop(a_callback_may_add_many),
        with_loop(busy_descriptors_do_not_starve_timers),
        with_loop(children_are_reaped),
        with_loop(a_stranger_cannot_be_watched),
        with_loop(freeing_a_full_loop_leaves_nothing),
        with_loop(the_clock_goes_forward),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
