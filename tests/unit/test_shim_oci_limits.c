/* linux.resources at the start and in an update, and a process alone. */
#include "tests/unit/shim_oci.h"

#include <linux/bpf.h>

#include "domus/log.h"

#define RWM (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD)

/* "name=value name=value", in order. */
static char *settings_text(const struct spec_setting_list *list)
{
    char *text = xstrdup("");

    for (size_t i = 0; i < list->n; i++) {
        char *longer = xasprintf("%s%s%s=%s", text, i ? "|" : "",
                                 list->v[i].name, list->v[i].value);

        free(text);
        text = longer;
    }
    return text;
}

static const struct {
    const char *resources;
    const char *at_start;
    const char *in_update; /* NULL: the same */
} translations[] = {
    {"{}", "", NULL},
    {"{\"memory\":{\"limit\":0,\"swap\":0,\"reservation\":0}}", "", NULL},
    {"{\"memory\":{\"limit\":-1}}", "", "memory.max=max"},
    {"{\"memory\":{\"limit\":-1,\"swap\":-1}}", "", "memory.max=max"},
    {"{\"memory\":{\"limit\":4096,\"reservation\":-1}}", "memory.max=4096",
     "memory.max=4096|memory.low=max"},
    {"{\"memory\":{\"limit\":4096,\"swap\":8192,\"reservation\":1}}",
     "memory.max=4096|memory.low=1", NULL},
    {"{\"pids\":{\"limit\":7}}", "pids.max=7", NULL},
    {"{\"pids\":{\"limit\":-1}}", "", "pids.max=max"},
    {"{\"cpu\":{\"shares\":1024}}", "cpu.weight=39", NULL},
    {"{\"cpu\":{\"quota\":-1}}", "", "cpu.max=max 100000"},
    {"{\"cpu\":{\"quota\":-1,\"period\":50000}}", "cpu.max=max 50000", NULL},
    {"{\"cpu\":{\"period\":100000,\"shares\":2}}", "cpu.weight=1",
     "cpu.weight=1|cpu.max=max 100000"},
    {"{\"cpu\":{\"quota\":5000,\"burst\":4000}}",
     "cpu.max=5000 100000|cpu.max.burst=4000",
     "cpu.max.burst=0|cpu.max=5000 100000|cpu.max.burst=4000"},
    {"{\"cpu\":{\"idle\":1}}", "cpu.idle=1", NULL},
    {"{\"cpu\":{\"idle\":0,\"shares\":2}}", "cpu.idle=0|cpu.weight=1", NULL},
    {"{\"cpu\":{\"cpus\":\"0-3,7\",\"mems\":\"0\"}}",
     "cpuset.cpus=0-3,7|cpuset.mems=0", NULL},
    {"{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":202,\"minor\":16,"
     "\"rate\":5}],\"throttleWriteIOPSDevice\":[{\"major\":202,\"minor\":0,"
     "\"rate\":0}]}}",
     "io.max=202:16 rbps=5|io.max=202:0 wiops=max", NULL},
    /* After all others, whatever its place in the file. */
    {"{\"unified\":{\"memory.high\":\"9\",\"x.y\":\"\"},"
     "\"pids\":{\"limit\":1}}",
     "pids.max=1|memory.high=9|x.y=", NULL},
    {"{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":0}],"
     "\"rdma\":{},\"network\":{\"classID\":0,\"priorities\":[]}}",
     "", NULL},
    {"{\"devices\":[{\"allow\":true,\"access\":\"rwm\"}]}", "", NULL},
};

static const struct oci_bandwidth never = {.quota = 0, .period = 0};

static void translates_resources(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(translations); i++) {
        const char *json = translations[i].resources;
        const char *update = translations[i].in_update;
        struct json_object *tree = changed("linux/resources", json);
        struct oci_config config;
        struct oci_resources resources;
        struct err e = ERR_INIT;
        char *text;

        assert_ok(parse_tree(tree, &config, &e), e);
        text = settings_text(&config.container.cgroup);
        assert_string_equal(text, translations[i].at_start);
        free(text);
        oci_config_clear(&config);
        json_object_put(tree);
        assert_ok(
            oci_parse_resources(json, strlen(json), &never, &resources, &e), e);
        text = settings_text(&resources.cgroup);
        assert_string_equal(text, update ? update : translations[i].at_start);
        free(text);
        oci_resources_clear(&resources);
        assert_int_equal(resources.cgroup.n, 0);
    }
}

static void tells_what_the_domain_gets(void **state)
{
    static const struct {
        const char *json;
        uint64_t memory_max;
        bool check_memory;
        uint32_t cpu_weight;
        bool has_cpu_cap;
        uint32_t cpu_cap;
    } cases[] = {
        {"{}", 0, false, 0, false, 0},
        {"{\"memory\":{\"limit\":4096,\"checkBeforeUpdate\":true}}", 4096, true,
         0, false, 0},
        {"{\"memory\":{\"limit\":-1}}", 0, false, 0, false, 0},
        {"{\"cpu\":{\"shares\":1024}}", 0, false, 256, false, 0},
        {"{\"cpu\":{\"shares\":2}}", 0, false, 1, false, 0},
        {"{\"cpu\":{\"shares\":2048}}", 0, false, 512, false, 0},
        {"{\"cpu\":{\"shares\":262144}}", 0, false, 65535, false, 0},
        {"{\"cpu\":{\"shares\":9223372036854775807}}", 0, false, 65535, false,
         0},
        {"{\"cpu\":{\"quota\":150000}}", 0, false, 0, true, 150},
        {"{\"cpu\":{\"quota\":1000}}", 0, false, 0, true, 1},
        {"{\"cpu\":{\"quota\":1000,\"period\":1000000}}", 0, false, 0, true, 1},
        {"{\"cpu\":{\"quota\":-1}}", 0, false, 0, true, 0},
        {"{\"cpu\":{\"quota\":0}}", 0, false, 0, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct oci_resources r;
        struct err e = ERR_INIT;

        assert_ok(oci_parse_resources(cases[i].json, strlen(cases[i].json),
                                      &never, &r, &e),
                  e);
        assert_int_equal(r.memory_max, cases[i].memory_max);
        assert_int_equal(r.check_memory, cases[i].check_memory);
        assert_int_equal(r.cpu_weight, cases[i].cpu_weight);
        assert_int_equal(r.has_cpu_cap, cases[i].has_cpu_cap);
        assert_int_equal(r.cpu_cap, cases[i].cpu_cap);
        oci_resources_clear(&r);
    }
}

/* As with runc: of quota and period what an update does not give stays. */
static void keeps_the_other_half_of_bandwidth(void **state)
{
    static const struct {
        struct oci_bandwidth before;
        const char *cpu;
        const char *max; /* "": not written */
        uint32_t cap;
        struct oci_bandwidth after;
    } cases[] = {
        {{20000, 50000}, "\"quota\":40000", "40000 50000", 80, {40000, 50000}},
        {{20000, 50000},
         "\"period\":10000",
         "20000 10000",
         200,
         {20000, 10000}},
        {{20000, 50000},
         "\"quota\":0,\"period\":100000",
         "20000 100000",
         20,
         {20000, 100000}},
        {{20000, 50000}, "\"quota\":-1", "max 50000", 0, {0, 50000}},
        {{20000, 50000}, "\"quota\":0", "", 0, {20000, 50000}},
        {{20000, 50000}, "\"shares\":2", "", 0, {20000, 50000}},
        {{20000, 0}, "\"quota\":40000", "40000 100000", 40, {40000, 0}},
        {{0, 0}, "\"period\":50000", "max 50000", 0, {0, 50000}},
        {{0, 50000}, "\"quota\":5000", "5000 50000", 10, {5000, 50000}},
        {{0, 0}, "\"period\":100000", "max 100000", 0, {0, 100000}},
    };
    const struct oci_bandwidth wide = {.quota = 2000000, .period = 100000};
    const char *narrow = "{\"cpu\":{\"period\":1000}}";
    struct oci_resources r;
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *json = xasprintf("{\"cpu\":{%s}}", cases[i].cpu);

        assert_ok(
            oci_parse_resources(json, strlen(json), &cases[i].before, &r, &e),
            e);
        assert_string_equal(setting_of(&r.cgroup, "cpu.max"), cases[i].max);
        assert_int_equal(r.has_cpu_cap, cases[i].max[0] != '\0');
        assert_int_equal(r.cpu_cap, cases[i].cap);
        assert_int_equal(r.bandwidth.quota, cases[i].after.quota);
        assert_int_equal(r.bandwidth.period, cases[i].after.period);
        oci_resources_clear(&r);
    }
    assert_int_equal(oci_parse_resources(narrow, strlen(narrow), &wide, &r, &e),
                     -EINVAL);
    assert_said(e, EINVAL, "cpu.period: quota must be at most 512 periods");
}

/* Of two numbers of shares, the larger never gets the smaller weight. */
static void weighs_monotonously(void **state)
{
    uint32_t last = 0;

    (void)state;
    for (uint32_t shares = 1; shares < 300000; shares += 97) {
        _cleanup_free_ char *json =
            xasprintf("{\"cpu\":{\"shares\":%u}}", shares);
        struct oci_resources r;
        struct err e = ERR_INIT;

        assert_ok(oci_parse_resources(json, strlen(json), &never, &r, &e), e);
        assert_true(r.cpu_weight >= last && r.cpu_weight > 0);
        last = r.cpu_weight;
        oci_resources_clear(&r);
    }
    assert_int_equal(last, 65535);
}

static void refuses_resources_that_make_no_sense(void **state)
{
    static const struct {
        const char *json;
        int code;
        const char *words;
    } cases[] = {
        {"", EINVAL, "resources: ends too early"},
        {"[]", EINVAL, "resources: must be an object"},
        {"{\"memory\":{\"limit\":-2}}", EINVAL,
         "resources: memory.limit: must be an integer from -1"},
        {"{\"memory\":{\"swap\":-2}}", EINVAL, "memory.swap: "},
        {"{\"memory\":{\"limit\":8,\"swap\":7}}", EINVAL,
         "memory.swap: must not be less than limit"},
        {"{\"memory\":{\"limit\":-1,\"swap\":7}}", EINVAL,
         "memory.swap: needs limit"},
        {"{\"memory\":{\"reservation\":\"1\"}}", EINVAL, "reservation: must"},
        {"{\"memory\":{\"limit\":1e3}}", EINVAL, "memory.limit: must"},
        {"{\"memory\":{\"kernel\":1}}", ENOTSUP,
         "resources: memory.kernel: is not supported"},
        {"{\"cpu\":{\"idle\":2}}", EINVAL, "cpu.idle: must be an integer"},
        {"{\"cpu\":{\"idle\":1,\"shares\":5}}", EINVAL, "cpu.idle: must not"},
        {"{\"cpu\":{\"quota\":5000,\"burst\":5001}}", EINVAL, "cpu.burst: "},
        {"{\"cpu\":{\"burst\":-1}}", EINVAL, "cpu.burst: must be an integer"},
        {"{\"cpu\":{\"cpus\":\"all\"}}", EINVAL, "cpu.cpus: must be a list"},
        {"{\"cpu\":{\"mems\":\"0\\n\"}}", EINVAL, "cpu.mems: must be a list"},
        {"{\"cpu\":{\"mems\":\"0\\u0000\"}}", EINVAL, "cpu.mems: must not"},
        {"{\"blockIO\":{\"weight\":500}}", ENOTSUP, "blockIO.weight: is not"},
        {"{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":4096,"
         "\"minor\":0,\"rate\":1}]}}",
         EINVAL, "blockIO.throttleReadBpsDevice[0].major: must"},
        {"{\"blockIO\":{\"throttleWriteBpsDevice\":[{\"major\":8,"
         "\"rate\":1}]}}",
         EINVAL, "throttleWriteBpsDevice[0].minor: is missing"},
        {"{\"blockIO\":{\"throttleReadIOPSDevice\":[{\"major\":8,\"minor\":0,"
         "\"rate\":-1}]}}",
         EINVAL, "throttleReadIOPSDevice[0].rate: must"},
        {"{\"unified\":{\"cgroup.procs\":\"1\"}}", EINVAL,
         "resources: unified.cgroup.procs: must be the name"},
        {"{\"unified\":{\"../x.y\":\"1\"}}", EINVAL, "must be the name"},
        {"{\"unified\":{\"memory.max/..\":\"1\"}}", EINVAL, "must be the name"},
        {"{\"unified\":{\"tasks\":\"1\"}}", EINVAL, "unified.tasks: must be"},
        {"{\"unified\":{\"\":\"1\"}}", EINVAL, "must be the name"},
        {"{\"unified\":{\"memory.max\":1}}", EINVAL, "must be a string"},
        {"{\"unified\":{\"memory.max\":null}}", EINVAL, "must be a string"},
        {"{\"unified\":{\"memory.max\":\"\\u0000\"}}", EINVAL, "a NUL"},
        {"{\"rdma\":{\"mlx5_1\":{\"hcaHandles\":3}}}", ENOTSUP, "rdma: is not"},
        {"{\"network\":{\"classID\":1}}", ENOTSUP, "network: is not"},
        {"{\"hugepageLimits\":[{\"limit\":1}]}", ENOTSUP,
         "hugepageLimits[0].limit: is not"},
        {"{\"devices\":[{\"access\":\"r\"}]}", EINVAL,
         "devices[0].allow: is missing"},
        {"{\"devices\":[{\"allow\":true,\"type\":\"x\"}]}", EINVAL,
         "devices[0].type: must be a, b or c"},
        {"{\"devices\":[{\"allow\":true,\"major\":1}]}", EINVAL,
         "devices[0].type: must be b or c"},
        {"{\"devices\":[{\"allow\":true,\"access\":\"rx\"}]}", EINVAL,
         "devices[0].access: must be of r, w and m"},
        {"{\"devices\":[{\"allow\":true,\"major\":-2}]}", EINVAL, "major: "},
        {"{\"devices\":[{\"allow\":true,\"minor\":4294967296}]}", EINVAL,
         "minor: "},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct oci_resources r;
        struct err e = ERR_INIT;

        if (oci_parse_resources(cases[i].json, strlen(cases[i].json), &never,
                                &r, &e) == 0)
            fail_msg("accepted: %s", cases[i].json);
        assert_said(e, cases[i].code, cases[i].words);
        assert_true(strncmp(e.text, "resources: ", 11) == 0);
    }
    must_refuse_change("linux/resources/memory", "{\"swap\":7}", EINVAL,
                       "memory.swap: needs limit");
}

static void bounds_lists_of_limits(void **state)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    struct oci_resources r;
    struct err e = ERR_INIT;

    (void)state;
    fprintf(out, "{\"pids\":{\"limit\":1},\"unified\":{");
    for (int i = 0; i < SPEC_SETTINGS_MAX; i++)
        fprintf(out, "%s\"a.%d\":\"\"", i ? "," : "", i);
    fprintf(out, "}}");
    fclose(out);
    assert_int_equal(oci_parse_resources(text, n, &never, &r, &e), -EINVAL);
    assert_said(e, EINVAL, "must be at most 256 limits");
    free(text);
    out = open_memstream(&text, &n);
    fprintf(out, "{\"devices\":[{\"allow\":true}");
    for (int i = 0; i < SPEC_DEVICES_MAX; i++)
        fprintf(out, ",{\"allow\":true}");
    fprintf(out, "]}");
    fclose(out);
    assert_int_equal(oci_parse_resources(text, n, &never, &r, &e), -EINVAL);
    assert_said(e, EINVAL, "devices: must have at most 245 entries");
    free(text);
}

/* Denied first, then what is asked for, then what every container may. */
static void orders_rules_about_devices(void **state)
{
    struct json_object *tree = changed(
        "linux/resources/devices",
        "[{\"allow\":true,\"type\":\"b\",\"major\":202,\"access\":\"r\"},"
        "{\"allow\":false,\"type\":\"c\",\"major\":1,\"minor\":3},"
        "{\"allow\":true,\"major\":-1,\"minor\":-1,\"access\":\"m\"}]");
    struct oci_config c;
    struct err e = ERR_INIT;
    const struct spec_device_rule_list *rules = &c.container.device_rules;

    (void)state;
    assert_ok(parse_tree(tree, &c, &e), e);
    json_object_put(tree);
    assert_int_equal(rules->n, 1 + 3 + 10);
    assert_int_equal(rules->v[0].type, 'a');
    assert_false(rules->v[0].allow);
    assert_int_equal(rules->v[0].major, SPEC_DEVICE_ANY);
    assert_int_equal(rules->v[0].access, RWM);
    assert_true(rules->v[1].allow);
    assert_int_equal(rules->v[1].type, 'b');
    assert_int_equal(rules->v[1].major, 202);
    assert_int_equal(rules->v[1].minor, SPEC_DEVICE_ANY);
    assert_int_equal(rules->v[1].access, BPF_DEVCG_ACC_READ);
    assert_false(rules->v[2].allow);
    assert_int_equal(rules->v[2].minor, 3);
    assert_int_equal(rules->v[2].access, RWM);
    assert_int_equal(rules->v[3].type, 'a');
    assert_int_equal(rules->v[3].access, BPF_DEVCG_ACC_MKNOD);
    assert_int_equal(rules->v[4].access, BPF_DEVCG_ACC_MKNOD);
    assert_int_equal(rules->v[6].major, 1);
    assert_int_equal(rules->v[6].minor, 3);
    assert_int_equal(rules->v[13].major, 136);
    oci_config_clear(&c);
    assert_ok(parse_file(CORPUS "smallest.json", &c, &e), e);
    assert_int_equal(rules->n, 1 + 10);
    oci_config_clear(&c);
}

/* --- Exec's process ------------------------------------------------------- */

static void reads_a_process_alone(void **state)
{
    static const char json[] =
        "{\"args\":[\"id\"],\"cwd\":\"/\",\"user\":{\"uid\":7},"
        "\"terminal\":true,\"ioPriority\":{\"class\":\"IOPRIO_CLASS_IDLE\"},"
        "\"capabilities\":{\"bounding\":[\"CAP_KILL\"]}}";
    struct spec_process p;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(oci_parse_process(json, strlen(json), &p, &e), e);
    assert_int_equal(p.args.n, 1);
    assert_int_equal(p.uid, 7);
    assert_true(p.terminal);
    assert_true(p.has_io_priority);
    assert_int_equal(p.io_class, 3);
    assert_false(p.has_scheduler);
    assert_int_equal(p.capabilities.bounding, 1 << 5);
    wire_clear(&spec_process_desc, &p);
}

static void refuses_a_process_by_its_fields(void **state)
{
    static const struct {
        const char *json;
        int code;
        const char *words;
    } cases[] = {
        {"", EINVAL, "process: ends too early"},
        {"{", EINVAL, "process: ends too early"},
        {"null", EINVAL, "process: must be an object"},
        {"{}", EINVAL, "process: args: is missing"},
        {"{\"args\":[\"a\"],\"cwd\":\"b\"}", EINVAL,
         "process: cwd: must be an absolute path"},
        {"{\"args\":[\"a\"],\"cwd\":\"/\",\"rlimits\":[{\"type\":\"X\","
         "\"soft\":1,\"hard\":2}]}",
         EINVAL, "process: rlimits[0].type: "},
        {"{\"args\":[\"a\"],\"cwd\":\"/\",\"user\":{\"uid\":-1}}", EINVAL,
         "process: user.uid: "},
        {"{\"args\":[\"a\"],\"cwd\":\"/\",\"apparmorProfile\":\"x\"}", ENOTSUP,
         "process: apparmorProfile: is not supported"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct spec_process p;
        struct err e = ERR_INIT;

        assert_int_equal(
            oci_parse_process(cases[i].json, strlen(cases[i].json), &p, &e),
            -cases[i].code);
        assert_said(e, cases[i].code, cases[i].words);
        assert_true(strncmp(e.text, "process: ", 9) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(translates_resources),
        cmocka_unit_test(tells_what_the_domain_gets),
        cmocka_unit_test(keeps_the_other_half_of_bandwidth),
        cmocka_unit_test(weighs_monotonously),
        cmocka_unit_test(refuses_resources_that_make_no_sense),
        cmocka_unit_test(bounds_lists_of_limits),
        cmocka_unit_test(orders_rules_about_devices),
        cmocka_unit_test(reads_a_process_alone),
        cmocka_unit_test(refuses_a_process_by_its_fields),
    };

    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
