#include "tests/unit/link_pair.h"

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

/* The writer stays and what it wrote is more than the window: all of it comes,
 * then END. */
static void a_finished_source_sends_what_is_there(void **state)
{
    static const size_t sizes[] = {0, 1, PROTO_WINDOW, 3 * PROTO_WINDOW};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct flow f = {.total = sizes[i]};
        int in[2], out[2];

        make_pipe(in);
        make_pipe(out);
        assert_true(fcntl(in[1], F_SETPIPE_SZ, 4 * PROTO_WINDOW) > 0);
        f.in = dup(in[1]);
        f.out = out[0];
        while (f.wrote < f.total)
            flow_write(&f, 0);
        stream_add_sink(guest.link, 5, out[1], stream_done, &guest);
        stream_add_source(host.link, 5, in[0], stream_done, &host);
        stream_finish(host.link, 5);
        stream_finish(host.link, 5);
        stream_finish(host.link, 6);
        f.reader = loop_add_fd(loop, f.out, POLLIN, flow_read, &f);
        while (f.out >= 0 || guest.done + host.done < 2)
            run();
        assert_true(f.got == f.total);
        assert_int_equal(write(in[1], "x", 1), -1);
        close(in[1]);
        close_fd(&f.in);
        tear_down(state);
        start(true);
    }
}

/* A finished source whose sink is full goes on when there is room. */
static void a_finished_source_waits_for_a_slow_reader(void **state)
{
    int in[2], out[2];
    struct flow f = {.total = 2 * PROTO_WINDOW, .slow = true};

    (void)state;
    make_pipe(in);
    make_pipe(out);
    (void)fcntl(out[1], F_SETPIPE_SZ, 4096);
    assert_true(fcntl(in[1], F_SETPIPE_SZ, 4 * PROTO_WINDOW) > 0);
    f.in = dup(in[1]);
    f.out = out[0];
    while (f.wrote < f.total)
        flow_write(&f, 0);
    stream_add_sink(guest.link, 5, out[1], stream_done, &guest);
    stream_add_source(host.link, 5, in[0], stream_done, &host);
    settle();
    assert_int_equal(host.done, 0);
    stream_finish(host.link, 5);
    settle();
    assert_int_equal(host.done, 0);
    f.reader = loop_add_fd(loop, f.out, POLLIN, flow_read, &f);
    while (f.out >= 0 || guest.done + host.done < 2)
        run();
    assert_true(f.got == f.total);
    close(in[1]);
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

static void a_sink_says_what_happens(void **state)
{
    int out[2];
    uint8_t bytes[PROTO_DATA_MAX];

    (void)state;
    make_pipe(out);
    (void)fcntl(out[1], F_SETPIPE_SZ, 4096);
    stream_add_sink(host.link, 3, out[1], stream_done, &host);
    assert_int_equal(stream_activity(host.link, 3), STREAM_SILENT);
    raw_data(3, 100);
    settle();
    assert_int_equal(stream_activity(host.link, 3), STREAM_MOVES);
    assert_int_equal(stream_activity(host.link, 3), STREAM_SILENT);
    /* 1904 bytes still fit into the only page. */
    raw_data(3, 6000);
    settle();
    assert_int_equal(stream_activity(host.link, 3), STREAM_MOVES);
    assert_int_equal(stream_activity(host.link, 3), STREAM_BLOCKED);
    assert_int_equal(read(out[0], bytes, sizeof(bytes)), 2004);
    settle();
    assert_int_equal(stream_activity(host.link, 3), STREAM_MOVES);
    assert_int_equal(read(out[0], bytes, sizeof(bytes)), 4096);
    /* What comes late is nobody's, and no breach. */
    stream_end(host.link, 3);
    assert_int_equal(host.done, 1);
    assert_int_equal(read(out[0], bytes, sizeof(bytes)), 0);
    raw_data(3, 100);
    raw_say(&(struct proto_message){.type = PROTO_END, .id = 3});
    settle();
    assert_int_equal(host.closed, 0);
    assert_int_equal(host.done, 1);
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
    assert_int_equal(host.done, 2);
    assert_int_equal(host.closed, 1);
    assert_int_equal(write(in[1], "x", 1), -1);
    assert_int_equal(read(out[0], (uint8_t[1]){0}, 1), 0);
    close(in[1]);
    close(out[0]);
}

/* What is there now. */
static size_t read_all(int fd)
{
    uint8_t bytes[4096];
    size_t total = 0;
    ssize_t n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        total += (size_t)n;
    return total;
}

/* 30000 bytes in a pipe of 4096 that nobody reads, then no peer. */
static void lose_a_full_sink(int out[2])
{
    make_pipe(out);
    (void)fcntl(out[1], F_SETPIPE_SZ, 4096);
    stream_add_sink(host.link, 8, out[1], stream_done, &host);
    raw_data(8, 30000);
    settle();
}

static void what_came_is_written_though_the_link_is_gone(void **state)
{
    size_t total = 0;
    int out[2];

    (void)state;
    lose_a_full_sink(out);
    close_fd(&raw_end);
    settle();
    assert_int_equal(host.closed, 1);
    assert_int_equal(host.done, 0);
    while (total < 30000) {
        total += read_all(out[0]);
        if (total < 30000)
            settle();
    }
    settle();
    assert_int_equal(host.done, 1);
    assert_int_equal(read(out[0], (uint8_t[1]){0}, 1), 0);
    close(out[0]);
}

static void a_link_that_was_closed_on_purpose_writes_what_came(void **state)
{
    size_t total = 0;
    int out[2];

    (void)state;
    lose_a_full_sink(out);
    link_close(host.link);
    link_close(host.link);
    assert_int_equal(read(raw_end, (uint8_t[1]){0}, 1), 0);
    while (total < 30000) {
        total += read_all(out[0]);
        settle();
    }
    assert_int_equal(host.closed, 0);
    assert_int_equal(host.done, 1);
    close(out[0]);
}

/* tear_down() frees the link with the sink still full. */
static void nobody_has_to_read_after_the_link(void **state)
{
    int out[2];

    (void)state;
    lose_a_full_sink(out);
    raw_say(&(struct proto_message){.type = PROTO_END, .id = 8});
    close_fd(&raw_end);
    settle();
    assert_int_equal(host.closed, 1);
    assert_int_equal(host.done, 0);
    link_free(&host.link);
    assert_int_equal(read_all(out[0]), 4096);
    close(out[0]);
}

static void free_link(void *context, uint32_t id)
{
    struct side *side = context;

    stream_done(context, id);
    link_free(&side->link);
}

/* The first that ends frees the link; the others end without a word. */
static void done_may_free_the_link(void **state)
{
    int in[2];

    (void)state;
    make_pipe(in);
    stream_add_source(host.link, 1, in[0], free_link, &host);
    stream_add_sink(host.link, 2, -1, free_link, &host);
    stream_add_sink(host.link, 3, -1, free_link, &host);
    close_fd(&raw_end);
    settle();
    assert_int_equal(host.done, 1);
    assert_int_equal(host.closed, 1);
    close(in[1]);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        both(ten_megabytes_to_the_guest),
        both(ten_megabytes_from_the_guest),
        both(a_slow_reader_loses_nothing),
        both(an_empty_stream_ends),
        both(no_source_is_an_end_at_once),
        both(no_sink_throws_away),
        both(a_sink_whose_reader_left_throws_away),
        both(a_source_stays_within_its_window),
        both(an_abandoned_source_ends_the_stream),
        both(a_finished_source_sends_what_is_there),
        both(a_finished_source_waits_for_a_slow_reader),
        both(an_abandoned_sink_still_drains),
        raw(a_sink_says_what_happens),
        raw(streams_end_with_the_link),
        raw(what_came_is_written_though_the_link_is_gone),
        raw(a_link_that_was_closed_on_purpose_writes_what_came),
        raw(nobody_has_to_read_after_the_link),
        raw(done_may_free_the_link),
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
