/* Many processes in a container: order, pauses, and what they leave. */
#include "tests/unit/agent_exec.h"

#include <dirent.h>
#include <sys/syscall.h>

#include "src/agent/start.h"

/* However the first process ends, its execs are told first, each once. */
static void end_in_order(bool pid_namespace, bool by_delete)
{
    enum { COUNT = 8 };
    struct proto_create create = rig_create("web1", "exec sleep 600");
    uint32_t request = 0;
    unsigned told = 0;

    if (!pid_namespace)
        create.container.namespaces &= ~(uint64_t)CLONE_NEWPID;
    begin(&create);
    for (unsigned i = 0; i < COUNT; i++) {
        char name[16];
        struct proto_exec exec;

        (void)snprintf(name, sizeof(name), "x%u", i);
        exec = rig_exec("web1", name, "trap '' TERM; sleep 600 & wait; wait");
        assert_int_equal(rig_result(rig, rig_send_exec(rig, &exec), NULL), 0);
    }
    if (by_delete)
        request = rig_ask(rig, PROTO_DELETE, "web1");
    else
        assert_int_equal(rig_result(rig, rig_signal(rig, "web1", 9, 0), NULL),
                         0);
    for (unsigned i = 0; i <= COUNT; i++) {
        struct proto_message m = rig_take(rig, PROTO_EXITED, 0);
        unsigned number = COUNT;

        assert_int_equal(m.body.exited.status, 137);
        if (i < COUNT)
            assert_int_equal(sscanf(m.body.exited.exec, "x%u", &number), 1);
        else
            assert_string_equal(m.body.exited.exec, "");
        assert_false(told & 1u << number);
        told |= 1u << number;
        proto_clear(&m);
    }
    if (by_delete)
        assert_int_equal(rig_result(rig, request, NULL), 0);
    else
        rig_delete(rig, "web1");
    assert_nothing_more();
}

static void test_order_of_exits(void **state)
{
    (void)state;
    end_in_order(true, false);
    end_in_order(false, false);
    end_in_order(true, true);
    end_in_order(false, true);
}

/* Without a reader in between: each answer comes before its exit. */
static void test_answer_before_exit(void **state)
{
    (void)state;
    begin_usual();
    for (unsigned i = 0; i < 50; i++) {
        struct proto_exec exec = rig_exec("web1", "one", "exit 4");
        uint32_t request = rig_send_exec(rig, &exec);

        while (rig->count == 0)
            rig_turn(rig);
        assert_int_equal(rig->messages[0].type, PROTO_RESULT);
        assert_int_equal(rig_result(rig, request, NULL), 0);
        assert_int_equal(rig_wait_exit_of(rig, "web1", "one"), 4);
    }
    finish();
}

static void test_signal_all(void **state)
{
    struct proto_exec exec = rig_exec("web1", "one", "exec sleep 600");
    uint32_t request;

    (void)state;
    begin_usual();
    assert_int_equal(rig_result(rig, rig_send_exec(rig, &exec), NULL), 0);
    /* The first process of a pid namespace is deaf to it. */
    request = rig_signal(rig, "web1", SIGTERM, true);
    assert_int_equal(rig_result(rig, request, NULL), 0);
    assert_int_equal(rig_wait_exit_of(rig, "web1", "one"), 128 + SIGTERM);
    exec = rig_exec("web1", "one", "exec sleep 600");
    assert_int_equal(rig_result(rig, rig_send_exec(rig, &exec), NULL), 0);
    request = rig_signal(rig, "web1", SIGKILL, true);
    assert_int_equal(rig_wait_exit_of(rig, "web1", "one"), 137);
    assert_int_equal(rig_wait_exit(rig, "web1"), 137);
    assert_int_equal(rig_result(rig, request, NULL), 0);
    rig_delete(rig, "web1");
}

/* Nothing of it moves, and all of it moves again. */
static void test_pause(void **state)
{
    struct proto_exec exec =
        rig_exec("web1", "one",
                 "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done");
    struct stat before, after;
    int out;

    (void)state;
    begin_usual();
    exec.stdout_stream = 51;
    out = rig_collect(rig, 51);
    assert_int_equal(rig_result(rig, rig_send_exec(rig, &exec), NULL), 0);
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_PAUSE, "web1"), NULL), 0);
    /* What was under way comes before this answer. */
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_PAUSE, "web1"), NULL), EBUSY);
    (void)usleep(50000);
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_PAUSE, "web1"), NULL), EBUSY);
    assert_int_equal(fstat(out, &before), 0);
    (void)usleep(200000);
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_PAUSE, "web1"), NULL), EBUSY);
    assert_int_equal(fstat(out, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_RESUME, "web1"), NULL), 0);
    while (after.st_size == before.st_size) {
        turn();
        assert_int_equal(fstat(out, &after), 0);
    }
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_PAUSE, "web1"), NULL), 0);
    assert_int_equal(
        rig_result(rig, rig_signal_exec(rig, "web1", "one", SIGKILL), NULL), 0);
    assert_int_equal(rig_wait_exit_of(rig, "web1", "one"), 137);
    /* DELETE ends a paused container, too. */
    finish();
    rig_wait_streams(rig);
    (void)close(out);
}

static int update(const char *id, const char *name, const char *value,
                  struct err *said)
{
    struct proto_message m = {.type = PROTO_UPDATE};
    uint32_t request;

    m.body.update.container = xstrdup(id);
    m.body.update.check_memory = true;
    spec_setting_add(&m.body.update.cgroup, name, value);
    request = rig_send(rig, &m);
    proto_clear(&m);
    return rig_result(rig, request, said);
}

/* Its files are tried in test_agent_cgroup. */
static void test_update(void **state)
{
    struct err said = ERR_INIT;

    (void)state;
    assert_int_equal(update("web2", "pids.max", "7", NULL), ENOENT);
    begin_usual();
    assert_int_equal(update("web1", "cgroup.freeze", "1", &said), EINVAL);
    assert_said(said, EINVAL, "update container web1: set cgroup.freeze");
    assert_int_equal(update("web1", "no.such", "1", &said), ENOTSUP);
    assert_said(said, ENOTSUP, "limit no.such");
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_PAUSE, "web1"), NULL), 0);
    assert_int_equal(update("web1", "no.such", "1", NULL), ENOTSUP);
    assert_int_equal(rig_result(rig, rig_signal(rig, "web1", 9, 0), NULL), 0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 137);
    assert_int_equal(update("web1", "no.such", "1", &said), EBUSY);
    assert_said(said, EBUSY, "web1 is stopped");
    rig_delete(rig, "web1");
}

/* Many in preparation when the container ends: each is answered, and each that
 * was answered well has an exit, before the container's. */
static void test_exec_races_with_end(void **state)
{
    enum { COUNT = 32, ROUNDS = 6 };

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint32_t requests[COUNT], kill_request = 0;
        unsigned running = 0;

        begin_usual();
        for (unsigned i = 0; i < COUNT; i++) {
            char name[16];
            struct proto_exec exec;

            (void)snprintf(name, sizeof(name), "x%u", i);
            exec = rig_exec("web1", name, "exec sleep 600");
            requests[i] = rig_send_exec(rig, &exec);
            if (i == round * COUNT / ROUNDS)
                kill_request = rig_signal(rig, "web1", SIGKILL, round & 1);
        }
        assert_int_equal(rig_result(rig, kill_request, NULL), 0);
        for (unsigned i = 0; i < COUNT; i++)
            running += rig_result(rig, requests[i], NULL) == 0;
        for (unsigned i = 0; i <= running; i++) {
            struct proto_message m = rig_take(rig, PROTO_EXITED, 0);

            assert_int_equal(m.body.exited.exec[0] == '\0', i == running);
            proto_clear(&m);
        }
        rig_delete(rig, "web1");
        assert_nothing_more();
    }
}

/* What a heap that is used again may differ by; a sanitizer keeps what was
 * freed for a while. */
#ifdef __SANITIZE_ADDRESS__
#define HEAP_SLACK (256UL * 1024 * 1024)
#else
#define HEAP_SLACK (512UL * 1024)
#endif

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static unsigned agent_descriptors(void)
{
    _cleanup_free_ char *path = xasprintf("/proc/%d/fd", (int)rig->agent);
    _cleanup_closedir_ DIR *dir = opendir(path);
    unsigned n = 0;

    /* What was told before is done by the next answer. */
    turn();
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    return n;
}

static unsigned long agent_memory(void)
{
    _cleanup_free_ char *path = xasprintf("/proc/%d/statm", (int)rig->agent);
    _cleanup_fclose_ FILE *file = fopen(path, "re");
    unsigned long pages = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %lu", &pages), 1);
    return pages * 4096;
}

static unsigned agent_children(void)
{
    _cleanup_free_ char *path = xasprintf("/proc/%d/task/%d/children",
                                          (int)rig->agent, (int)rig->agent);
    _cleanup_fclose_ FILE *file = fopen(path, "re");
    unsigned n = 0;

    assert_non_null(file);
    while (fscanf(file, "%*u") != EOF)
        n++;
    return n;
}

static void run_many(unsigned count, double *took)
{
    for (unsigned i = 0; i < count; i++) {
        struct proto_exec exec = rig_exec("web1", "one", "echo out");
        uint64_t start = loop_now_ns();
        char output[64];

        /* In turn with a terminal, with input, and failing. */
        exec.process.terminal = i % 4 == 1;
        if (i % 4 == 2) {
            exec.stdin_stream = 2;
            rig->streams_open++;
            (void)stream_add_source(rig->link, 2,
                                    memfd_create("in", MFD_CLOEXEC),
                                    rig_stream_done, rig);
        }
        if (i % 4 == 3) {
            set_program(&exec, "/none");
            (void)refused(&exec);
        } else {
            assert_int_equal(run(&exec, output, sizeof(output)), 0);
            assert_memory_equal(output, "out", 3);
        }
        if (took)
            took[i] = (double)(loop_now_ns() - start) / 1e6;
    }
}

static void test_many_leave_nothing(void **state)
{
    enum { COUNT = 300, AT_ONCE = 64, ROUNDS = 3 };
    double took[COUNT];
    unsigned descriptors;
    unsigned long memory;

    (void)state;
    begin_usual();
    run_many(20, NULL);
    descriptors = agent_descriptors();
    memory = agent_memory();
    run_many(COUNT, took);
    qsort(took, COUNT, sizeof(took[0]), compare);
    print_message("# exec of busybox sh: median %.2f ms\n", took[COUNT / 2]);
    assert_int_equal(agent_descriptors(), descriptors);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < AT_ONCE; i++) {
            char name[16];
            struct proto_exec exec;

            (void)snprintf(name, sizeof(name), "x%u", i);
            exec = rig_exec("web1", name, "read x; echo $x");
            exec.stdin_stream = 100 + 2 * i;
            exec.stdout_stream = 101 + 2 * i;
            (void)close(rig_collect(rig, exec.stdout_stream));
            assert_int_equal(rig_result(rig, rig_send_exec(rig, &exec), NULL),
                             0);
        }
        assert_true(agent_descriptors() > descriptors + AT_ONCE);
        for (unsigned i = 0; i < AT_ONCE; i++) {
            rig->streams_open++;
            (void)stream_add_source(rig->link, 100 + 2 * i, -1, rig_stream_done,
                                    rig);
        }
        for (unsigned i = 0; i < AT_ONCE; i++) {
            struct proto_message m = rig_take(rig, PROTO_EXITED, 0);

            assert_int_equal(m.body.exited.exec[0], 'x');
            proto_clear(&m);
        }
        rig_wait_streams(rig);
    }
    assert_int_equal(agent_descriptors(), descriptors);
    assert_int_equal(agent_children(), 1);
    assert_true(agent_memory() < memory + HEAP_SLACK);
    finish();
}

/* As a process of the container can that may trace: the socket by which pid is
 * heard of does not close with it any more. */
static int take_socket(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int taken;

    assert_true(pidfd >= 0);
    taken = (int)syscall(SYS_pidfd_getfd, pidfd, START_SYNC_FD, 0);
    (void)close(pidfd);
    assert_true(taken >= 0);
    return taken;
}

static void freeze(const char *how)
{
    char path[160];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/container-web1/cgroup.freeze",
                   rig->cgroup);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, how, 1), 1);
    (void)close(fd);
}

/* Of the container's processes the one that came last, of count. */
static pid_t newest(unsigned count)
{
    char path[160];
    pid_t pid = 0;

    (void)snprintf(path, sizeof(path), "%s/container-web1/cgroup.procs",
                   rig->cgroup);
    for (unsigned found = 0; found < count;) {
        FILE *file = fopen(path, "re");
        int next;

        assert_non_null(file);
        for (found = 0; fscanf(file, "%d", &next) == 1; found++)
            pid = next > pid ? next : pid;
        (void)fclose(file);
    }
    return pid;
}

static void test_exec_whose_socket_was_taken(void **state)
{
    struct err said = ERR_INIT;

    (void)state;
    begin_usual();
    for (unsigned i = 0; i < 2; i++) {
        bool there = i == 0;
        struct proto_exec exec = rig_exec("web1", "one", "exit 5");
        uint32_t request;
        int taken;

        if (!there)
            set_program(&exec, "/no/program");
        freeze("1");
        request = rig_send_exec(rig, &exec);
        taken = take_socket(newest(2));
        freeze("0");
        assert_int_equal(rig_result(rig, request, &said), there ? 0 : ENOENT);
        if (there)
            assert_int_equal(rig_wait_exit_of(rig, "web1", "one"), 5);
        (void)close(taken);
    }
    finish();
}

static void test_container_whose_socket_was_taken(void **state)
{
    struct proto_create create = rig_create("web1", "exit 3");
    uint32_t request;
    int taken;

    (void)state;
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    taken = take_socket(newest(1));
    request = rig_ask(rig, PROTO_START, "web1");
    assert_int_equal(rig_result(rig, request, NULL), 0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 3);
    (void)close(taken);
    rig_delete(rig, "web1");
    assert_nothing_more();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_order_of_exits, clean),
        cmocka_unit_test_teardown(test_answer_before_exit, clean),
        cmocka_unit_test_teardown(test_signal_all, clean),
        cmocka_unit_test_teardown(test_pause, clean),
        cmocka_unit_test_teardown(test_update, clean),
        cmocka_unit_test_teardown(test_exec_races_with_end, clean),
        cmocka_unit_test_teardown(test_exec_whose_socket_was_taken, clean),
        cmocka_unit_test_teardown(test_container_whose_socket_was_taken, clean),
        cmocka_unit_test_teardown(test_many_leave_nothing, clean),
    };

    return cmocka_run_group_tests_name("agent execs", tests, start_rig,
                                       stop_rig);
}
