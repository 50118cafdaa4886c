#include "tests/unit/unit.h"

#include "domus/mem.h"
#include "src/builder/config.h"

static struct job_build sample(void)
{
    return (struct job_build){
        .name = (char *)"domus-default:web1",
        .uuid = (char *)"6d1f1e0a-8c1c-4f0e-9b55-0123456789ab",
        .pvh = true,
        .kernel = (char *)"/usr/lib/domus/vmlinux",
        .initramfs = (char *)"/usr/lib/domus/initramfs.cpio",
        .command_line = (char *)"console=hvc0 quiet",
        .memory_kb = 65536,
        .vcpus = 2,
    };
}

static void check_common(const libxl_domain_config *c)
{
    const libxl_domain_build_info *b = &c->b_info;

    assert_string_equal(c->c_info.name, "domus-default:web1");
    assert_int_equal(c->c_info.uuid.uuid[0], 0x6d);
    assert_int_equal(c->c_info.uuid.uuid[15], 0xab);
    assert_int_equal(c->c_info.type, b->type);
    assert_string_equal(b->kernel, "/usr/lib/domus/vmlinux");
    assert_string_equal(b->ramdisk, "/usr/lib/domus/initramfs.cpio");
    assert_string_equal(b->cmdline, "console=hvc0 quiet");
    assert_null(b->bootloader);
    /* Exactly this much: no ballooning, no populate-on-demand. */
    assert_int_equal(b->max_memkb, 65536);
    assert_int_equal(b->target_memkb, 65536);
    assert_int_equal(b->video_memkb, 0);
    assert_true(libxl_defbool_val(b->claim_mode));
    assert_int_equal(b->max_maptrack_frames, 0);
    assert_int_equal(b->max_grant_version, 1);
    assert_true(b->max_grant_frames >= 16);
    /* Nothing for which libxl would start a device model or a script. */
    assert_int_equal(c->num_disks, 0);
    assert_int_equal(c->num_nics, 0);
    assert_int_equal(c->num_vfbs, 0);
    assert_int_equal(c->num_channels, 0);
    assert_int_equal(c->num_p9s, 0);
    assert_int_equal(c->num_pcidevs, 0);
    assert_null(b->device_model);
    /* Nobody but domusd ends or restarts it. */
    assert_int_equal(c->on_poweroff, LIBXL_ACTION_ON_SHUTDOWN_PRESERVE);
    assert_int_equal(c->on_reboot, LIBXL_ACTION_ON_SHUTDOWN_PRESERVE);
    assert_int_equal(c->on_crash, LIBXL_ACTION_ON_SHUTDOWN_PRESERVE);
    assert_int_equal(c->on_watchdog, LIBXL_ACTION_ON_SHUTDOWN_PRESERVE);
}

static void pvh(void **state)
{
    struct job_build build = sample();
    libxl_domain_config c;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(config_from_job(&build, 1, &c, &e), e);
    check_common(&c);
    assert_int_equal(c.c_info.type, LIBXL_DOMAIN_TYPE_PVH);
    assert_false(libxl_defbool_val(c.b_info.u.pvh.pvshim));
    assert_false(libxl_defbool_val(c.b_info.numa_placement));
    libxl_domain_config_dispose(&c);
}

static void pv(void **state)
{
    struct job_build build = sample();
    libxl_domain_config c;
    struct err e = ERR_INIT;

    (void)state;
    build.pvh = false;
    assert_ok(config_from_job(&build, 2, &c, &e), e);
    check_common(&c);
    assert_int_equal(c.c_info.type, LIBXL_DOMAIN_TYPE_PV);
    assert_false(libxl_defbool_val(c.b_info.u.pv.e820_host));
    assert_true(libxl_defbool_val(c.b_info.numa_placement));
    libxl_domain_config_dispose(&c);
}

static void vcpus(void **state)
{
    static const uint32_t counts[] = {1, 7, 8, 9, CONFIG_VCPUS_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        struct job_build build = sample();
        libxl_domain_config c;
        struct err e = ERR_INIT;

        build.vcpus = counts[i];
        assert_ok(config_from_job(&build, 1, &c, &e), e);
        assert_int_equal(c.b_info.max_vcpus, counts[i]);
        assert_int_equal(libxl_bitmap_count_set(&c.b_info.avail_vcpus),
                         counts[i]);
        assert_true(
            libxl_bitmap_test(&c.b_info.avail_vcpus, (int)counts[i] - 1));
        libxl_domain_config_dispose(&c);
    }
}

static void refused(const struct job_build *build, const char *words)
{
    libxl_domain_config c;
    struct err e = ERR_INIT;

    assert_int_equal(config_from_job(build, 1, &c, &e), -EINVAL);
    assert_said(e, EINVAL, words);
}

static void bad_jobs(void **state)
{
    static const char *const uuids[] = {"", "6d1f1e0a",
                                        "6d1f1e0a-8c1c-4f0e-9b55-0123456789ab ",
                                        "6d1f1e0a-8c1c-4f0e-9b55-0123456789zz",
                                        "6d1f1e0a08c1c04f0e09b5500123456789ab"};
    struct job_build b = sample();

    (void)state;
    b.vcpus = 0;
    refused(&b, "0 vcpus");
    b.vcpus = CONFIG_VCPUS_MAX + 1;
    refused(&b, "129 vcpus");
    b = sample();
    b.memory_kb = 0;
    refused(&b, "memory of 0 KiB");
    b.memory_kb = UINT64_MAX;
    refused(&b, "memory of");
    b = sample();
    b.name = (char *)"";
    refused(&b, "needs a name");
    b = sample();
    b.kernel = (char *)"";
    refused(&b, "a kernel");
    b = sample();
    b.initramfs = (char *)"";
    refused(&b, "an initramfs");
    for (size_t i = 0; i < ARRAY_SIZE(uuids); i++) {
        b = sample();
        b.uuid = (char *)uuids[i];
        refused(&b, "is not a uuid");
    }
}

static void needs(void **state)
{
    struct job_build build = sample();
    uint64_t with_pvh = config_needs_kb(&build);

    (void)state;
    assert_true(with_pvh > build.memory_kb);
    build.pvh = false;
    assert_true(config_needs_kb(&build) < with_pvh);
    assert_true(config_needs_kb(&build) > build.memory_kb);
}

static void weight_and_cap(void **state)
{
    struct job_build build = sample();
    libxl_domain_config c;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(config_from_job(&build, 1, &c, &e), e);
    assert_int_equal(c.b_info.sched_params.weight,
                     LIBXL_DOMAIN_SCHED_PARAM_WEIGHT_DEFAULT);
    assert_int_equal(c.b_info.sched_params.cap,
                     LIBXL_DOMAIN_SCHED_PARAM_CAP_DEFAULT);
    libxl_domain_config_dispose(&c);
    build.cpu_weight = 512;
    build.cpu_cap = 150;
    assert_ok(config_from_job(&build, 1, &c, &e), e);
    assert_int_equal(c.b_info.sched_params.weight, 512);
    assert_int_equal(c.b_info.sched_params.cap, 150);
    libxl_domain_config_dispose(&c);
    build.cpu_weight = 65536;
    assert_int_equal(config_from_job(&build, 1, &c, &e), -EINVAL);
    assert_said(e, EINVAL, "cpu weight of 65536");
    build.cpu_weight = 0;
    build.cpu_cap = 12801;
    assert_int_equal(config_from_job(&build, 1, &c, &e), -EINVAL);
    assert_said(e, EINVAL, "cpu cap of 12801 %");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weight_and_cap),
        cmocka_unit_test(pvh),
        cmocka_unit_test(pv),
        cmocka_unit_test(vcpus),
        cmocka_unit_test(bad_jobs),
        cmocka_unit_test(needs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
