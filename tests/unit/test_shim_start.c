/* What `start` is told and what it answers, by containerd's versions. */
#include <errno.h>

#include "bootstrap.pb-c.h"
#include "shim/address.h"
#include "shim/bootstrap.h"
#include "shim/ttrpc.h"
#include "unit.h"

#define ARGS(...)                                               \
    ((char *[]){(char *)"shim", __VA_ARGS__, NULL}),            \
        (int)(sizeof((char *[]){(char *)"shim", __VA_ARGS__}) / \
              sizeof(char *))

static int parse(char **argv, int argc, struct options *options, struct err *e)
{
    return options_parse(argc, argv, options, e);
}

static void test_flags(void **state)
{
    struct options o;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(parse(ARGS((char *)"-namespace", (char *)"ns", (char *)"-id=c1",
                         (char *)"--address", (char *)"/a", (char *)"-debug",
                         (char *)"start"),
                    &o, &e),
              e);
    assert_string_equal(o.namespace, "ns");
    assert_string_equal(o.id, "c1");
    assert_string_equal(o.address, "/a");
    assert_string_equal(o.action, "start");
    assert_string_equal(o.bundle, "");
    assert_true(o.debug);
    assert_false(o.version);

    assert_ok(parse(ARGS((char *)"delete", (char *)"-bundle", (char *)"/b",
                         (char *)"-debug=false"),
                    &o, &e),
              e);
    assert_string_equal(o.action, "delete");
    assert_string_equal(o.bundle, "/b");
    assert_false(o.debug);

    assert_ok(parse(ARGS((char *)"-v"), &o, &e), e);
    assert_true(o.version);
    assert_ok(parse(ARGS((char *)"-info"), &o, &e), e);
    assert_true(o.info);

    assert_int_equal(parse(ARGS((char *)"-what"), &o, &e), -EINVAL);
    assert_said(e, EINVAL, "-what");
    assert_int_equal(parse(ARGS((char *)"-id"), &o, &e), -EINVAL);
    assert_said(e, EINVAL, "-id needs a value");
    assert_int_equal(parse(ARGS((char *)"-debug=maybe"), &o, &e), -EINVAL);
}

static const struct options start = {.action = "start",
                                     .namespace = "ns",
                                     .id = "c1",
                                     .address = "/run/containerd.sock"};

static void pack(const ProtobufCMessage *message, struct buf *out)
{
    size_t n = protobuf_c_message_get_packed_size(message);

    (void)protobuf_c_message_pack(message, buf_reserve(out, n));
    buf_commit(out, n);
}

static void parse_params(const char *id, const char *namespace,
                         struct bootstrap *bootstrap)
{
    Bootstrap__Params params = BOOTSTRAP__PARAMS__INIT;
    struct buf bytes = BUF_INIT;
    struct err e = ERR_INIT;

    params.instance_id = (char *)id;
    params.namespace_ = (char *)namespace;
    params.socket_dir = (char *)"/sockets";
    params.containerd_ttrpc_address = (char *)"/t";
    pack(&params.base, &bytes);
    assert_ok(bootstrap_parse(buf_data(&bytes), buf_len(&bytes), &start,
                              bootstrap, &e),
              e);
    buf_clear(&bytes);
}

/* An Any and BootstrapParams decode as each other. */
static void test_standard_input(void **state)
{
    static const uint8_t any[] = "\x0a\x1aruntimeoptions.v1.Options.\x12\x00";
    struct bootstrap b;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(bootstrap_parse(NULL, 0, &start, &b, &e), e);
    assert_false(b.recognised);
    assert_ok(bootstrap_parse(any, sizeof(any) - 1, &start, &b, &e), e);
    assert_false(b.recognised);
    assert_null(b.socket_dir);

    parse_params("c1", "ns", &b);
    assert_true(b.recognised);
    assert_string_equal(b.socket_dir, "/sockets");
    assert_string_equal(b.ttrpc_address, "/t");
    bootstrap_clear(&b);
    parse_params("c2", "ns", &b);
    assert_false(b.recognised);
    parse_params("c1", "other", &b);
    assert_false(b.recognised);

    assert_int_equal(
        bootstrap_parse((const uint8_t *)"garbage", 7, &start, &b, &e),
        -EINVAL);
    assert_said(e, EINVAL, "standard input");
}

static char *reply(bool recognised, const char *max_shim_version)
{
    struct bootstrap b = {.recognised = recognised};
    struct buf out = BUF_INIT;

    bootstrap_reply(&b, max_shim_version, "unix:///s/1", &out);
    buf_append(&out, "", 1);
    return (char *)out.bytes;
}

static void test_answers(void **state)
{
    struct bootstrap b = {.recognised = true};
    struct buf out = BUF_INIT;
    Bootstrap__Result *result;
    char *text;

    (void)state;
    text = reply(false, NULL);
    assert_string_equal(text, "unix:///s/1\n");
    free(text);
    text = reply(false, "2");
    assert_string_equal(text, "{\"version\":2,\"address\":\"unix:///s/1\","
                              "\"protocol\":\"ttrpc\"}\n");
    free(text);
    bootstrap_reply(&b, "2", "unix:///s/1", &out);
    result = (Bootstrap__Result *)ttrpc_unpack(&bootstrap__result__descriptor,
                                               buf_data(&out), buf_len(&out));
    assert_non_null(result);
    assert_int_equal(result->version, 2);
    assert_string_equal(result->address, "unix:///s/1");
    assert_string_equal(result->protocol, "ttrpc");
    protobuf_c_message_free_unpacked(&result->base, NULL);
    buf_clear(&out);
}

static void test_info(void **state)
{
    struct buf out = BUF_INIT;
    Bootstrap__RuntimeInfo *info;

    (void)state;
    bootstrap_info(&out);
    info = (Bootstrap__RuntimeInfo *)ttrpc_unpack(
        &bootstrap__runtime_info__descriptor, buf_data(&out), buf_len(&out));
    assert_non_null(info);
    assert_string_equal(info->name, "io.containerd.domus.v2");
    assert_string_equal(info->version->version, DOMUS_VERSION);
    protobuf_c_message_free_unpacked(&info->base, NULL);
    buf_clear(&out);
}

/* sha256 of "/run/containerd.sock/ns/c1", as sha256sum(1) prints it; short
 * enough for a socket whatever the names are. */
static void test_socket_name(void **state)
{
    char *path = address_path(ADDRESS_DIR, &start);

    (void)state;
    assert_string_equal(path, "/run/containerd/s/"
                              "82636b0a5d85465b0c5f54844114a6f7"
                              "d2ea8a6e559a0443596540f3c70c8b40");
    assert_true(strlen(path) < 106);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_standard_input),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_socket_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
