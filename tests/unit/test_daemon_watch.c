/*
 * The watcher is told what to watch, however much of it there is. This program
 * is the watcher, too: it is slow to begin, tells of each domain that it is to
 * watch that it died, and of each that it is to forget that it has a channel.
 */
#include "tests/unit/unit.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "domus/ctl.h"
#include "domus/mem.h"
#include "src/daemon/watch.h"

#define DEADLINE 20000
/* A watcher that is to watch this one ends. */
#define DEADLY 7777

static struct loop *loop;
static struct watch *watch;
static unsigned watched, forgotten;
static unsigned wanted_watched, wanted_forgotten;
static bool late;

static void send_all(enum job_type type, const void *body)
{
    struct pollfd room = {.fd = JOB_FD, .events = POLLOUT};
    struct err e = ERR_INIT;

    while (packet_send(JOB_FD, &job_protocol, (uint16_t)type, 0, body, &e) ==
           -EAGAIN)
        (void)poll(&room, 1, -1);
}

static void answer(const struct packet *packet)
{
    static char text[] = "as the test says";
    const union job_body *body = packet->body;
    struct job_died died = {body->domain.domid, body->domain.uuid, text};
    struct job_channel channel = {body->domain.domid, body->domain.uuid, text};

    if (packet->type == JOB_UNWATCH)
        send_all(JOB_CHANNEL, &channel);
    else if (died.domid == DEADLY)
        _exit(0);
    else
        send_all(JOB_DIED, &died);
}

static int be_watcher(void)
{
    struct pollfd packets = {.fd = JOB_FD, .events = POLLIN};
    struct packet packet;
    struct err e = ERR_INIT;
    int r;

    (void)usleep(300000);
    for (;;) {
        (void)poll(&packets, 1, -1);
        r = packet_receive(JOB_FD, &job_protocol, &packet, &e);
        if (r == -EAGAIN)
            continue;
        if (r < 0)
            return 0;
        answer(&packet);
        packet_clear(&job_protocol, &packet);
    }
}

static void check(void)
{
    if (watched >= wanted_watched && forgotten >= wanted_forgotten)
        loop_stop(loop);
}

static void on_died(void *context, const struct job_died *died)
{
    (void)context;
    (void)died;
    watched++;
    check();
}

static void on_channel(void *context, const struct job_channel *channel)
{
    (void)context;
    (void)channel;
    forgotten++;
    check();
}

static const struct watch_handler handler = {
    .channel = on_channel,
    .died = on_died,
};

static void too_late(void *context)
{
    (void)context;
    late = true;
    loop_stop(loop);
}

/* Until so many are told of, since the last time. */
static void expect(unsigned watches, unsigned forgets)
{
    struct loop_timer *timer = loop_add_timer(loop, DEADLINE, too_late, NULL);
    struct err e = ERR_INIT;

    wanted_watched = watches;
    wanted_forgotten = forgets;
    if (watched < watches || forgotten < forgets)
        assert_ok(loop_run(loop, &e), e);
    loop_remove_timer(&timer);
    assert_false(late);
    assert_int_equal(watched, watches);
    assert_int_equal(forgotten, forgets);
    watched = forgotten = 0;
}

static void add(uint32_t domid)
{
    _cleanup_free_ char *uuid =
        xasprintf("00000000-0000-4000-8000-%012u", domid);

    watch_add(watch, domid, uuid);
}

static int setup(void **state)
{
    (void)state;
    watched = forgotten = 0;
    late = false;
    loop = loop_new();
    watch = watch_new(loop, "/proc/self/exe", &handler, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    watch_free(watch);
    loop_free(loop);
    return 0;
}

static void as_many_as_a_host_may_have(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= CTL_LIST_MAX; i++)
        add(i);
    expect(CTL_LIST_MAX, 0);
    for (uint32_t i = 1; i <= CTL_LIST_MAX; i++)
        watch_remove(watch, i);
    expect(0, CTL_LIST_MAX);
}

static void what_goes_before_it_was_told(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= CTL_LIST_MAX; i++)
        add(i);
    for (uint32_t i = 1; i <= CTL_LIST_MAX; i++)
        watch_remove(watch, i);
    add(1);
    /* Of the others as many as were told, and each forgotten. */
    wanted_watched = 1;
    wanted_forgotten = UINT32_MAX;
    loop_add_timer(loop, 2000, too_late, NULL);
    assert_int_equal(loop_run(loop, &(struct err){0}), 0);
    assert_true(watched < CTL_LIST_MAX);
    assert_int_equal(watched, forgotten + 1);
}

static void the_next_watcher_is_told_all(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= 400; i++)
        add(i);
    expect(400, 0);
    add(DEADLY);
    watch_remove(watch, DEADLY);
    for (uint32_t i = 1; i <= 50; i++)
        watch_remove(watch, i);
    expect(350, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_many_as_a_host_may_have, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_goes_before_it_was_told, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_next_watcher_is_told_all, setup,
                                        teardown),
    };

    if (argc == 2 && strcmp(argv[1], "watcher") == 0)
        return be_watcher();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
