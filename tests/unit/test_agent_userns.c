/*
 * Containers whose users are others to the guest, and whose clocks are.
 */
#include "tests/unit/agent_rig.h"

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <time.h>

#include "src/agent/userns.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define OUTSIDE 100000

static struct rig *rig;
static char output[65536];

/* A snapshot as clients make it for such containers, but for one file. */
static void fill(const char *tree)
{
    static const char script[] =
        "set -e; cd \"$1\"; mkdir -p dev proc sys run private group\n"
        "echo guest >etc/guest; chown -hR 100000:100000 .\n"
        "chown 0:0 etc/guest; chmod 600 etc/guest\n"
        "chown 101000:101000 private; chmod 700 private\n"
        "chown 5:101000 group; chmod 770 group; mknod etc/kmsg c 1 5\n"
        "printf '#!/bin/sh\\ncat /proc/self/uid_map >/dev/shm/hook\\n' >hook\n"
        "chmod 755 hook\n";

    rig_must("sh", "-c", script, "sh", tree);
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

static void add_map(struct spec_id_map_list *l, uint32_t inside,
                    uint32_t outside, uint32_t size)
{
    l->v = xreallocarray(l->v, l->n + 1, sizeof(*l->v));
    l->v[l->n++] = (struct spec_id_map){inside, outside, size};
}

static struct proto_create create_bare(const char *script)
{
    struct proto_create create = rig_create("web1", script);

    create.container.namespaces |= CLONE_NEWUSER;
    return create;
}

static struct proto_create create_mapped(const char *script)
{
    struct proto_create create = create_bare(script);

    add_map(&create.container.uid_maps, 0, OUTSIDE, 65536);
    add_map(&create.container.gid_maps, 0, OUTSIDE, 65536);
    return create;
}

static void expect(struct proto_create *create, const char *wanted)
{
    uint32_t status = rig_run(rig, create, output, sizeof(output));

    assert_string_equal(output, wanted);
    assert_int_equal(status, 0);
}

static void test_map(void **state)
{
    struct spec_id_map_list maps = {NULL, 0};
    struct err e = ERR_INIT;
    uint32_t outside = 0;

    (void)state;
    assert_int_equal(userns_map(&maps, 0, &outside, &e), -EINVAL);
    add_map(&maps, 0, 1000, 10);
    add_map(&maps, UINT32_MAX - 1, 5, 1);
    assert_ok(userns_map(&maps, 9, &outside, &e), e);
    assert_int_equal(outside, 1009);
    assert_ok(userns_map(&maps, UINT32_MAX - 1, &outside, &e), e);
    assert_int_equal(outside, 5);
    assert_int_equal(userns_map(&maps, 10, &outside, &e), -EINVAL);
    assert_int_equal(userns_map(&maps, UINT32_MAX, &outside, &e), -EINVAL);
    free(maps.v);
}

static void test_identity(void **state)
{
    struct proto_create create = create_mapped(
        "id; tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; "
        "hostname; set -- /proc/[0-9]*; echo $#; stat -c '%u %n' / /etc/guest "
        "/dev/shm /dev/mqueue /dev/pts; cat /etc/guest 2>&1; echo x >/etc/new "
        "&& cat /etc/new; echo y >/dev/stdout; echo z >/dev/null; "
        "test -d /sys/class && test -w /dev/pts/ptmx && echo fine; "
        "cat /proc/1/oom_score_adj");

    (void)state;
    expect(&create,
           "uid=0(root) gid=0\n 0 100000 65536\n 0 100000 65536\nhouse\n1\n"
           "0 /\n65534 /etc/guest\n0 /dev/shm\n0 /dev/mqueue\n0 /dev/pts\n"
           "cat: can't open '/etc/guest': Permission denied\nx\ny\nfine\n0\n");
}

/* All capabilities of the namespace, and none of the guest. */
static void test_powers(void **state)
{
    struct proto_create create = create_mapped(
        "mount -t tmpfs t /home && hostname other && hostname; "
        "mount -o remount,dev / 2>&1; cat /etc/kmsg 2>&1 | head -c 90; "
        "mknod /home/x c 1 3 2>&1; "
        "umount /proc/kcore 2>&1; chown 70000 /home 2>&1; true");

    (void)state;
    assert_int_equal(rig_run(rig, &create, output, sizeof(output)), 0);
    assert_int_equal(strncmp(output, "other\n", 6), 0);
    assert_non_null(strstr(output, "permission denied"));
    assert_non_null(strstr(output, "/etc/kmsg': Permission denied"));
    assert_non_null(strstr(output, "mknod: /home/x: Operation not permitted"));
    assert_non_null(strstr(output, "chown: /home: Invalid argument"));
}

static void test_user(void **state)
{
    struct proto_create create = create_mapped(
        "id -u; pwd; touch here && stat -c %u here; "
        "echo out >/dev/stdout; "
        "stat -L -c %u:%g /proc/self/fd/1; grep CapEff /proc/self/status");
    struct spec_process *p = &create.container.process;

    (void)state;
    p->uid = p->gid = 1000;
    free(p->cwd);
    p->cwd = xstrdup("/private");
    expect(&create,
           "1000\n/private\n1000\nout\n1000:0\nCapEff:\t0000000000000000\n");

    /* Closed to the container's root, but not to the process's group. */
    create = create_mapped("pwd");
    p = &create.container.process;
    p->uid = p->gid = 1000;
    free(p->cwd);
    p->cwd = xstrdup("/group");
    expect(&create, "/group\n");
}

static void test_terminal(void **state)
{
    struct proto_create create =
        create_mapped("test -t 0 && stty size && stat -c '%u %n' /dev/console");

    (void)state;
    create.container.process.terminal = true;
    create.container.process.console_width = 90;
    create.container.process.console_height = 30;
    create.container.process.uid = 1000;
    expect(&create, "30 90\r\n1000 /dev/console\r\n");
}

static void test_the_rest(void **state)
{
    struct proto_create create = create_mapped(
        "cat /proc/sys/kernel/shm_rmid_forced; stat -c '%t:%T %u' /dev/mine; "
        "head -c 1 /dev/mine | wc -c; head -c 1 /dev/full 2>&1 | head -c 30; "
        "echo; tr -s ' ' </dev/shm/hook; ulimit -n; "
        "ls /sys/fs/cgroup | grep -c cgroup.procs");
    struct spec_container *c = &create.container;

    (void)state;
    spec_setting_add(&c->sysctls, "kernel.shm_rmid_forced", "1");
    c->devices.v = xcalloc(1, sizeof(*c->devices.v));
    c->devices.n = 1;
    c->devices.v[0] = (struct spec_device){.path = xstrdup("/dev/mine"),
                                           .type = 'c',
                                           .major = 1,
                                           .minor = 5,
                                           .mode = 0600};
    c->device_rules.v = xcalloc(1, sizeof(*c->device_rules.v));
    c->device_rules.n = 1;
    c->device_rules.v[0] = (struct spec_device_rule){
        .allow = true,
        .type = 'c',
        .major = 1,
        .minor = 5,
        .access = BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE};
    c->create_container_hooks.v =
        xcalloc(1, sizeof(*c->create_container_hooks.v));
    c->create_container_hooks.n = 1;
    c->create_container_hooks.v[0].path = xstrdup("/hook");
    c->hook_state = xstrdup("");
    c->process.rlimits.v = xcalloc(1, sizeof(*c->process.rlimits.v));
    c->process.rlimits.n = 1;
    c->process.rlimits.v[0] =
        (struct spec_rlimit){.resource = 7, .soft = 200, .hard = 300};
    rig_add_mount(c, "cgroup", "cgroup", "/sys/fs/cgroup",
                  MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    expect(&create, "1\n1:5 0\n1\nhead: /dev/full: Operation not\n"
                    " 0 100000 65536\n200\n1\n");
}

/* They hold for the process, not for making its root, which copies and opens
 * files; and may be wider than the agent's. */
static void test_limits(void **state)
{
    static const struct spec_rlimit limits[] = {
        {.resource = RLIMIT_NOFILE, .soft = 5, .hard = 8},
        {.resource = RLIMIT_FSIZE, .soft = 0, .hard = 0},
        {.resource = RLIMIT_CORE, .soft = 1024, .hard = RLIM_INFINITY},
    };
    struct proto_create create = create_mapped(
        "ulimit -Sn; ulimit -Hn; ulimit -f; ulimit -Sc; ulimit -Hc; "
        "test -s /bin/sh && echo fine");
    struct spec_container *c = &create.container;

    (void)state;
    c->process.rlimits.v = xcalloc(ARRAY_SIZE(limits), sizeof(limits[0]));
    c->process.rlimits.n = ARRAY_SIZE(limits);
    memcpy(c->process.rlimits.v, limits, sizeof(limits));
    rig_add_mount(c, "tmpfs", "tmpfs", "/bin", 0, "");
    c->mounts.v[c->mounts.n - 1].copy_up = true;
    expect(&create, "5\n8\n0\n2\nunlimited\nfine\n");
}

/* A later process has the same users, clocks, filter and personality, and
 * limits of its own. */
static void test_exec(void **state)
{
    static const char script[] =
        "id -u; tr -s ' ' </proc/self/uid_map; ulimit -Hn; hostname; "
        "echo x >/dev/stdout; grep Seccomp: /proc/self/status; "
        "uname -m; "
        "test $(cut -d. -f1 /proc/uptime) -gt 6000000 && echo late";
    struct proto_create create = create_mapped("sleep 60");
    struct proto_exec exec = rig_exec("web1", "second", script);
    struct spec_process *p = &exec.process;
    const struct sock_filter allow = {.code = BPF_RET | BPF_K,
                                      .k = SECCOMP_RET_ALLOW};
    struct proto_message m;
    struct err said = ERR_INIT;
    int out;

    (void)state;
    create.container.namespaces |= CLONE_NEWTIME;
    create.container.boottime.seconds = 6000000;
    create.container.has_personality = true;
    create.container.personality = PER_LINUX32;
    create.container.seccomp.v = xmalloc(sizeof(allow));
    create.container.seccomp.n = sizeof(allow);
    memcpy(create.container.seccomp.v, &allow, sizeof(allow));
    if (rig_result(rig, rig_send_create(rig, &create), &said) ||
        rig_result(rig, rig_ask(rig, PROTO_START, "web1"), &said))
        fail_msg("%s", said.text);

    p->uid = p->gid = 1000;
    p->rlimits.v = xcalloc(1, sizeof(*p->rlimits.v));
    p->rlimits.n = 1;
    p->rlimits.v[0] =
        (struct spec_rlimit){.resource = 7, .soft = 40, .hard = 5000};
    exec.stdout_stream = 77;
    out = rig_collect(rig, 77);
    if (rig_result(rig, rig_send_exec(rig, &exec), &said))
        fail_msg("EXEC: %s", said.text);
    m = rig_take(rig, PROTO_EXITED, 0);
    assert_string_equal(m.body.exited.exec, "second");
    proto_clear(&m);
    rig_wait_streams(rig);
    rig_read(out, output, sizeof(output));
    assert_string_equal(output, "1000\n 0 100000 65536\n5000\nhouse\nx\n"
                                "Seccomp:\t2\ni686\nlate\n");
    assert_int_equal(
        rig_result(rig, rig_signal(rig, "web1", SIGKILL, false), NULL), 0);
    assert_int_equal(rig_wait_exit(rig, "web1"), 137);
    rig_delete(rig, "web1");
}

static void test_refused(void **state)
{
    struct proto_create create = create_bare("true");
    struct err said;

    (void)state;
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "needs uid and gid mappings");

    /* No root, and ids that are mapped twice. */
    create = create_bare("true");
    add_map(&create.container.uid_maps, 1, OUTSIDE, 10);
    add_map(&create.container.gid_maps, 1, OUTSIDE, 10);
    create.container.process.uid = create.container.process.gid = 1;
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "must have the id 0");
    create = create_mapped("true");
    add_map(&create.container.uid_maps, 5, 300000, 10);
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "id maps");

    create = create_mapped("true");
    create.container.process.uid = 65536;
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "set the user to 65536");

    create = create_mapped("true");
    free(create.container.mounts.v[0].data);
    create.container.mounts.v[0].data = xstrdup("hidepid=2");
    said = rig_refused(rig, &create);
    assert_said(said, ENOTSUP, "hidepid=2");
}

/* --- time --- */

static void test_time(void **state)
{
    struct proto_create create = rig_create(
        "web1",
        "cut -d. -f1 /proc/uptime; tr -s ' ' "
        "</proc/self/timens_offsets; for n in time time_for_children; do "
        "readlink /proc/self/ns/$n; done | uniq | wc -l");
    struct timespec now;
    long long uptime;
    char *end;

    (void)state;
    create.container.namespaces |= CLONE_NEWTIME;
    create.container.monotonic.seconds = 7000000;
    create.container.boottime =
        (struct spec_time_offset){.seconds = 5000000, .nanoseconds = 9};
    assert_int_equal(clock_gettime(CLOCK_BOOTTIME, &now), 0);
    assert_int_equal(rig_run(rig, &create, output, sizeof(output)), 0);
    uptime = strtoll(output, &end, 10);
    assert_true(uptime >= now.tv_sec + 5000000 &&
                uptime <= now.tv_sec + 5000100);
    assert_string_equal(end, "\nmonotonic 7000000 0\nboottime 5000000 9\n1\n");

    create = create_mapped("cut -d. -f1 /proc/uptime");
    create.container.namespaces |= CLONE_NEWTIME;
    create.container.boottime.seconds = 6000000;
    assert_int_equal(rig_run(rig, &create, output, sizeof(output)), 0);
    assert_true(strtoll(output, NULL, 10) >= now.tv_sec + 6000000);
}

static void test_refused_time(void **state)
{
    struct proto_create create = rig_create("web1", "true");
    struct err said;

    (void)state;
    create.container.namespaces |= CLONE_NEWTIME;
    create.container.monotonic.seconds = INT64_MIN / 2;
    said = rig_refused(rig, &create);
    assert_said(said, ERANGE, "offsets of a time namespace");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map),          cmocka_unit_test(test_identity),
        cmocka_unit_test(test_powers),       cmocka_unit_test(test_user),
        cmocka_unit_test(test_terminal),     cmocka_unit_test(test_the_rest),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_exec),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_time),
        cmocka_unit_test(test_refused_time),
    };

    return cmocka_run_group_tests_name("agent namespaces", tests, start_rig,
                                       stop_rig);
}
