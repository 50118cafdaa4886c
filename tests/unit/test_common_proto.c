#include "tests/unit/unit.h"

#include <endian.h>

#include "domus/mem.h"
#include "domus/proto.h"
#include "tests/unit/sample.h"

enum { TO = 1u << PROTO_TO_GUEST, FROM = 1u << PROTO_FROM_GUEST };

/* The protocol once more, from docs/PROTOCOL.md and not from the code. */
static const struct {
    uint16_t number;
    const char *name;
    unsigned from;
    bool has_struct;
} messages[] = {
    {PROTO_HELLO, "HELLO", FROM, true},
    {PROTO_WELCOME, "WELCOME", TO, true},
    {PROTO_RESULT, "RESULT", FROM, true},
    {PROTO_CREATE, "CREATE", TO, true},
    {PROTO_START, "START", TO, true},
    {PROTO_SIGNAL, "SIGNAL", TO, true},
    {PROTO_EXITED, "EXITED", FROM, true},
    {PROTO_PIDS, "PIDS", TO, true},
    {PROTO_PIDS_RESULT, "PIDS_RESULT", FROM, true},
    {PROTO_STATS, "STATS", TO, true},
    {PROTO_STATS_RESULT, "STATS_RESULT", FROM, true},
    {PROTO_DELETE, "DELETE", TO, true},
    {PROTO_POWEROFF, "POWEROFF", TO, true},
    {PROTO_LOG, "LOG", FROM, true},
    {PROTO_DATA, "DATA", TO | FROM, false},
    {PROTO_CREDIT, "CREDIT", TO | FROM, true},
    {PROTO_END, "END", TO | FROM, false},
    {PROTO_EXEC, "EXEC", TO, true},
    {PROTO_RESIZE, "RESIZE", TO, true},
    {PROTO_PAUSE, "PAUSE", TO, true},
    {PROTO_RESUME, "RESUME", TO, true},
    {PROTO_UPDATE, "UPDATE", TO, true},
    {PROTO_OOM, "OOM", FROM, true},
};

static void put(uint8_t *at, uint32_t length, uint16_t type, uint16_t flags,
                uint32_t id)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(length >> 8 * i);
        at[8 + i] = (uint8_t)(id >> 8 * i);
    }
    for (int i = 0; i < 2; i++) {
        at[4 + i] = (uint8_t)(type >> 8 * i);
        at[6 + i] = (uint8_t)(flags >> 8 * i);
    }
}

static void numbers_and_names_are_fixed(void **state)
{
    (void)state;
    assert_int_equal(ARRAY_SIZE(messages), PROTO_TYPE_COUNT - 1);
    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        assert_int_equal(messages[i].number, i + 1);
        assert_string_equal(proto_type_name(messages[i].number),
                            messages[i].name);
        assert_int_equal(!!proto_desc(messages[i].number),
                         messages[i].has_struct);
    }
    assert_string_equal(proto_type_name(0), "?");
    assert_string_equal(proto_type_name(PROTO_TYPE_COUNT), "?");
    assert_string_equal(proto_type_name(0xffffffff), "?");
    assert_null(proto_desc((enum proto_type)1000));
}

static void every_message_goes_and_comes(void **state)
{
    uint64_t seed = 5;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        enum proto_direction direction =
            messages[i].from & FROM ? PROTO_FROM_GUEST : PROTO_TO_GUEST;

        for (int round = 0; round < 100 && messages[i].number != PROTO_DATA;
             round++) {
            _cleanup_buf_ struct buf b = BUF_INIT;
            struct proto_message said = {.type = messages[i].number,
                                         .id = (uint32_t)sample_next(&seed)};
            struct proto_message heard;
            struct proto_header h;
            struct err e = ERR_INIT;

            if (messages[i].has_struct)
                sample_fill(proto_desc(said.type), &said.body, &seed);
            assert_ok(proto_encode(&said, &b, &e), e);
            assert_ok(proto_header_decode(buf_data(&b), direction, &h, &e), e);
            assert_int_equal(h.length, buf_len(&b) - PROTO_HEADER_SIZE);
            assert_int_equal(h.type, said.type);
            assert_int_equal(h.flags, 0);
            assert_int_equal(h.id, said.id);
            assert_ok(
                proto_decode(&h, buf_data(&b) + PROTO_HEADER_SIZE, &heard, &e),
                e);
            assert_int_equal(heard.type, said.type);
            assert_int_equal(heard.id, said.id);
            if (messages[i].has_struct)
                assert_true(sample_equal(proto_desc(said.type), &said.body,
                                         &heard.body));
            proto_clear(&said);
            proto_clear(&heard);
            proto_clear(&heard);
        }
    }
}

static void bytes_of_hello(void **state)
{
    static const uint8_t bytes[] = {
        25, 0, 0, 0, 1,   0,   0, 0, 0,   0,   0,   0,       /* header */
        1,  0, 0, 0, 3,   0,   0, 0, '0', '.', '1',          /* agent */
        2,  0, 0, 0, '6', '1', 8, 7, 6,   5,   4,   3, 2, 1, /* kernel */
    };
    struct proto_message m = {
        .type = PROTO_HELLO,
        .body.hello = {.version = 1,
                       .agent = (char *)"0.1",
                       .kernel = (char *)"61",
                       .uptime_ns = 0x0102030405060708},
    };
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(proto_encode(&m, &b, &e), e);
    assert_int_equal(buf_len(&b), sizeof(bytes));
    assert_memory_equal(buf_data(&b), bytes, sizeof(bytes));
}

static void bytes_of_data(void **state)
{
    static const uint8_t bytes[] = {3, 0, 0, 0, 15,  0,   0,  0,
                                    4, 3, 2, 1, 'a', 'b', 'c'};
    _cleanup_buf_ struct buf b = BUF_INIT;

    (void)state;
    proto_encode_data(0x01020304, "abc", 3, &b);
    assert_int_equal(buf_len(&b), sizeof(bytes));
    assert_memory_equal(buf_data(&b), bytes, sizeof(bytes));
}

static void headers_obey_direction_and_limit(void **state)
{
    (void)state;
    for (unsigned direction = 0; direction < 2; direction++) {
        for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
            uint32_t limit = direction == PROTO_TO_GUEST ? 4194304 : 65536;
            struct proto_header h = {.id = 77};
            struct err e = ERR_INIT;
            uint8_t bytes[PROTO_HEADER_SIZE];

            if (messages[i].number == PROTO_DATA)
                limit = 32768;
            if (messages[i].number == PROTO_END)
                limit = 0;
            put(bytes, limit, messages[i].number, 0, 9);
            if (!(messages[i].from & (1u << direction))) {
                proto_header_decode(bytes, direction, &h, &e);
                assert_said(e, EBADMSG, "from the wrong side");
                assert_said(e, EBADMSG, messages[i].name);
                assert_int_equal(h.id, 77);
                continue;
            }
            assert_ok(proto_header_decode(bytes, direction, &h, &e), e);
            assert_int_equal(h.length, limit);
            assert_int_equal(h.id, 9);
            put(bytes, limit + 1, messages[i].number, 0, 9);
            proto_header_decode(bytes, direction, &h, &e);
            assert_said(e, EBADMSG, "the limit is");
            put(bytes, 0xffffffff, messages[i].number, 0, 9);
            proto_header_decode(bytes, direction, &h, &e);
            assert_said(e, EBADMSG, "the limit is");
            for (int bit = 0; bit < 16; bit++) {
                put(bytes, 0, messages[i].number, (uint16_t)(1u << bit), 9);
                proto_header_decode(bytes, direction, &h, &e);
                assert_said(e, EBADMSG, "unknown flags");
            }
        }
    }
}

static void headers_of_unknown_type_are_refused(void **state)
{
    (void)state;
    for (uint32_t type = 0; type < 65536; type++) {
        struct proto_header h;
        struct err e = ERR_INIT;
        uint8_t bytes[PROTO_HEADER_SIZE];

        if (type > 0 && type < PROTO_TYPE_COUNT)
            continue;
        put(bytes, 0, (uint16_t)type, 0, 0);
        for (unsigned direction = 0; direction < 2; direction++) {
            proto_header_decode(bytes, direction, &h, &e);
            assert_said(e, EBADMSG, "unknown type");
        }
    }
}

static void does_not_encode_what_is_none(void **state)
{
    const int none[] = {0, PROTO_DATA, PROTO_TYPE_COUNT, 4000, -1};
    _cleanup_buf_ struct buf b = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
        struct proto_message m = {.type = (enum proto_type)none[i]};
        struct err e = ERR_INIT;

        proto_encode(&m, &b, &e);
        assert_said(e, EINVAL, "no such message");
    }
    assert_int_equal(buf_len(&b), 0);
}

static void does_not_encode_beyond_the_limit(void **state)
{
    _cleanup_free_ char *arg = xcalloc(1, 131072);
    struct proto_message m = {.type = PROTO_CREATE};
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    char *args[33];

    (void)state;
    memset(arg, 'x', 131071);
    for (size_t i = 0; i < ARRAY_SIZE(args); i++)
        args[i] = arg;
    m.body.create.container.process.args = (struct string_list){args, 31};
    assert_ok(proto_encode(&m, &b, &e), e);
    m.body.create.container.process.args.n = 33;
    buf_clear(&b);
    proto_encode(&m, &b, &e);
    assert_said(e, EMSGSIZE, "CREATE takes");
    assert_int_equal(buf_len(&b), 0);
}

static void refuses_a_payload_of_another_size(void **state)
{
    static const uint8_t bytes[64] = {0};
    struct proto_message m;

    (void)state;
    for (uint32_t n = 0; n < 64; n++) {
        struct proto_header h = {.length = n, .type = PROTO_CREDIT};
        struct err e = ERR_INIT;

        if (n == 4)
            continue;
        proto_decode(&h, bytes, &m, &e);
        assert_said(e, EBADMSG, "frame CREDIT: proto_credit");
    }
}

/* What a hostile peer may send within the limits: decoded to something that
 * can be cleared, or refused. */
static void survives_mutation(void **state)
{
    uint64_t seed = 1234567;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t i = sample_next(&seed) % ARRAY_SIZE(messages);
        struct proto_message said = {.type = messages[i].number};
        _cleanup_buf_ struct buf b = BUF_INIT;
        struct proto_message heard;
        struct err e = ERR_INIT;
        struct proto_header h;
        size_t n;

        if (!messages[i].has_struct)
            continue;
        sample_fill(proto_desc(said.type), &said.body, &seed);
        assert_ok(proto_encode(&said, &b, &e), e);
        proto_clear(&said);
        n = buf_len(&b) - PROTO_HEADER_SIZE;
        for (uint64_t k = 1 + sample_next(&seed) % 4; n && k > 0; k--)
            buf_data(&b)[PROTO_HEADER_SIZE + sample_next(&seed) % n] ^=
                (uint8_t)(1u << sample_next(&seed) % 8);
        if (n && sample_next(&seed) % 3 == 0)
            n = sample_next(&seed) % n;
        h = (struct proto_header){.length = (uint32_t)n,
                                  .type = messages[i].number};
        if (proto_decode(&h, buf_data(&b) + PROTO_HEADER_SIZE, &heard, &e) == 0)
            proto_clear(&heard);
        else
            assert_int_equal(e.code, EBADMSG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_and_names_are_fixed),
        cmocka_unit_test(every_message_goes_and_comes),
        cmocka_unit_test(bytes_of_hello),
        cmocka_unit_test(bytes_of_data),
        cmocka_unit_test(headers_obey_direction_and_limit),
        cmocka_unit_test(headers_of_unknown_type_are_refused),
        cmocka_unit_test(does_not_encode_what_is_none),
        cmocka_unit_test(does_not_encode_beyond_the_limit),
        cmocka_unit_test(refuses_a_payload_of_another_size),
        cmocka_unit_test(survives_mutation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
