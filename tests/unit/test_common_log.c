#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <unistd.h>

#include "domus/log.h"

static int sink[2];

static int open_sink(void **state)
{
    (void)state;
    if (pipe2(sink, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    log_open(sink[1], LOG_INFO);
    log_set_fields("");
    return 0;
}

static int close_sink(void **state)
{
    (void)state;
    log_open(2, LOG_INFO);
    close(sink[0]);
    close(sink[1]);
    return 0;
}

static const char *written(void)
{
    static char text[65536];
    ssize_t n = read(sink[0], text, sizeof(text) - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t regex;
    int r;

    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    r = regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
    if (r != 0)
        fail_msg("\"%s\" does not match %s", text, pattern);
}

static void writes_a_line(void **state)
{
    (void)state;
    log_set_fields("sandbox=web1 namespace=default");
    log_warn("took %d ms", 12);
    assert_matches(
        written(),
        "^time=\"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{6}Z\" "
        "level=warning msg=\"took 12 ms\" sandbox=web1 namespace=default\n$");
}

static void obeys_the_level(void **state)
{
    (void)state;
    log_debug("quiet");
    assert_string_equal(written(), "");
    log_set_level(LOG_DEBUG);
    log_debug("loud");
    assert_matches(written(), "level=debug msg=\"loud\"\n$");
    log_set_level(LOG_ERROR);
    log_info("quiet");
    log_warn("quiet");
    assert_string_equal(written(), "");
    log_error("loud");
    assert_matches(written(), "level=error msg=\"loud\"\n$");
}

static void one_line_whatever_is_in_it(void **state)
{
    const char *line;

    (void)state;
    log_info("a\"b\\c\nd\te\x1b[31m\x7f");
    line = written();
    assert_non_null(
        strstr(line, "msg=\"a\\\"b\\\\c\\nd\\x09e\\x1b[31m\\x7f\"\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void cuts_long_lines(void **state)
{
    char text[20000];
    const char *line;

    (void)state;
    log_set_fields("id=1");
    memset(text, '\x01', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_info("%s", text);
    line = written();
    assert_true(strlen(line) <= 4096);
    assert_matches(line, "\" id=1\n$");
}

static void survives_a_full_pipe(void **state)
{
    char block[4096] = {0};

    (void)state;
    while (write(sink[1], block, sizeof(block)) > 0)
        ;
    errno = ENOTTY;
    log_info("lost");
    assert_int_equal(errno, ENOTTY);
    log_open(-1, LOG_INFO);
    log_info("nowhere");
}

static void quotes_untrusted_bytes(void **state)
{
    struct log_quoted q;

    (void)state;
    assert_string_equal(log_quote(&q, "plain text", 10), "plain text");
    assert_string_equal(log_quote(&q, "a\0b\n\\\xff\x7f", 7),
                        "a\\x00b\\x0a\\x5c\\xff\\x7f");
    assert_string_equal(log_quote(&q, "", 0), "");
    assert_string_equal(LOG_Q("x%s", 3), "x%s");
}

static void quotes_no_more_than_the_limit(void **state)
{
    uint8_t bytes[1000];
    struct log_quoted q;

    (void)state;
    for (int fill = 0; fill < 256; fill++) {
        memset(bytes, fill, sizeof(bytes));
        for (size_t n = 0; n < 300; n++) {
            log_quote(&q, bytes, n);
            assert_true(strlen(q.text) <= LOG_QUOTE_MAX);
        }
        log_quote(&q, bytes, sizeof(bytes));
        assert_string_equal(q.text + strlen(q.text) - 3, "...");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_a_line, open_sink, close_sink),
        cmocka_unit_test_setup_teardown(obeys_the_level, open_sink, close_sink),
        cmocka_unit_test_setup_teardown(one_line_whatever_is_in_it, open_sink,
                                        close_sink),
        cmocka_unit_test_setup_teardown(cuts_long_lines, open_sink, close_sink),
        cmocka_unit_test_setup_teardown(survives_a_full_pipe, open_sink,
                                        close_sink),
        cmocka_unit_test(quotes_untrusted_bytes),
        cmocka_unit_test(quotes_no_more_than_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
