/*
 * Jobs and the workers that die. This program is the worker, too: it does one
 * job and ends.
 */
#include "tests/unit/unit.h"

#include <poll.h>
#include <unistd.h>

#include "domus/log.h"
#include "src/daemon/pool.h"

#define DEADLINE 20000
#define WORKERS  2

static struct loop *loop;
static struct pool *pool;
static unsigned int done, failed, wanted;
static struct err last;

static int be_worker(void)
{
    struct pollfd packets = {.fd = JOB_FD, .events = POLLIN};
    char none[] = "";
    const struct job_result result = {.text = none};
    struct packet packet;
    struct err e = ERR_INIT;

    (void)poll(&packets, 1, DEADLINE);
    if (packet_receive(JOB_FD, &job_protocol, &packet, &e) < 0 ||
        packet_send(JOB_FD, &job_protocol, JOB_RESULT, packet.id, &result, &e) <
            0)
        return 1;
    packet_clear(&job_protocol, &packet);
    return 0;
}

static void on_done(void *context, const struct packet *reply,
                    const struct err *error)
{
    (void)context;
    (void)reply;
    done++;
    if (error) {
        failed++;
        last = *error;
    }
    /* Until the worker has ended, which the loop does not know yet. */
    (void)usleep(300000);
    if (done == wanted)
        loop_stop(loop);
}

static void too_late(void *context)
{
    (void)context;
    loop_stop(loop);
}

static void do_jobs(const char *program, unsigned int n)
{
    struct loop_timer *timer = loop_add_timer(loop, DEADLINE, too_late, NULL);
    struct err e = ERR_INIT;

    pool = pool_new(loop, program, WORKERS);
    pool_prestart(pool);
    wanted = n;
    for (unsigned int i = 0; i < n; i++)
        pool_submit(pool, JOB_HOST, NULL, DEADLINE, on_done, NULL);
    assert_ok(loop_run(loop, &e), e);
    loop_remove_timer(&timer);
    pool_free(pool);
    assert_int_equal(done, n);
}

static int setup(void **state)
{
    (void)state;
    done = failed = 0;
    loop = loop_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

/* Each is sent to a worker that is just dead, or that will be. */
static void a_job_for_a_dead_worker(void **state)
{
    (void)state;
    do_jobs("/proc/self/exe", 6);
    if (failed)
        fail_msg("%u: %s", failed, last.text);
}

static void workers_that_never_live(void **state)
{
    (void)state;
    do_jobs("/bin/true", 3);
    assert_int_equal(failed, 3);
    assert_non_null(strstr(last.text, "builder"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job_for_a_dead_worker, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(workers_that_never_live, setup,
                                        teardown),
    };

    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return be_worker();
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
