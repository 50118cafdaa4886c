/* The agent's answers over its channel: processes, signals, streams. */
#include "tests/unit/agent_rig.h"

static struct rig *rig;

static int start_rig(void **state)
{
    (void)state;
    rig = rig_start(NULL);
    return 0;
}

static int stop_rig(void **state)
{
    (void)state;
    rig_stop(rig);
    return 0;
}

static void test_hello(void **state)
{
    char output[256];

    (void)state;
    assert_int_equal(rig_script(rig, "echo hello; hostname; echo $HOME $$",
                                output, sizeof(output)),
                     0);
    assert_string_equal(output, "hello\nhouse\n/root 1\n");
}

static void test_exit_codes(void **state)
{
    static const unsigned codes[] = {0, 1, 2, 126, 127, 128, 255};
    char output[64], script[32];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        (void)snprintf(script, sizeof(script), "exit %u", codes[i]);
        assert_int_equal(rig_script(rig, script, output, sizeof(output)),
                         codes[i]);
    }
}

/* A container that says when it is ready for a signal. */
static int start_and_wait_output(const char *id, const char *script)
{
    struct proto_create create = rig_create(id, script);
    char text[64] = "";
    int out;

    create.stdout_stream = rig->next_id * 4 + 1001;
    out = rig_collect(rig, create.stdout_stream);
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_START, id), NULL), 0);
    for (int i = 0; i < 200 && !text[0]; i++) {
        struct proto_message pids;

        /* Something to answer, so that the loop turns. */
        pids = rig_take(rig, PROTO_PIDS_RESULT, rig_ask(rig, PROTO_PIDS, id));
        proto_clear(&pids);
        assert_true(pread(out, text, sizeof(text) - 1, 0) >= 0);
        (void)usleep(10000);
    }
    assert_string_equal(text, "ready\n");
    return out;
}

static void test_signals(void **state)
{
    char output[64];
    int out;

    (void)state;
    out = start_and_wait_output("web1",
                                "trap 'echo got; exit 7' TERM; echo ready; "
                                "while :; do sleep 0.05; done");
    assert_int_equal(rig_result(rig, rig_signal(rig, "web1", SIGTERM, 0), NULL),
                     0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 7);
    rig_wait_streams(rig);
    rig_read(out, output, sizeof(output));
    assert_string_equal(output, "ready\ngot\n");
    assert_int_equal(rig_result(rig, rig_signal(rig, "web1", SIGTERM, 0), NULL),
                     ESRCH);
    rig_delete(rig, "web1");

    out = start_and_wait_output("web1", "echo ready; sleep 60");
    assert_int_equal(rig_result(rig, rig_signal(rig, "web1", SIGKILL, 0), NULL),
                     0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 128 + SIGKILL);
    rig_wait_streams(rig);
    (void)close(out);
    rig_delete(rig, "web1");
}

static void test_signal_all(void **state)
{
    char output[64];
    int out;

    (void)state;
    out = start_and_wait_output("web1",
                                "(trap 'echo child; exit' USR1; echo ready; "
                                "while :; do sleep 0.05; done) & "
                                "trap 'echo parent' USR1; wait; wait; exit 3");
    assert_int_equal(rig_result(rig, rig_signal(rig, "web1", SIGUSR1, 1), NULL),
                     0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 3);
    rig_wait_streams(rig);
    rig_read(out, output, sizeof(output));
    assert_non_null(strstr(output, "child"));
    assert_non_null(strstr(output, "parent"));
    rig_delete(rig, "web1");
}

static void test_created_then_killed(void **state)
{
    struct proto_create create = rig_create("web1", "echo never");

    (void)state;
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    assert_int_equal(rig_result(rig, rig_signal(rig, "web1", SIGKILL, 0), NULL),
                     0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 128 + SIGKILL);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_START, "web1"), NULL),
                     EBUSY);
    rig_delete(rig, "web1");
}

static void test_delete_kills(void **state)
{
    int out = start_and_wait_output("web1", "echo ready; sleep 60");
    uint32_t request;

    (void)state;
    request = rig_ask(rig, PROTO_DELETE, "web1");
    assert_int_equal(rig_wait_exit(rig, "web1"), 128 + SIGKILL);
    assert_int_equal(rig_result(rig, request, NULL), 0);
    rig_wait_streams(rig);
    (void)close(out);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_DELETE, "web1"), NULL),
                     ENOENT);
}

static void test_unknown(void **state)
{
    struct err said = ERR_INIT;

    (void)state;
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_START, "no"), &said),
                     ENOENT);
    assert_said(said, ENOENT, "no container no");
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_PIDS, "no"), NULL),
                     ENOENT);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_STATS, "no"), NULL),
                     ENOENT);
    assert_int_equal(rig_result(rig, rig_signal(rig, "no", 9, 0), NULL),
                     ENOENT);
    assert_int_equal(rig_result(rig, rig_signal(rig, "no", 0, 0), NULL),
                     EINVAL);
    assert_int_equal(rig_result(rig, rig_signal(rig, "no", 65, 0), NULL),
                     EINVAL);
}

static void test_two_at_once(void **state)
{
    struct proto_create second;
    struct err said;
    char output[64];
    int out = start_and_wait_output("web1", "echo ready; sleep 60");

    (void)state;
    second = rig_create("web1", "true");
    said = rig_refused(rig, &second);
    assert_said(said, EEXIST, "exists");
    second = rig_create("cgroup.procs", "ps | wc -l; ls /sys/fs/cgroup");
    assert_int_equal(rig_run(rig, &second, output, sizeof(output)), 0);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_DELETE, "web1"), NULL),
                     0);
    rig_wait_streams(rig);
    assert_int_equal(rig_wait_exit(rig, "web1"), 137);
    (void)close(out);
}

static void test_pids_and_stats(void **state)
{
    struct proto_message m;
    int out = start_and_wait_output(
        "web1", "sleep 60 & mkdir -p /tmp/x; echo ready; wait");

    (void)state;
    m = rig_take(rig, PROTO_PIDS_RESULT, rig_ask(rig, PROTO_PIDS, "web1"));
    assert_int_equal(m.body.pids_result.pids.n, 2);
    assert_int_not_equal(m.body.pids_result.pids.v[0].pid, 0);
    proto_clear(&m);
    m = rig_take(rig, PROTO_STATS_RESULT, rig_ask(rig, PROTO_STATS, "web1"));
    assert_true(m.body.stats_result.untrusted_files.n > 0);
    assert_string_equal(m.body.stats_result.untrusted_files.v[0].name,
                        "cpu.stat");
    assert_non_null(
        strstr(m.body.stats_result.untrusted_files.v[0].value, "usage_usec "));
    proto_clear(&m);
    rig_delete(rig, "web1");
    assert_int_equal(rig_wait_exit(rig, "web1"), 137);
    rig_wait_streams(rig);
    (void)close(out);
}

/* Random bytes through a process and back, and both streams together. */
static void test_streams(void **state)
{
    enum { SIZE = 12 * 1024 * 1024 };
    struct proto_create create = rig_create("web1", "tee /dev/stderr");
    int in = memfd_create("in", MFD_CLOEXEC), out, err;
    uint8_t *sent = xmalloc(SIZE), *came = xmalloc(SIZE);

    (void)state;
    srand(7);
    for (size_t i = 0; i < SIZE; i++)
        sent[i] = (uint8_t)rand();
    assert_int_equal(write(in, sent, SIZE), SIZE);
    assert_int_equal(lseek(in, 0, SEEK_SET), 0);
    create.stdin_stream = 11;
    create.stdout_stream = 12;
    create.stderr_stream = 13;
    out = rig_collect(rig, 12);
    err = rig_collect(rig, 13);
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    rig->streams_open++;
    (void)stream_add_source(rig->link, 11, in, rig_stream_done, rig);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_START, "web1"), NULL),
                     0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 0);
    rig_wait_streams(rig);
    assert_int_equal(pread(out, came, SIZE, 0), SIZE);
    assert_memory_equal(came, sent, SIZE);
    assert_int_equal(pread(err, came, SIZE, 0), SIZE);
    assert_memory_equal(came, sent, SIZE);
    (void)close(out);
    (void)close(err);
    free(sent);
    free(came);
    rig_delete(rig, "web1");
}

static void set_program(struct proto_create *create, const char *program)
{
    struct string_list *args = &create->container.process.args;

    string_list_clear(args);
    string_list_add(args, program);
}

/* Input for a process that does not read it, and for one that never was. */
static void test_stdin_unread(void **state)
{
    struct proto_create create = rig_create("web1", "exit 4");
    struct err said;
    int in = memfd_create("in", MFD_CLOEXEC);

    (void)state;
    assert_int_equal(ftruncate(in, 4 * 1024 * 1024), 0);
    create.stdin_stream = 21;
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_START, "web1"), NULL),
                     0);
    rig->streams_open++;
    (void)stream_add_source(rig->link, 21, in, rig_stream_done, rig);
    assert_int_equal(rig_wait_exit(rig, "web1"), 4);
    rig_wait_streams(rig);
    rig_delete(rig, "web1");

    create = rig_create("no/slash", "true");
    create.stdin_stream = 22;
    create.stdout_stream = 23;
    in = memfd_create("in", MFD_CLOEXEC);
    assert_int_equal(ftruncate(in, 4 * 1024 * 1024), 0);
    (void)close(rig_collect(rig, 23));
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "not valid");
    rig->streams_open++;
    (void)stream_add_source(rig->link, 22, in, rig_stream_done, rig);
    rig_wait_streams(rig);

    /* Refused when its process is there already. */
    create = rig_create("web1", "");
    set_program(&create, "/no/such");
    create.stdin_stream = 24;
    in = memfd_create("in", MFD_CLOEXEC);
    assert_int_equal(ftruncate(in, 4 * 1024 * 1024), 0);
    said = rig_refused(rig, &create);
    assert_said(said, ENOENT, "/no/such");
    rig->streams_open++;
    (void)stream_add_source(rig->link, 24, in, rig_stream_done, rig);
    rig_wait_streams(rig);
}

/* An orphan of the container keeps stdout open after its parent's end. */
static void test_end_follows_exit(void **state)
{
    struct proto_create create =
        rig_create("web1", "(sleep 0.3; echo late) & echo early; exit 5");
    char output[64];
    int out;

    (void)state;
    /* Without a pid namespace of its own the orphan would live on. */
    create.container.namespaces &= ~(uint64_t)CLONE_NEWPID;
    create.stdout_stream = 31;
    out = rig_collect(rig, 31);
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_START, "web1"), NULL),
                     0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 5);
    rig_wait_streams(rig);
    rig_read(out, output, sizeof(output));
    assert_string_equal(output, "early\n");
    rig_delete(rig, "web1");
}

static void test_terminal(void **state)
{
    struct proto_create create = rig_create(
        "web1", "test -t 0 && tty && stty size && read x && echo \"<$x>\" && "
                "test -c /dev/console && exit 9");
    static const char line[] = "typed\n";
    int in = memfd_create("in", MFD_CLOEXEC), out;
    char output[256];

    (void)state;
    assert_int_equal(write(in, line, sizeof(line) - 1), sizeof(line) - 1);
    assert_int_equal(lseek(in, 0, SEEK_SET), 0);
    create.container.process.terminal = true;
    create.container.process.console_width = 132;
    create.container.process.console_height = 43;
    create.stdin_stream = 41;
    create.stdout_stream = 42;
    out = rig_collect(rig, 42);
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    rig->streams_open++;
    (void)stream_add_source(rig->link, 41, in, rig_stream_done, rig);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_START, "web1"), NULL),
                     0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 9);
    rig_wait_streams(rig);
    rig_read(out, output, sizeof(output));
    assert_non_null(strstr(output, "/dev/console\r\n43 132\r\n"));
    assert_non_null(strstr(output, "<typed>\r\n"));
    rig_delete(rig, "web1");
}

static void test_missing_program(void **state)
{
    static const struct {
        const char *program;
        int code;
        const char *text;
    } cases[] = {
        {"nope", ENOENT, "exec: \"nope\": executable file not found in $PATH"},
        {"/bin/nope", ENOENT,
         "exec: \"/bin/nope\": stat /bin/nope: no such file or directory"},
        {"/proc/self/exe", EACCES,
         "exec: \"/proc/self/exe\": permission denied"},
        {"/etc/passwd", EACCES, "exec: \"/etc/passwd\": permission denied"},
        {"/etc", EISDIR, "exec: \"/etc\": is a directory"},
        {"", ENOENT, "executable file not found in $PATH"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct proto_create create = rig_create("web1", "");
        struct err said;

        set_program(&create, cases[i].program);
        said = rig_refused(rig, &create);
        assert_said(said, cases[i].code, cases[i].text);
    }
}

/* Found, but the kernel will not run it: that is known at START only. */
static void test_not_executable(void **state)
{
    struct proto_create create = rig_create("web1", "");
    struct err said = ERR_INIT;

    (void)state;
    set_program(&create, "/etc/broken");
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    (void)rig_result(rig, rig_ask(rig, PROTO_START, "web1"), &said);
    assert_said(said, ENOEXEC, "exec: \"/etc/broken\"");
    assert_int_equal(rig_wait_exit(rig, "web1"), 126);
    rig_delete(rig, "web1");
}

static void add_broken(const char *tree)
{
    char path[128];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/etc/broken", tree);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
    assert_int_equal(write(fd,
                           "\x7f"
                           "ELF",
                           4),
                     4);
    (void)close(fd);
}

static int start_rig_broken(void **state)
{
    (void)state;
    rig = rig_start(add_broken);
    return 0;
}

/* Words out of turn end the channel, and the guest with it. */
static void test_breach_ends_guest(void **state)
{
    struct proto_message m = {.type = PROTO_WELCOME};

    (void)state;
    m.body.welcome.version = PROTO_VERSION + 1;
    (void)rig_send(rig, &m);
    while (!rig->closed)
        rig_turn(rig);
    assert_int_equal(waitid(P_PID, (id_t)rig->agent, NULL, WEXITED | WNOWAIT),
                     0);
}

static void test_poweroff(void **state)
{
    struct proto_message m = {.type = PROTO_POWEROFF};
    int out = start_and_wait_output("web1", "echo ready; sleep 60");

    (void)state;
    (void)rig_send(rig, &m);
    while (!rig->closed)
        rig_turn(rig);
    (void)close(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_signal_all),
        cmocka_unit_test(test_created_then_killed),
        cmocka_unit_test(test_delete_kills),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_pids_and_stats),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_stdin_unread),
        cmocka_unit_test(test_end_follows_exit),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_missing_program),
        cmocka_unit_test(test_not_executable),
    };
    const struct CMUnitTest endings[] = {
        cmocka_unit_test_setup_teardown(test_breach_ends_guest, start_rig,
                                        stop_rig),
        cmocka_unit_test_setup_teardown(test_poweroff, start_rig, stop_rig),
    };
    int failed = cmocka_run_group_tests_name("agent session", tests,
                                             start_rig_broken, stop_rig);

    return failed +
           cmocka_run_group_tests_name("agent ends", endings, NULL, NULL);
}
