/* What the guest does for a container beside its process and its limits. */
#include "tests/unit/shim_oci.h"

#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <time.h>

#include "domus/ctl.h"
#include "domus/log.h"

/* From linux/mount.h, which glibc's sys/mount.h does not go together with. */
#define ATTR_RDONLY      0x01
#define ATTR_NOSUID      0x02
#define ATTR_NOATIME     0x10
#define ATTR_ATIME       0x70
#define ATTR_NOSYMFOLLOW 0x200000

static void take(const char *path, const char *value, struct oci_config *c)
{
    struct json_object *tree = changed(path, value);
    struct err e = ERR_INIT;

    assert_ok(parse_tree(tree, c, &e), e);
    json_object_put(tree);
}

static void takes_what_is_for_the_guest(void **state)
{
    struct oci_config c;
    struct err e = ERR_INIT;
    const struct spec_container *s = &c.container;
    const struct spec_scheduler *scheduler = &s->process.scheduler;

    (void)state;
    assert_ok(parse_file(CORPUS "full.json", &c, &e), e);
    assert_int_equal(c.cpu_weight, 256);
    assert_int_equal(c.cpu_cap, 150);
    assert_int_equal(s->uid_maps.n, 2);
    assert_int_equal(s->uid_maps.v[0].outside, 100000);
    assert_int_equal(s->uid_maps.v[1].inside, 65536);
    assert_int_equal(s->gid_maps.v[0].size, 4294967294U);
    assert_int_equal(s->monotonic.seconds, -3600);
    assert_int_equal(s->monotonic.nanoseconds, 999999999);
    assert_int_equal(s->boottime.seconds, 86400);
    assert_int_equal(s->root_propagation, MS_SLAVE | MS_REC);
    assert_true(s->has_personality);
    assert_int_equal(s->personality, PER_LINUX32);
    assert_int_equal(s->devices.n, 4);
    assert_string_equal(s->devices.v[0].path, "/dev/fuse");
    assert_int_equal(s->devices.v[0].mode, 0660);
    assert_int_equal(s->devices.v[0].gid, 5);
    assert_int_equal(s->devices.v[1].type, 'c');
    assert_int_equal(s->devices.v[1].mode, 0666);
    assert_int_equal(s->devices.v[2].type, 'b');
    assert_int_equal(s->devices.v[2].mode, 0660);
    assert_int_equal(s->devices.v[3].type, 'p');
    assert_int_equal(s->sysctls.n, 4);
    assert_string_equal(setting_of(&s->sysctls, "net.ipv4.ip_forward"), "1");
    assert_string_equal(
        setting_of(&s->sysctls, "net.ipv4.conf.eth0/1.forwarding"), "1");
    assert_true(s->process.has_io_priority);
    assert_int_equal(s->process.io_class, 2);
    assert_int_equal(s->process.io_priority, 7);
    assert_int_equal(scheduler->policy, 6);
    assert_int_equal(scheduler->flags, 3);
    assert_int_equal(scheduler->runtime_ns, 1000000);
    assert_int_equal(scheduler->deadline_ns, 5000000);
    assert_int_equal(scheduler->period_ns, 10000000);
    assert_true(s->mounts.v[3].copy_up);
    assert_int_equal(s->mounts.v[3].all_set, ATTR_RDONLY | ATTR_NOATIME);
    assert_int_equal(s->mounts.v[3].all_clear, ATTR_NOSUID | ATTR_ATIME);
    assert_string_equal(s->mounts.v[3].data, "");
    assert_true(s->seccomp.n > 0 && s->seccomp.n % 8 == 0);
    assert_int_equal(s->seccomp_flags, 2 | 4);
    oci_config_clear(&c);
}

static void reads_hooks_for_where_they_run(void **state)
{
    struct oci_config c;
    struct err e = ERR_INIT;
    const struct spec_container *s = &c.container;

    (void)state;
    assert_ok(parse_file(CORPUS "full.json", &c, &e), e);
    assert_int_equal(c.prestart_hooks.n, 1);
    assert_string_equal(c.prestart_hooks.v[0].path, "/usr/bin/first");
    assert_string_equal(c.prestart_hooks.v[0].args.v[1], "-v");
    assert_string_equal(c.prestart_hooks.v[0].env.v[0], "A=1");
    assert_int_equal(c.prestart_hooks.v[0].timeout_s, 5);
    /* Given twice, it runs twice. */
    assert_int_equal(c.create_runtime_hooks.n, 2);
    assert_int_equal(c.create_runtime_hooks.v[1].timeout_s, 0);
    assert_int_equal(s->create_container_hooks.n, 1);
    assert_int_equal(s->create_container_hooks.v[0].timeout_s, UINT32_MAX);
    assert_string_equal(s->start_container_hooks.v[0].path, "/bin/fourth");
    assert_string_equal(c.poststart_hooks.v[0].path, "/usr/bin/fifth");
    assert_string_equal(c.poststop_hooks.v[0].path, "/usr/bin/sixth");
    assert_string_equal(
        c.hook_state,
        "\"ociVersion\":\"1.0.2\",\"id\":\"house\",\"bundle\":\"/bundle\","
        "\"annotations\":{\"io.domus.domain-type\":\"pv\","
        "\"io.kubernetes.cri.container-type\":\"sandbox\","
        "\"io.domus.empty\":\"\"}");
    assert_string_equal(s->hook_state, c.hook_state);
    oci_config_clear(&c);
    /* Only what somebody reads is kept, or sent. */
    take("hooks", "{\"poststop\":[{\"path\":\"/a\"}]}", &c);
    assert_string_equal(s->hook_state, "");
    assert_true(*c.hook_state);
    oci_config_clear(&c);
    take("hooks", "{}", &c);
    assert_string_equal(s->hook_state, "");
    assert_string_equal(c.hook_state, "");
    oci_config_clear(&c);
}

static void bounds_the_state_of_hooks(void **state)
{
    struct json_object *tree = full_tree();
    struct json_object *annotations = NULL;
    _cleanup_free_ char *text = xcalloc(1, CTL_STATE_MAX + 1);
    struct oci_config c;
    struct err e = ERR_INIT;

    (void)state;
    memset(text, 'a', CTL_STATE_MAX);
    assert_true(json_object_object_get_ex(tree, "annotations", &annotations));
    json_object_object_add(annotations, "a", json_object_new_string(text));
    assert_int_equal(parse_tree(tree, &c, &e), -EINVAL);
    assert_said(e, EINVAL, "config.json: annotations: must have at most");
    /* Hooks in the guest alone may have more. */
    json_object_object_add(
        tree, "hooks",
        json_tokener_parse("{\"startContainer\":[{\"path\":\"/a\"}]}"));
    assert_ok(parse_tree(tree, &c, &e), e);
    oci_config_clear(&c);
    json_object_put(tree);
}

static void applies_options_of_mounts_in_order(void **state)
{
    static const struct {
        const char *options;
        uint64_t set;
        uint64_t clear;
    } cases[] = {
        {"[\"rro\",\"rrw\"]", 0, ATTR_RDONLY},
        {"[\"rrw\",\"rro\"]", ATTR_RDONLY, 0},
        {"[\"rrelatime\"]", 0, ATTR_ATIME},
        {"[\"rnoatime\",\"rrelatime\"]", 0, ATTR_ATIME},
        {"[\"rrelatime\",\"rnoatime\"]", ATTR_NOATIME, ATTR_ATIME},
        {"[\"rnosymfollow\",\"nosymfollow\"]", ATTR_NOSYMFOLLOW, 0},
        {"[\"ro\",\"nosuid\"]", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct oci_config c;

        take("mounts/0/options", cases[i].options, &c);
        assert_int_equal(c.container.mounts.v[0].all_set, cases[i].set);
        assert_int_equal(c.container.mounts.v[0].all_clear, cases[i].clear);
        oci_config_clear(&c);
    }
}

/* Else the default nodes, and those of a mount at /dev, are not known. */
static void squeezes_paths(void **state)
{
    static const char *const paths[][2] = {
        {"/dev//null", "/dev/null"},
        {"/dev/./zero", "/dev/zero"},
        {"//dev/ptmx/", "/dev/ptmx"},
        {"/dev/x/..", "/dev/x/.."},
        {"/dev/.x/.", "/dev/.x"},
        {"/dev/...", "/dev/..."},
        {"/./", "/"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        _cleanup_free_ char *value = xasprintf("\"%s\"", paths[i][0]);
        struct json_object *tree = changed("linux/devices/0/path", value);
        struct oci_config c;
        struct err e = ERR_INIT;

        assert_ok(parse_tree(tree, &c, &e), e);
        assert_string_equal(c.container.devices.v[0].path, paths[i][1]);
        oci_config_clear(&c);
        json_object_put(tree);
        tree = changed("mounts/0/destination", value);
        assert_ok(parse_tree(tree, &c, &e), e);
        assert_string_equal(c.container.mounts.v[0].destination, paths[i][1]);
        oci_config_clear(&c);
        json_object_put(tree);
    }
    must_refuse_change("linux/devices/1/path", "\"/dev//fuse\"", EINVAL,
                       "devices[1].path: must not be given twice");
}

static void takes_the_last_propagation(void **state)
{
    struct json_object *tree = changed(
        "mounts/1/options", "[\"rprivate\",\"rslave\",\"shared\",\"rw\"]");
    struct oci_config c;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(parse_tree(tree, &c, &e), e);
    assert_int_equal(c.container.mounts.v[1].propagation, MS_SHARED);
    oci_config_clear(&c);
    json_object_put(tree);
}

static void takes_propagations_of_the_root(void **state)
{
    static const struct {
        const char *name;
        uint64_t flags;
    } cases[] = {
        {"\"\"", 0},
        {"\"private\"", MS_PRIVATE},
        {"\"rshared\"", MS_SHARED | MS_REC},
        {"\"unbindable\"", MS_UNBINDABLE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct oci_config c;

        take("linux/rootfsPropagation", cases[i].name, &c);
        assert_int_equal(c.container.root_propagation, cases[i].flags);
        oci_config_clear(&c);
    }
}

static void refuses_what_makes_no_sense(void **state)
{
    static const struct {
        const char *path;
        const char *value;
        const char *words;
    } cases[] = {
        {"linux/uidMappings/1/containerID", "65535",
         "linux.uidMappings[1]: must not overlap entry 0"},
        {"linux/uidMappings/1/hostID", "165535", "must not overlap entry 0"},
        {"linux/uidMappings/0/size", "0", "uidMappings[0].size: must"},
        {"linux/uidMappings/0/size", "4294967296", "uidMappings[0].size: must"},
        {"linux/uidMappings/0/size", "4294967294", "[0]: must end at"},
        {"linux/uidMappings/0/containerID", "-1", "[0].containerID: must"},
        {"linux/uidMappings/0/hostID", "4294967296", "[0].hostID: must"},
        {"linux/uidMappings/0/hostID", "null", "[0].hostID: is missing"},
        {"linux/uidMappings", "[]", "linux.uidMappings: must map 0"},
        {"linux/gidMappings/0/containerID", "2", "[0]: must end at"},
        {"linux/gidMappings/0/size", "100",
         "linux.gidMappings: must map 100, which process.user has"},
        {"linux/namespaces", "[{\"type\":\"mount\"},{\"type\":\"uts\"}]",
         "needs a namespace of type"},
        {"linux/namespaces/6/type", "\"pid\"", "given twice: pid"},
        {"linux/namespaces/7/type", "\"times\"", "[7].type: must be the name"},
        {"linux/timeOffsets/realtime", "{\"secs\":1}",
         "linux.timeOffsets.realtime: is no clock"},
        {"linux/timeOffsets/boottime/nanosecs", "1000000000", "nanosecs: must"},
        {"linux/timeOffsets/boottime/secs", "9223372036854775808",
         "boottime.secs: must be an integer"},
        {"linux/sysctl/kernel.panic", "\"1\"",
         "linux.sysctl.kernel.panic: is not a parameter"},
        {"linux/sysctl/vm.overcommit_memory", "\"1\"", "is not a parameter"},
        {"linux/sysctl/kernel.hostname", "\"x\"",
         "linux.sysctl.kernel.hostname: must not be given beside hostname"},
        {"linux/sysctl/kernel.domainname", "\"x\"", "beside domainname"},
        {"linux/sysctl/net.ipv4.ip_forward", "1", "must be a string"},
        {"linux/sysctl/net.ipv4.ip_forward", "\"a\\u0000\"", "a NUL"},
        {"linux/sysctl/net", "\"1\"", "linux.sysctl.net: must be the name"},
        {"linux/sysctl/net.", "\"1\"", "must be the name"},
        {"linux/sysctl/net..x", "\"1\"", "must be the name"},
        {"linux/sysctl/net.ipv4 x", "\"1\"", "must be the name"},
        {"linux/sysctl", "{\"net/../kernel/panic\":\"1\"}", "must be the name"},
        {"linux/sysctl", "{\"net.//.kernel.panic\":\"1\"}", "must be the name"},
        {"linux/sysctl", "{\"/net/x\":\"1\"}", "must be the name"},
        {"linux/sysctl", "{\"net.a.b\":\"1\",\"net/a/b\":\"1\"}", "twice"},
        {"linux/devices/0/path", "\"dev/x\"", "devices[0].path: must be an"},
        {"linux/devices/1/path", "\"/dev/fuse\"", "[1].path: must not be"},
        {"linux/devices/0/type", "\"x\"", "devices[0].type: must be c, u"},
        {"linux/devices/0/type", "\"\"", "devices[0].type: must be c, u"},
        {"linux/devices/0/type", "\"char\"", "devices[0].type: must have"},
        {"linux/devices/0/major", "null", "devices[0].major: is missing"},
        {"linux/devices/0/minor", "-1", "devices[0].minor: must be"},
        {"linux/devices/0/major", "4294967296", "devices[0].major: must be"},
        {"linux/devices/0/fileMode", "65536", "devices[0].fileMode: must be"},
        {"linux/devices/0/uid", "4294967295", "devices[0].uid: must be"},
        {"linux/personality", "{\"domain\":\"BSD\"}", "personality.domain: "},
        {"linux/personality", "{\"flags\":[]}", "domain: is missing"},
        {"linux/rootfsPropagation", "\"rec\"", "rootfsPropagation: must be"},
        {"mounts/0/options/0", "\"tmpcopyup\"", "mounts[0].options: tmpcopyup"},
        {"hooks/prestart/0/path", "\"bin/x\"",
         "hooks.prestart[0].path: must be an absolute path"},
        {"hooks/prestart/0/path", "null", "prestart[0].path: is missing"},
        {"hooks/prestart/0/timeout", "0", "prestart[0].timeout: must be an"},
        {"hooks/poststop/0/timeout", "-5", "poststop[0].timeout: must be an"},
        {"hooks/poststop/0/timeout", "4294967296", "timeout: must be an"},
        {"hooks/createContainer/0/env", "[\"A\\u0000\"]", "env[0]: must not"},
        {"hooks/startContainer", "{\"path\":\"/x\"}", "must be a list"},
        {"process/ioPriority/class", "\"IOPRIO_CLASS_NONE\"",
         "process.ioPriority.class: must be"},
        {"process/ioPriority", "{\"priority\":1}", "class: is missing"},
        {"process/ioPriority/priority", "8", "from 0 to 7"},
        {"process/scheduler", "{\"policy\":\"SCHED_FIFO\"}",
         "process.scheduler.priority: must be 1 to 99 with SCHED_FIFO"},
        {"process/scheduler", "{\"policy\":\"SCHED_OTHER\",\"priority\":1}",
         "priority: must be 0"},
        {"process/scheduler", "{\"policy\":\"SCHED_OTHER\",\"nice\":20}",
         "from -20 to 19"},
        {"process/scheduler",
         "{\"policy\":\"SCHED_RR\",\"nice\":1,\"priority\":1}", "nice: must"},
        {"process/scheduler", "{\"policy\":\"SCHED_BATCH\",\"runtime\":5000}",
         "must not be given with SCHED_BATCH"},
        {"process/scheduler", "{\"policy\":\"SCHED_DEADLINE\"}", "runtime: "},
        {"process/scheduler/runtime", "5000001", "scheduler.runtime: must be"},
        {"process/scheduler/flags/0", "\"SCHED_FLAG_ALL\"", "flags[0]: must"},
        {"process/scheduler", "{\"policy\":\"SCHED_FAIR\"}", "policy: must be"},
        {"process/scheduler", "{\"nice\":1}", "policy: is missing"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        must_refuse_change(cases[i].path, cases[i].value, EINVAL,
                           cases[i].words);
    must_refuse_change("process/scheduler", "{\"policy\":\"SCHED_ISO\"}",
                       ENOTSUP, "scheduler.policy: is not supported");
    must_refuse_change("process/scheduler/flags/0",
                       "\"SCHED_FLAG_UTIL_CLAMP_MIN\"", ENOTSUP,
                       "scheduler.flags[0]: is not supported");
}

/* What needs a namespace, with all others there. */
static void names_the_namespace_that_is_missing(void **state)
{
    static const struct {
        int64_t entry; /* of full.json's namespaces */
        const char *words;
    } cases[] = {
        {3, "linux.sysctl.kernel.shmmax: needs a namespace of type ipc"},
        {4, "hostname: needs a namespace of type uts"},
        {6, "linux.uidMappings: needs a namespace of type user"},
        {7, "linux.timeOffsets: needs a namespace of type time"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct json_object *tree = full_tree();
        struct json_object *linux_ = NULL, *list = NULL;
        struct oci_config c;
        struct err e = ERR_INIT;

        assert_true(json_object_object_get_ex(tree, "linux", &linux_));
        assert_true(json_object_object_get_ex(linux_, "namespaces", &list));
        json_object_array_del_idx(list, (size_t)cases[i].entry, 1);
        assert_int_equal(parse_tree(tree, &c, &e), -EINVAL);
        assert_said(e, EINVAL, cases[i].words);
        json_object_put(tree);
    }
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* A list of n entries, all alike or with a number in place of %d. */
static char *list_of(size_t n, const char *open, const char *each_before,
                     const char *each_after, const char *close)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    fputs(open, out);
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%s%s%zu%s", i ? "," : "", each_before, i, each_after);
    fputs(close, out);
    fclose(out);
    return text;
}

static void refuses_huge_lists_at_once(void **state)
{
    static const struct {
        const char *path;
        const char *before, *after;
        const char *words;
        size_t n;
        bool object;
    } cases[] = {
        {"mounts", "{\"destination\":\"/m", "\",\"type\":\"tmpfs\"}",
         "mounts: must have at most 1024 entries", 50000, false},
        {"mounts", "\"", "\"", "mounts: must have", 100000, false},
        {"linux/devices", "{\"path\":\"/d", "\",\"type\":\"p\"}",
         "linux.devices: must have at most 256 entries", 50000, false},
        {"linux/uidMappings", "{\"size\":1,\"hostID\":1,\"containerID\":", "}",
         "uidMappings: must have at most 340 entries", 40000, false},
        {"linux/sysctl", "\"net.x.", "\":\"1\"",
         "linux.sysctl: must have at most 256 entries", 100000, true},
        {"linux/resources/unified", "\"memory.", "\":\"1\"",
         "unified: must have at most 256 entries", 100000, true},
        {"hooks/prestart", "{\"path\":\"/", "\"}",
         "prestart: must have at most 64 entries", 50000, false},
        {"linux/seccomp/syscalls", "{\"action\":\"SCMP_ACT_LOG\",\"names\":[\"",
         "\"]}", "syscalls: must have at most 4096 entries", 30000, false},
        {"linux/seccomp/syscalls/0/names", "\"", "\"",
         "names: must have at most 4096 entries", 100000, false},
        {"linux/seccomp/architectures", "\"", "\"",
         "architectures: must have at most 4096 entries", 100000, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *text =
            list_of(cases[i].n, cases[i].object ? "{" : "[", cases[i].before,
                    cases[i].after, cases[i].object ? "}" : "]");
        uint64_t start = now_ms();

        must_refuse_change(cases[i].path, text, EINVAL, cases[i].words);
        /* An upper bound with much room: what it must not be is quadratic. */
        assert_true(now_ms() - start < 5000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_is_for_the_guest),
        cmocka_unit_test(reads_hooks_for_where_they_run),
        cmocka_unit_test(bounds_the_state_of_hooks),
        cmocka_unit_test(applies_options_of_mounts_in_order),
        cmocka_unit_test(squeezes_paths),
        cmocka_unit_test(takes_the_last_propagation),
        cmocka_unit_test(takes_propagations_of_the_root),
        cmocka_unit_test(refuses_what_makes_no_sense),
        cmocka_unit_test(names_the_namespace_that_is_missing),
        cmocka_unit_test(refuses_huge_lists_at_once),
    };

    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
