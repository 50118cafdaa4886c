/* unit.h - what every unit test includes: cmocka and its prerequisites. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The error says what a person needs to find the cause. */
#define assert_said(e, code_wanted, words)                      \
    do {                                                        \
        assert_int_equal((e).code, (code_wanted));              \
        if (!strstr((e).text, (words)))                         \
            fail_msg("\"%s\" lacks \"%s\"", (e).text, (words)); \
    } while (0)

#define assert_ok(call, e)                       \
    do {                                         \
        if ((call) < 0)                          \
            fail_msg("%s: %s", #call, (e).text); \
    } while (0)

#endif
