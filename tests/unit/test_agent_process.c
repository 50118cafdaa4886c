/*
 * What a process of a container is: its filter of system calls, scheduler,
 * priorities, personality, working directory, and the programs that run before
 * it.
 */
#include "tests/unit/agent_rig.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/personality.h>
#include <sys/resource.h>

#include "src/agent/priority.h"
#include "src/agent/seccomp.h"

static struct rig *rig;
static char output[65536];

/* Programs that a hook may be. */
static void fill(const char *tree)
{
    static const struct {
        const char *name;
        const char *text;
    } files[] = {
        {"state", "#!/bin/sh\ncat >/dev/shm/state\necho $# $0 $1 $2 $A "
                  ">>/dev/shm/state\npwd >>/dev/shm/state\n"},
        {"refuse", "#!/bin/sh\necho no such luck >&2\nexit 3\n"},
        {"slow", "#!/bin/sh\necho hold on\nsleep 60\n"},
        {"loud", "#!/bin/sh\nhead -c 300000 /dev/zero; exit 4\n"},
        {"endless", "#!/bin/sh\nyes\n"},
        {"killed", "#!/bin/sh\nkill -9 $$\n"},
        {"behind", "#!/bin/sh\n(sleep 60 &)\nexit 0\n"},
        {"broken", "#!/no/such/interpreter\n"},
        {"env", "#!/bin/sh\necho $A ${HOME-no home} >/dev/shm/env\n"},
        {"writer", "#!/bin/sh\nset -e\n"
                   "for i in etc kept masked; do echo x >/$i/state; done\n"},
        {"listener", "#!/bin/sh\nread -r state\ntest \"$state\"\n"},
    };
    char path[PATH_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        FILE *f;

        (void)snprintf(path, sizeof(path), "%s/%s", tree, files[i].name);
        f = fopen(path, "we");
        assert_non_null(f);
        assert_true(fputs(files[i].text, f) >= 0);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(chmod(path, 0755), 0);
    }
    (void)snprintf(path, sizeof(path), "%s/private", tree);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chown(path, 1000, 1000), 0);
    (void)snprintf(path, sizeof(path), "%s/masked", tree);
    assert_int_equal(mkdir(path, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/etc/passwd", tree);
    assert_int_equal(chmod(path, 0600), 0);
}

static int start_rig(void **state)
{
    (void)state;
    rig = rig_start(fill);
    return 0;
}

static int stop_rig(void **state)
{
    (void)state;
    rig_stop(rig);
    return 0;
}

static void expect(struct proto_create *create, const char *wanted)
{
    uint32_t status = rig_run(rig, create, output, sizeof(output));

    assert_string_equal(output, wanted);
    assert_int_equal(status, 0);
}

/* --- seccomp --- */

/* A filter that lets all pass but one call, which fails with EDOM. */
static struct byte_list deny(uint32_t call)
{
    const struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct byte_list list = {.v = xmalloc(sizeof(filter)), .n = sizeof(filter)};

    memcpy(list.v, filter, sizeof(filter));
    return list;
}

static const char seccomp_script[] =
    "mkdir /x 2>&1; grep ^Seccomp: /proc/self/status; "
    "grep ^NoNewPrivs /proc/self/status; grep ^CapEff /proc/self/status";

static void test_seccomp(void **state)
{
    struct proto_create create = rig_create("web1", seccomp_script);

    (void)state;
    create.container.seccomp = deny(SYS_mkdir);
    create.container.process.has_capabilities = true;
    expect(&create,
           "mkdir: can't create directory '/x': Numerical argument out of "
           "domain\nSeccomp:\t2\nNoNewPrivs:\t0\nCapEff:\t0000000000000000\n");

    create = rig_create("web1", seccomp_script);
    create.container.seccomp = deny(SYS_mkdir);
    create.container.seccomp_flags =
        SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    create.container.process.no_new_privileges = true;
    create.container.process.uid = 1000;
    expect(&create,
           "mkdir: can't create directory '/x': Numerical argument out of "
           "domain\nSeccomp:\t2\nNoNewPrivs:\t1\nCapEff:\t0000000000000000\n");
}

/* With no_new_privs it need not allow what the agent still has to do. */
static void test_seccomp_is_late(void **state)
{
    static const uint32_t calls[] = {SYS_capset,    SYS_setresuid,
                                     SYS_setgroups, SYS_recvfrom,
                                     SYS_sendto,    SYS_faccessat};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        struct proto_create create = rig_create("web1", "echo ran");

        create.container.seccomp = deny(calls[i]);
        create.container.process.no_new_privileges = true;
        create.container.process.has_capabilities = true;
        expect(&create, "ran\n");
    }
}

/* Without that option the filter comes first, and what the agent does after it
 * has to be what any program does. */
static void test_seccomp_is_early(void **state)
{
    static const uint32_t calls[] = {SYS_setresuid, SYS_setresgid, SYS_recvfrom,
                                     SYS_sendto, SYS_faccessat2};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        struct proto_create create = rig_create("web1", "echo ran");

        create.container.seccomp = deny(calls[i]);
        expect(&create, "ran\n");
    }
}

static void test_last_path_counts(void **state)
{
    struct proto_create create = rig_create("web1", "echo $PATH");

    (void)state;
    string_list_clear(&create.container.process.args);
    string_list_add(&create.container.process.args, "sh");
    string_list_add(&create.container.process.args, "-c");
    string_list_add(&create.container.process.args, "echo $PATH");
    string_list_clear(&create.container.process.env);
    string_list_add(&create.container.process.env, "PATH=/none");
    string_list_add(&create.container.process.env, "PATH=/bin");
    expect(&create, "/bin\n");
}

/* As runc: what cannot be ambient is not, and the program runs. */
static void test_ambient_alone(void **state)
{
    struct proto_create create =
        rig_create("web1", "grep ^CapAmb /proc/self/status");
    struct spec_process *p = &create.container.process;

    (void)state;
    p->has_capabilities = true;
    p->capabilities.bounding = p->capabilities.permitted = 1;
    p->capabilities.effective = p->capabilities.ambient = 1;
    expect(&create, "CapAmb:\t0000000000000000\n");
}

/* It is made before the place is closed to everybody. */
static void test_cwd_in_a_readonly_path(void **state)
{
    struct proto_create create = rig_create("web1", "pwd; touch x 2>&1");

    (void)state;
    free(create.container.process.cwd);
    create.container.process.cwd = xstrdup("/etc/new/place");
    string_list_add(&create.container.readonly_paths, "/etc");
    assert_int_equal(rig_run(rig, &create, output, sizeof(output)), 1);
    assert_string_equal(output, "/etc/new/place\n"
                                "touch: x: Read-only file system\n");
}

/* exec itself denied: START says so. */
static void test_seccomp_denies_exec(void **state)
{
    struct proto_create create = rig_create("web1", "true");
    struct err said = ERR_INIT;

    (void)state;
    create.container.seccomp = deny(SYS_execve);
    create.container.process.no_new_privileges = true;
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), &said), 0);
    (void)rig_result(rig, rig_ask(rig, PROTO_START, "web1"), &said);
    assert_said(said, EDOM, "/bin/sh");
    assert_int_equal(rig_wait_exit(rig, "web1"), 126);
    rig_delete(rig, "web1");
}

static void test_seccomp_refused(void **state)
{
    struct proto_create create = rig_create("web1", "true");
    struct err e = ERR_INIT;
    struct byte_list list = deny(SYS_mkdir);

    (void)state;
    create.container.seccomp = deny(SYS_mkdir);
    create.container.seccomp.n--;
    e = rig_refused(rig, &create);
    assert_said(e, EINVAL, "seccomp filter has 31 bytes");

    /* Not loaded, so this process goes on as it is. */
    assert_int_equal(seccomp_load(&(struct byte_list){NULL, 0}, ~0ull, &e), 0);
    assert_int_equal(seccomp_load(&list, SECCOMP_FILTER_FLAG_NEW_LISTENER, &e),
                     -EINVAL);
    assert_said(e, EINVAL, "flags 0x8");
    list.n = 4097 * sizeof(struct sock_filter);
    assert_int_equal(seccomp_load(&list, 0, &e), -EINVAL);
    /* The kernel's own check: a jump to nowhere. */
    list.n = 16;
    assert_int_equal(seccomp_load(&list, 0, &e), -EINVAL);
    assert_said(e, EINVAL, "load the seccomp filter");
    free(list.v);
}

/* --- priorities --- */

static void test_scheduling(void **state)
{
    struct proto_create create = rig_create(
        "web1", "cut -d' ' -f19,41 /proc/$$/stat; ionice -p $$; uname -m");
    struct spec_process *p = &create.container.process;

    (void)state;
    p->has_scheduler = true;
    p->scheduler.policy = SCHED_BATCH;
    p->scheduler.nice = 5;
    p->has_io_priority = true;
    p->io_class = 2;
    p->io_priority = 6;
    create.container.has_personality = true;
    create.container.personality = PER_LINUX32;
    expect(&create, "5 3\nbest-effort: prio 6\ni686\n");

    create =
        rig_create("web1", "cut -d' ' -f19 /proc/$$/stat; ionice; uname -m");
    p = &create.container.process;
    p->has_scheduler = true;
    p->scheduler.nice = 7;
    p->has_io_priority = true;
    p->io_class = 3;
    expect(&create, "7\nidle\nx86_64\n");
}

static void test_scheduling_refused(void **state)
{
    struct proto_create create = rig_create("web1", "true");
    struct spec_process *p = &create.container.process;
    struct err said;

    (void)state;
    p->has_scheduler = true;
    p->scheduler.policy = 99;
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "policy 99");

    create = rig_create("web1", "true");
    create.container.process.has_scheduler = true;
    create.container.process.scheduler.nice = 20;
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "nice 20");

    create = rig_create("web1", "true");
    create.container.process.has_io_priority = true;
    create.container.process.io_class = 4;
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "class 4");

    create = rig_create("web1", "true");
    create.container.process.has_io_priority = true;
    create.container.process.io_priority = 8;
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "priority 8");
}

static void test_oom_score(void **state)
{
    struct proto_create create =
        rig_create("web1", "cat /proc/1/oom_score_adj");
    struct err said;

    (void)state;
    create.container.process.has_oom_score_adj = true;
    create.container.process.oom_score_adj = 345;
    expect(&create, "345\n");
    create = rig_create("web1", "true");
    create.container.process.has_oom_score_adj = true;
    create.container.process.oom_score_adj = 1001;
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "oom_score_adj to 1001");
}

/* --- working directory --- */

static void test_private_cwd(void **state)
{
    struct proto_create create = rig_create("web1", "pwd");
    struct spec_process *p = &create.container.process;

    (void)state;
    free(p->cwd);
    p->cwd = xstrdup("/private");
    p->uid = p->gid = 1000;
    expect(&create, "/private\n");
}

/* The user's home stands where the user may not look. */
static void test_private_passwd(void **state)
{
    struct proto_create create = rig_create("web1", "echo $HOME");

    (void)state;
    create.container.process.uid = create.container.process.gid = 1000;
    expect(&create, "/home/web\n");
}

/* --- hooks --- */

static struct spec_hook *add_hook(struct spec_hook_list *l, const char *path,
                                  uint32_t timeout_s)
{
    l->v = xreallocarray(l->v, l->n + 1, sizeof(*l->v));
    l->v[l->n] =
        (struct spec_hook){.path = xstrdup(path), .timeout_s = timeout_s};
    return &l->v[l->n++];
}

static const char members[] =
    "\"ociVersion\":\"1.0.2\",\"id\":\"web1\",\"bundle\":\"/b\"";

static void test_hooks(void **state)
{
    struct proto_create create = rig_create("web1", "cat /dev/shm/state");
    struct spec_container *c = &create.container;
    struct spec_hook *hook = add_hook(&c->create_container_hooks, "/state", 0);

    (void)state;
    c->hook_state = xstrdup(members);
    string_list_add(&hook->args, "ignored");
    string_list_add(&hook->args, "one");
    string_list_add(&hook->args, "two words");
    string_list_add(&hook->env, "A=b");
    (void)add_hook(&c->create_container_hooks, "/behind", 0);
    expect(&create, "{\"status\":\"creating\",\"pid\":1,\"ociVersion\":"
                    "\"1.0.2\",\"id\":\"web1\",\"bundle\":\"/b\"}"
                    "2 /state one two words b\n/\n");

    create = rig_create("web1", "cat /dev/shm/state");
    c = &create.container;
    c->hook_state = xstrdup("");
    (void)add_hook(&c->start_container_hooks, "/state", 5);
    c->process.uid = 1000;
    string_list_add(&c->process.env, "A=the container's");
    expect(&create, "{\"status\":\"created\",\"pid\":1}0 /state the "
                    "container's\n/\n");
}

/* Without an environment of its own a hook has that of the process, and not
 * yet its HOME. */
static void test_hook_environment(void **state)
{
    struct proto_create create = rig_create("web1", "cat /dev/shm/env");
    struct spec_container *c = &create.container;

    (void)state;
    c->hook_state = xstrdup(members);
    string_list_add(&c->process.env, "A=first");
    string_list_add(&c->process.env, "A=last");
    (void)add_hook(&c->create_container_hooks, "/env", 0);
    expect(&create, "last no home\n");
}

/* What is closed to the container is open to the hook before. */
static void test_hook_before_paths_close(void **state)
{
    struct proto_create create =
        rig_create("web1", "cat /etc/state /kept/state; ls /masked");
    struct spec_container *c = &create.container;

    (void)state;
    c->hook_state = xstrdup(members);
    string_list_add(&c->readonly_paths, "/etc");
    string_list_add(&c->masked_paths, "/masked");
    rig_add_mount(c, "tmpfs", "tmpfs", "/kept", MS_RDONLY, "");
    (void)add_hook(&c->create_container_hooks, "/writer", 0);
    expect(&create, "x\nx\n");
}

/* The limits of a process hold for its hooks, not for what they are told. */
static void test_hook_in_small_limits(void **state)
{
    struct proto_create create = rig_create("web1", "ulimit -f; ulimit -n");
    struct spec_container *c = &create.container;
    static const struct spec_rlimit small[] = {
        {.resource = RLIMIT_FSIZE, .soft = 0, .hard = 0},
        {.resource = RLIMIT_NOFILE, .soft = 12, .hard = 12},
    };

    (void)state;
    c->hook_state = xstrdup(members);
    c->process.rlimits.v = xcalloc(2, sizeof(small[0]));
    memcpy(c->process.rlimits.v, small, sizeof(small));
    c->process.rlimits.n = 2;
    (void)add_hook(&c->start_container_hooks, "/behind", 0);
    (void)add_hook(&c->start_container_hooks, "/listener", 0);
    expect(&create, "0\n12\n");
}

/* All of a long state arrives, and one that is not read keeps nobody. */
static void test_long_state(void **state)
{
    struct proto_create create =
        rig_create("web1", "head -n 1 /dev/shm/state | wc -c");
    struct spec_container *c = &create.container;
    size_t size = SPEC_STATE_MAX - 1;

    (void)state;
    c->hook_state = xmalloc(size + 1);
    memset(c->hook_state, 'x', size);
    c->hook_state[size] = '\0';
    (void)add_hook(&c->create_container_hooks, "/behind", 0);
    (void)add_hook(&c->create_container_hooks, "/state", 0);
    assert_int_equal(rig_run(rig, &create, output, sizeof(output)), 0);
    assert_true(strtoul(output, NULL, 10) > size);
}

static void expect_failed_hook(const char *path, uint32_t timeout_s, int code,
                               const char *words)
{
    struct proto_create create = rig_create("web1", "true");
    struct err said;

    create.container.hook_state = xstrdup(members);
    (void)add_hook(&create.container.create_container_hooks, path, timeout_s);
    said = rig_refused(rig, &create);
    assert_said(said, code, words);
    assert_said(said, code, "createContainer hook");
    assert_said(said, code, path);
}

static void test_failed_hooks(void **state)
{
    struct proto_create create = rig_create("web1", "true");
    struct err said = ERR_INIT;

    (void)state;
    expect_failed_hook("/refuse", 0, ECANCELED, "exit status 3: no such luck");
    expect_failed_hook("/slow", 1, ETIMEDOUT, "within 1 s, killed: hold on");
    expect_failed_hook("/endless", 1, ETIMEDOUT, "killed: y y y");
    expect_failed_hook("/loud", 0, ECANCELED, "exit status 4");
    expect_failed_hook("/killed", 0, ECANCELED, "signal 9: it said nothing");
    expect_failed_hook("/broken", 0, ECANCELED, "No such file");
    expect_failed_hook("/nowhere", 0, ECANCELED, "No such file");
    expect_failed_hook("relative", 0, EINVAL, "absolute");

    create.container.hook_state = xstrdup(members);
    (void)add_hook(&create.container.start_container_hooks, "/refuse", 0);
    assert_int_equal(rig_result(rig, rig_send_create(rig, &create), &said), 0);
    (void)rig_result(rig, rig_ask(rig, PROTO_START, "web1"), &said);
    assert_said(said, ECANCELED, "startContainer hook /refuse: exit status 3");
    assert_int_equal(rig_wait_exit(rig, "web1"), 126);
    rig_delete(rig, "web1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seccomp),
        cmocka_unit_test(test_seccomp_is_late),
        cmocka_unit_test(test_seccomp_is_early),
        cmocka_unit_test(test_last_path_counts),
        cmocka_unit_test(test_ambient_alone),
        cmocka_unit_test(test_cwd_in_a_readonly_path),
        cmocka_unit_test(test_seccomp_denies_exec),
        cmocka_unit_test(test_seccomp_refused),
        cmocka_unit_test(test_scheduling),
        cmocka_unit_test(test_scheduling_refused),
        cmocka_unit_test(test_oom_score),
        cmocka_unit_test(test_private_cwd),
        cmocka_unit_test(test_private_passwd),
        cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_hook_environment),
        cmocka_unit_test(test_hook_before_paths_close),
        cmocka_unit_test(test_hook_in_small_limits),
        cmocka_unit_test(test_long_state),
        cmocka_unit_test(test_failed_hooks),
    };

    return cmocka_run_group_tests_name("agent process", tests, start_rig,
                                       stop_rig);
}
