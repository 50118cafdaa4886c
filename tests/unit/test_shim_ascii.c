/* JSON on its way to a parser that wants it in ASCII. */
#include "domus/mem.h"
#include "shim/oci_ascii.h"
#include "unit.h"

#include <errno.h>
#include <string.h>

struct conversion {
    const char *in;
    const char *out; /* NULL: refused */
    size_t bad;
};

static void check(const struct conversion *c)
{
    _cleanup_buf_ struct buf out = BUF_INIT;
    size_t bad = 0;
    int r = oci_ascii(c->in, strlen(c->in), &out, &bad);

    if (!c->out) {
        assert_int_equal(r, -EILSEQ);
        assert_int_equal(bad, c->bad);
        return;
    }
    assert_int_equal(r, 0);
    buf_append(&out, "", 1);
    assert_string_equal((const char *)buf_data(&out), c->out);
}

static void escapes_what_is_beyond_ascii(void **state)
{
    static const struct conversion cases[] = {
        {"", "", 0},
        {"{\"a\": \"\\n\\\\\\\"\"}", "{\"a\": \"\\n\\\\\\\"\"}", 0},
        {"\x7f", "\x7f", 0},
        {"\"\xc2\x80\"", "\"\\u0080\"", 0},
        {"\"\xc3\xa4\xdf\xbf\"", "\"\\u00e4\\u07ff\"", 0},
        {"\"\xe0\xa0\x80\xef\xbf\xbf\"", "\"\\u0800\\uffff\"", 0},
        {"\"\xed\x9f\xbf\xee\x80\x80\"", "\"\\ud7ff\\ue000\"", 0},
        {"\"\xf0\x90\x80\x80\"", "\"\\ud800\\udc00\"", 0},
        {"\"\xf4\x8f\xbf\xbf\"", "\"\\udbff\\udfff\"", 0},
        {"\"\\\\\xc3\xa4\"", "\"\\\\\\u00e4\"", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(&cases[i]);
}

static void refuses_what_is_no_utf8(void **state)
{
    static const struct conversion cases[] = {
        {"ab\x80", NULL, 2},
        {"a\xbf", NULL, 1},
        {"\xc3", NULL, 0},
        {"\xc3\"", NULL, 0},
        {"\xe2\x82", NULL, 0},
        {"\xf0\x9f\x98", NULL, 0},
        /* longer than needed */
        {"\xc0\x80", NULL, 0},
        {"\xc1\xbf", NULL, 0},
        {"\xe0\x9f\xbf", NULL, 0},
        {"\xf0\x8f\xbf\xbf", NULL, 0},
        /* halves of a pair, and what is not Unicode */
        {"\xed\xa0\x80", NULL, 0},
        {"\xed\xbf\xbf", NULL, 0},
        {"\xf4\x90\x80\x80", NULL, 0},
        {"\xf8\x88\x80\x80\x80", NULL, 0},
        {"\xff", NULL, 0},
        /* would become the escape of a backslash */
        {"\"\\\xc3\xa4\"", NULL, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_what_is_beyond_ascii),
        cmocka_unit_test(refuses_what_is_no_utf8),
    };

    return cmocka_run_group_tests_name("shim: ASCII", tests, NULL, NULL);
}
