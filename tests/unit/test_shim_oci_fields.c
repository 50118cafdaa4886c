#include "tests/unit/shim_oci.h"

#include "domus/log.h"

static void names_each_field_it_refuses(void **state)
{
    static const struct {
        const char *path; /* in the message with . for / */
        const char *value;
    } cases[] = {
        {"windows", "{\"layerFolders\":[\"x\"]}"},
        {"solaris", "{\"milestone\":\"x\"}"},
        {"zos", "{\"a\":1}"},
        {"freebsd", "{\"a\":1}"},
        {"vm", "{\"kernel\":{\"path\":\"/boot/vmlinuz\"}}"},
        {"process/apparmorProfile", "\"docker-default\""},
        {"process/selinuxLabel", "\"system_u:system_r:svirt_lxc_net_t:s0\""},
        {"process/commandLine", "\"cmd\""},
        {"process/execCPUAffinity", "{\"initial\":\"0-3\"}"},
        {"process/user/username", "\"me\""},
        {"linux/intelRdt", "{\"closID\":\"a\"}"},
        {"linux/netDevices", "{\"eth0\":{\"name\":\"eth0\"}}"},
        {"linux/mountLabel", "\"system_u:object_r:svirt_sandbox_file_t:s0\""},
        {"linux/memoryPolicy", "{\"mode\":\"MPOL_BIND\"}"},
        {"linux/resources/blockIO/weight", "10"},
        {"linux/resources/blockIO/leafWeight", "10"},
        {"linux/resources/blockIO/weightDevice", "[{\"weight\":10}]"},
        {"linux/seccomp/listenerPath", "\"/s\""},
        {"linux/seccomp/listenerMetadata", "\"m\""},
        {"linux/personality/flags", "[\"f\"]"},
        {"linux/resources/network", "{\"classID\":1}"},
        {"linux/resources/rdma", "{\"mlx5_1\":{\"hcaHandles\":3}}"},
        {"linux/resources/memory/kernel", "1048576"},
        {"linux/resources/memory/kernelTCP", "1048576"},
        {"linux/resources/memory/disableOOMKiller", "true"},
        {"linux/resources/cpu/realtimeRuntime", "1000"},
        {"linux/resources/cpu/realtimePeriod", "1000"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *words =
            xasprintf("config.json: %s: is not supported", cases[i].path);

        for (char *c = words; *c; c++)
            if (*c == '/')
                *c = '.';
        must_refuse_change(cases[i].path, cases[i].value, ENOTSUP, words);
    }
    must_refuse_change("linux/namespaces/1/path", "\"/proc/1/ns/net\"", ENOTSUP,
                       "linux.namespaces[1].path: is not supported");
    must_refuse_change("linux/namespaces", "[{\"type\":\"uts\"}]", ENOTSUP,
                       "linux.namespaces: a container without a mount");
    must_refuse_change("linux/resources/hugepageLimits/0/limit", "4096",
                       ENOTSUP, "hugepageLimits[0].limit: is not supported");
    must_refuse_change("mounts/0/uidMappings", "[{\"size\":1}]", ENOTSUP,
                       "mounts[0].uidMappings: is not supported");
    must_refuse_change("mounts/0/gidMappings", "[{\"size\":1}]", ENOTSUP,
                       "mounts[0].gidMappings: is not supported");
    must_refuse_change("mounts/0/type", "\"ext4\"", ENOTSUP,
                       "mounts[0].type: is not supported");
    must_refuse_change("mounts/0/type", "\"bind\"", ENOTSUP,
                       "mounts[0].source: is not supported");
    must_refuse_change("mounts/0/options/1", "\"rbind\"", ENOTSUP,
                       "mounts[0].source: is not supported");
    must_refuse_change("mounts/0/options/1", "\"idmap\"", ENOTSUP,
                       "mounts[0].options[1]: is not supported");
    must_refuse_change("ociVersion", "\"2.0.0\"", ENOTSUP, "ociVersion: ");
}

static void refuses_values_out_of_range(void **state)
{
    static const struct {
        const char *path;
        const char *value;
        const char *words;
    } cases[] = {
        {"process/user/uid", "-1", "process.user.uid: must be an integer"},
        {"process/user/uid", "4294967295", "from 0 to 4294967294"},
        {"process/user/uid", "4294967296", "process.user.uid: "},
        {"process/user/gid", "18446744073709551615", "process.user.gid: "},
        {"process/user/uid", "0.5", "process.user.uid: "},
        {"process/user/uid", "NaN", "process.user.uid: "},
        {"process/user/umask", "512", "process.user.umask: "},
        {"process/user/additionalGids/1", "4294967295", "additionalGids[1]"},
        {"process/oomScoreAdj", "1001", "from -1000 to 1000"},
        {"process/oomScoreAdj", "-1001", "process.oomScoreAdj: "},
        {"process/consoleSize/width", "65536", "process.consoleSize.width"},
        {"process/consoleSize", "{\"width\":80}",
         "process.consoleSize.height: is missing"},
        {"process/args", "[]", "process.args: must not be empty"},
        {"process/args/0", "\"a\\u0000b\"", "args[0]: must not contain a NUL"},
        {"process/args", "null", "process.args: is missing"},
        {"process/cwd", "\"tmp\"", "process.cwd: must be an absolute path"},
        {"process/cwd", "\"\"", "process.cwd: must be an absolute path"},
        {"process/cwd", "null", "process.cwd: is missing"},
        {"process", "null", "process: is missing"},
        {"linux", "null", "linux: is missing"},
        {"root", "null", "root: is missing"},
        {"root/path", "\"\"", "root.path: must not be empty"},
        {"ociVersion", "null", "ociVersion: is missing"},
        {"process/rlimits/0/type", "\"RLIMIT_FLY\"", "rlimits[0].type: must"},
        {"process/rlimits/1/type", "\"RLIMIT_NOFILE\"", "given twice"},
        {"process/env/0", "\"PATH\"", "env[0]: must be NAME=value"},
        {"process/env/0", "\"=x\"", "env[0]: must be NAME=value"},
        {"process/rlimits/0/soft", "4097", "soft must not be more than hard"},
        {"process/rlimits/0/soft", "-1", "rlimits[0].soft: "},
        {"process/rlimits/0/hard", "null", "rlimits[0].hard: is missing"},
        {"mounts/0/destination", "\"proc\"", "mounts[0].destination: must"},
        {"mounts/0/type", "\"\"", "mounts[0].type: is missing"},
        {"linux/namespaces/1/type", "\"pid\"", "given twice"},
        {"linux/namespaces/1/type", "\"PID\"", "linux.namespaces[1].type: "},
        {"linux/namespaces/4/type", "null", "namespaces[4].type: is missing"},
        {"linux/namespaces/4/type", "\"\"", "linux.namespaces[4].type: must"},
        {"linux/namespaces", "[{\"type\":\"mount\"}]",
         "hostname: needs a namespace of type uts"},
        {"linux/maskedPaths/0", "\"kcore\"", "linux.maskedPaths[0]: must"},
        {"linux/resources/memory/limit", "-2",
         "config.json: linux.resources.memory.limit: must be an integer from "
         "-1 to 9223372036854775807"},
        {"linux/resources/memory/limit", "9223372036854775808", "limit: "},
        {"linux/resources/pids/limit", "-2", "linux.resources.pids.limit: "},
        {"linux/resources/cpu/shares", "-1", "linux.resources.cpu.shares: "},
        {"linux/resources/cpu/quota", "-2", "linux.resources.cpu.quota: "},
        {"linux/resources/cpu/quota", "999", "linux.resources.cpu.quota: "},
        {"linux/resources/cpu/quota", "51200001", "at most 512 periods"},
        {"linux/resources/cpu/quota", "9223372036854775807", "cpu.quota: "},
        {"linux/resources/cpu/period", "999", "linux.resources.cpu.period: "},
        {"linux/resources/cpu/period", "1000001", "cpu.period: "},
    };
    char hostname[] = "\"01234567890123456789012345678901234567890123456789"
                      "012345678901234\"";

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        must_refuse_change(cases[i].path, cases[i].value, EINVAL,
                           cases[i].words);
    must_refuse_change("hostname", hostname, EINVAL,
                       "hostname: must have at most 64 bytes");
}

static void accepts_values_that_mean_nothing(void **state)
{
    static const struct {
        const char *path;
        const char *value;
    } cases[] = {
        {"linux/seccomp", "null"},
        {"linux/seccomp", "{}"},
        {"linux/personality", "{}"},
        {"process/ioPriority", "{}"},
        {"process/scheduler", "{}"},
        {"hooks", "null"},
        {"windows", "{}"},
        {"vm", "{\"hypervisor\":{\"path\":\"\"}}"},
        {"linux/resources/memory", "{\"limit\":-1,\"swap\":-1}"},
        {"linux/resources/pids/limit", "0"},
        {"linux/resources/cpu/quota", "-1"},
        {"linux/resources/cpu/period", "0"},
        {"linux/resources/cpu/realtimeRuntime", "0"},
        {"mounts", "null"},
        {"process/user", "null"},
        {"process/capabilities", "null"},
        {"process/capabilities/ambient/0", "\"CAP_FLY\""},
        {"process/capabilities/ambient/0", "\"CHOWN\""},
        {"a field of another year", "[1,2.5,{}]"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        must_accept_change(cases[i].path, cases[i].value);
}

/* The specification wants a warning: a newer client may know more of them. */
static void goes_without_unknown_capabilities(void **state)
{
    struct json_object *tree = changed("process/capabilities/bounding",
                                       "[\"CAP_FLY\",\"CAP_KILL\",\"\"]");
    struct oci_config c;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(parse_tree(tree, &c, &e), e);
    assert_int_equal(c.container.process.capabilities.bounding, 1 << 5);
    oci_config_clear(&c);
    json_object_put(tree);
}

static void derives_processors_and_weights(void **state)
{
    static const struct {
        const char *cpu;
        const char *max;
        const char *weight;
        uint32_t vcpus;
    } cases[] = {
        {"{}", "", "", 0},
        {"{\"shares\":0}", "", "", 0},
        {"{\"shares\":1}", "", "1", 0},
        {"{\"shares\":2}", "", "1", 0},
        {"{\"shares\":262144}", "", "10000", 0},
        {"{\"shares\":9000000}", "", "10000", 0},
        {"{\"quota\":1000}", "1000 100000", "", 1},
        {"{\"quota\":100000}", "100000 100000", "", 1},
        {"{\"quota\":100001}", "100001 100000", "", 2},
        {"{\"quota\":50000,\"period\":10000}", "50000 10000", "", 5},
        {"{\"quota\":51200000}", "51200000 100000", "", 512},
        {"{\"period\":50000}", "max 50000", "", 0},
        {"{\"quota\":-1,\"period\":50000}", "max 50000", "", 0},
        {"{\"quota\":-1}", "", "", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct json_object *tree = changed("linux/resources/cpu", cases[i].cpu);
        struct oci_config c;
        struct err e = ERR_INIT;

        assert_ok(parse_tree(tree, &c, &e), e);
        assert_string_equal(setting_of(&c.container.cgroup, "cpu.max"),
                            cases[i].max);
        assert_string_equal(setting_of(&c.container.cgroup, "cpu.weight"),
                            cases[i].weight);
        assert_int_equal(c.vcpus, cases[i].vcpus);
        json_object_put(tree);
        oci_config_clear(&c);
    }
}

/* Values of every type; one of them is wrong wherever it is put. */
static const char *const wrong[] = {"true", "-3.5", "\"\\u0000\"", "[[]]",
                                    "{\"\":[]}"};

/* Replaces each value of the tree in turn by all of another type. */
static size_t mutate(struct json_object *tree, struct json_object *at)
{
    size_t tried = 0;
    size_t n = json_object_is_type(at, json_type_array)
                   ? json_object_array_length(at)
                   : 0;
    struct json_object_iter entry;

    for (size_t i = 0; i < n; i++) {
        struct json_object *kept = json_object_array_get_idx(at, i);

        tried += mutate(tree, kept);
        for (size_t w = 0; w < ARRAY_SIZE(wrong); w++) {
            struct json_object *bad = json_tokener_parse(wrong[w]);
            struct oci_config c;
            struct err e = ERR_INIT;

            if (json_object_get_type(bad) == json_object_get_type(kept) &&
                !json_object_is_type(bad, json_type_string)) {
                json_object_put(bad);
                continue;
            }
            (void)json_object_get(kept);
            json_object_array_put_idx(at, i, bad);
            if (parse_tree(tree, &c, &e) == 0)
                fail_msg("accepted an entry %s for %s", wrong[w],
                         json_object_to_json_string(kept));
            assert_said(e, EINVAL, "config.json: ");
            assert_non_null(strchr(e.text, '['));
            json_object_array_put_idx(at, i, kept);
            tried++;
        }
    }
    if (!json_object_is_type(at, json_type_object))
        return tried;
    json_object_object_foreachC(at, entry)
    {
        struct json_object *kept = entry.val;

        tried += mutate(tree, kept);
        for (size_t w = 0; w < ARRAY_SIZE(wrong); w++) {
            struct json_object *bad = json_tokener_parse(wrong[w]);
            struct oci_config c;
            struct err e = ERR_INIT;

            if (json_object_get_type(bad) == json_object_get_type(kept)) {
                json_object_put(bad);
                continue;
            }
            (void)json_object_get(kept);
            json_object_object_add(at, entry.key, bad);
            if (parse_tree(tree, &c, &e) == 0)
                fail_msg("accepted %s = %s", entry.key, wrong[w]);
            assert_said(e, EINVAL, entry.key);
            json_object_object_add(at, entry.key, kept);
            tried++;
        }
    }
    return tried;
}

static void checks_the_type_of_every_value(void **state)
{
    struct json_object *tree = full_tree();
    struct oci_config c;
    struct err e = ERR_INIT;

    (void)state;
    if (mutate(tree, tree) < 300)
        fail_msg("the sample has lost its fields");
    assert_ok(parse_tree(tree, &c, &e), e);
    oci_config_clear(&c);
    json_object_put(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_each_field_it_refuses),
        cmocka_unit_test(refuses_values_out_of_range),
        cmocka_unit_test(accepts_values_that_mean_nothing),
        cmocka_unit_test(goes_without_unknown_capabilities),
        cmocka_unit_test(derives_processors_and_weights),
        cmocka_unit_test(checks_the_type_of_every_value),
    };

    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
