#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "domus/ctl.h"
#include "domus/job.h"
#include "domus/loop.h"
#include "domus/mem.h"
#include "tests/unit/sample.h"

static int ends[2];
/* Descriptors to send; any will do. */
static const int standard[6] = {0, 1, 2, 0, 1, 2};

static int connect_ends(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                      ends);
}

static int close_ends(void **state)
{
    (void)state;
    close_fd(&ends[0]);
    close_fd(&ends[1]);
    return 0;
}

static void every_type_goes_and_comes(const struct packet_protocol *protocol)
{
    uint64_t seed = 77;

    for (uint16_t type = 1; type < protocol->type_count; type++) {
        const struct wire_desc *desc = protocol->types[type].desc;

        assert_non_null(protocol->types[type].name);
        for (int round = 0; round < 50; round++) {
            _cleanup_free_ void *body = xcalloc(1, protocol->body_size);
            uint32_t id = (uint32_t)sample_next(&seed);
            struct packet packet = {0};
            struct err e = ERR_INIT;

            if (desc) {
                assert_true(desc->size <= protocol->body_size);
                sample_fill(desc, body, &seed);
            }
            assert_ok(packet_send_fds(ends[0], protocol, type, id, body,
                                      standard, protocol->types[type].fds, &e),
                      e);
            assert_ok(packet_receive(ends[1], protocol, &packet, &e), e);
            assert_int_equal(packet.type, type);
            assert_int_equal(packet.fd_count, protocol->types[type].fds);
            assert_int_equal(packet.id, id);
            if (desc) {
                assert_true(sample_equal(desc, body, packet.body));
                wire_clear(desc, body);
            } else {
                assert_null(packet.body);
            }
            packet_clear(protocol, &packet);
            assert_null(packet.body);
            packet_clear(protocol, &packet);
        }
    }
}

static void control_packets(void **state)
{
    (void)state;
    assert_int_equal(CTL_TYPE_COUNT, 17);
    every_type_goes_and_comes(&ctl_protocol);
}

static void builder_packets(void **state)
{
    (void)state;
    assert_int_equal(JOB_TYPE_COUNT, 17);
    every_type_goes_and_comes(&job_protocol);
}

static void goes_and_comes(const struct packet_protocol *protocol,
                           uint16_t type, const void *body)
{
    struct packet packet;
    struct err e = ERR_INIT;

    assert_ok(packet_send(ends[0], protocol, type, 1, body, &e), e);
    assert_ok(packet_receive(ends[1], protocol, &packet, &e), e);
    packet_clear(protocol, &packet);
}

/* Else a host with that many could not be looked after any more. */
static void the_longest_lists_fit(void **state)
{
    static struct ctl_listed sandboxes[CTL_LIST_MAX];
    static struct job_listed domains[JOB_DOMAINS_MAX];
    struct ctl_list_result ctl = {{sandboxes, CTL_LIST_MAX}};
    struct job_list_result job = {{domains, JOB_DOMAINS_MAX}};
    char name[CTL_NAMESPACE_MAX + 1], id[SPEC_ID_MAX + 1];
    char uuid[] = "01234567-89ab-cdef-0123-456789abcdef";
    char type[] = "pvh", reason[] = "soft-reset", console[] = "/dev/pts/99999";

    (void)state;
    memset(name, 'n', sizeof(name));
    memset(id, 'i', sizeof(id));
    name[sizeof(name) - 1] = id[sizeof(id) - 1] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(sandboxes); i++)
        sandboxes[i] = (struct ctl_listed){.namespace = name,
                                           .id = id,
                                           .uuid = uuid,
                                           .domain_type = type,
                                           .state = reason};
    for (size_t i = 0; i < ARRAY_SIZE(domains); i++)
        domains[i] = (struct job_listed){
            .uuid = uuid, .console = console, .reason = reason};
    goes_and_comes(&ctl_protocol, CTL_LIST_RESULT, &ctl);
    goes_and_comes(&job_protocol, JOB_LIST_RESULT, &job);
}

static void nothing_there_is_no_error(void **state)
{
    struct packet packet;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(packet_receive(ends[0], &ctl_protocol, &packet, &e),
                     -EAGAIN);
    assert_int_equal(e.code, 0);
}

static void tells_that_the_peer_is_gone(void **state)
{
    struct packet packet;
    struct err e = ERR_INIT;

    (void)state;
    close_fd(&ends[1]);
    assert_int_equal(packet_receive(ends[0], &ctl_protocol, &packet, &e),
                     -EPIPE);
    assert_int_equal(packet_send(ends[0], &ctl_protocol, CTL_LIST, 1, NULL, &e),
                     -EPIPE);
}

static int raw(const void *bytes, size_t n, struct err *e)
{
    struct packet packet;

    assert_int_equal(send(ends[0], bytes, n, 0), n);
    return packet_receive(ends[1], &ctl_protocol, &packet, e);
}

static void refuses_short_packets(void **state)
{
    const uint8_t bytes[8] = {CTL_VERSION, 0, CTL_LIST, 0, 0, 0, 0, 0};
    struct packet packet = {0};
    struct err e = ERR_INIT;

    (void)state;
    for (size_t n = 1; n < 8; n++)
        assert_int_equal(raw(bytes, n, &e), -EBADMSG);
    assert_int_equal(send(ends[0], bytes, 8, 0), 8);
    assert_ok(packet_receive(ends[1], &ctl_protocol, &packet, &e), e);
    assert_int_equal(packet.type, CTL_LIST);
}

static void refuses_other_versions_and_types(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(raw((uint8_t[8]){CTL_VERSION + 1, 0, CTL_LIST}, 8, &e),
                     -EPROTONOSUPPORT);
    assert_said(e, EPROTONOSUPPORT, "speaks version 4, this is 3");
    assert_int_equal(raw((uint8_t[8]){CTL_VERSION, 0, 0}, 8, &e), -EBADMSG);
    assert_int_equal(raw((uint8_t[8]){CTL_VERSION, 0, CTL_TYPE_COUNT}, 8, &e),
                     -EBADMSG);
    assert_int_equal(raw((uint8_t[8]){CTL_VERSION, 0, 255, 255}, 8, &e),
                     -EBADMSG);
    assert_said(e, EBADMSG, "unknown packet 65535");
    assert_int_equal(raw((uint8_t[9]){CTL_VERSION, 0, CTL_LIST}, 9, &e),
                     -EBADMSG);
    assert_said(e, EBADMSG, "LIST has a body");
    assert_int_equal(raw((uint8_t[9]){CTL_VERSION, 0, CTL_CREATE}, 9, &e),
                     -EBADMSG);
    assert_said(e, EBADMSG, "packet CREATE: ctl_create.namespace");
}

static void refuses_to_send_what_is_none(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(packet_send(ends[0], &ctl_protocol, 0, 1, NULL, &e),
                     -EINVAL);
    assert_int_equal(
        packet_send(ends[0], &ctl_protocol, CTL_TYPE_COUNT, 1, NULL, &e),
        -EINVAL);
}

static void refuses_packets_beyond_the_limit(void **state)
{
    _cleanup_free_ char *option = xcalloc(1, 32769);
    _cleanup_free_ uint8_t *bytes = xcalloc(1, PACKET_MAX + 2);
    char *options[PACKET_MAX / 32768 + 1];
    struct ctl_mount mount = {.options = {options, ARRAY_SIZE(options)}};
    struct ctl_create create = {.rootfs = {&mount, 1}};
    int room = 1 << 20;
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        options[i] = option;
    assert_int_equal(
        setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
    memset(option, 'l', 32768);
    assert_int_equal(
        packet_send(ends[0], &ctl_protocol, CTL_CREATE, 1, &create, &e),
        -EMSGSIZE);
    assert_said(e, EMSGSIZE, "packet CREATE takes");
    option[32767] = 'l';
    mount.options.n = 1;
    assert_ok(packet_send(ends[0], &ctl_protocol, CTL_CREATE, 1, &create, &e),
              e);
    assert_ok(packet_wait(ends[1], 1000, &e), e);
    {
        struct packet packet;

        assert_ok(packet_receive(ends[1], &ctl_protocol, &packet, &e), e);
        packet_clear(&ctl_protocol, &packet);
    }
    bytes[0] = CTL_VERSION;
    bytes[2] = CTL_RESULT;
    assert_int_equal(raw(bytes, PACKET_MAX + 1, &e), -EBADMSG);
    assert_said(e, EBADMSG, "packet of 196609 bytes");
    assert_int_equal(raw(bytes, PACKET_MAX + 2, &e), -EBADMSG);
}

/* --- descriptors ---------------------------------------------------------- */

static char text[] = "x";
static struct ctl_logger logger = {.namespace = text, .id = text, .path = text};

static size_t open_fds(void)
{
    size_t n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void descriptors_come_along(void **state)
{
    struct packet packet;
    struct err e = ERR_INIT;
    size_t before = open_fds();
    int pipes[2], taken;
    char byte = 'b';

    (void)state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_ok(packet_send_fds(ends[0], &ctl_protocol, CTL_LOGGER, 7, &logger,
                              (int[4]){pipes[0], pipes[1], pipes[0], pipes[1]},
                              4, &e),
              e);
    close_fd(&pipes[0]);
    assert_ok(packet_receive(ends[1], &ctl_protocol, &packet, &e), e);
    assert_int_equal(packet.fd_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(fcntl(packet.fds[i], F_GETFD), FD_CLOEXEC);
    assert_int_equal(write(packet.fds[1], &byte, 1), 1);
    taken = steal_fd(&packet.fds[0]);
    packet_clear(&ctl_protocol, &packet);
    packet_clear(&ctl_protocol, &packet);
    assert_int_equal(read(taken, &byte, 1), 1);
    close_fd(&taken);
    close_fd(&pipes[1]);
    assert_int_equal(open_fds(), before);
}

/* With whatever number of descriptors, past what packet_send() allows. */
static void send_raw_fds(const void *bytes, size_t n, size_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(standard))];
    } control = {.bytes = {0}};
    struct iovec io = {(void *)bytes, n};
    struct msghdr message = {
        .msg_iov = &io,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(count * sizeof(int)),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(c), standard, count * sizeof(int));
    assert_int_equal(sendmsg(ends[0], &message, 0), n);
}

static void refuses_other_numbers_of_descriptors(void **state)
{
    static const uint8_t list[8] = {CTL_VERSION, 0, CTL_LIST};
    static const uint8_t other[8] = {CTL_VERSION + 1, 0, CTL_LIST};
    static const uint8_t garbage[12] = {CTL_VERSION, 0, CTL_LOGGER, 0,   0,
                                        0,           0, 0,          255, 255};
    size_t before = open_fds();
    struct packet packet;
    struct err e = ERR_INIT;

    (void)state;
    for (size_t n = 1; n <= 6; n++) {
        send_raw_fds(list, sizeof(list), n);
        assert_int_equal(packet_receive(ends[1], &ctl_protocol, &packet, &e),
                         -EBADMSG);
        assert_said(e, EBADMSG, "packet LIST with ");
        assert_said(e, EBADMSG, "descriptors, it has 0");
        assert_int_equal(open_fds(), before);
    }
    assert_said(e, EBADMSG, "more than 4 descriptors");
    for (size_t n = 1; n <= 6; n++) {
        send_raw_fds(garbage, sizeof(garbage), n);
        assert_int_equal(packet_receive(ends[1], &ctl_protocol, &packet, &e),
                         -EBADMSG);
        assert_non_null(
            strstr(e.text, n == 4 ? "ctl_logger.namespace" : "it has 4"));
        assert_int_equal(open_fds(), before);
    }
    send_raw_fds(other, sizeof(other), 2);
    assert_int_equal(packet_receive(ends[1], &ctl_protocol, &packet, &e),
                     -EPROTONOSUPPORT);
    assert_int_equal(raw((uint8_t[8]){CTL_VERSION, 0, CTL_LOGGER}, 8, &e),
                     -EBADMSG);
    assert_said(e, EBADMSG, "with 0 descriptors, it has 4");
    assert_int_equal(open_fds(), before);
}

static void sends_only_the_right_number(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(packet_send_fds(ends[0], &ctl_protocol, CTL_LIST, 1, NULL,
                                     standard, 1, &e),
                     -EINVAL);
    assert_said(e, EINVAL, "packet LIST has 0 descriptors, not 1");
    assert_int_equal(
        packet_send(ends[0], &ctl_protocol, CTL_LOGGER, 1, &logger, &e),
        -EINVAL);
    assert_int_equal(packet_send_fds(ends[0], &ctl_protocol, CTL_LOGGER, 1,
                                     &logger, standard, 5, &e),
                     -EINVAL);
    assert_int_equal(packet_send_fds(ends[0], &ctl_protocol, CTL_LOGGER, 1,
                                     &logger, (int[4]){0, -1, 2, 2}, 4, &e),
                     -EBADF);
}

static void a_reader_who_sleeps_is_told(void **state)
{
    struct err e = ERR_INIT;
    int r = 0;

    (void)state;
    for (int i = 0; i < 100000 && r == 0; i++)
        r = packet_send(ends[0], &ctl_protocol, CTL_LIST, 1, NULL, &e);
    assert_int_equal(r, -EAGAIN);
}

static void waiting_has_an_end(void **state)
{
    int64_t start = loop_now();
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(packet_wait(ends[0], 40, &e), -ETIMEDOUT);
    assert_true(loop_now() - start >= 40);
    assert_int_equal(packet_wait(ends[0], 0, &e), -ETIMEDOUT);
    assert_ok(packet_send(ends[1], &ctl_protocol, CTL_LIST, 1, NULL, &e), e);
    assert_ok(packet_wait(ends[0], 40, &e), e);
    close_fd(&ends[1]);
    assert_ok(packet_wait(ends[0], 40, &e), e);
}

#define with_ends(fn) \
    cmocka_unit_test_setup_teardown(fn, connect_ends, close_ends)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_ends(control_packets),
        with_ends(builder_packets),
        with_ends(the_longest_lists_fit),
        with_ends(nothing_there_is_no_error),
        with_ends(tells_that_the_peer_is_gone),
        with_ends(refuses_short_packets),
        with_ends(refuses_other_versions_and_types),
        with_ends(refuses_to_send_what_is_none),
        with_ends(refuses_packets_beyond_the_limit),
        with_ends(descriptors_come_along),
        with_ends(refuses_other_numbers_of_descriptors),
        with_ends(sends_only_the_right_number),
        with_ends(a_reader_who_sleeps_is_told),
        with_ends(waiting_has_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
