#include "tests/unit/unit.h"

#include "domus/mem.h"
#include "domus/wire.h"
#include "tests/unit/sample.h"

struct inner {
    uint32_t number;
    char *name;
};

struct inner_list {
    struct inner *v;
    size_t n;
};

struct all {
    bool flag;
    uint32_t small;
    uint64_t large;
    int64_t less;
    char *text;
    struct byte_list bytes;
    struct string_list words;
    struct u32_list numbers;
    struct inner in;
    struct inner_list more;
};

static const struct wire_field inner_fields[] = {
    WIRE_FIELD(inner, number, WIRE_U32),
    WIRE_FIELD(inner, name, WIRE_STRING, .max = 8),
};
static const struct wire_desc inner_desc = WIRE_DESC(inner, inner_fields);

static const struct wire_field all_fields[] = {
    WIRE_FIELD(all, flag, WIRE_BOOL),
    WIRE_FIELD(all, small, WIRE_U32),
    WIRE_FIELD(all, large, WIRE_U64),
    WIRE_FIELD(all, less, WIRE_I64),
    WIRE_FIELD(all, text, WIRE_STRING, .max = 10),
    WIRE_FIELD(all, bytes, WIRE_BYTES, .max = 6),
    WIRE_FIELD(all, words, WIRE_STRINGS, .max = 3, .max_each = 5),
    WIRE_FIELD(all, numbers, WIRE_U32S, .max = 4),
    WIRE_FIELD(all, in, WIRE_STRUCT, .desc = &inner_desc),
    WIRE_FIELD(all, more, WIRE_STRUCTS, .max = 3, .desc = &inner_desc),
};
static const struct wire_desc all_desc = WIRE_DESC(all, all_fields);

static const struct all sample = {
    .flag = true,
    .small = 0x01020304,
    .large = 0x1112131415161718,
    .less = -2,
    .text = (char *)"h\xc3\xa4y",
    .bytes = {(uint8_t[]){0, 1, 255}, 3},
    .words = {(char *[]){(char *)"a", (char *)""}, 2},
    .numbers = {(uint32_t[]){7, 0xffffffff}, 2},
    .in = {5, (char *)"five"},
    .more = {(struct inner[]){{6, (char *)"six"}, {7, NULL}}, 2},
};

/* Written by hand from wire.h's description. */
static const uint8_t sample_bytes[] = {
    1,                                              /* flag */
    0x04, 0x03, 0x02, 0x01,                         /* small */
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* large */
    0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* less */
    4,    0,    0,    0,    'h',  0xc3, 0xa4, 'y',  /* text */
    3,    0,    0,    0,    0,    1,    255,        /* bytes */
    2,    0,    0,    0,    1,    0,    0,    0,
    'a',  0,    0,    0,    0, /* words */
    2,    0,    0,    0,    7,    0,    0,    0,
    0xff, 0xff, 0xff, 0xff, /* numbers */
    5,    0,    0,    0,    4,    0,    0,    0,
    'f',  'i',  'v',  'e', /* in */
    2,    0,    0,    0,    6,    0,    0,    0,
    3,    0,    0,    0,    's',  'i',  'x',  7,
    0,    0,    0,    0,    0,    0,    0, /* more */
};

static void encodes_every_kind(void **state)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(wire_encode(&all_desc, &sample, &b, &e), e);
    assert_int_equal(buf_len(&b), sizeof(sample_bytes));
    assert_memory_equal(buf_data(&b), sample_bytes, sizeof(sample_bytes));
}

static void decodes_every_kind(void **state)
{
    struct err e = ERR_INIT;
    struct all got;

    (void)state;
    assert_ok(
        wire_decode(&all_desc, sample_bytes, sizeof(sample_bytes), &got, &e),
        e);
    assert_true(got.flag);
    assert_int_equal(got.small, sample.small);
    assert_true(got.large == sample.large);
    assert_int_equal(got.less, -2);
    assert_string_equal(got.text, sample.text);
    assert_int_equal(got.bytes.n, 3);
    assert_memory_equal(got.bytes.v, sample.bytes.v, 3);
    assert_int_equal(got.words.n, 2);
    assert_string_equal(got.words.v[0], "a");
    assert_string_equal(got.words.v[1], "");
    assert_int_equal(got.numbers.n, 2);
    assert_true(got.numbers.v[1] == 0xffffffff);
    assert_int_equal(got.in.number, 5);
    assert_string_equal(got.in.name, "five");
    assert_int_equal(got.more.n, 2);
    assert_string_equal(got.more.v[0].name, "six");
    assert_string_equal(got.more.v[1].name, "");
    wire_clear(&all_desc, &got);
    assert_null(got.text);
    assert_int_equal(got.more.n, 0);
    wire_clear(&all_desc, &got);
}

static void refuses_every_cut(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof(sample_bytes); n++) {
        /* Of that size exactly, so that the sanitizer sees a byte too far. */
        _cleanup_free_ uint8_t *bytes = xmalloc(n);
        struct err e = ERR_INIT;
        struct all got;

        memcpy(bytes, sample_bytes, n);
        memset(&got, 0x5a, sizeof(got));
        assert_int_equal(wire_decode(&all_desc, bytes, n, &got, &e), -EBADMSG);
        assert_said(e, EBADMSG, "message ends here");
        /* The result was not touched. */
        assert_int_equal(got.small, 0x5a5a5a5a);
    }
}

static void refuses_a_longer_message(void **state)
{
    uint8_t bytes[sizeof(sample_bytes) + 1] = {0};
    struct err e = ERR_INIT;
    struct all got;

    (void)state;
    memcpy(bytes, sample_bytes, sizeof(sample_bytes));
    wire_decode(&all_desc, bytes, sizeof(bytes), &got, &e);
    assert_said(e, EBADMSG, "1 bytes too many");
}

/* Offsets of lengths in sample_bytes, and the bound of each. */
static const struct {
    size_t at;
    uint32_t max;
    const char *field;
} lengths[] = {
    {21, 10, "all.text"}, {29, 6, "all.bytes"},   {36, 3, "all.words"},
    {40, 5, "all.words"}, {49, 4, "all.numbers"}, {65, 8, "inner.name"},
    {73, 3, "all.more"},
};

static void refuses_lengths_beyond_bounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        const uint32_t bad[] = {lengths[i].max + 1, 0x7fffffff, 0x80000000,
                                0xffffffff};

        for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
            uint8_t bytes[sizeof(sample_bytes)];
            struct err e = ERR_INIT;
            struct all got;

            memcpy(bytes, sample_bytes, sizeof(bytes));
            for (int n = 0; n < 4; n++)
                bytes[lengths[i].at + (size_t)n] = (uint8_t)(bad[k] >> 8 * n);
            wire_decode(&all_desc, bytes, sizeof(bytes), &got, &e);
            assert_said(e, EBADMSG, lengths[i].field);
            assert_said(e, EBADMSG, "the limit is");
        }
    }
}

static void refuses_a_bool_of_two(void **state)
{
    uint8_t bytes[sizeof(sample_bytes)];
    struct err e = ERR_INIT;
    struct all got;

    (void)state;
    memcpy(bytes, sample_bytes, sizeof(bytes));
    bytes[0] = 2;
    wire_decode(&all_desc, bytes, sizeof(bytes), &got, &e);
    assert_said(e, EBADMSG, "all.flag: neither 0 nor 1");
}

static void refuses_nul_in_a_string(void **state)
{
    uint8_t bytes[sizeof(sample_bytes)];
    struct err e = ERR_INIT;
    struct all got;

    (void)state;
    memcpy(bytes, sample_bytes, sizeof(bytes));
    bytes[27] = 0;
    wire_decode(&all_desc, bytes, sizeof(bytes), &got, &e);
    assert_said(e, EBADMSG, "all.text: NUL in a string");
}

static void assert_too_long(const struct all *object, const char *field)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    wire_encode(&all_desc, object, &b, &e);
    assert_said(e, EMSGSIZE, field);
}

static void does_not_encode_beyond_bounds(void **state)
{
    char *words[] = {(char *)"a", (char *)"b", (char *)"c", (char *)"d"};
    struct inner more[4] = {{0, NULL}};
    uint32_t numbers[5] = {0};
    uint8_t bytes[7] = {0};
    struct all o;

    (void)state;
    o = sample;
    o.text = (char *)"12345678901";
    assert_too_long(&o, "all.text");
    o = sample;
    o.bytes = (struct byte_list){bytes, 7};
    assert_too_long(&o, "all.bytes");
    o = sample;
    o.words = (struct string_list){words, 4};
    assert_too_long(&o, "all.words");
    words[0] = (char *)"123456";
    o.words = (struct string_list){words, 1};
    assert_too_long(&o, "all.words");
    o = sample;
    o.numbers = (struct u32_list){numbers, 5};
    assert_too_long(&o, "all.numbers");
    o = sample;
    o.more = (struct inner_list){more, 4};
    assert_too_long(&o, "all.more");
    more[0].name = (char *)"123456789";
    o.more = (struct inner_list){more, 1};
    assert_too_long(&o, "inner.name");
}

static void bounds_are_inclusive(void **state)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    struct all o = sample, got;

    (void)state;
    o.text = (char *)"1234567890";
    assert_ok(wire_encode(&all_desc, &o, &b, &e), e);
    assert_ok(wire_decode(&all_desc, buf_data(&b), buf_len(&b), &got, &e), e);
    assert_string_equal(got.text, o.text);
    wire_clear(&all_desc, &got);
}

static void copies_deeply(void **state)
{
    struct err e = ERR_INIT;
    uint64_t seed = 11;

    (void)state;
    for (int i = 0; i < 200; i++) {
        struct all a = {0}, b;

        sample_fill(&all_desc, &a, &seed);
        assert_ok(wire_copy(&all_desc, &a, &b, &e), e);
        assert_true(sample_equal(&all_desc, &a, &b));
        assert_ptr_not_equal(a.text, b.text);
        wire_clear(&all_desc, &a);
        /* b is whole without a. */
        assert_true(sample_equal(&all_desc, &b, &b));
        wire_clear(&all_desc, &b);
    }
}

static void a_copy_fails_as_the_encoder_does(void **state)
{
    struct err e = ERR_INIT;
    struct all o = sample, got = {0};

    (void)state;
    o.text = (char *)"12345678901";
    assert_int_equal(wire_copy(&all_desc, &o, &got, &e), -EMSGSIZE);
    assert_null(got.text);
}

/* A table that holds itself can only be a mistake; it must not recurse. */
static struct wire_field loop_fields[1];
static const struct wire_desc loop_desc = {"loop", 16, loop_fields, 1};

static void nesting_has_an_end(void **state)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    uint64_t object[2] = {0};
    const uint8_t bytes[16] = {0};

    (void)state;
    loop_fields[0] = (struct wire_field){
        .name = "again", .kind = WIRE_STRUCT, .desc = &loop_desc};
    wire_encode(&loop_desc, object, &b, &e);
    assert_said(e, EMSGSIZE, "nested too deep");
    loop_fields[0].kind = (enum wire_kind)99;
    wire_encode(&loop_desc, object, &b, &e);
    assert_said(e, EINVAL, "bad table");
    wire_decode(&loop_desc, bytes, sizeof(bytes), object, &e);
    assert_said(e, EINVAL, "bad table");
}

/* Every bit flip and every doubled or dropped byte is decoded or refused;
 * the sanitizers watch, and what was accepted is encoded to the same bytes. */
static void survives_mutation(void **state)
{
    uint64_t seed = 99;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[sizeof(sample_bytes)];
        struct err e = ERR_INIT;
        struct all got;
        size_t n = sizeof(bytes);

        memcpy(bytes, sample_bytes, n);
        for (uint64_t k = 1 + sample_next(&seed) % 4; k > 0; k--)
            bytes[sample_next(&seed) % n] ^=
                (uint8_t)(1u << sample_next(&seed) % 8);
        if (sample_next(&seed) % 4 == 0)
            n = sample_next(&seed) % n;
        if (wire_decode(&all_desc, bytes, n, &got, &e) == 0) {
            _cleanup_buf_ struct buf b = BUF_INIT;

            assert_ok(wire_encode(&all_desc, &got, &b, &e), e);
            assert_int_equal(buf_len(&b), n);
            assert_memory_equal(buf_data(&b), bytes, n);
            wire_clear(&all_desc, &got);
        } else {
            assert_int_equal(e.code, EBADMSG);
        }
    }
}

static void string_lists_grow_and_go(void **state)
{
    struct string_list list = {NULL, 0};

    (void)state;
    string_list_clear(&list);
    string_list_add(&list, "one");
    string_list_add(&list, "two");
    assert_int_equal(list.n, 2);
    assert_string_equal(list.v[1], "two");
    string_list_clear(&list);
    assert_null(list.v);
    assert_int_equal(list.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_every_kind),
        cmocka_unit_test(decodes_every_kind),
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(refuses_a_longer_message),
        cmocka_unit_test(refuses_lengths_beyond_bounds),
        cmocka_unit_test(refuses_a_bool_of_two),
        cmocka_unit_test(refuses_nul_in_a_string),
        cmocka_unit_test(does_not_encode_beyond_bounds),
        cmocka_unit_test(bounds_are_inclusive),
        cmocka_unit_test(copies_deeply),
        cmocka_unit_test(a_copy_fails_as_the_encoder_does),
        cmocka_unit_test(nesting_has_an_end),
        cmocka_unit_test(survives_mutation),
        cmocka_unit_test(string_lists_grow_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
