/* More processes in a container: what they are, their order, their end. */
#include "tests/unit/agent_rig.h"

#include <dirent.h>

#include "src/agent/exec.h"

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

/* A test that failed must not make the next ones fail. */
static int clean(void **state)
{
    (void)state;
    (void)rig_result(rig, rig_ask(rig, PROTO_DELETE, "web1"), NULL);
    for (size_t i = 0; i < rig->count; i++)
        proto_clear(&rig->messages[i]);
    rig->count = 0;
    rig->streams_open = 0;
    return 0;
}

/* There may be a LOG, where the machine forbids something to the agent. */
static void assert_nothing_more(void)
{
    for (size_t i = 0; i < rig->count; i++)
        if (rig->messages[i].type != PROTO_LOG)
            fail_msg("%s came, too", proto_type_name(rig->messages[i].type));
}

/* A container that stays, until finish(). */
static void begin(struct proto_create *create)
{
    char *id = xstrdup(create->container.id);
    struct err said = ERR_INIT;

    if (rig_result(rig, rig_send_create(rig, create), &said))
        fail_msg("CREATE: %s", said.text);
    if (rig_result(rig, rig_ask(rig, PROTO_START, id), &said))
        fail_msg("START: %s", said.text);
    free(id);
}

static void begin_usual(void)
{
    struct proto_create create = rig_create("web1", "exec sleep 600");

    begin(&create);
}

static void finish(void)
{
    uint32_t request = rig_ask(rig, PROTO_DELETE, "web1");

    (void)rig_wait_exit(rig, "web1");
    assert_int_equal(rig_result(rig, request, NULL), 0);
    assert_nothing_more();
}

/* Something to answer, so that the loop turns. */
static void turn(void)
{
    struct proto_message m =
        rig_take(rig, PROTO_PIDS_RESULT, rig_ask(rig, PROTO_PIDS, "web1"));

    proto_clear(&m);
    (void)usleep(10000);
}

/* Runs it to its end. */
static uint32_t run(struct proto_exec *exec, char *output, size_t size)
{
    _cleanup_free_ char *name = xstrdup(exec->exec);
    struct err said = ERR_INIT;
    unsigned others = rig->streams_open;
    uint32_t status;
    int out;

    exec->stdout_stream = rig->next_id * 4 + 1001;
    out = rig_collect(rig, exec->stdout_stream);
    if (rig_result(rig, rig_send_exec(rig, exec), &said))
        fail_msg("EXEC: %s", said.text);
    status = rig_wait_exit_of(rig, "web1", name);
    while (rig->streams_open > others)
        rig_turn(rig);
    rig_read(out, output, size);
    return status;
}

static uint32_t run_script(const char *script, char *output, size_t size)
{
    struct proto_exec exec = rig_exec("web1", "one", script);

    return run(&exec, output, size);
}

/* EXEC that must fail: no EXITED comes, and the streams end. */
static struct err refused(struct proto_exec *exec)
{
    struct err said = ERR_INIT;

    exec->stdout_stream = rig->next_id * 4 + 1001;
    exec->stdin_stream = exec->stdout_stream + 1;
    rig->streams_open++;
    (void)stream_add_source(rig->link, exec->stdin_stream,
                            memfd_create("in", MFD_CLOEXEC), rig_stream_done,
                            rig);
    (void)close(rig_collect(rig, exec->stdout_stream));
    if (rig_result(rig, rig_send_exec(rig, exec), &said) == 0)
        fail_msg("EXEC was not refused");
    rig_wait_streams(rig);
    assert_nothing_more();
    return said;
}

static void set_program(struct proto_exec *exec, const char *program)
{
    free(exec->process.args.v[0]);
    exec->process.args.v[0] = xstrdup(program);
}

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
    while (!strstr(output, "ready")) {
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

    (void)state;
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), NULL), 0);
    said = refused(&exec);
    assert_said(said, EBUSY, "web1 is created");
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
    /* What a heap that is used again may differ by. */
    assert_true(agent_memory() < memory + 1024 * 1024);
    finish();
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
        cmocka_unit_test_teardown(test_nothing_inherited, clean),
        cmocka_unit_test_teardown(test_streams, clean),
        cmocka_unit_test_teardown(test_end_follows_last_holder, clean),
        cmocka_unit_test_teardown(test_terminal, clean),
        cmocka_unit_test_teardown(test_terminal_of_guest, clean),
        cmocka_unit_test_teardown(test_no_terminal, clean),
        cmocka_unit_test_teardown(test_failures, clean),
        cmocka_unit_test_teardown(test_names, clean),
        cmocka_unit_test_teardown(test_wrong_states, clean),
        cmocka_unit_test_teardown(test_order_of_exits, clean),
        cmocka_unit_test_teardown(test_answer_before_exit, clean),
        cmocka_unit_test_teardown(test_signal_all, clean),
        cmocka_unit_test_teardown(test_pause, clean),
        cmocka_unit_test_teardown(test_many_leave_nothing, clean),
        cmocka_unit_test_teardown(test_table, clean),
    };

    return cmocka_run_group_tests_name("agent exec", tests, start_rig,
                                       stop_rig);
}
