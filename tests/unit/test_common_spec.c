#include "tests/unit/unit.h"

#include "domus/spec.h"

static void accepts_ids(void **state)
{
    const char *const good[] = {
        "a",
        "0",
        "web1",
        "A-b_c.D9",
        "3b0c4f2e-7c1d-4a54-8f3a-1a2b3c4d5e6f",
        /* 76 characters */
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "012345",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (!spec_id_valid(good[i]))
            fail_msg("%s refused", good[i]);
}

static void refuses_what_could_be_a_path(void **state)
{
    const char *const bad[] = {
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../a",
        "a/../b",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "_",
        "a__b",
        "a b",
        "a\n",
        "a\x01",
        "\xc3\xa4",
        "a:b",
        "a%2fb",
        "a\\b",
        "a*",
        /* 77 characters */
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (spec_id_valid(bad[i]))
            fail_msg("\"%s\" accepted", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_ids),
        cmocka_unit_test(refuses_what_could_be_a_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
