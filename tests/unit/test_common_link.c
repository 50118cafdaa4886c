#include "tests/unit/link_pair.h"

static void messages_go_both_ways(void **state)
{
    struct proto_message m = {.type = PROTO_HELLO, .id = 0};
    struct err e = ERR_INIT;

    (void)state;
    m.body.hello.version = 1;
    m.body.hello.agent = (char *)"1.2";
    m.body.hello.kernel = (char *)"6.1";
    assert_ok(link_send(guest.link, &m, &e), e);
    settle();
    assert_int_equal(host.messages, 1);
    assert_int_equal(host.last.type, PROTO_HELLO);
    assert_string_equal(host.last.body.hello.agent, "1.2");
    say(host.link, PROTO_WELCOME, 0);
    say(host.link, PROTO_START, 4);
    settle();
    assert_int_equal(guest.messages, 2);
    assert_int_equal(guest.last.type, PROTO_START);
    assert_int_equal(guest.last.id, 4);
    assert_true(link_flushed(host.link));
    assert_int_equal(host.closed + guest.closed, 0);
}

static void frames_arrive_in_any_pieces(void **state)
{
    struct proto_message m = {.type = PROTO_LOG};
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    (void)state;
    m.body.log.text = (char *)"piecewise";
    for (int i = 0; i < 3; i++)
        assert_ok(proto_encode(&m, &b, &e), e);
    for (size_t i = 0; i < buf_len(&b); i++) {
        assert_int_equal(write(raw_end, buf_data(&b) + i, 1), 1);
        loop_add_timer(loop, 0, stop, NULL);
        run();
    }
    settle();
    assert_int_equal(host.messages, 3);
    assert_string_equal(host.last.body.log.text, "piecewise");
}

static void what_came_before_the_link_is_read(void **state)
{
    int fds[2];
    struct side later = {0};
    struct proto_message m = {.type = PROTO_LOG};
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
        0);
    assert_ok(proto_encode(&m, &b, &e), e);
    assert_int_equal(write(fds[1], buf_data(&b), buf_len(&b)), buf_len(&b));
    close(fds[1]);
    later.link = link_new(loop, chan_from_socket(fds[0]), PROTO_FROM_GUEST,
                          &handler, &later);
    settle();
    assert_int_equal(later.messages, 1);
    assert_int_equal(later.closed, 1);
    assert_int_equal(later.why.code, EPIPE);
    link_free(&later.link);
    proto_clear(&later.last);
}

static void a_gone_peer_is_told_once(void **state)
{
    struct proto_message m = {.type = PROTO_POWEROFF};
    struct err e = ERR_INIT;

    (void)state;
    close_fd(&raw_end);
    settle();
    assert_closed("the other end is gone");
    assert_int_equal(host.why.code, EPIPE);
    assert_int_equal(link_send(host.link, &m, &e), -EPIPE);
    settle();
    assert_int_equal(host.closed, 1);
}

static ssize_t dying_read(struct chan *c, void *bytes, size_t n)
{
    (void)n;
    return read(c->fd, bytes, 1) == 1 ? 1 : 0;
}

/* Leaves its last byte when it is written to, then it is gone. */
static ssize_t dying_write(struct chan *c, const void *bytes, size_t n)
{
    (void)c;
    (void)bytes;
    (void)n;
    raw_say(&(struct proto_message){.type = PROTO_LOG});
    return -EPIPE;
}

static short dying_events(struct chan *c, bool want_write)
{
    (void)c;
    (void)want_write;
    return POLLIN;
}

static void dying_woken(struct chan *c)
{
    (void)c;
}

static void dying_close(struct chan *c)
{
    close_fd(&c->fd);
    free(c);
}

static const struct chan_ops dying_ops = {
    .read = dying_read,
    .write = dying_write,
    .events = dying_events,
    .woken = dying_woken,
    .close = dying_close,
};

static void last_words_are_read_though_it_hears_nothing(void **state)
{
    struct proto_message m = {.type = PROTO_POWEROFF};
    struct chan *chan = xcalloc(1, sizeof(*chan));
    struct side dying = {0};
    struct err e = ERR_INIT;
    int fds[2];

    (void)state;
    close_fd(&raw_end);
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
        0);
    *chan = (struct chan){.ops = &dying_ops, .fd = fds[0]};
    raw_end = fds[1];
    dying.link = link_new(loop, chan, PROTO_FROM_GUEST, &handler, &dying);
    settle();
    assert_ok(link_send(dying.link, &m, &e), e);
    settle();
    assert_int_equal(dying.messages, 2);
    assert_int_equal(dying.closed, 1);
    link_free(&dying.link);
    proto_clear(&dying.last);
}

static void breach(const uint8_t *bytes, size_t n, const char *words)
{
    assert_int_equal(write(raw_end, bytes, n), n);
    settle();
    assert_closed(words);
    assert_int_equal(host.why.code, EBADMSG);
    /* The channel is closed at once. */
    assert_int_equal(read(raw_end, (uint8_t[1]){0}, 1), 0);
}

static void an_unknown_type_ends_the_link(void **state)
{
    (void)state;
    breach((uint8_t[12]){0, 0, 0, 0, 99}, 12, "unknown type 99");
}

static void an_oversize_frame_ends_the_link_by_its_header(void **state)
{
    (void)state;
    breach((uint8_t[12]){1, 0, 1, 0, PROTO_LOG}, 12, "of 65537 bytes");
}

static void a_frame_from_the_wrong_side_ends_the_link(void **state)
{
    (void)state;
    breach((uint8_t[12]){0, 0, 0, 0, PROTO_POWEROFF}, 12, "wrong side");
}

static void a_bad_payload_ends_the_link(void **state)
{
    (void)state;
    breach((uint8_t[13]){1, 0, 0, 0, PROTO_RESULT}, 13, "message ends here");
}

static void a_handler_may_end_the_link(void **state)
{
    struct proto_message m = {.type = PROTO_LOG};

    (void)state;
    host.fail_with = EPROTO;
    raw_say(&m);
    settle();
    assert_closed("the handler said no");
}

static void a_handler_may_free_the_link(void **state)
{
    struct proto_message m = {.type = PROTO_LOG};

    (void)state;
    host.free_in_handler = true;
    raw_say(&m);
    raw_say(&m);
    settle();
    assert_null(host.link);
    assert_int_equal(host.messages, 1);
    assert_int_equal(host.closed, 0);
}

static void closed_may_free_the_link(void **state)
{
    (void)state;
    host.free_in_handler = true;
    close_fd(&raw_end);
    settle();
    assert_null(host.link);
    assert_int_equal(host.closed, 1);
}

static void a_peer_that_never_reads_is_given_up(void **state)
{
    struct proto_message m = {.type = PROTO_CREATE};
    struct err e = ERR_INIT;
    _cleanup_free_ char *arg = xcalloc(1, 100001);
    char *args[1] = {arg};
    int r = 0;

    (void)state;
    memset(arg, 'a', 100000);
    m.body.create.container.process.args = (struct string_list){args, 1};
    for (int i = 0; i < 1000 && r == 0; i++)
        r = link_send(host.link, &m, &e);
    assert_int_equal(r, -ENOBUFS);
    assert_false(link_flushed(host.link));
}

static void a_message_that_cannot_be_encoded_is_refused(void **state)
{
    struct proto_message m = {.type = PROTO_DATA};
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(link_send(host.link, &m, &e), -EINVAL);
    settle();
    assert_int_equal(host.closed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        both(messages_go_both_ways),
        raw(frames_arrive_in_any_pieces),
        raw(what_came_before_the_link_is_read),
        raw(a_gone_peer_is_told_once),
        raw(last_words_are_read_though_it_hears_nothing),
        raw(an_unknown_type_ends_the_link),
        raw(an_oversize_frame_ends_the_link_by_its_header),
        raw(a_frame_from_the_wrong_side_ends_the_link),
        raw(a_bad_payload_ends_the_link),
        raw(a_handler_may_end_the_link),
        raw(a_handler_may_free_the_link),
        raw(closed_may_free_the_link),
        raw(a_peer_that_never_reads_is_given_up),
        raw(a_message_that_cannot_be_encoded_is_refused),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
