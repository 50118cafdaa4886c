/*
 * OCI's section "linux": sysctls, device nodes and who may use them; and the
 * options of mounts.
 */
#include "tests/unit/agent_rig.h"

#include <linux/bpf.h>

#include "src/agent/device_filter.h"
#include "src/agent/sysctl.h"

#define ACCESS_R BPF_DEVCG_ACC_READ
#define ACCESS_W BPF_DEVCG_ACC_WRITE
#define ACCESS_M BPF_DEVCG_ACC_MKNOD

static struct rig *rig;
static char output[65536];

/* Something to copy, and devices of the image's own. */
static void fill(const char *tree)
{
    static const char script[] =
        "set -e; cd \"$1\"; mkdir -p full/sub/deep opt many; echo one >full/a\n"
        "echo two >full/sub/deep/b; chown 5:6 full/a; chmod 4750 full/a\n"
        "chown 7:8 full; chmod 1770 full; ln -s /etc/passwd full/sub/link\n"
        "mkfifo -m 640 full/pipe; chmod 2711 full/sub; touch -d @1000 full/a\n"
        "ln -s /etc/passwd opt/trap; ln -s /home opt/away; mkdir opt/dir\n"
        "echo secret >home/secret; mkdir -m 1733 drop\n";

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

static void expect(struct proto_create *create, const char *wanted)
{
    uint32_t status = rig_run(rig, create, output, sizeof(output));

    assert_string_equal(output, wanted);
    assert_int_equal(status, 0);
}

/* --- sysctls --- */

static void test_sysctl_names(void **state)
{
    static const struct {
        const char *name;
        const char *path; /* NULL: refused */
    } cases[] = {
        {"net.ipv4.ip_forward", "net/ipv4/ip_forward"},
        {"net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"},
        {"net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"},
        {"panic", "panic"},
        {"", NULL},
        {".", NULL},
        {"kernel.", NULL},
        {".kernel", NULL},
        {"kernel..panic", NULL},
        {"/kernel/panic", NULL},
        {"kernel/../../kmsg", NULL},
        {"kernel/./panic", NULL},
        {"a.//", NULL},
        {"kernel panic", NULL},
        {"kernel.\n", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *path = NULL;
        struct err e = ERR_INIT;
        int r = sysctl_path(cases[i].name, &path, &e);

        if (cases[i].path)
            assert_string_equal(path, cases[i].path);
        else if (r != -EINVAL)
            fail_msg("\"%s\" is \"%s\"", cases[i].name, path);
    }
}

static void test_sysctls(void **state)
{
    struct proto_create create = rig_create(
        "web1", "cd /proc/sys; cat kernel/shm_rmid_forced fs/mqueue/msg_max "
                "kernel/domainname; (echo 0 >kernel/shm_rmid_forced) 2>&1");
    struct spec_setting_list *l = &create.container.sysctls;
    char theirs[32];
    FILE *f;

    (void)state;
    spec_setting_add(l, "kernel.shm_rmid_forced", "1");
    spec_setting_add(l, "fs/mqueue/msg_max", "33");
    spec_setting_add(l, "kernel.domainname", "house.example");
    assert_int_equal(rig_run(rig, &create, output, sizeof(output)), 1);
    assert_string_equal(output, "1\n33\nhouse.example\n/bin/sh: can't create "
                                "kernel/shm_rmid_forced: Read-only file "
                                "system\n");
    /* In its own namespaces only. */
    f = fopen("/proc/sys/fs/mqueue/msg_max", "re");
    assert_non_null(f);
    assert_non_null(fgets(theirs, sizeof(theirs), f));
    assert_int_equal(fclose(f), 0);
    assert_string_not_equal(theirs, "33\n");
}

static void expect_refused_sysctl(const char *name, const char *value, int code)
{
    struct proto_create create = rig_create("web1", "true");
    struct err said;

    spec_setting_add(&create.container.sysctls, name, value);
    said = rig_refused(rig, &create);
    assert_said(said, code, name);
}

static void test_refused_sysctls(void **state)
{
    (void)state;
    expect_refused_sysctl("kernel.nosuch", "1", ENOENT);
    expect_refused_sysctl("kernel.shm_rmid_forced", "7", EINVAL);
    expect_refused_sysctl("kernel/../../kmsg", "1", EINVAL);
    expect_refused_sysctl("kernel", "1", EISDIR);
}

/* --- devices --- */

static struct spec_device *add_device(struct proto_create *create,
                                      const char *path, char type,
                                      uint32_t major, uint32_t minor)
{
    struct spec_device_list *l = &create->container.devices;

    l->v = xreallocarray(l->v, l->n + 1, sizeof(*l->v));
    l->v[l->n] = (struct spec_device){.path = xstrdup(path),
                                      .type = (uint32_t)type,
                                      .major = major,
                                      .minor = minor,
                                      .mode = 0640,
                                      .uid = 12,
                                      .gid = 34};
    return &l->v[l->n++];
}

static void test_devices(void **state)
{
    struct proto_create create = rig_create(
        "web1",
        "stat -c '%n %F %t:%T %a %u:%g' /dev/mine /dev/sub/disk /opt/pipe "
        "/opt/trap /dev/null; cat /etc/passwd | wc -l; head -c 3 /dev/mine | "
        "wc -c; echo x >/dev/zero && stat -c %t:%T /home/new && ls -l "
        "/dev/full | cut -c1-10");

    (void)state;
    (void)add_device(&create, "/dev/mine", 'c', 1, 5);
    (void)add_device(&create, "/dev/sub/disk", 'b', 7, 250);
    (void)add_device(&create, "/opt/pipe", 'p', 0, 0);
    (void)add_device(&create, "/opt/trap", 'c', 1, 3);
    (void)add_device(&create, "/opt/away/new", 'c', 1, 3);
    add_device(&create, "/dev/null", 'c', 1, 3)->mode = 0606;
    expect(&create, "/dev/mine character special file 1:5 640 12:34\n"
                    "/dev/sub/disk block special file 7:fa 640 12:34\n"
                    "/opt/pipe fifo 0:0 640 12:34\n"
                    "/opt/trap character special file 1:3 640 12:34\n"
                    "/dev/null character special file 1:3 606 12:34\n"
                    "2\n3\n1:3\ncrw-rw-rw-\n");
    /* Nothing of the guest's directory of nodes is to be seen. */
    create = rig_create("web1", "grep -c devices /proc/mounts; ls -d /devices "
                                "2>&1 | grep -c 'No such'");
    (void)add_device(&create, "/dev/mine", 'c', 1, 5);
    expect(&create, "1\n1\n");
    /* What opens terminals is always that of the container's devpts. */
    create = rig_create("web1", "readlink /dev/ptmx; true <>/dev/ptmx && "
                                "stat -Lc '%t:%T %a' /dev/ptmx");
    (void)add_device(&create, "/dev/ptmx", 'c', 5, 2);
    expect(&create, "pts/ptmx\n5:2 666\n");
    create = rig_create("web1", "stat -c %t:%T /dev/console");
    (void)add_device(&create, "/dev/console", 'c', 1, 3);
    create.container.process.terminal = true;
    expect(&create, "88:0\r\n");
}

static void expect_refused_device(const char *path, char type, uint32_t mode,
                                  uint32_t uid, int code, const char *words)
{
    struct proto_create create = rig_create("web1", "true");
    struct spec_device *d = add_device(&create, path, type, 1, 3);
    struct err said;

    d->mode = mode;
    d->uid = uid;
    said = rig_refused(rig, &create);
    assert_said(said, code, words);
    assert_said(said, code, path);
}

static void test_refused_devices(void **state)
{
    (void)state;
    expect_refused_device("dev/x", 'c', 0, 0, EINVAL, "absolute");
    expect_refused_device("/dev/", 'c', 0, 0, EINVAL, "absolute");
    expect_refused_device("/dev/..", 'c', 0, 0, EINVAL, "absolute");
    expect_refused_device("/dev/x", 'x', 0, 0, EINVAL, "type");
    expect_refused_device("/dev/x", 'c', 010000, 0, EINVAL, "mode");
    expect_refused_device("/dev/x", 'c', 0, UINT32_MAX, EINVAL, "owner");
    expect_refused_device("/opt/dir", 'c', 0, 0, EISDIR, "replace");
    expect_refused_device("/etc/passwd/x", 'c', 0, 0, ENOTDIR, "passwd");
    expect_refused_device("/proc/1/root/x", 'c', 0, 0, ELOOP, "proc");
}

static void add_rule(struct proto_create *create, bool allow, char type,
                     int64_t major, int64_t minor, uint32_t access)
{
    struct spec_device_rule_list *l = &create->container.device_rules;

    l->v = xreallocarray(l->v, l->n + 1, sizeof(*l->v));
    l->v[l->n++] = (struct spec_device_rule){.allow = allow,
                                             .type = (uint32_t)type,
                                             .major = major,
                                             .minor = minor,
                                             .access = access};
}

static const char rules_script[] =
    "for f in null zero full random; do\n"
    "(: <$f) 2>&- && printf r; (: >$f) 2>&- && printf w\n"
    "(: <>$f) 2>&- && printf b; printf ' '; done\n"
    "mknod /x c 1 5 2>&- && printf m; mknod /y b 7 7 2>&- && "
    "printf M; echo";

static void test_device_rules(void **state)
{
    struct proto_create create = rig_create("web1", rules_script);
    struct err said = ERR_INIT;

    (void)state;
    free(create.container.process.cwd);
    create.container.process.cwd = xstrdup("/dev");
    add_rule(&create, false, 'a', SPEC_DEVICE_ANY, SPEC_DEVICE_ANY,
             ACCESS_R | ACCESS_W | ACCESS_M);
    add_rule(&create, true, 'c', SPEC_DEVICE_ANY, SPEC_DEVICE_ANY, ACCESS_M);
    /* To read and to write, by two rules. */
    add_rule(&create, true, 'c', 1, 3, ACCESS_R);
    add_rule(&create, true, 'c', 1, 3, ACCESS_W);
    add_rule(&create, true, 'c', 1, 5, ACCESS_R | ACCESS_W);
    add_rule(&create, false, 'c', 1, 5, ACCESS_W);
    add_rule(&create, true, 'c', 1, 7, ACCESS_W);
    add_rule(&create, false, 'c', 1, 7, ACCESS_M);
    add_rule(&create, true, 'b', 1, SPEC_DEVICE_ANY, ACCESS_R);
    if (syscall(SYS_bpf, -1, NULL, 0) < 0 && errno == ENOSYS) {
        said = rig_refused(rig, &create);
        assert_said(said, ENOTSUP, "device rules");
        return;
    }
    expect(&create, "rwb r w  m\n");

    /* Rules but none that allows: nothing. No rules: all. */
    create = rig_create("web1", rules_script);
    free(create.container.process.cwd);
    create.container.process.cwd = xstrdup("/dev");
    add_rule(&create, true, 'b', SPEC_DEVICE_ANY, SPEC_DEVICE_ANY, ACCESS_M);
    expect(&create, "    M\n");
    create = rig_create("web1", rules_script);
    free(create.container.process.cwd);
    create.container.process.cwd = xstrdup("/dev");
    expect(&create, "rwb rwb rwb rwb mM\n");
}

static void test_compiled_rules(void **state)
{
    static struct bpf_insn insns[DEVICE_FILTER_INSNS_MAX];
    struct spec_device_rule rules[SPEC_DEVICES_MAX];
    struct spec_device_rule_list list = {rules, SPEC_DEVICES_MAX};
    struct err e = ERR_INIT;
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
        rules[i] =
            (struct spec_device_rule){i % 2, 'c', UINT32_MAX, 0, ACCESS_R};
    assert_ok(device_filter_compile(&list, insns, &n, &e), e);
    assert_true(n > SPEC_DEVICES_MAX && n <= DEVICE_FILTER_INSNS_MAX);
    /* No jump is left open, and none leads beyond the end. */
    for (size_t i = 0; i < n; i++)
        assert_true(insns[i].off >= 0 && i + 1 + (size_t)insns[i].off <= n);

    list.n = 1;
    rules[0].type = 'x';
    assert_int_equal(device_filter_compile(&list, insns, &n, &e), -EINVAL);
    rules[0] = (struct spec_device_rule){true, 'c', -2, 0, ACCESS_R};
    assert_int_equal(device_filter_compile(&list, insns, &n, &e), -EINVAL);
    rules[0] = (struct spec_device_rule){true, 'c', 0, 1ll << 32, ACCESS_R};
    assert_int_equal(device_filter_compile(&list, insns, &n, &e), -EINVAL);
    rules[0] = (struct spec_device_rule){true, 'c', 0, 0, 8};
    assert_int_equal(device_filter_compile(&list, insns, &n, &e), -EINVAL);
    assert_said(e, EINVAL, "device rule 0");
    list.n = SPEC_DEVICES_MAX + 1;
    assert_int_equal(device_filter_compile(&list, insns, &n, &e), -EINVAL);
    /* A directory that is no cgroup. */
    list.n = 1;
    rules[0].access = ACCESS_R;
    assert_true(device_filter_attach(STDIN_FILENO, &list, &e) < 0);
    list.n = 0;
    assert_ok(device_filter_attach(-1, &list, &e), e);
}

/* --- mounts --- */

static struct spec_mount *last_mount(struct proto_create *create)
{
    return &create->container.mounts.v[create->container.mounts.n - 1];
}

static void test_copy_up(void **state)
{
    struct proto_create create = rig_create(
        "web1", "cd /full; find . | sort | xargs stat -c '%n %A %u:%g %s'; "
                "stat -c %Y a; readlink sub/link; cat a sub/deep/b; "
                "(echo x >new) 2>&1; grep -c ' /full tmpfs ro' /proc/mounts");

    (void)state;
    rig_add_mount(&create.container, "tmpfs", "tmpfs", "/full",
                  MS_RDONLY | MS_NOSUID, "size=64k");
    last_mount(&create)->copy_up = true;
    expect(&create, ". drwxrwx--T 7:8 100\n"
                    "./a -rwsr-x--- 5:6 4\n"
                    "./pipe prw-r----- 0:0 0\n"
                    "./sub drwx--s--x 0:0 80\n"
                    "./sub/deep drwxr-xr-x 0:0 60\n"
                    "./sub/deep/b -rw-r--r-- 0:0 4\n"
                    "./sub/link lrwxrwxrwx 0:0 11\n"
                    "1000\n/etc/passwd\none\ntwo\n"
                    "/bin/sh: can't create new: Read-only file system\n1\n");

    /* What the options say counts. */
    create = rig_create("web1", "stat -c '%a %u' /full; cat /full/a");
    rig_add_mount(&create.container, "tmpfs", "tmpfs", "/full", 0,
                  "size=64k,mode=0711");
    last_mount(&create)->copy_up = true;
    expect(&create, "711 7\none\n");

    /* A place that the image lacks, and one that holds too much. */
    create = rig_create("web1", "ls -A /empty | wc -l");
    rig_add_mount(&create.container, "tmpfs", "tmpfs", "/empty", 0, "");
    last_mount(&create)->copy_up = true;
    expect(&create, "0\n");
    create = rig_create("web1", "true");
    rig_add_mount(&create.container, "tmpfs", "tmpfs", "/bin", 0, "size=64k");
    last_mount(&create)->copy_up = true;
    {
        struct err said = rig_refused(rig, &create);

        assert_said(said, ENOSPC, "busybox");
    }
}

/* Without a mode of its own a tmpfs has that of the place it covers, and 1777
 * where there was none. */
static void test_tmpfs_mode(void **state)
{
    struct proto_create create =
        rig_create("web1", "stat -c '%n %a' /drop /tmp /drop2 /made/for/it; "
                           "grep ' /tmp tmpfs' /proc/mounts | "
                           "grep -o 'size=[^ ]*' | tr , '\\n' | grep -v inode");

    (void)state;
    rig_add_mount(&create.container, "tmpfs", "t", "/drop", 0, "size=4k");
    rig_add_mount(&create.container, "tmpfs", "t", "/tmp", 0,
                  "size=8k,mode=750,uid=3,gid=4,nr_inodes=20,huge=never");
    rig_add_mount(&create.container, "tmpfs", "t", "/drop2", 0, "mode=0700");
    rig_add_mount(&create.container, "tmpfs", "t", "/made/for/it", 0, "");
    expect(&create, "/drop 1733\n/tmp 750\n/drop2 700\n/made/for/it 1777\n"
                    "size=8k\nmode=750\nuid=3\ngid=4\n");
}

/* It is closed when all that has its place in it is there. */
static void test_readonly_tmpfs(void **state)
{
    struct proto_create create =
        rig_create("web1", "pwd; touch x 2>&1; touch inner/x && ls -A /home; "
                           "stat -c %F /home/node");

    (void)state;
    rig_add_mount(&create.container, "tmpfs", "t", "/home", MS_RDONLY, "");
    rig_add_mount(&create.container, "tmpfs", "t", "/home/cwd/inner", 0, "");
    (void)add_device(&create, "/home/node", 'c', 1, 3);
    free(create.container.process.cwd);
    create.container.process.cwd = xstrdup("/home/cwd");
    expect(&create, "/home/cwd\ntouch: x: Read-only file system\ncwd\nnode\n"
                    "character special file\n");
}

/* Those that mount(2) has, whatever a file system makes of them. */
static void test_old_mount_flags(void **state)
{
    struct proto_create create = rig_create(
        "web1", "awk '$2 ~ \"^/(one|two)\" {print $2, $4}' /proc/mounts | "
                "cut -d, -f1-3");

    (void)state;
    rig_add_mount(&create.container, "tmpfs", "t", "/one",
                  MS_POSIXACL | MS_I_VERSION, "size=4k");
    rig_add_mount(&create.container, "tmpfs", "t", "/two",
                  MS_STRICTATIME | MS_NOATIME, "size=4k");
    expect(&create, "/one rw,nodev,relatime\n/two rw,nodev,size=4k\n");
}

static void test_recursive_attributes(void **state)
{
    struct proto_create create = rig_create(
        "web1", "for f in /one /one/in; do awk -v d=$f '$2 == d {print $4}' "
                "/proc/mounts | cut -d, -f1-4; done");

    (void)state;
    rig_add_mount(&create.container, "bind", "/dev", "/one", MS_BIND | MS_REC,
                  "");
    last_mount(&create)->all_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME;
    last_mount(&create)->all_clear = MOUNT_ATTR_NOEXEC;
    expect(&create, "ro,nosuid,nodev,noatime\n");
    create = rig_create("web1", "awk '$2 == \"/one/pts\" {print $4}' "
                                "/proc/mounts | cut -d, -f1-3");
    rig_add_mount(&create.container, "bind", "/dev", "/one", MS_BIND | MS_REC,
                  "");
    last_mount(&create)->all_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME;
    last_mount(&create)->all_clear = MOUNT_ATTR_NOEXEC;
    expect(&create, "ro,nosuid,noatime\n");

    create = rig_create("web1", "true");
    rig_add_mount(&create.container, "tmpfs", "t", "/one", 0, "");
    last_mount(&create)->all_set = 1ull << 40;
    {
        struct err said = rig_refused(rig, &create);

        assert_said(said, EINVAL, "attributes 0x10000000000");
    }
}

static void test_flags(void **state)
{
    struct proto_create create = rig_create(
        "web1", "ln -s /etc/passwd /one/l; cat /one/l 2>&1; "
                "awk '$2 == \"/one\" {print $4}' /proc/mounts | cut -d, -f1-7; "
                "touch /run/x 2>&1; mkdir /dev/mqueue/x 2>&1; ls /dev/pts");

    (void)state;
    rig_add_mount(&create.container, "tmpfs", "t", "/one",
                  MS_NOSYMFOLLOW | MS_NODIRATIME | MS_SYNCHRONOUS | MS_DIRSYNC |
                      MS_LAZYTIME,
                  "");
    rig_add_mount(&create.container, "none", "none", "/run",
                  MS_REMOUNT | MS_BIND | MS_RDONLY, "");
    expect(&create, "cat: can't open '/one/l': Too many levels of symbolic "
                    "links\nrw,sync,dirsync,lazytime,nodev,nodiratime,relatime"
                    "\ntouch: /run/x: Read-only file system\n"
                    "mkdir: can't create directory '/dev/mqueue/x': "
                    "Operation not permitted\nptmx\n");

    create = rig_create("web1", "true");
    rig_add_mount(&create.container, "none", "none", "/home",
                  MS_REMOUNT | MS_RDONLY, "");
    {
        struct err said = rig_refused(rig, &create);

        assert_said(said, EINVAL, "/home");
    }
}

static void add_remount(struct proto_create *create, const char *type,
                        const char *destination, uint64_t flags,
                        const char *data)
{
    rig_add_mount(&create->container, type, type, destination,
                  MS_REMOUNT | flags, data);
}

static void refuse_remount(const char *destination, const char *data, int code,
                           const char *words)
{
    struct proto_create create = rig_create("web1", "true");
    struct err said;

    add_remount(&create, "tmpfs", destination, 0, data);
    said = rig_refused(rig, &create);
    assert_said(said, code, words);
    assert_said(said, code, destination);
}

/* As mount(2) has it: the flags are those, the options as far as given. */
static void test_remount(void **state)
{
    static const char script[] =
        "awk '$2 == \"/one\" {print $4}' /proc/mounts; stat -c %a /one; "
        "awk '$5 == \"/one\" {print $7}' /proc/self/mountinfo | sed s/:.*//";
    struct proto_create create = rig_create("web1", script);
    struct err said;

    (void)state;
    rig_add_mount(&create.container, "tmpfs", "t", "/one",
                  MS_NOEXEC | MS_NOSUID | MS_SYNCHRONOUS | MS_NOATIME,
                  "size=4m,mode=755");
    add_remount(&create, "tmpfs", "/one", 0, "size=1m");
    last_mount(&create)->propagation = MS_SHARED;
    expect(&create, "rw,nodev,noatime,size=1024k,mode=755\n755\nshared\n");

    create = rig_create("web1", "awk '$2 == \"/one\" {print $4}' /proc/mounts;"
                                "cat /one/two/x 2>&1; true");
    rig_add_mount(&create.container, "tmpfs", "t", "/one", 0, "");
    add_remount(&create, "tmpfs", "/one", MS_RDONLY | MS_STRICTATIME, "");
    rig_add_mount(&create.container, "tmpfs", "t", "/one/two", 0, "");
    expect(&create, "ro,nodev\ncat: can't open '/one/two/x': No such file or "
                    "directory\n");

    /* A mount that was to be read-only gets so, and what it was to be, after
     * all that is done beneath it. */
    create = rig_create("web1", "awk '$2 == \"/one\" {print $4}' /proc/mounts");
    rig_add_mount(&create.container, "tmpfs", "t", "/one",
                  MS_RDONLY | MS_NOSUID, "");
    add_remount(&create, "tmpfs", "/one", 0, "");
    expect(&create, "ro,nosuid,nodev,relatime\n");

    /* What others have, too, is changed here only. */
    create = rig_create("web1", "awk '$2 ~ \"/sys|/proc\" {print $4}' "
                                "/proc/mounts | cut -d, -f1-4");
    create.container.namespaces &= ~(uint64_t)CLONE_NEWPID;
    string_list_clear(&create.container.masked_paths);
    string_list_clear(&create.container.readonly_paths);
    add_remount(&create, "sysfs", "/sys", 0, "");
    add_remount(&create, "proc", "/proc", MS_RDONLY, "");
    expect(&create, "ro,relatime\nrw,relatime\n");
    create = rig_create("web1", "cat /proc/self/oom_score_adj");
    expect(&create, "0\n");

    /* It would be made, and not be the root. */
    create = rig_create("web1", "true");
    rig_add_mount(&create.container, "tmpfs", "t", "/dev/..", 0, "");
    said = rig_refused(rig, &create);
    assert_said(said, EINVAL, "/dev/..: it is the container's root");

    refuse_remount("/dev/shm", "nonsense=1", EINVAL, "nonsense");
    refuse_remount("/sys", "nonsense=1", ENOTSUP, "nonsense");
    refuse_remount("/home", "", EINVAL, "/home");
}

static void test_propagation(void **state)
{
    static const char script[] =
        "awk '$5 == \"/\" || $5 == \"/one\" {print $5, $7}' "
        "/proc/self/mountinfo | sed 's/:.*//'";
    struct proto_create create = rig_create("web1", script);

    (void)state;
    rig_add_mount(&create.container, "tmpfs", "t", "/one", 0, "");
    last_mount(&create)->propagation = MS_SHARED;
    expect(&create, "/ -\n/one shared\n");

    create = rig_create("web1", script);
    create.container.root_propagation = MS_SHARED | MS_REC;
    expect(&create, "/ shared\n");
    create = rig_create("web1", script);
    create.container.root_propagation = MS_UNBINDABLE;
    expect(&create, "/ unbindable\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sysctl_names),
        cmocka_unit_test(test_sysctls),
        cmocka_unit_test(test_refused_sysctls),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_refused_devices),
        cmocka_unit_test(test_device_rules),
        cmocka_unit_test(test_compiled_rules),
        cmocka_unit_test(test_copy_up),
        cmocka_unit_test(test_tmpfs_mode),
        cmocka_unit_test(test_readonly_tmpfs),
        cmocka_unit_test(test_old_mount_flags),
        cmocka_unit_test(test_recursive_attributes),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_remount),
        cmocka_unit_test(test_propagation),
    };

    return cmocka_run_group_tests_name("agent linux", tests, start_rig,
                                       stop_rig);
}
