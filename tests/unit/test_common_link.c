/*
 * Two links on one loop, joined by a socket pair; or one link and raw bytes
 * of a peer who breaks the rules.
 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "domus/link.h"
#include "domus/mem.h"

enum { DEADLINE = 20000, QUIET = 50 };

struct side {
    struct link *link;
    unsigned messages;
    unsigned closed;
    struct err why;
    struct proto_message last; /* owned */
    int fail_with;             /* the handler's answer */
    bool free_in_handler;
    unsigned done;
    uint32_t done_id;
};

static struct loop *loop;
static struct side host, guest;
static int raw_end = -1; /* the peer of host when there is no guest link */
static bool late;

static void stop(void *context)
{
    (void)context;
    loop_stop(loop);
}

static void too_late(void *context)
{
    (void)context;
    late = true;
    loop_stop(loop);
}

static int message_came(void *context, struct proto_message *message,
                        struct err *e)
{
    struct side *side = context;

    side->messages++;
    proto_clear(&side->last);
    side->last = *message;
    memset(&message->body, 0, sizeof(message->body));
    if (side->free_in_handler)
        link_free(&side->link);
    if (side->fail_with)
        return err_set(e, side->fail_with, "the handler said no");
    return 0;
}

static void link_closed(void *context, const struct err *why)
{
    struct side *side = context;

    side->closed++;
    side->why = *why;
    if (side->free_in_handler)
        link_free(&side->link);
}

static const struct link_handler handler = {
    .message = message_came,
    .closed = link_closed,
};

static void stream_done(void *context, uint32_t id)
{
    struct side *side = context;

    side->done++;
    side->done_id = id;
    loop_stop(loop);
}

static void start(bool with_guest)
{
    int fds[2];

    memset(&host, 0, sizeof(host));
    memset(&guest, 0, sizeof(guest));
    late = false;
    loop = loop_new();
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
        0);
    host.link = link_new(loop, chan_from_socket(fds[0]), PROTO_FROM_GUEST,
                         &handler, &host);
    if (with_guest)
        guest.link = link_new(loop, chan_from_socket(fds[1]), PROTO_TO_GUEST,
                              &handler, &guest);
    else
        raw_end = fds[1];
}

static int with_both(void **state)
{
    (void)state;
    start(true);
    return 0;
}

static int with_raw(void **state)
{
    (void)state;
    start(false);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    link_free(&host.link);
    link_free(&guest.link);
    proto_clear(&host.last);
    proto_clear(&guest.last);
    loop_free(loop);
    close_fd(&raw_end);
    return 0;
}

/* Runs until something calls loop_stop(). */
static void run(void)
{
    struct loop_timer *timer = loop_add_timer(loop, DEADLINE, too_late, NULL);
    struct err e = ERR_INIT;

    assert_ok(loop_run(loop, &e), e);
    assert_false(late);
    loop_remove_timer(&timer);
}

/* Runs until nothing has happened for a while. */
static void settle(void)
{
    loop_add_timer(loop, QUIET, stop, NULL);
    run();
}

static void say(struct link *link, enum proto_type type, uint32_t id)
{
    struct proto_message m = {.type = type, .id = id};
    struct err e = ERR_INIT;

    assert_ok(link_send(link, &m, &e), e);
}

static void raw_say(const struct proto_message *m)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    assert_ok(proto_encode(m, &b, &e), e);
    assert_int_equal(write(raw_end, buf_data(&b), buf_len(&b)), buf_len(&b));
}

static void raw_data(uint32_t id, size_t n)
{
    static const uint8_t zeros[PROTO_DATA_MAX];
    _cleanup_buf_ struct buf b = BUF_INIT;

    proto_encode_data(id, zeros, n, &b);
    assert_int_equal(write(raw_end, buf_data(&b), buf_len(&b)), buf_len(&b));
}

static void assert_closed(const char *words)
{
    assert_int_equal(host.closed, 1);
    if (!strstr(host.why.text, words))
        fail_msg("\"%s\" lacks \"%s\"", host.why.text, words);
}

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

/* --- streams ------------------------------------------------------------- */

static void make_pipe(int fds[2])
{
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
}

struct flow {
    int in;  /* the test writes here */
    int out; /* and reads there */
    uint64_t total, wrote, got;
    bool slow;
    struct loop_fd *writer, *reader;
};

static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i * 31 + (i >> 11));
}

static void flow_write(void *context, short revents)
{
    struct flow *f = context;
    uint8_t bytes[7919];
    size_t n = 0;
    ssize_t put;

    (void)revents;
    for (; n < sizeof(bytes) && f->wrote + n < f->total; n++)
        bytes[n] = byte_at(f->wrote + n);
    put = write(f->in, bytes, n);
    if (put > 0)
        f->wrote += (uint64_t)put;
    if (f->wrote == f->total) {
        loop_remove_fd(&f->writer);
        close_fd(&f->in);
    }
}

static void flow_wake(void *context)
{
    struct flow *f = context;

    if (f->reader)
        loop_fd_mute(f->reader, 0);
}

static void flow_read(void *context, short revents)
{
    struct flow *f = context;
    uint8_t bytes[65536];
    ssize_t n = read(f->out, bytes, f->slow ? 40000 : sizeof(bytes));

    (void)revents;
    for (ssize_t i = 0; i < n; i++)
        if (bytes[i] != byte_at(f->got + (uint64_t)i))
            fail_msg("byte %zu differs", (size_t)f->got + (size_t)i);
    if (n > 0)
        f->got += (uint64_t)n;
    if (n == 0) {
        loop_remove_fd(&f->reader);
        close_fd(&f->out);
        loop_stop(loop);
    } else if (f->slow) {
        loop_fd_mute(f->reader, 1);
        loop_add_timer(loop, 2, flow_wake, f);
    }
}

/* total bytes into a pipe, through both links, out of another pipe. */
static void through(struct side *from, struct side *to, struct flow *f)
{
    int in[2], out[2];

    make_pipe(in);
    make_pipe(out);
    f->in = in[1];
    f->out = out[0];
    stream_add_sink(to->link, 3, out[1], stream_done, to);
    stream_add_source(from->link, 3, in[0], stream_done, from);
    f->writer = loop_add_fd(loop, f->in, POLLOUT, flow_write, f);
    f->reader = loop_add_fd(loop, f->out, POLLIN, flow_read, f);
    while (f->out >= 0 || from->done + to->done < 2)
        run();
    assert_true(f->got == f->total);
    assert_int_equal(from->done, 1);
    assert_int_equal(to->done, 1);
    assert_int_equal(from->done_id, 3);
    assert_int_equal(host.closed + guest.closed, 0);
}

static void ten_megabytes_to_the_guest(void **state)
{
    struct flow f = {.total = 10 << 20};

    (void)state;
    through(&host, &guest, &f);
}

static void ten_megabytes_from_the_guest(void **state)
{
    struct flow f = {.total = (10 << 20) + 13};

    (void)state;
    through(&guest, &host, &f);
}

static void a_slow_reader_loses_nothing(void **state)
{
    struct flow f = {.total = 2 << 20, .slow = true};

    (void)state;
    through(&guest, &host, &f);
}

static void an_empty_stream_ends(void **state)
{
    struct flow f = {.total = 0};

    (void)state;
    through(&guest, &host, &f);
}

static void no_source_is_an_end_at_once(void **state)
{
    (void)state;
    stream_add_sink(guest.link, 9, -1, stream_done, &guest);
    assert_null(stream_add_source(host.link, 9, -1, stream_done, &host));
    assert_int_equal(host.done, 1);
    while (guest.done == 0)
        run();
    assert_int_equal(guest.done_id, 9);
}

static void no_sink_throws_away(void **state)
{
    int in[2];
    struct flow f = {.total = 1 << 20};

    (void)state;
    make_pipe(in);
    f.in = in[1];
    stream_add_sink(host.link, 5, -1, stream_done, &host);
    stream_add_source(guest.link, 5, in[0], stream_done, &guest);
    f.writer = loop_add_fd(loop, f.in, POLLOUT, flow_write, &f);
    while (host.done + guest.done < 2)
        run();
    assert_true(f.wrote == f.total);
}

static void a_sink_whose_reader_left_throws_away(void **state)
{
    int in[2], out[2];
    struct flow f = {.total = 1 << 20};

    (void)state;
    make_pipe(in);
    make_pipe(out);
    close(out[0]);
    f.in = in[1];
    stream_add_sink(host.link, 5, out[1], stream_done, &host);
    stream_add_source(guest.link, 5, in[0], stream_done, &guest);
    f.writer = loop_add_fd(loop, f.in, POLLOUT, flow_write, &f);
    while (host.done + guest.done < 2)
        run();
    assert_int_equal(host.closed, 0);
}

static void a_source_stays_within_its_window(void **state)
{
    int in[2], out[2];
    struct flow f = {.total = 1 << 20};

    (void)state;
    make_pipe(in);
    make_pipe(out);
    (void)fcntl(out[1], F_SETPIPE_SZ, 4096);
    f.in = in[1];
    stream_add_sink(host.link, 5, out[1], stream_done, &host);
    stream_add_source(guest.link, 5, in[0], stream_done, &guest);
    f.writer = loop_add_fd(loop, f.in, POLLOUT, flow_write, &f);
    settle();
    /* Nobody reads out[0]: two pipes' room and one window, no more. */
    assert_in_range(f.wrote, PROTO_WINDOW, PROTO_WINDOW + 65536 + 4096);
    assert_int_equal(host.done + guest.done, 0);
    assert_int_equal(host.closed + guest.closed, 0);
    loop_remove_fd(&f.writer);
    close_fd(&f.in);
    close(out[0]);
    while (host.done + guest.done < 2)
        run();
}

static void an_abandoned_source_ends_the_stream(void **state)
{
    int in[2], out[2];

    (void)state;
    make_pipe(in);
    make_pipe(out);
    stream_add_sink(guest.link, 5, out[1], stream_done, &guest);
    stream_add_source(host.link, 5, in[0], stream_done, &host);
    assert_int_equal(write(in[1], "rest", 4), 4);
    stream_abandon(host.link, 5);
    stream_abandon(host.link, 5);
    stream_abandon(host.link, 6);
    while (guest.done == 0)
        run();
    assert_int_equal(host.done, 0);
    /* Its descriptor is closed. */
    assert_int_equal(write(in[1], "x", 1), -1);
    close(in[1]);
    close(out[0]);
}

static void an_abandoned_sink_still_drains(void **state)
{
    int in[2], out[2];
    struct flow f = {.total = 1 << 20};

    (void)state;
    make_pipe(in);
    make_pipe(out);
    f.in = in[1];
    stream_add_sink(host.link, 5, out[1], stream_done, &host);
    stream_add_source(guest.link, 5, in[0], stream_done, &guest);
    f.writer = loop_add_fd(loop, f.in, POLLOUT, flow_write, &f);
    settle();
    assert_int_equal(guest.done, 0);
    stream_abandon(host.link, 5);
    while (guest.done == 0)
        run();
    settle();
    assert_int_equal(host.done, 0);
    assert_int_equal(host.closed + guest.closed, 0);
    close(out[0]);
}

static void streams_end_with_the_link(void **state)
{
    int in[2], out[2];

    (void)state;
    make_pipe(in);
    make_pipe(out);
    stream_add_source(host.link, 1, in[0], stream_done, &host);
    stream_add_sink(host.link, 2, out[1], stream_done, &host);
    close_fd(&raw_end);
    settle();
    assert_int_equal(host.done, 0);
    assert_int_equal(host.closed, 1);
    assert_int_equal(write(in[1], "x", 1), -1);
    assert_int_equal(read(out[0], (uint8_t[1]){0}, 1), 0);
    close(in[1]);
    close(out[0]);
}

static void data_on_no_stream_is_a_breach(void **state)
{
    (void)state;
    raw_data(8, 10);
    settle();
    assert_closed("DATA on stream 8, which is not open");
}

static void data_on_a_source_is_a_breach(void **state)
{
    int in[2];

    (void)state;
    make_pipe(in);
    stream_add_source(host.link, 8, in[0], stream_done, &host);
    raw_data(8, 10);
    settle();
    assert_closed("DATA on stream 8");
    close(in[1]);
}

static void data_after_end_is_a_breach(void **state)
{
    int out[2];

    (void)state;
    make_pipe(out);
    (void)fcntl(out[1], F_SETPIPE_SZ, 4096);
    stream_add_sink(host.link, 8, out[1], stream_done, &host);
    raw_data(8, 30000); /* more than the pipe takes, so the stream stays */
    raw_say(&(struct proto_message){.type = PROTO_END, .id = 8});
    raw_data(8, 1);
    settle();
    assert_closed("DATA on stream 8");
    close(out[0]);
}

static void end_on_no_stream_is_a_breach(void **state)
{
    (void)state;
    raw_say(&(struct proto_message){.type = PROTO_END, .id = 8});
    settle();
    assert_closed("END on stream 8, which is not open");
}

static void a_window_overrun_is_a_breach(void **state)
{
    int out[2];

    (void)state;
    make_pipe(out);
    (void)fcntl(out[1], F_SETPIPE_SZ, 4096);
    stream_add_sink(host.link, 8, out[1], stream_done, &host);
    for (int i = 0; i < PROTO_WINDOW / PROTO_DATA_MAX; i++) {
        raw_data(8, PROTO_DATA_MAX);
        loop_add_timer(loop, 5, stop, NULL);
        run();
    }
    assert_int_equal(host.closed, 0);
    raw_data(8, 1);
    settle();
    assert_closed("stream 8 overran its window");
    close(out[0]);
}

static void credit(uint32_t id, uint32_t bytes)
{
    raw_say(&(struct proto_message){
        .type = PROTO_CREDIT, .id = id, .body.credit.bytes = bytes});
}

static void too_much_credit_is_a_breach(void **state)
{
    int in[2];

    (void)state;
    make_pipe(in);
    stream_add_source(host.link, 8, in[0], stream_done, &host);
    assert_int_equal(write(in[1], "four", 4), 4);
    settle();
    credit(8, 4);
    settle();
    assert_int_equal(host.closed, 0);
    credit(8, 1);
    settle();
    assert_closed("too much CREDIT on stream 8");
    close(in[1]);
}

static void credit_for_a_sink_is_a_breach(void **state)
{
    (void)state;
    stream_add_sink(host.link, 8, -1, stream_done, &host);
    credit(8, 0);
    settle();
    assert_closed("too much CREDIT");
}

static void credit_after_the_end_is_ignored(void **state)
{
    (void)state;
    credit(8, 100);
    settle();
    assert_int_equal(host.closed, 0);
}

#define both(fn) cmocka_unit_test_setup_teardown(fn, with_both, tear_down)
#define raw(fn)  cmocka_unit_test_setup_teardown(fn, with_raw, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        both(messages_go_both_ways),
        raw(frames_arrive_in_any_pieces),
        raw(what_came_before_the_link_is_read),
        raw(a_gone_peer_is_told_once),
        raw(an_unknown_type_ends_the_link),
        raw(an_oversize_frame_ends_the_link_by_its_header),
        raw(a_frame_from_the_wrong_side_ends_the_link),
        raw(a_bad_payload_ends_the_link),
        raw(a_handler_may_end_the_link),
        raw(a_handler_may_free_the_link),
        raw(closed_may_free_the_link),
        raw(a_peer_that_never_reads_is_given_up),
        raw(a_message_that_cannot_be_encoded_is_refused),
        both(ten_megabytes_to_the_guest),
        both(ten_megabytes_from_the_guest),
        both(a_slow_reader_loses_nothing),
        both(an_empty_stream_ends),
        both(no_source_is_an_end_at_once),
        both(no_sink_throws_away),
        both(a_sink_whose_reader_left_throws_away),
        both(a_source_stays_within_its_window),
        both(an_abandoned_source_ends_the_stream),
        both(an_abandoned_sink_still_drains),
        raw(streams_end_with_the_link),
        raw(data_on_no_stream_is_a_breach),
        raw(data_on_a_source_is_a_breach),
        raw(data_after_end_is_a_breach),
        raw(end_on_no_stream_is_a_breach),
        raw(a_window_overrun_is_a_breach),
        raw(too_much_credit_is_a_breach),
        raw(credit_for_a_sink_is_a_breach),
        raw(credit_after_the_end_is_ignored),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
