#include "tests/unit/unit.h"

#include "domus/buf.h"
#include "domus/err.h"
#include "domus/mem.h"

static void starts_empty(void **state)
{
    struct buf b = BUF_INIT;

    (void)state;
    assert_int_equal(buf_len(&b), 0);
    buf_append(&b, NULL, 0);
    assert_null(b.bytes);
    assert_null(buf_data(&b));
    buf_clear(&b);
}

static void keeps_order(void **state)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    unsigned wrote = 0, got = 0;

    (void)state;
    /* Appends and consumes in steps that never meet, across many growths. */
    for (unsigned step = 1; step < 400; step++) {
        for (unsigned i = 0; i < step % 37; i++) {
            uint8_t byte = (uint8_t)wrote++;

            buf_append(&b, &byte, 1);
        }
        for (unsigned i = 0; i < step % 31 && buf_len(&b) > 0; i++) {
            assert_int_equal(*buf_data(&b), (uint8_t)got++);
            buf_consume(&b, 1);
        }
        assert_int_equal(buf_len(&b), wrote - got);
    }
    assert_memory_equal(buf_data(&b), (uint8_t[]){(uint8_t)got}, 1);
}

static void reuses_consumed_room(void **state)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    uint8_t block[200] = {0};
    size_t size;

    (void)state;
    buf_append(&b, block, sizeof(block));
    size = b.size;
    for (int i = 0; i < 1000; i++) {
        buf_consume(&b, sizeof(block));
        buf_append(&b, block, sizeof(block));
    }
    assert_int_equal(b.size, size);
    /* Not wholly consumed: the rest moves to the front. */
    buf_consume(&b, 150);
    buf_append(&b, block, 190);
    assert_int_equal(b.size, size);
    assert_int_equal(buf_len(&b), 240);
}

static void reserves_a_lot(void **state)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    uint8_t *room = buf_reserve(&b, 1 << 20);

    (void)state;
    memset(room, 7, 1 << 20);
    assert_int_equal(buf_len(&b), 0);
    buf_commit(&b, 1 << 20);
    assert_int_equal(buf_len(&b), 1 << 20);
    assert_int_equal(buf_data(&b)[(1 << 20) - 1], 7);
}

static void err_says_what_and_where(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(err_set(&e, ENOENT, "no %s", "door"), -ENOENT);
    assert_string_equal(e.text, "no door");
    assert_int_equal(err_wrap(&e, "room %d", 3), -ENOENT);
    assert_string_equal(e.text, "room 3: no door");
    errno = EACCES;
    assert_int_equal(err_errno(&e, "open %s", "x"), -EACCES);
    assert_string_equal(e.text, "open x: Permission denied");
    errno = 0;
    assert_int_equal(err_errno(&e, "odd"), -EIO);
}

static void err_cuts_long_texts(void **state)
{
    struct err e = ERR_INIT;
    char text[2 * ERR_TEXT_MAX];

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    errno = EINVAL;
    err_errno(&e, "%s", text);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    err_wrap(&e, "%s", text);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    assert_int_equal(e.code, EINVAL);
}

static void helpers_hand_over(void **state)
{
    int fd = dup(0), taken;
    char *text = xstrdup("here"), *other;

    (void)state;
    taken = steal_fd(&fd);
    assert_int_equal(fd, -1);
    assert_true(taken >= 0);
    errno = EBUSY;
    close_fd(&taken);
    assert_int_equal(taken, -1);
    close_fd(&taken);
    assert_int_equal(errno, EBUSY);
    other = steal_ptr(&text);
    assert_null(text);
    assert_string_equal(other, "here");
    free(other);
    other = xasprintf("%s-%d", "a", 1);
    assert_string_equal(other, "a-1");
    free(other);
    other = xstrndup("abcdef", 3);
    assert_string_equal(other, "abc");
    free(other);
    /* Sizes of nothing give something that can be freed. */
    free(xmalloc(0));
    free(xcalloc(0, 8));
    free(xreallocarray(NULL, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_empty),
        cmocka_unit_test(keeps_order),
        cmocka_unit_test(reuses_consumed_room),
        cmocka_unit_test(reserves_a_lot),
        cmocka_unit_test(err_says_what_and_where),
        cmocka_unit_test(err_cuts_long_texts),
        cmocka_unit_test(helpers_hand_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
