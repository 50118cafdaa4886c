/* Where output goes: what a URI means, and which are refused. */
#include "domus/ctl.h"
#include "domus/mem.h"
#include "shim/log_uri.h"
#include "unit.h"

#include <stdio.h>

static void test_fifos_and_files(void **state)
{
    static const struct {
        const char *text;
        enum log_uri_kind kind;
        const char *path;
    } rows[] = {
        {"/run/a%20b", LOG_URI_FIFO, "/run/a%20b"},
        {"fifo:///run/a%20b", LOG_URI_FIFO, "/run/a b"},
        {"file:///var/log/x.log", LOG_URI_FILE, "/var/log/x.log"},
        {"file:///a%2fb", LOG_URI_FILE, "/a/b"},
        {"binary:///usr/bin/p", LOG_URI_BINARY, "/usr/bin/p"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct log_uri uri;
        struct err e = ERR_INIT;

        assert_ok(log_uri_parse(rows[i].text, &uri, &e), e);
        assert_int_equal(uri.kind, rows[i].kind);
        assert_string_equal(uri.path, rows[i].path);
        assert_int_equal(uri.args.n, 0);
        log_uri_clear(&uri);
    }
}

static void test_parameters(void **state)
{
    static const char *const wanted[] = {"k",     "v 1=&", "empty", "",
                                         "alone", "",      "a b",   "x"};
    struct log_uri uri;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(log_uri_parse("binary:///p?k=v+1%3D%26&empty=&alone&&k=second"
                            "&a%20b=x",
                            &uri, &e),
              e);
    assert_int_equal(uri.args.n, ARRAY_SIZE(wanted));
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        assert_string_equal(uri.args.v[i], wanted[i]);
    log_uri_clear(&uri);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *words;
    } rows[] = {
        {"relative", EINVAL, "neither"},
        {"file:/x", EINVAL, "neither"},
        {"file://host/x", EINVAL, "not absolute"},
        {"binary://nerdctl?x=y", EINVAL, "not absolute"},
        {"binary-v2:///x", EINVAL, "knows fifo://"},
        {"http://x/y", EINVAL, "knows fifo://"},
        {"://x", EINVAL, "knows fifo://"},
        {"FILE:///x", EINVAL, "knows fifo://"},
        {"file:///x?y=z", EINVAL, "parameters"},
        {"file:///x#y", EINVAL, "fragment"},
        {"file:///x%", EINVAL, "escape"},
        {"file:///x%4", EINVAL, "escape"},
        {"file:///x%zz", EINVAL, "escape"},
        {"file:///x%00y", EINVAL, "escape"},
        {"binary:///x?a=%00", EINVAL, "escape"},
        {"file://", EINVAL, "not absolute"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct log_uri uri;
        struct err e = ERR_INIT;

        if (log_uri_parse(rows[i].text, &uri, &e) == 0)
            fail_msg("%s was taken", rows[i].text);
        assert_said(e, rows[i].code, rows[i].words);
    }
}

static void test_bounds(void **state)
{
    _cleanup_free_ char *text = xcalloc(1, SPEC_PATH_MAX + 32);
    struct log_uri uri;
    struct err e = ERR_INIT;

    (void)state;
    memset(text, 'a', SPEC_PATH_MAX + 1);
    text[0] = '/';
    assert_int_equal(log_uri_parse(text, &uri, &e), -ENAMETOOLONG);
    (void)snprintf(text, SPEC_PATH_MAX, "binary:///p?");
    for (int i = 0; i <= CTL_LOGGER_ARGS_MAX / 2; i++)
        (void)snprintf(text + strlen(text), 8, "&k%d=", i);
    assert_int_equal(log_uri_parse(text, &uri, &e), -EINVAL);
    assert_said(e, EINVAL, "parameters");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fifos_and_files),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
