/*
 * link_pair.h - two links on one loop, joined by a socket pair; or one link
 * and raw bytes of a peer who breaks the rules.
 */
#ifndef TESTS_LINK_PAIR_H
#define TESTS_LINK_PAIR_H

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

static inline void stop(void *context)
{
    (void)context;
    loop_stop(loop);
}

static inline void too_late(void *context)
{
    (void)context;
    late = true;
    loop_stop(loop);
}

static inline int message_came(void *context, struct proto_message *message,
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

static inline void link_closed(void *context, const struct err *why)
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

static inline void stream_done(void *context, uint32_t id)
{
    struct side *side = context;

    side->done++;
    side->done_id = id;
    loop_stop(loop);
}

static inline void start(bool with_guest)
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

static inline int with_both(void **state)
{
    (void)state;
    start(true);
    return 0;
}

static inline int with_raw(void **state)
{
    (void)state;
    start(false);
    return 0;
}

static inline int tear_down(void **state)
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
static inline void run(void)
{
    struct loop_timer *timer = loop_add_timer(loop, DEADLINE, too_late, NULL);
    struct err e = ERR_INIT;

    assert_ok(loop_run(loop, &e), e);
    assert_false(late);
    loop_remove_timer(&timer);
}

/* Runs until nothing has happened for a while. */
static inline void settle(void)
{
    loop_add_timer(loop, QUIET, stop, NULL);
    run();
}

static inline void say(struct link *link, enum proto_type type, uint32_t id)
{
    struct proto_message m = {.type = type, .id = id};
    struct err e = ERR_INIT;

    assert_ok(link_send(link, &m, &e), e);
}

static inline void raw_say(const struct proto_message *m)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    assert_ok(proto_encode(m, &b, &e), e);
    assert_int_equal(write(raw_end, buf_data(&b), buf_len(&b)), buf_len(&b));
}

static inline void raw_data(uint32_t id, size_t n)
{
    static const uint8_t zeros[PROTO_DATA_MAX];
    _cleanup_buf_ struct buf b = BUF_INIT;

    proto_encode_data(id, zeros, n, &b);
    assert_int_equal(write(raw_end, buf_data(&b), buf_len(&b)), buf_len(&b));
}

static inline void assert_closed(const char *words)
{
    assert_int_equal(host.closed, 1);
    if (!strstr(host.why.text, words))
        fail_msg("\"%s\" lacks \"%s\"", host.why.text, words);
}

#define both(fn) cmocka_unit_test_setup_teardown(fn, with_both, tear_down)
#define raw(fn)  cmocka_unit_test_setup_teardown(fn, with_raw, tear_down)

#endif
