/* More processes in a container: what they are, what is refused. */
#include "tests/unit/agent_exec.h"

#include "src/agent/exec.h"

static const char seen[] =
    "for n in mnt pid ipc uts cgroup net; do readlink /proc/$1/ns/$n; done; "
    "cat /proc/$1/cgroup; readlink /proc/$1/root; hostname";

/* What the first process sees of itself is what a later one sees. */
static void test_same_world(void **state)
{
    char first[1024], later[1024], script[512];
    struct proto_create create;
    int out;

    (void)state;
    (void)snprintf(script, sizeof(script), "set -- self; %s; exec sleep 600",
                   seen);
    create = rig_create("web1", script);
    create.stdout_stream = 7;
    out = rig_collect(rig, 7);
    begin(&create);
    memset(first, 0, sizeof(first));
    for (int i = 0; i < 500 && !strstr(first, "house\n"); i++) {
        turn();
        assert_true(pread(out, first, sizeof(first) - 1, 0) >= 0);
    }
    (void)snprintf(script, sizeof(script), "set -- 1; %s; set -- self; %s",
                   seen, seen);
    assert_int_equal(run_script(script, later, sizeof(later)), 0);
    finish();
    rig_wait_streams(rig);
    rig_read(out, first, sizeof(first));
    assert_non_null(strstr(first, "pid:["));
    assert_int_equal(strlen(later), 2 * strlen(first));
    assert_memory_equal(later, first, strlen(first));
    assert_string_equal(later + strlen(first), first);
}

static void test_process_settings(void **state)
{
    struct proto_exec exec = rig_exec(
        "web1", "one",
        "id -u; id -g; id -G; pwd; umask; ulimit -n; echo $HOME $X; "
        "cat /proc/self/oom_score_adj; "
        "grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status; exit 3");
    struct spec_process *p = &exec.process;
    char output[1024];

    (void)state;
    begin_usual();
    p->uid = 1000;
    p->gid = 1001;
    p->additional_gids.v = xcalloc(1, sizeof(uint32_t));
    p->additional_gids.v[p->additional_gids.n++] = 44;
    free(p->cwd);
    p->cwd = xstrdup("/tmp");
    p->has_umask = true;
    p->umask = 027;
    p->rlimits.v = xcalloc(1, sizeof(*p->rlimits.v));
    p->rlimits.v[p->rlimits.n++] =
        (struct spec_rlimit){.resource = 7, .soft = 77, .hard = 99};
    string_list_add(&p->env, "X=y");
    p->has_oom_score_adj = true;
    p->oom_score_adj = 321;
    p->no_new_privileges = true;
    p->has_capabilities = true;
    p->capabilities.bounding = 1;
    assert_int_equal(run(&exec, output, sizeof(output)), 3);
    assert_string_equal(output, "1000\n1001\n1001 44\n/tmp\n0027\n77\n"
                                "/home/web y\n321\n"
                                "CapEff:\t0000000000000000\n"
                                "CapBnd:\t0000000000000001\n"
                                "NoNewPrivs:\t1\n");
    finish();
}

/* As with runc: what it does not say of these is the container's; its limits,
 * its umask and its user are not. */
static void test_inherited_of_the_container(void **state)
{
    static const char script[] = "cat /proc/self/oom_score_adj; "
                                 "cut -d ' ' -f 19 /proc/self/stat; "
                                 "ionice; umask; grep CapBnd "
                                 "/proc/self/status";
    struct proto_create create = rig_create("web1", "exec sleep 600");
    struct spec_process *p = &create.container.process;
    struct proto_exec exec = rig_exec("web1", "one", script);
    char output[256];

    (void)state;
    p->has_oom_score_adj = true;
    p->oom_score_adj = 500;
    p->has_scheduler = true;
    p->scheduler.nice = 7;
    p->has_io_priority = true;
    p->io_class = 2;
    p->io_priority = 6;
    p->has_umask = true;
    p->umask = 077;
    p->has_capabilities = true;
    p->capabilities.bounding = 2;
    begin(&create);
    assert_int_equal(run_script(script, output, sizeof(output)), 0);
    assert_string_equal(output, "500\n7\nbest-effort: prio 6\n0022\n"
                                "CapBnd:\t0000000000000002\n");
    p = &exec.process;
    p->has_oom_score_adj = true;
    p->oom_score_adj = 0;
    p->has_scheduler = true;
    p->has_io_priority = true;
    p->io_class = 3;
    p->has_capabilities = true;
    assert_int_equal(run(&exec, output, sizeof(output)), 0);
    assert_string_equal(output, "0\n0\nidle\n0022\n"
                                "CapBnd:\t0000000000000000\n");
    finish();
}

/* Nothing of the agent is in it: no descriptor, no mask, no limit. */
static void test_nothing_inherited(void **state)
{
    struct proto_exec exec = rig_exec("web1", "two", "SigIgn");
    char output[1024], limit[64];

    (void)state;
    begin_usual();
    assert_int_equal(run_script("ls /proc/self/fd | wc -l; "
                                "exec grep SigBlk /proc/self/status",
                                output, sizeof(output)),
                     0);
    /* 0, 1, 2, and the directory that ls reads. */
    assert_string_equal(output, "4\nSigBlk:\t0000000000000000\n");
    /* Not by way of a shell, which ignores some itself. */
    set_program(&exec, "/bin/grep");
    free(exec.process.args.v[1]);
    exec.process.args.v[1] = xstrdup("-h");
    string_list_add(&exec.process.args, "/proc/self/status");
    assert_int_equal(run(&exec, output, sizeof(output)), 0);
    assert_string_equal(output, "SigIgn:\t0000000000000000\n");
    assert_int_equal(run_script("ulimit -Sn", output, sizeof(output)), 0);
    assert_int_equal(
        rig_command((const char *const[]){"sh", "-c", "ulimit -Sn", NULL},
                    limit, sizeof(limit)),
        0);
    assert_memory_equal(output, limit, strlen(limit));
    finish();
}

static void test_streams(void **state)
{
    struct proto_exec exec = rig_exec("web1", "one", "cat; echo e >&2");
    int in = memfd_create("in", MFD_CLOEXEC), out, err;
    char output[64];

    (void)state;
    begin_usual();
    assert_int_equal(write(in, "typed\n", 6), 6);
    assert_int_equal(lseek(in, 0, SEEK_SET), 0);
    exec.stdin_stream = 11;
    exec.stdout_stream = 12;
    exec.stderr_stream = 13;
    out = rig_collect(rig, 12);
    err = rig_collect(rig, 13);
    rig->streams_open++;
    /* It may come before the answer. */
    (void)rig_send_exec(rig, &exec);
    (void)stream_add_source(rig->link, 11, in, rig_stream_done, rig);
    assert_int_equal(rig_wait_exit_of(rig, "web1", "one"), 0);
    rig_wait_streams(rig);
    rig_read(out, output, sizeof(output));
    assert_string_equal(output, "typed\n");
    rig_read(err, output, sizeof(output));
    assert_string_equal(output, "e\n");
    assert_int_equal(rig_result(rig, rig->next_id, NULL), 0);
    finish();
}

/* Who holds its stdout may outlive it. */
static void test_end_follows_last_holder(void **state)
{
    char output[64];

    (void)state;
    begin_usual();
    assert_int_equal(run_script("(sleep 0.3; echo late) & echo early; exit 5",
                                output, sizeof(output)),
                     5);
    assert_string_equal(output, "early\nlate\n");
    finish();
}

static void test_terminal(void **state)
{
    struct proto_exec exec = rig_exec(
        "web1", "one",
        "t=$(tty); echo $t; test -c $t && stat -c %u:%g $t; stty size; "
        "trap : WINCH; echo ready; "
        "until [ \"$(stty size)\" = '300 20000' ]; do sleep 0.05; done; exit "
        "9");
    char output[256] = "";
    uint32_t request;
    int out;

    (void)state;
    begin_usual();
    exec.process.terminal = true;
    exec.process.uid = 1000;
    exec.process.console_width = 132;
    exec.process.console_height = 43;
    exec.stdout_stream = 42;
    out = rig_collect(rig, 42);
    request = rig_send_exec(rig, &exec);
    assert_int_equal(rig_result(rig, request, NULL), 0);
    for (int i = 0; i < 500 && !strstr(output, "ready"); i++) {
        turn();
        assert_true(pread(out, output, sizeof(output) - 1, 0) >= 0);
    }
    assert_int_equal(
        rig_result(rig, rig_resize(rig, "web1", "one", 65536, 1), NULL),
        EINVAL);
    assert_int_equal(
        rig_result(rig, rig_resize(rig, "web1", "one", 0, 65535), NULL), 0);
    assert_int_equal(
        rig_result(rig, rig_resize(rig, "web1", "one", 20000, 300), NULL), 0);
    assert_int_equal(rig_wait_exit_of(rig, "web1", "one"), 9);
    rig_wait_streams(rig);
    rig_read(out, output, sizeof(output));
    assert_string_equal(output, "/dev/pts/0\r\n1000:5\r\n43 132\r\nready\r\n");
    finish();
}

/* A container without a devpts has the guest's. */
static void test_terminal_of_guest(void **state)
{
    struct proto_create create = rig_create("web1", "exec sleep 600");
    struct spec_mount_list *l = &create.container.mounts;
    struct proto_exec exec = rig_exec("web1", "one", "test -t 0 && exit 6");
    char output[64];

    (void)state;
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].type, "devpts") == 0) {
            free(l->v[i].type);
            free(l->v[i].data);
            l->v[i].type = xstrdup("tmpfs");
            l->v[i].data = xstrdup("mode=755");
        }
    begin(&create);
    exec.process.terminal = true;
    assert_int_equal(run(&exec, output, sizeof(output)), 6);
    finish();
}

static void test_no_terminal(void **state)
{
    struct proto_exec exec = rig_exec("web1", "one", "exec sleep 600");
    struct err said = ERR_INIT;

    (void)state;
    begin_usual();
    assert_int_equal(rig_result(rig, rig_send_exec(rig, &exec), NULL), 0);
    (void)rig_result(rig, rig_resize(rig, "web1", "one", 80, 25), &said);
    assert_said(said, ENOTTY, "no terminal");
    (void)rig_result(rig, rig_resize(rig, "web1", "", 80, 25), &said);
    assert_said(said, ENOTTY, "web1");
    assert_int_equal(
        rig_result(rig, rig_signal_exec(rig, "web1", "one", SIGTERM), NULL), 0);
    assert_int_equal(rig_wait_exit_of(rig, "web1", "one"), 128 + SIGTERM);
    finish();
}

static void test_failures(void **state)
{
    struct proto_exec exec = rig_exec("web1", "one", "");
    struct err said;

    (void)state;
    begin_usual();
    set_program(&exec, "nothing-here");
    said = refused(&exec);
    assert_said(said, ENOENT,
                "exec: \"nothing-here\": executable file not found in $PATH");

    exec = rig_exec("web1", "one", "");
    set_program(&exec, "/bin/none");
    said = refused(&exec);
    assert_said(said, ENOENT,
                "exec: \"/bin/none\": stat /bin/none: no such file");

    exec = rig_exec("web1", "one", "");
    set_program(&exec, "/etc/passwd");
    said = refused(&exec);
    assert_said(said, EACCES, "permission denied");

    exec = rig_exec("web1", "one", "");
    free(exec.process.cwd);
    exec.process.cwd = xstrdup("/not/there");
    said = refused(&exec);
    assert_said(said, ENOENT, "/not/there");

    exec = rig_exec("web1", "one", "");
    exec.process.uid = UINT32_MAX;
    said = refused(&exec);
    assert_said(said, EINVAL, "4294967295");

    exec = rig_exec("web1", "one", "");
    exec.process.rlimits.v = xcalloc(1, sizeof(*exec.process.rlimits.v));
    exec.process.rlimits.v[exec.process.rlimits.n++] =
        (struct spec_rlimit){.resource = 7, .soft = 9, .hard = 7};
    said = refused(&exec);
    assert_said(said, EINVAL, "limit");

    exec = rig_exec("web1", "one", "");
    string_list_clear(&exec.process.args);
    said = refused(&exec);
    assert_said(said, EINVAL, "args");

    exec = rig_exec("web1", "../one", "");
    said = refused(&exec);
    assert_said(said, EINVAL, "exec id");

    exec = rig_exec("web2", "one", "");
    said = refused(&exec);
    assert_said(said, ENOENT, "web2");
    finish();
}

static void test_names(void **state)
{
    struct proto_exec exec = rig_exec("web1", "one", "exec sleep 600");
    struct proto_message m;
    struct err said = ERR_INIT;
    unsigned named = 0, first = 0;
    char output[16];

    (void)state;
    begin_usual();
    assert_int_equal(rig_result(rig, rig_send_exec(rig, &exec), NULL), 0);
    exec = rig_exec("web1", "one", "true");
    said = refused(&exec);
    assert_said(said, EEXIST, "one");
    m = rig_take(rig, PROTO_PIDS_RESULT, rig_ask(rig, PROTO_PIDS, "web1"));
    assert_int_equal(m.body.pids_result.pids.n, 2);
    for (size_t i = 0; i < 2; i++) {
        named += strcmp(m.body.pids_result.pids.v[i].exec, "one") == 0;
        first += m.body.pids_result.pids.v[i].exec[0] == '\0';
    }
    assert_int_equal(named, 1);
    assert_int_equal(first, 1);
    proto_clear(&m);
    (void)rig_result(rig, rig_signal_exec(rig, "web1", "two", 9), &said);
    assert_said(said, ENOENT, "no process two");
    assert_int_equal(
        rig_result(rig, rig_resize(rig, "web1", "two", 1, 1), NULL), ENOENT);
    assert_int_equal(
        rig_result(rig, rig_signal_exec(rig, "web1", "one", 65), NULL), EINVAL);
    assert_int_equal(
        rig_result(rig, rig_signal_exec(rig, "web1", "one", 9), NULL), 0);
    assert_int_equal(rig_wait_exit_of(rig, "web1", "one"), 137);
    /* The name is free again. */
    assert_int_equal(run_script("exit 1", output, sizeof(output)), 1);
    finish();
}

static void test_wrong_states(void **state)
{
    struct proto_create create = rig_create("web1", "exec sleep 600");
    struct proto_exec exec = rig_exec("web1", "one", "true");
    struct err said;
    char output[8];

    (void)state;
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    assert_int_equal(run(&exec, output, sizeof(output)), 0);
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_PAUSE, "web1"), NULL), EBUSY);
    assert_int_equal(rig_result(rig, rig_ask(rig, PROTO_START, "web1"), NULL),
                     0);
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_RESUME, "web1"), NULL), EBUSY);
    assert_int_equal(
        rig_result(rig, rig_freeze(rig, PROTO_PAUSE, "web1"), NULL), 0);
    exec = rig_exec("web1", "one", "true");
    said = refused(&exec);
    assert_said(said, EBUSY, "web1 is paused");
    assert_int_equal(rig_result(rig, rig_signal(rig, "web1", 9, 0), NULL), 0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 137);
    exec = rig_exec("web1", "one", "true");
    said = refused(&exec);
    assert_said(said, EBUSY, "web1 is stopped");
    rig_delete(rig, "web1");
}

/* --- the table of states --- */

static const bool allowed[EXEC_STATE_COUNT][EXEC_EVENT_COUNT] = {
    [EXEC_PREPARING] =
        {[EXEC_REPORT] = true, [EXEC_EXECUTED] = true, [EXEC_TOO_LONG] = true},
    [EXEC_EXECUTING] =
        {[EXEC_REPORT] = true, [EXEC_EXECUTED] = true, [EXEC_TOO_LONG] = true},
    [EXEC_RUNNING] =
        {[EXEC_EXIT] = true, [EXEC_SIGNAL] = true, [EXEC_RESIZE] = true},
    [EXEC_FAILED] = {[EXEC_TOO_LONG] = true, [EXEC_EXIT] = true},
};

static void test_table(void **state)
{
    (void)state;
    for (unsigned s = 0; s < EXEC_STATE_COUNT; s++)
        for (unsigned v = 0; v < EXEC_EVENT_COUNT; v++)
            if (exec_allows(s, v) != allowed[s][v])
                fail_msg("state %u, event %u", s, v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_same_world, clean),
        cmocka_unit_test_teardown(test_process_settings, clean),
        cmocka_unit_test_teardown(test_inherited_of_the_container, clean),
        cmocka_unit_test_teardown(test_nothing_inherited, clean),
        cmocka_unit_test_teardown(test_streams, clean),
        cmocka_unit_test_teardown(test_end_follows_last_holder, clean),
        cmocka_unit_test_teardown(test_terminal, clean),
        cmocka_unit_test_teardown(test_terminal_of_guest, clean),
        cmocka_unit_test_teardown(test_no_terminal, clean),
        cmocka_unit_test_teardown(test_failures, clean),
        cmocka_unit_test_teardown(test_names, clean),
        cmocka_unit_test_teardown(test_wrong_states, clean),
        cmocka_unit_test_teardown(test_table, clean),
    };

    return cmocka_run_group_tests_name("agent exec", tests, start_rig,
                                       stop_rig);
}
