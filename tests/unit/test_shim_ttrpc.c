/* ttrpc's frames and the codes of errors. */
#include <errno.h>

#include "shim/ttrpc.h"
#include "task.pb-c.h"
#include "ttrpc.pb-c.h"
#include "unit.h"

static void feed(struct ttrpc_reader *r, const uint8_t *bytes, size_t n)
{
    if (n > 0)
        memcpy(ttrpc_reader_room(r, n), bytes, n);
    ttrpc_reader_took(r, n);
}

/* Two frames, the second of an unknown type, are found wherever the bytes are
 * cut, and not before they are complete. */
static void test_cut_anywhere(void **state)
{
    struct buf bytes = BUF_INIT;

    (void)state;
    ttrpc_put_frame(&bytes, 1, TTRPC_REQUEST, "hello", 5);
    ttrpc_put_frame(&bytes, 3, (enum ttrpc_type)200, "", 0);
    assert_int_equal(buf_len(&bytes), 25);
    for (size_t cut = 0; cut <= buf_len(&bytes); cut++) {
        struct ttrpc_reader r = {.received = BUF_INIT};
        struct ttrpc_frame frame;
        size_t found = 0;

        feed(&r, buf_data(&bytes), cut);
        while (ttrpc_reader_next(&r, &frame))
            found++;
        assert_int_equal(found, cut == 25 ? 2 : cut >= 15 ? 1 : 0);
        feed(&r, buf_data(&bytes) + cut, buf_len(&bytes) - cut);
        while (ttrpc_reader_next(&r, &frame)) {
            found++;
            assert_int_equal(frame.stream, found == 1 ? 1 : 3);
            assert_int_equal(frame.type, found == 1 ? TTRPC_REQUEST : 200);
            assert_int_equal(frame.length, found == 1 ? 5 : 0);
            if (found == 1)
                assert_memory_equal(frame.payload, "hello", 5);
        }
        assert_int_equal(found, 2);
        ttrpc_reader_clear(&r);
    }
    buf_clear(&bytes);
}

static void test_header_on_the_wire(void **state)
{
    static const uint8_t wanted[] = {0, 0, 0, 1, 0, 0, 1, 2, 2, 0, 'x'};
    struct buf bytes = BUF_INIT;

    (void)state;
    ttrpc_put_frame(&bytes, 0x102, TTRPC_RESPONSE, "x", 1);
    assert_int_equal(buf_len(&bytes), sizeof(wanted));
    assert_memory_equal(buf_data(&bytes), wanted, sizeof(wanted));
    buf_clear(&bytes);
}

/* Told at once, thrown away as it comes, and the next frame is found. */
static void test_oversize(void **state)
{
    static const uint8_t header[] = {0, 0x40, 0, 1, 0, 0, 0, 9, 1, 0};
    struct ttrpc_reader r = {.received = BUF_INIT};
    struct ttrpc_frame frame;
    struct buf next = BUF_INIT;
    uint8_t junk[4096] = {0xff};
    size_t left = TTRPC_PAYLOAD_MAX + 1;

    (void)state;
    feed(&r, header, sizeof(header));
    assert_true(ttrpc_reader_next(&r, &frame));
    assert_true(frame.oversized);
    assert_null(frame.payload);
    assert_int_equal(frame.stream, 9);
    while (left > 0) {
        size_t n = left < sizeof(junk) ? left : sizeof(junk);

        feed(&r, junk, n);
        left -= n;
        assert_false(ttrpc_reader_next(&r, &frame));
        assert_true(r.received.size <= 65536);
    }
    ttrpc_put_frame(&next, 11, TTRPC_REQUEST, "ok", 2);
    feed(&r, buf_data(&next), buf_len(&next));
    assert_true(ttrpc_reader_next(&r, &frame));
    assert_false(frame.oversized);
    assert_int_equal(frame.stream, 11);
    assert_memory_equal(frame.payload, "ok", 2);
    buf_clear(&next);
    ttrpc_reader_clear(&r);
}

/* A claim of 4 GiB and one of exactly the limit cost nothing by themselves. */
static void test_claims_cost_nothing(void **state)
{
    static const uint8_t headers[][10] = {
        {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0},
        {0, 0x40, 0, 0, 0, 0, 0, 1, 1, 0},
    };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct ttrpc_reader r = {.received = BUF_INIT};
        struct ttrpc_frame frame;

        feed(&r, headers[i], 10);
        assert_int_equal(ttrpc_reader_next(&r, &frame), i == 0);
        assert_true(r.received.size <= 65536);
        ttrpc_reader_clear(&r);
    }
}

static Ttrpc__Response *decode_response(struct buf *bytes)
{
    struct ttrpc_reader r = {.received = BUF_INIT};
    struct ttrpc_frame frame;
    Ttrpc__Response *response;

    feed(&r, buf_data(bytes), buf_len(bytes));
    assert_true(ttrpc_reader_next(&r, &frame));
    assert_int_equal(frame.type, TTRPC_RESPONSE);
    assert_int_equal(frame.stream, 7);
    assert_int_equal(frame.flags, 0);
    response = (Ttrpc__Response *)ttrpc_unpack(&ttrpc__response__descriptor,
                                               frame.payload, frame.length);
    assert_non_null(response);
    ttrpc_reader_clear(&r);
    buf_clear(bytes);
    return response;
}

static void test_answers(void **state)
{
    struct buf bytes = BUF_INIT;
    Task__StartResponse start = TASK__START_RESPONSE__INIT;
    Ttrpc__Response *response;

    (void)state;
    start.pid = 300;
    ttrpc_put_reply(&bytes, 7, &start.base);
    response = decode_response(&bytes);
    assert_null(response->status);
    assert_int_equal(response->payload.len, 3);
    assert_memory_equal(response->payload.data, "\x08\xac\x02", 3);
    protobuf_c_message_free_unpacked(&response->base, NULL);

    ttrpc_put_reply(&bytes, 7, NULL);
    response = decode_response(&bytes);
    assert_null(response->status);
    assert_int_equal(response->payload.len, 0);
    protobuf_c_message_free_unpacked(&response->base, NULL);

    ttrpc_put_error(&bytes, 7, TTRPC_NOT_FOUND, "container c1 not found");
    response = decode_response(&bytes);
    assert_int_equal(response->status->code, 5);
    assert_string_equal(response->status->message, "container c1 not found");
    protobuf_c_message_free_unpacked(&response->base, NULL);
}

/* Two bytes each of a field that becomes a struct: refused, not allocated. */
static void test_unpack_is_bounded(void **state)
{
    size_t n = 2 * 1000 * 1000;
    uint8_t *bytes = malloc(n);
    ProtobufCMessage *message;

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i += 2) {
        bytes[i] = 0x1a; /* field 3, length-delimited: an empty Mount */
        bytes[i + 1] = 0;
    }
    assert_null(ttrpc_unpack(&task__create_request__descriptor, bytes, n));
    message = ttrpc_unpack(&task__create_request__descriptor, bytes, 20);
    assert_non_null(message);
    assert_int_equal(((Task__CreateRequest *)message)->n_rootfs, 10);
    protobuf_c_message_free_unpacked(message, NULL);
    free(bytes);
}

static void test_malformed(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {"\x0a\x05"
         "ab",
         4},                                                      /* cut */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* varint */
        {"\x0b", 1},                                              /* group */
        {"\x02\x00", 2},                                          /* field 0 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ProtobufCMessage *message =
            ttrpc_unpack(&task__process_request__descriptor,
                         (const uint8_t *)cases[i].bytes, cases[i].n);

        assert_null(message);
    }
}

static void test_codes(void **state)
{
    static const struct {
        int error;
        int code;
    } cases[] = {
        {0, 0},         {ENOENT, 5},  {ESRCH, 5},         {EEXIST, 6},
        {EINVAL, 3},    {ENOTSUP, 3}, {EBUSY, 9},         {ENOSYS, 12},
        {ETIMEDOUT, 4}, {EPIPE, 14},  {EACCES, 7},        {ENOMEM, 8},
        {EBADMSG, 13},  {EAGAIN, 14}, {ECONNREFUSED, 14}, {EDOM, 2},
        {12345, 2},     {-1, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(ttrpc_code_of(cases[i].error), cases[i].code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_header_on_the_wire),
        cmocka_unit_test(test_oversize),
        cmocka_unit_test(test_claims_cost_nothing),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_unpack_is_bounded),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
