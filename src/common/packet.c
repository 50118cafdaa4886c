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

int packet_send(int fd, const struct packet_protocol *protocol, uint16_t type,
                uint32_t id, const void *body, struct err *e)
{
    _cleanup_buf_ struct buf out = BUF_INIT;
    const struct packet_type *t = type_of(protocol, type);
    uint16_t le_version = htole16(protocol->version), le_type = htole16(type);
    uint32_t le_id = htole32(id);
    ssize_t n;
    int r;

    if (!t)
        return err_set(e, EINVAL, "%s: no packet %u", protocol->name, type);
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
    do {
        n = send(fd, buf_data(&out), buf_len(&out), MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_errno(e, "packet %s", t->name);
    return 0;
}

int packet_receive(int fd, const struct packet_protocol *protocol,
                   struct packet *packet_out, struct err *e)
{
    /* One byte more, to tell a packet at the limit from one beyond it. */
    _cleanup_free_ uint8_t *bytes = xmalloc(PACKET_MAX + 1);
    const struct packet_type *t;
    struct packet packet = {0};
    uint16_t version;
    ssize_t n;

    do {
        n = recv(fd, bytes, PACKET_MAX + 1, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return -EAGAIN;
    if (n < 0 && errno != ECONNRESET)
        return err_errno(e, "%s: receive", protocol->name);
    if (n <= 0)
        return err_set(e, EPIPE, "%s: the other end is gone", protocol->name);
    if (n < HEADER_SIZE || n > PACKET_MAX)
        return err_set(e, EBADMSG, "%s: packet of %zd bytes", protocol->name,
                       n);
    memcpy(&version, bytes, 2);
    memcpy(&packet.type, bytes + 2, 2);
    memcpy(&packet.id, bytes + 4, 4);
    version = le16toh(version);
    packet.type = le16toh(packet.type);
    packet.id = le32toh(packet.id);
    if (version != protocol->version)
        return err_set(e, EPROTONOSUPPORT,
                       "%s: the other end speaks version %u, this is %u",
                       protocol->name, version, protocol->version);
    t = type_of(protocol, packet.type);
    if (!t)
        return err_set(e, EBADMSG, "%s: unknown packet %u", protocol->name,
                       packet.type);
    if (t->desc) {
        _cleanup_free_ void *body = xcalloc(1, protocol->body_size);
        int r = wire_decode(t->desc, bytes + HEADER_SIZE,
                            (size_t)n - HEADER_SIZE, body, e);

        if (r < 0)
            return err_wrap(e, "%s: packet %s", protocol->name, t->name);
        packet.body = steal_ptr(&body);
    } else if (n > HEADER_SIZE) {
        return err_set(e, EBADMSG, "%s: packet %s has a body", protocol->name,
                       t->name);
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
