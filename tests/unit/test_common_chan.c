#include "tests/unit/unit.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "domus/chan.h"
#include "domus/mem.h"

static struct chan *chan;
static int peer = -1;

static int set_up(void **state)
{
    int fds[2];

    (void)state;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -1;
    /* Blocking on purpose: the channel must not rely on the descriptor. */
    chan = chan_from_socket(fds[0]);
    peer = fds[1];
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    chan_close(&chan);
    chan_close(&chan);
    close_fd(&peer);
    return 0;
}

static void reads_what_is_there(void **state)
{
    char bytes[16];

    (void)state;
    assert_int_equal(chan_read(chan, bytes, sizeof(bytes)), 0);
    assert_int_equal(write(peer, "hello", 5), 5);
    chan_woken(chan);
    assert_int_equal(chan_read(chan, bytes, 2), 2);
    assert_int_equal(chan_read(chan, bytes + 2, sizeof(bytes) - 2), 3);
    assert_memory_equal(bytes, "hello", 5);
    assert_int_equal(chan_read(chan, bytes, sizeof(bytes)), 0);
}

static void writes_until_full(void **state)
{
    static uint8_t block[65536];
    ssize_t n, total = 0;

    (void)state;
    while ((n = chan_write(chan, block, sizeof(block))) > 0)
        total += n;
    assert_int_equal(n, 0);
    while (total > 0)
        total -= read(peer, block, sizeof(block));
    assert_int_equal(chan_write(chan, "x", 1), 1);
}

static void tells_that_the_peer_is_gone(void **state)
{
    char byte;

    (void)state;
    close_fd(&peer);
    assert_int_equal(chan_read(chan, &byte, 1), -EPIPE);
    assert_int_equal(chan_write(chan, "x", 1), -EPIPE);
}

static void rest_comes_before_the_end(void **state)
{
    char byte;

    (void)state;
    assert_int_equal(write(peer, "z", 1), 1);
    close_fd(&peer);
    assert_int_equal(chan_read(chan, &byte, 1), 1);
    assert_int_equal(chan_read(chan, &byte, 1), -EPIPE);
}

static void says_what_to_wait_for(void **state)
{
    (void)state;
    assert_int_equal(chan_events(chan, false), POLLIN);
    assert_int_equal(chan_events(chan, true), POLLIN | POLLOUT);
}

#define with_chan(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_chan(reads_what_is_there),
        with_chan(writes_until_full),
        with_chan(tells_that_the_peer_is_gone),
        with_chan(rest_comes_before_the_end),
        with_chan(says_what_to_wait_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
