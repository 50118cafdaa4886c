/*
 * The tree and the rights of a container: mounts, devices, masked paths,
 * users, capabilities; and images that try to lead the agent astray.
 */
#include "tests/unit/agent_rig.h"

#include <linux/capability.h>
#include <sys/resource.h>

static struct rig *rig;
static char output[65536];

static void put_link(const char *tree, const char *name, const char *target)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/%s", tree, name);
    assert_int_equal(symlink(target, path), 0);
}

static void put_directory(const char *tree, const char *name)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/%s", tree, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

/* Places in the image, all of which lead somewhere else. */
static void fill(const char *tree)
{
    put_link(tree, "up", "../../../../../../..");
    put_link(tree, "top", "/");
    put_link(tree, "agent", "/lower");
    put_link(tree, "magic", "/proc/1/root");
    put_link(tree, "loop", "loop");
    put_link(tree, "dangling", "/nowhere/at/all");
    put_link(tree, "again", "home/../dangling/more");
    put_link(tree, "climbs", "../../../lower/outside");
    put_link(tree, "data", "/home");
    put_directory(tree, "var");
    put_link(tree, "var/run", "/run");
    put_link(tree, "file", "/nowhere/file");
    for (int i = 0; i < 60; i++) {
        char name[16], target[32];

        (void)snprintf(name, sizeof(name), "chain%d", i);
        (void)snprintf(target, sizeof(target), "made%d/../chain%d", i, i + 1);
        put_link(tree, name, target);
    }
}

static int start_rig(void **state)
{
    (void)state;
    rig = rig_start(fill);
    return 0;
}

/* An image whose own directories are links, and whose devices are traps. */
static void fill_bad_dev(const char *tree)
{
    put_directory(tree, "elsewhere");
    put_link(tree, "dev", "/elsewhere");
    put_link(tree, "elsewhere/null", "/etc/passwd");
    put_link(tree, "elsewhere/fd", "/etc");
    put_link(tree, "elsewhere/console", "/etc/passwd");
    put_link(tree, "proc", "/tmp");
}

static int start_bad_dev(void **state)
{
    (void)state;
    rig = rig_start(fill_bad_dev);
    return 0;
}

static int stop_rig(void **state)
{
    (void)state;
    rig_stop(rig);
    return 0;
}

/* Runs the script and wants exactly these words and status 0. */
static void expect(struct proto_create *create, const char *wanted)
{
    uint32_t status = rig_run(rig, create, output, sizeof(output));

    assert_string_equal(output, wanted);
    assert_int_equal(status, 0);
}

static void expect_script(const char *script, const char *wanted)
{
    struct proto_create create = rig_create("web1", script);

    expect(&create, wanted);
}

static void test_mounts(void **state)
{
    (void)state;
    expect_script("for d in /proc /dev /dev/pts /dev/shm /dev/mqueue /sys /run;"
                  " do awk -v d=$d '$2 == d {print d, $3}' /proc/mounts; done",
                  "/proc proc\n/dev tmpfs\n/dev/pts devpts\n/dev/shm tmpfs\n"
                  "/dev/mqueue mqueue\n/sys sysfs\n/run tmpfs\n");
    expect_script("awk '$2 == \"/\" {print $3, $4}' /proc/mounts | "
                  "grep -c 'overlay rw,nodev,'",
                  "1\n");
    /* Nothing of the guest's own tree is to be seen. */
    expect_script("ls -d /lower /upper /rootfs 2>&1 | grep -vc 'No such'; "
                  "grep -c erofs /proc/mounts; true",
                  "0\n0\n");
    expect_script("awk '$2 == \"/sys\" {print $4}' /proc/mounts | cut -c1-27",
                  "ro,nosuid,nodev,noexec,rela\n");
}

static void test_writable_and_gone(void **state)
{
    (void)state;
    expect_script("echo x >/etc/new && cat /etc/new && rm /etc/passwd && "
                  "ls /etc && stat -c '%a %u' /",
                  "x\nnew\n755 0\n");
    expect_script("ls /etc", "passwd\n");
}

static void test_devices(void **state)
{
    (void)state;
    expect_script(
        "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty",
        "null character special file 1:3 666\n"
        "zero character special file 1:5 666\n"
        "full character special file 1:7 666\n"
        "random character special file 1:8 666\n"
        "urandom character special file 1:9 666\n"
        "tty character special file 5:0 666\n");
    expect_script("cd /dev; for l in fd stdin stdout stderr ptmx; do "
                  "readlink $l; done; echo x >null; head -c 2 zero | wc -c; "
                  "test ! -e console",
                  "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n"
                  "/proc/self/fd/2\npts/ptmx\n2\n");
    /* Making a node is allowed, using it is not: wherever it is. */
    expect_script("for d in / /dev /run /dev/shm /tmp; do "
                  "mknod $d/memory c 1 1 && cat $d/memory 2>&1 | head -c 200; "
                  "done",
                  "cat: can't open '//memory': Permission denied\n"
                  "cat: can't open '/dev/memory': Permission denied\n"
                  "cat: can't open '/run/memory': Permission denied\n"
                  "cat: can't open '/dev/shm/memory': Permission denied\n"
                  "cat: can't open '/tmp/memory': Permission denied\n");
}

static void test_masked_and_readonly(void **state)
{
    (void)state;
    expect_script("cat /proc/kcore /proc/keys | wc -c; "
                  "ls -A /sys/firmware | wc -l; "
                  "grep ' /sys/firmware ' /proc/self/mountinfo | "
                  "grep -c nr_inodes=1",
                  "0\n0\n1\n");
    expect_script("(echo 1 >/proc/sys/kernel/panic) 2>&1; true",
                  "/bin/sh: can't create /proc/sys/kernel/panic: Read-only "
                  "file system\n");
}

/* A masked path that is a link hides what the link means in the container. */
static void test_masked_link(void **state)
{
    struct proto_create create =
        rig_create("web1", "ls -A /home | wc -l; touch /home/x 2>&1; true");

    (void)state;
    string_list_add(&create.container.masked_paths, "/data");
    expect(&create, "0\ntouch: /home/x: Read-only file system\n");
}

/* The same for one that may be read. What is not there need not be hidden, and
 * what leads out of the container is refused. */
static void test_readonly_link(void **state)
{
    struct proto_create create = rig_create("web1", "touch /home/x 2>&1; true");
    struct err said;

    (void)state;
    string_list_add(&create.container.readonly_paths, "/data");
    string_list_add(&create.container.readonly_paths, "/nowhere");
    string_list_add(&create.container.masked_paths, "/etc/passwd/nowhere");
    expect(&create, "touch: /home/x: Read-only file system\n");

    create = rig_create("web1", "true");
    string_list_add(&create.container.masked_paths, "/magic/etc");
    said = rig_refused(rig, &create);
    assert_said(said, ELOOP, "masked path /magic/etc");
    create = rig_create("web1", "true");
    string_list_add(&create.container.readonly_paths, "/loop");
    said = rig_refused(rig, &create);
    assert_said(said, ELOOP, "read-only path /loop");
}

static void test_readonly_root(void **state)
{
    struct proto_create create = rig_create(
        "web1", "touch /x 2>&1; touch /run/x /dev/shm/x && echo fine");

    (void)state;
    create.container.root_readonly = true;
    expect(&create, "touch: /x: Read-only file system\nfine\n");
}

/* Destinations through links land in the container's tree, nowhere else. */
static void test_hostile_destinations(void **state)
{
    struct proto_create create = rig_create(
        "web1", "for f in /one /two /lower/three /run/four; do "
                "test -d $f && grep -c \" $f tmpfs \" /proc/mounts; done");

    (void)state;
    rig_add_mount(&create.container, "tmpfs", "t", "/up/up/one", 0, "");
    rig_add_mount(&create.container, "tmpfs", "t", "/top/../../two", 0, "");
    rig_add_mount(&create.container, "tmpfs", "t", "/top/lower/three", 0, "");
    rig_add_mount(&create.container, "tmpfs", "t", "/var/run/four", 0, "");
    expect(&create, "1\n1\n1\n1\n");
}

/* What a link leads to is made, within the container's tree. */
static void test_dangling_destinations(void **state)
{
    struct proto_create create = rig_create(
        "web1", "for f in /nowhere/at/all/x /nowhere/at/all/more "
                "/lower/outside/y; do grep -c \" $f tmpfs \" /proc/mounts; "
                "stat -c '%F %a %u' ${f%/*}; done; "
                "grep -c ' /nowhere/file proc ' /proc/mounts; "
                "readlink /dangling; readlink /again");

    (void)state;
    rig_add_mount(&create.container, "tmpfs", "t", "/dangling/x", 0, "");
    rig_add_mount(&create.container, "tmpfs", "t", "/again", 0, "");
    rig_add_mount(&create.container, "tmpfs", "t", "/climbs/y", 0, "");
    rig_add_mount(&create.container, "bind", "/proc/cpuinfo", "/file",
                  MS_BIND | MS_REC, "");
    expect(&create, "1\ndirectory 755 0\n1\ndirectory 755 0\n"
                    "1\ndirectory 755 0\n1\n"
                    "/nowhere/at/all\nhome/../dangling/more\n");
}

static void expect_refused_mount(const char *type, const char *destination,
                                 uint64_t flags, const char *data, int code,
                                 const char *words)
{
    struct proto_create create = rig_create("web1", "true");
    struct err said;

    rig_add_mount(&create.container, type, "source", destination, flags, data);
    said = rig_refused(rig, &create);
    assert_said(said, code, words);
    assert_said(said, code, destination);
}

static void test_refused_mounts(void **state)
{
    (void)state;
    expect_refused_mount("tmpfs", "/magic/tmp/x", 0, "", ELOOP, "/magic");
    expect_refused_mount("tmpfs", "/loop/x", 0, "", ELOOP, "loop");
    expect_refused_mount("tmpfs", "/chain0", 0, "", ELOOP, "too many links");
    expect_refused_mount("tmpfs", "/etc/passwd", 0, "", ENOTDIR, "tmpfs");
    expect_refused_mount("nosuchfs", "/x", 0, "", ENODEV, "nosuchfs");
    expect_refused_mount("tmpfs", "/x", 0, "nosuch=1", EINVAL, "nosuch");
    expect_refused_mount("tmpfs", "/x", 1u << 30, "", EINVAL, "0x40000000");
    expect_refused_mount("bind", "/x", MS_BIND, "", ENOENT, "source");
    expect_refused_mount("proc", "/data", 0, "", ELOOP, "proc");
}

static void test_bind(void **state)
{
    struct proto_create create =
        rig_create("web1", "grep -c . /etc/cpu; (echo x >/etc/cpu) 2>&1; "
                           "ls /sub | grep -c stat");

    (void)state;
    rig_add_mount(&create.container, "bind", "/proc/cpuinfo", "/etc/cpu",
                  MS_BIND | MS_REC | MS_RDONLY, "");
    rig_add_mount(&create.container, "none", "/proc/self", "/sub", MS_BIND, "");
    assert_int_equal(rig_run(rig, &create, output, sizeof(output)), 0);
    assert_non_null(strstr(output, "/etc/cpu: Read-only file system"));
}

static void test_cgroup_mount(void **state)
{
    struct proto_create create =
        rig_create("web1", "cat /sys/fs/cgroup/cgroup.procs | wc -l; "
                           "cat /proc/self/cgroup | grep '^0:'");

    (void)state;
    rig_add_mount(&create.container, "cgroup", "cgroup", "/sys/fs/cgroup",
                  MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    expect(&create, "3\n0::/\n");
    /* Without a namespace of its own, still only its own group. */
    create = rig_create("web1", "test -r /sys/fs/cgroup/cgroup.procs && "
                                "ls /sys/fs/cgroup | grep -c container-; true");
    create.container.namespaces &= ~(uint64_t)CLONE_NEWCGROUP;
    rig_add_mount(&create.container, "cgroup2", "cgroup", "/sys/fs/cgroup",
                  MS_RDONLY, "");
    expect(&create, "0\n");
}

static void test_namespaces(void **state)
{
    struct proto_create create = rig_create("web1", "hostname; ls /proc | "
                                                    "grep -c '^[0-9]'");
    struct err said;

    (void)state;
    /* What was not asked for is shared with the agent. */
    create.container.namespaces = CLONE_NEWNS | CLONE_NEWIPC;
    assert_int_equal(rig_run(rig, &create, output, sizeof(output)), 0);
    assert_null(strstr(output, "house"));

    create = rig_create("web1", "true");
    create.container.namespaces |= 1ull << 50;
    said = rig_refused(rig, &create);
    assert_said(said, ENOTSUP, "namespaces");
}

static void test_user(void **state)
{
    struct proto_create create = rig_create(
        "web1", "id; umask; echo $HOME; pwd; stat -c '%u %a' . ; "
                "echo x >/dev/stdout; grep CapEff /proc/self/status");
    struct spec_process *p = &create.container.process;

    (void)state;
    p->uid = 1000;
    p->gid = 1001;
    p->additional_gids.v = xcalloc(2, sizeof(uint32_t));
    p->additional_gids.v[0] = 7;
    p->additional_gids.v[1] = 65534;
    p->additional_gids.n = 2;
    p->has_umask = true;
    p->umask = 027;
    free(p->cwd);
    p->cwd = xstrdup("/srv/new/place");
    expect(&create, "uid=1000(web) gid=1001 groups=7,65534\n0027\n/home/web\n"
                    "/srv/new/place\n0 755\nx\nCapEff:\t0000000000000000\n");

    create = rig_create("web1", "id -u; id -g; id -G");
    p = &create.container.process;
    p->uid = 1u << 31;
    p->gid = UINT32_MAX - 1;
    expect(&create, "2147483648\n4294967294\n4294967294\n");
}

static void test_refused_users(void **state)
{
    struct proto_create create = rig_create("web1", "true");
    struct spec_process *p = &create.container.process;

    (void)state;
    p->uid = UINT32_MAX;
    assert_int_equal(rig_refused(rig, &create).code, EINVAL);
    create = rig_create("web1", "true");
    create.container.process.gid = UINT32_MAX;
    assert_int_equal(rig_refused(rig, &create).code, EINVAL);
    create = rig_create("web1", "true");
    p = &create.container.process;
    p->additional_gids.v = xcalloc(1, sizeof(uint32_t));
    p->additional_gids.v[0] = UINT32_MAX;
    p->additional_gids.n = 1;
    assert_int_equal(rig_refused(rig, &create).code, EINVAL);
}

static uint64_t bit(int cap)
{
    return 1ull << cap;
}

static void test_capabilities(void **state)
{
    static const char script[] = "grep ^Cap /proc/self/status | cut -f2; "
                                 "grep NoNewPrivs /proc/self/status | cut -f2";
    uint64_t caps = bit(CAP_CHOWN) | bit(CAP_KILL) | bit(CAP_NET_RAW);
    struct proto_create create = rig_create("web1", script);
    struct spec_process *p = &create.container.process;

    (void)state;
    p->has_capabilities = true;
    p->no_new_privileges = true;
    p->capabilities.bounding = caps;
    p->capabilities.permitted = caps;
    p->capabilities.effective = caps;
    expect(&create, "0000000000000000\n0000000000002021\n0000000000002021\n"
                    "0000000000002021\n0000000000000000\n1\n");

    /* Ambient ones survive the change of user. */
    create = rig_create("web1", script);
    p = &create.container.process;
    p->uid = p->gid = 1000;
    p->has_capabilities = true;
    p->capabilities = (struct spec_capabilities){
        .bounding = caps,
        .permitted = caps,
        .effective = caps,
        .inheritable = bit(CAP_KILL),
        .ambient = bit(CAP_KILL),
    };
    expect(&create, "0000000000000020\n0000000000000020\n0000000000000020\n"
                    "0000000000002021\n0000000000000020\n0\n");
}

static void test_limits(void **state)
{
    struct proto_create create = rig_create("web1", "ulimit -n; ulimit -Hn");
    struct spec_process *p = &create.container.process;
    struct err said;

    (void)state;
    p->rlimits.v = xcalloc(1, sizeof(*p->rlimits.v));
    p->rlimits.n = 1;
    p->rlimits.v[0] = (struct spec_rlimit){
        .resource = RLIMIT_NOFILE, .soft = 99, .hard = 111};
    expect(&create, "99\n111\n");

    create = rig_create("web1", "true");
    p = &create.container.process;
    p->rlimits.v = xcalloc(1, sizeof(*p->rlimits.v));
    p->rlimits.n = 1;
    p->rlimits.v[0] = (struct spec_rlimit){
        .resource = RLIMIT_NOFILE, .soft = 112, .hard = 111};
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "resource limit 7");
}

/* No descriptor of the agent, no signal that it blocks or ignores. */
static void test_nothing_inherited(void **state)
{
    static const char *const args[] = {"grep", "-E", "^(Sig(Blk|Ign)|CoreD)",
                                       "/proc/self/status"};
    struct proto_create create = rig_create("web1", "");
    struct string_list *list = &create.container.process.args;

    (void)state;
    string_list_clear(list);
    for (size_t i = 0; i < ARRAY_SIZE(args); i++)
        string_list_add(list, args[i]);
    expect(&create, "CoreDumping:\t0\nSigBlk:\t0000000000000000\n"
                    "SigIgn:\t0000000000000000\n");
    /* 3 is the directory that ls reads; a session of its own. */
    expect_script("ls /proc/self/fd | tr '\\n' ' '; "
                  "cat /proc/1/oom_score_adj; cut -d' ' -f6 /proc/1/stat",
                  "0 1 2 3 0\n1\n");
}

static void test_cwd(void **state)
{
    static const struct {
        const char *cwd;
        int code;
    } cases[] = {
        {"/proc/self/fd/5", ELOOP},
        {"/proc/1/root", ELOOP},
        {"/etc/passwd", ENOTDIR},
        {"/loop", ELOOP},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct proto_create create = rig_create("web1", "pwd");

        free(create.container.process.cwd);
        create.container.process.cwd = xstrdup(cases[i].cwd);
        assert_int_equal(rig_refused(rig, &create).code, cases[i].code);
    }
}

static void test_root_device(void **state)
{
    static const struct {
        const char *name;
        int code;
    } cases[] = {{"", EINVAL}, {"../null", EINVAL}, {"null", ENOTBLK}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct proto_create create = rig_create("web1", "true");

        free(create.root_device);
        create.root_device = xstrdup(cases[i].name);
        assert_int_equal(rig_refused(rig, &create).code, cases[i].code);
    }
}

/* The guest's kernel decides; a limit that it cannot keep is refused. */
static void test_resources(void **state)
{
    struct proto_create create =
        rig_create("web1", "cat /sys/fs/cgroup/memory.max");
    struct err said = ERR_INIT;
    char path[128];
    uint32_t request;

    (void)state;
    spec_setting_add(&create.container.cgroup, "memory.max", "67108864");
    rig_add_mount(&create.container, "cgroup2", "c", "/sys/fs/cgroup", 0, "");
    (void)snprintf(path, sizeof(path), "%s/memory.max", rig->cgroup);
    if (access(path, F_OK) == 0) {
        expect(&create, "67108864\n");
        return;
    }
    request = rig_send_create(rig, &create);
    (void)rig_result(rig, request, &said);
    assert_said(said, ENOTSUP, "memory.max");
}

/* Only tmpfs at /run is left: /dev is the image's own. */
static struct proto_create create_bad_dev(const char *script)
{
    struct proto_create create = rig_create("web1", script);
    struct spec_container *c = &create.container;

    free(c->mounts.v[0].destination);
    c->mounts.v[0].destination = xstrdup("/procfs");
    for (size_t i = 1; i < 5; i++) {
        free(c->mounts.v[i].type);
        free(c->mounts.v[i].destination);
        free(c->mounts.v[i].data);
        c->mounts.v[i].type = xstrdup("tmpfs");
        c->mounts.v[i].destination = xstrdup("/mnt");
        c->mounts.v[i].data = xstrdup("");
    }
    return create;
}

static void test_image_dev_is_link(void **state)
{
    struct proto_create create =
        create_bad_dev("stat -c %t:%T /dev/null; readlink /dev/fd; "
                       "cat /etc/passwd | wc -l; "
                       "test -c /elsewhere/zero && echo there");
    struct err said;

    (void)state;
    expect(&create, "1:3\n/proc/self/fd\n2\nthere\n");

    create = rig_create("web1", "true");
    said = rig_refused(rig, &create);
    assert_said(said, ELOOP, "mount of proc at /proc");
}

static void test_image_console_is_link(void **state)
{
    struct proto_create create = create_bad_dev(
        "test -t 0 && test -c /dev/console && cat /etc/passwd | wc -l");

    (void)state;
    create.container.process.terminal = true;
    expect(&create, "2\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mounts),
        cmocka_unit_test(test_writable_and_gone),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_masked_and_readonly),
        cmocka_unit_test(test_masked_link),
        cmocka_unit_test(test_readonly_link),
        cmocka_unit_test(test_readonly_root),
        cmocka_unit_test(test_hostile_destinations),
        cmocka_unit_test(test_dangling_destinations),
        cmocka_unit_test(test_refused_mounts),
        cmocka_unit_test(test_bind),
        cmocka_unit_test(test_cgroup_mount),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_user),
        cmocka_unit_test(test_refused_users),
        cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_nothing_inherited),
        cmocka_unit_test(test_cwd),
        cmocka_unit_test(test_root_device),
        cmocka_unit_test(test_resources),
    };
    const struct CMUnitTest bad[] = {
        cmocka_unit_test(test_image_dev_is_link),
        cmocka_unit_test(test_image_console_is_link),
    };
    int failed =
        cmocka_run_group_tests_name("agent root", tests, start_rig, stop_rig);

    return failed + cmocka_run_group_tests_name("agent, hostile image", bad,
                                                start_bad_dev, stop_rig);
}
