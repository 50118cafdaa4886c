/* domus.conf, and what a CREATE may ask for under it. */
#include "tests/unit/scratch.h"

#include "src/daemon/config.h"
#include "src/daemon/policy.h"

static int load(const char *text, struct config *config, struct err *e)
{
    _cleanup_free_ char *path = scratch_path("domus.conf");

    scratch_write("domus.conf", text);
    return config_load(path, config, e);
}

static void defaults(void **state)
{
    struct config config;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(load("", &config, &e), e);
    assert_string_equal(config.run_dir, "/run/domus");
    assert_string_equal(config.image_dir, "/var/lib/domus/images");
    assert_string_equal(config.builder, "");
    assert_int_equal(config.domain_type, DOMAIN_AUTO);
    assert_int_equal(config.default_memory_mib, 128);
    assert_int_equal(config.allow_annotations.n, 0);
    assert_int_equal(config.hooks.n, 2);
    assert_string_equal(config.hooks.v[0], "/usr/bin/nerdctl");
    assert_string_equal(config.hooks.v[1], "/usr/local/bin/nerdctl");
    assert_int_equal(config.loggers.n, 2);
    config_clear(&config);
}

static void every_key(void **state)
{
    struct config config;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(load("# a comment\n[domus]\nrun-dir = /a\nimage-dir=/b\n"
                   "guest-dir = /c\nbuilder = /d\nworkers = 3\n"
                   "domain-type = pv\nmemory-overhead = 7\n"
                   "default-memory = 24\nvcpus = 2\nstart-timeout = 9\n"
                   "image-cache-max = 0\nimage-build-memory-max = 64\n"
                   "log-level = debug\n"
                   "allow-annotations = io.domus.memory  io.domus.vcpus\n"
                   "hooks =\nloggers = /x /y, /z\n",
                   &config, &e),
              e);
    assert_string_equal(config.run_dir, "/a");
    assert_string_equal(config.image_dir, "/b");
    assert_string_equal(config.guest_dir, "/c");
    assert_string_equal(config.builder, "/d");
    assert_int_equal(config.workers, 3);
    assert_int_equal(config.domain_type, DOMAIN_PV);
    assert_int_equal(config.memory_overhead_mib, 7);
    assert_int_equal(config.default_memory_mib, 24);
    assert_int_equal(config.vcpus, 2);
    assert_int_equal(config.start_timeout_s, 9);
    assert_int_equal(config.image_cache_max_mib, 0);
    assert_int_equal(config.image_build_memory_max_mib, 64);
    assert_int_equal(config.log_level, LOG_DEBUG);
    assert_int_equal(config.allow_annotations.n, 2);
    assert_string_equal(config.allow_annotations.v[1], "io.domus.vcpus");
    assert_int_equal(config.hooks.n, 0);
    assert_int_equal(config.loggers.n, 3);
    assert_string_equal(config.loggers.v[2], "/z");
    config_clear(&config);
}

static void lists_go_on(void **state)
{
    _cleanup_free_ char *path = xcalloc(1, 201);
    _cleanup_free_ char *text = NULL;
    struct config config;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(load("[domus]\nhooks = /x\n  /y, /z\nloggers =\n"
                   "allow-annotations = io.domus.memory,\n"
                   "allow-annotations = io.domus.vcpus\n",
                   &config, &e),
              e);
    assert_int_equal(config.hooks.n, 3);
    assert_string_equal(config.hooks.v[2], "/z");
    assert_int_equal(config.loggers.n, 0);
    assert_int_equal(config.allow_annotations.n, 2);
    config_clear(&config);

    assert_int_equal(load("[domus]\nvcpus = 1\nvcpus = 2\n", &config, &e),
                     -EINVAL);
    assert_said(e, EINVAL, "vcpus: is set a second time");

    e = (struct err)ERR_INIT;
    memset(path, '/', 200);
    text = xasprintf("[domus]\nhooks = %s\n", path);
    assert_int_equal(load(text, &config, &e), -EINVAL);
    assert_said(e, EINVAL, "line 2 is longer than 198 characters");
}

static void refused(void **state)
{
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"[domus]\nmemroy = 3\n", "unknown key 'memroy'"},
        {"[other]\nrun-dir = /a\n", "unknown section [other]"},
        {"[domus]\nrun-dir = a\n", "run-dir: 'a' is not an absolute path"},
        {"[domus]\nworkers = 0\n", "workers: '0' is not a number"},
        {"[domus]\nworkers = 2x\n", "'2x' is not a number"},
        {"[domus]\nworkers = -1\n", "'-1' is not a number"},
        {"[domus]\nworkers = 99999999999999999999\n", "not a number"},
        {"[domus]\ndomain-type = hvm\n", "'hvm' is not auto, pv or pvh"},
        {"[domus]\nlog-level = loud\n", "'loud' is not"},
        {"[domus]\nhooks = /a nerdctl\n", "hooks: 'nerdctl' is not an abs"},
        {"[domus]\nloggers = ./a\n", "loggers: './a' is not an absolute"},
        {"[domus]\nallow-annotations = io.domus.vcpus io.domus.cpus\n",
         "allow-annotations: there is no annotation 'io.domus.cpus'"},
        {"[domus]\nnonsense\n", "line 2"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct config config;
        struct err e = ERR_INIT;

        assert_int_equal(load(rows[i].text, &config, &e), -EINVAL);
        assert_said(e, EINVAL, rows[i].words);
        assert_said(e, EINVAL, "domus.conf");
    }
}

static void named_file_must_be_there(void **state)
{
    struct config config;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(config_load("/nonexistent/domus.conf", &config, &e),
                     -ENOENT);
}

static struct ctl_create plain(void)
{
    return (struct ctl_create){
        .namespace = (char *)"default",
        .id = (char *)"web1",
        .bundle = (char *)"/run/b",
        .rootfs_path = (char *)"",
    };
}

static void plans(void **state)
{
    struct ctl_create create = plain();
    struct domain_plan plan;
    struct config config;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(load("[domus]\ndefault-memory = 100\nmemory-overhead = 20\n"
                   "vcpus = 2\n",
                   &config, &e),
              e);
    assert_ok(policy_plan(&config, &create, &plan, &e), e);
    assert_int_equal(plan.memory_kb, 100 * 1024);
    assert_int_equal(plan.vcpus, 2);
    create.memory_max = 64 << 20; /* 84 in all */
    assert_ok(policy_plan(&config, &create, &plan, &e), e);
    assert_int_equal(plan.memory_kb, 100 * 1024);
    create.memory_max = 200 << 20;
    create.vcpus = 3;
    assert_ok(policy_plan(&config, &create, &plan, &e), e);
    assert_int_equal(plan.memory_kb, 220 * 1024);
    assert_int_equal(plan.vcpus, 3);
    create.memory_max = UINT64_MAX;
    assert_int_equal(policy_plan(&config, &create, &plan, &e), -EINVAL);
    config_clear(&config);
}

static void weights_and_caps(void **state)
{
    struct ctl_create create = plain();
    struct domain_plan plan;
    struct config config;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(load("", &config, &e), e);
    assert_ok(policy_plan(&config, &create, &plan, &e), e);
    assert_int_equal(plan.cpu_weight, 0);
    assert_int_equal(plan.cpu_cap, 0);
    create.vcpus = 2;
    create.cpu_weight = 65535;
    create.cpu_cap = 200;
    assert_ok(policy_plan(&config, &create, &plan, &e), e);
    assert_int_equal(plan.cpu_weight, 65535);
    assert_int_equal(plan.cpu_cap, 200);
    /* More than all of its processors is no limit. */
    create.cpu_cap = 201;
    assert_ok(policy_plan(&config, &create, &plan, &e), e);
    assert_int_equal(plan.cpu_cap, 0);
    create.cpu_cap = UINT32_MAX;
    create.cpu_weight = 65536;
    assert_int_equal(policy_plan(&config, &create, &plan, &e), -EINVAL);
    assert_said(e, EINVAL, "cpu weight 65536: Xen has 1 to 65535");
    config_clear(&config);
}

static void updates(void **state)
{
    struct ctl_update update = {.memory_max = 0};
    struct config config;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(load("[domus]\nmemory-overhead = 32\n", &config, &e), e);
    assert_ok(policy_update(&config, 128 << 10, 1, &update, &e), e);
    update.memory_max = 96 << 20;
    assert_ok(policy_update(&config, 128 << 10, 1, &update, &e), e);
    update.memory_max += 1024;
    assert_int_equal(policy_update(&config, 128 << 10, 1, &update, &e),
                     -ENOMEM);
    assert_said(e, ENOMEM, "the domain has 128 MiB, of which 96 MiB");
    assert_said(e, ENOMEM, "make the container again");
    update.memory_max = UINT64_MAX;
    assert_int_equal(policy_update(&config, 128 << 10, 1, &update, &e),
                     -ENOMEM);
    /* A domain that an annotation made smaller than the overhead. */
    update.memory_max = 1;
    assert_int_equal(policy_update(&config, 24 << 10, 1, &update, &e), -ENOMEM);
    assert_said(e, ENOMEM, "of which 0 MiB");
    update.memory_max = 0;
    update.has_cpu_cap = true;
    update.cpu_cap = 150;
    assert_ok(policy_update(&config, 128 << 10, 2, &update, &e), e);
    assert_int_equal(update.cpu_cap, 150);
    assert_ok(policy_update(&config, 128 << 10, 1, &update, &e), e);
    assert_int_equal(update.cpu_cap, 0);
    update.cpu_weight = 65536;
    assert_int_equal(policy_update(&config, 128 << 10, 1, &update, &e),
                     -EINVAL);
    config_clear(&config);
}

static void bad_creates(void **state)
{
    static const char *const ids[] = {"",   "a/b", "..",  "a..b",
                                      "-a", "a-",  "a b", "\x01"};
    struct domain_plan plan;
    struct config config;
    struct ctl_create create;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(load("", &config, &e), e);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        create = plain();
        create.id = (char *)ids[i];
        assert_int_equal(policy_plan(&config, &create, &plan, &e), -EINVAL);
        assert_said(e, EINVAL, "invalid id");
        create = plain();
        create.namespace = (char *)ids[i];
        assert_int_equal(policy_plan(&config, &create, &plan, &e), -EINVAL);
        assert_said(e, EINVAL, "invalid namespace");
    }
    create = plain();
    create.bundle = (char *)"relative";
    assert_int_equal(policy_plan(&config, &create, &plan, &e), -EINVAL);
    create = plain();
    create.vcpus = 100000;
    assert_int_equal(policy_plan(&config, &create, &plan, &e), -EINVAL);
    config_clear(&config);
}

static void annotations(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *words;
    } rows[] = {
        {"io.domus.vcpus=2", EPERM, "io.domus.vcpus is not allowed"},
        {"io.domus.kernel=/tmp/k", EINVAL, "unknown annotation"},
        {"io.domus.memory", EINVAL, "without a value"},
        {"io.domus.memory=", EINVAL, "is not a number"},
        {"io.domus.memory=1", EINVAL, "is not a number from 8"},
        {"io.domus.memory=99999999", EINVAL, "is not a number"},
        {"io.domus.domain-type=hvm", EINVAL, "not auto, pv or pvh"},
    };
    char *values[] = {(char *)"io.domus.memory=24",
                      (char *)"io.domus.domain-type=pv"};
    struct ctl_create create = plain();
    struct domain_plan plan;
    struct config config;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(load("[domus]\nallow-annotations = io.domus.memory "
                   "io.domus.domain-type\n",
                   &config, &e),
              e);
    create.annotations.v = values;
    create.annotations.n = 2;
    assert_ok(policy_plan(&config, &create, &plan, &e), e);
    assert_int_equal(plan.memory_kb, 24 * 1024);
    assert_int_equal(plan.type, DOMAIN_PV);
    create.annotations.n = 1;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        values[0] = (char *)rows[i].text;
        assert_int_equal(policy_plan(&config, &create, &plan, &e),
                         -rows[i].code);
        assert_said(e, rows[i].code, rows[i].words);
    }
    config_clear(&config);
}

static void settling(void **state)
{
    struct domain_plan plan = {.type = DOMAIN_AUTO, .memory_kb = 64 << 10};
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(policy_settle(&plan, true, 1 << 20, &e), e);
    assert_int_equal(plan.type, DOMAIN_PVH);
    plan.type = DOMAIN_AUTO;
    assert_ok(policy_settle(&plan, false, 1 << 20, &e), e);
    assert_int_equal(plan.type, DOMAIN_PV);
    plan.type = DOMAIN_PVH;
    assert_int_equal(policy_settle(&plan, false, 1 << 20, &e), -ENOTSUP);
    plan.type = DOMAIN_PV;
    assert_int_equal(policy_settle(&plan, false, 64 << 10, &e), -ENOMEM);
    assert_said(e, ENOMEM, "needs 68 MiB, Xen has 64 MiB free");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key),
        cmocka_unit_test(lists_go_on),
        cmocka_unit_test(refused),
        cmocka_unit_test(named_file_must_be_there),
        cmocka_unit_test(plans),
        cmocka_unit_test(weights_and_caps),
        cmocka_unit_test(updates),
        cmocka_unit_test(bad_creates),
        cmocka_unit_test(annotations),
        cmocka_unit_test(settling),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
