#include "domus/packet.h"

#include <endian.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "domus/loop.h"
#include "domus/mem.h"

#define HEADER_SIZE 8

static const struct packet_type *type_of(const struct packet_protocol *protocol,
                                         uint16_t type)
{
    if (type >= protocol->type_count || !protocol->types[type].name)
        return NULL;
    return &protocol->types[type];
}

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(PACKET_FDS_MAX * sizeof(int))];
};

static ssize_t send_message(int fd, struct buf *out, const int *fds, size_t n)
{
    struct iovec io = {(void *)buf_data(out), buf_len(out)};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
    union control control = {.bytes = {0}};
    ssize_t r;

    if (n > 0) {
        struct cmsghdr *c;

        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n * sizeof(int));
        c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    }
    do {
        r = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    return r;
}

int packet_send(int fd, const struct packet_protocol *protocol, uint16_t type,
                uint32_t id, const void *body, struct err *e)
{
    return packet_send_fds(fd, protocol, type, id, body, NULL, 0, e);
}

int packet_send_fds(int fd, const struct packet_protocol *protocol,
                    uint16_t type, uint32_t id, const void *body,
                    const int *fds, size_t n, struct err *e)
{
    _cleanup_buf_ struct buf out = BUF_INIT;
    const struct packet_type *t = type_of(protocol, type);
    uint16_t le_version = htole16(protocol->version), le_type = htole16(type);
    uint32_t le_id = htole32(id);
    int r;

    if (!t)
        return err_set(e, EINVAL, "%s: no packet %u", protocol->name, type);
    if (n != t->fds || n > PACKET_FDS_MAX)
        return err_set(e, EINVAL, "packet %s has %zu descriptors, not %zu",
                       t->name, t->fds, n);
    buf_append(&out, &le_version, 2);
    buf_append(&out, &le_type, 2);
    buf_append(&out, &le_id, 4);
    if (t->desc) {
        r = wire_encode(t->desc, body, &out, e);
        if (r < 0)
            return err_wrap(e, "packet %s", t->name);
    }
    if (buf_len(&out) > PACKET_MAX)
        return err_set(e, EMSGSIZE,
                       "packet %s takes %zu bytes, the limit is %d", t->name,
                       buf_len(&out), PACKET_MAX);
    if (send_message(fd, &out, fds, n) < 0)
        return err_errno(e, "packet %s", t->name);
    return 0;
}

static void close_fds(struct packet *packet)
{
    for (size_t i = 0; i < packet->fd_count; i++)
        close_fd(&packet->fds[i]);
    packet->fd_count = 0;
}

/* Those beyond the limit were closed by the kernel; true: there were some. */
static bool take_fds(struct msghdr *message, struct packet *packet)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c;
         c = CMSG_NXTHDR(message, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        int fd;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < n; i++) {
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            /* The room for control data holds no more. */
            if (packet->fd_count < PACKET_FDS_MAX)
                packet->fds[packet->fd_count++] = fd;
            else
                close_fd(&fd);
        }
    }
    return (message->msg_flags & MSG_CTRUNC) != 0;
}

static ssize_t receive_message(int fd, uint8_t *bytes, size_t size,
                               struct packet *packet, bool *surplus_out)
{
    union control control;
    struct iovec io = {bytes, size};
    struct msghdr message;
    ssize_t n;

    do {
        message = (struct msghdr){
            .msg_iov = &io,
            .msg_iovlen = 1,
            .msg_control = control.bytes,
            .msg_controllen = sizeof(control.bytes),
        };
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    *surplus_out = n >= 0 && take_fds(&message, packet);
    return n;
}

/* Fills packet, but for its descriptors. */
static int parse(const struct packet_protocol *protocol, const uint8_t *bytes,
                 size_t n, bool surplus, struct packet *packet, struct err *e)
{
    const struct packet_type *t;
    uint16_t version;

    if (n < HEADER_SIZE || n > PACKET_MAX)
        return err_set(e, EBADMSG, "%s: packet of %zu bytes", protocol->name,
                       n);
    memcpy(&version, bytes, 2);
    memcpy(&packet->type, bytes + 2, 2);
    memcpy(&packet->id, bytes + 4, 4);
    version = le16toh(version);
    packet->type = le16toh(packet->type);
    packet->id = le32toh(packet->id);
    if (version != protocol->version)
        return err_set(e, EPROTONOSUPPORT,
                       "%s: the other end speaks version %u, this is %u",
                       protocol->name, version, protocol->version);
    t = type_of(protocol, packet->type);
    if (!t)
        return err_set(e, EBADMSG, "%s: unknown packet %u", protocol->name,
                       packet->type);
    if (surplus || packet->fd_count != t->fds)
        return err_set(e, EBADMSG,
                       "%s: packet %s with %s%zu descriptors, it has %zu",
                       protocol->name, t->name, surplus ? "more than " : "",
                       packet->fd_count, t->fds);
    if (t->desc) {
        _cleanup_free_ void *body = xcalloc(1, protocol->body_size);
        int r =
            wire_decode(t->desc, bytes + HEADER_SIZE, n - HEADER_SIZE, body, e);

        if (r < 0)
            return err_wrap(e, "%s: packet %s", protocol->name, t->name);
        packet->body = steal_ptr(&body);
    } else if (n > HEADER_SIZE) {
        return err_set(e, EBADMSG, "%s: packet %s has a body", protocol->name,
                       t->name);
    }
    return 0;
}

int packet_receive(int fd, const struct packet_protocol *protocol,
                   struct packet *packet_out, struct err *e)
{
    /* One byte more, to tell a packet at the limit from one beyond it. */
    _cleanup_free_ uint8_t *bytes = xmalloc(PACKET_MAX + 1);
    struct packet packet = {0};
    bool surplus = false;
    ssize_t n = receive_message(fd, bytes, PACKET_MAX + 1, &packet, &surplus);
    int r;

    if (n < 0 && errno == EAGAIN)
        return -EAGAIN;
    if (n < 0 && errno != ECONNRESET)
        return err_errno(e, "%s: receive", protocol->name);
    if (n <= 0)
        r = err_set(e, EPIPE, "%s: the other end is gone", protocol->name);
    else
        r = parse(protocol, bytes, (size_t)n, surplus, &packet, e);
    if (r < 0) {
        close_fds(&packet);
        return r;
    }
    *packet_out = packet;
    return 0;
}

void packet_clear(const struct packet_protocol *protocol, struct packet *packet)
{
    const struct packet_type *t = type_of(protocol, packet->type);

    if (packet->body && t && t->desc)
        wire_clear(t->desc, packet->body);
    free(packet->body);
    packet->body = NULL;
    close_fds(packet);
}

int packet_wait(int fd, int64_t milliseconds, struct err *e)
{
    int64_t deadline = loop_now() + milliseconds;
    struct pollfd p = {.fd = fd, .events = POLLIN};

    for (;;) {
        int64_t left = deadline - loop_now();
        int r = poll(&p, 1, left > 0 ? (int)left : 0);

        if (r > 0)
            return 0;
        if (r < 0 && errno != EINTR)
            return err_errno(e, "poll");
        if (left <= 0)
            return err_set(e, ETIMEDOUT, "no answer within %lld ms",
                           (long long)milliseconds);
    }
}
