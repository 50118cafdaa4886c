/* The runtime options of a Create: what is accepted, and what is refused by
 * name. */
#include <errno.h>
#include <stdbool.h>

#include "bootstrap.pb-c.h"
#include "domus/mem.h"
#include "shim/runtime_options.h"
#include "unit.h"

#define GENERIC "runtimeoptions.v1.Options"
#define RUNC    "containerd.runc.v1.Options"

static int check(const char *type, const ProtobufCMessage *message,
                 struct err *e)
{
    uint8_t bytes[256];
    Wellknown__Any any = WELLKNOWN__ANY__INIT;

    assert_true(protobuf_c_message_get_packed_size(message) <= sizeof(bytes));
    any.type_url = (char *)type;
    any.value.len = protobuf_c_message_pack(message, bytes);
    any.value.data = bytes;
    return runtime_options_check(&any, e);
}

static void test_none(void **state)
{
    Wellknown__Any empty = WELLKNOWN__ANY__INIT;
    Bootstrap__RuntimeOptions generic = BOOTSTRAP__RUNTIME_OPTIONS__INIT;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(runtime_options_check(NULL, &e), 0);
    empty.type_url = (char *)"whatever";
    assert_int_equal(runtime_options_check(&empty, &e), 0);
    /* Names its own type again, and says nothing. */
    generic.type_url = (char *)GENERIC;
    assert_int_equal(check(GENERIC, &generic.base, &e), 0);
    assert_int_equal(check("types.example/" GENERIC, &generic.base, &e), 0);
}

static void test_generic(void **state)
{
    Bootstrap__RuntimeOptions path = BOOTSTRAP__RUNTIME_OPTIONS__INIT;
    Bootstrap__RuntimeOptions body = BOOTSTRAP__RUNTIME_OPTIONS__INIT;
    struct err e = ERR_INIT;

    (void)state;
    path.config_path = (char *)"/etc/domus/other.conf";
    assert_int_equal(check(GENERIC, &path.base, &e), -ENOTSUP);
    assert_said(e, ENOTSUP, "config_path");
    body.config_body.data = (uint8_t *)"x";
    body.config_body.len = 1;
    assert_int_equal(check(GENERIC, &body.base, &e), -ENOTSUP);
    assert_said(e, ENOTSUP, "config_body");
}

/* As ctr of containerd 2 sends it for a config with a user namespace. */
static void test_owner_of_pipes(void **state)
{
    Bootstrap__RuncOptions o = BOOTSTRAP__RUNC_OPTIONS__INIT;
    struct err e = ERR_INIT;

    (void)state;
    o.io_uid = 5000;
    o.io_gid = 7000;
    o.no_new_keyring = true;
    assert_int_equal(check(RUNC, &o.base, &e), 0);
}

static void test_runc(void **state)
{
    Bootstrap__RuncOptions o[9];
    static const char *const names[] = {
        "no_pivot_root",  "shim_cgroup",      "binary_name",
        "root",           "systemd_cgroup",   "criu_image_path",
        "criu_work_path", "task_api_address", "task_api_version",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(o); i++)
        o[i] = (Bootstrap__RuncOptions)BOOTSTRAP__RUNC_OPTIONS__INIT;
    o[0].no_pivot_root = true;
    o[1].shim_cgroup = (char *)"/shims";
    o[2].binary_name = (char *)"crun";
    o[3].root = (char *)"/run/other";
    o[4].systemd_cgroup = true;
    o[5].criu_image_path = (char *)"/images";
    o[6].criu_work_path = (char *)"/work";
    o[7].task_api_address = (char *)"ttrpc+unix:///run/x";
    o[8].task_api_version = 3;
    for (size_t i = 0; i < ARRAY_SIZE(o); i++) {
        struct err e = ERR_INIT;

        assert_int_equal(check(RUNC, &o[i].base, &e), -ENOTSUP);
        assert_said(e, ENOTSUP, names[i]);
    }
}

static void test_bad(void **state)
{
    Wellknown__Any any = WELLKNOWN__ANY__INIT;
    struct err e = ERR_INIT;

    (void)state;
    any.type_url = (char *)"example/crun.v9.\x1b[31mOptions";
    any.value.data = (uint8_t *)"\xff\xff";
    any.value.len = 2;
    assert_int_equal(runtime_options_check(&any, &e), -ENOTSUP);
    assert_said(e, ENOTSUP, "crun.v9.\\x1b[31mOptions");
    any.type_url = (char *)RUNC;
    assert_int_equal(runtime_options_check(&any, &e), -EINVAL);
    assert_said(e, EINVAL, "malformed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_generic),
        cmocka_unit_test(test_owner_of_pipes),
        cmocka_unit_test(test_runc),
        cmocka_unit_test(test_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
