/*
 * packet.h - typed packets over a SOCK_SEQPACKET socket between our own
 * programs: shim, domusd, builder workers. One packet is one message: 8 bytes
 * of header (u16 protocol version, u16 type, u32 id; little-endian) and a
 * struct in wire.h's form.
 */
#ifndef DOMUS_PACKET_H
#define DOMUS_PACKET_H

#include "domus/wire.h"

#define PACKET_MAX 65536

/* A protocol is a table of types; a type without a name does not exist. */
struct packet_type {
    const char *name;
    const struct wire_desc *desc; /* NULL: no body */
};

struct packet_protocol {
    const char *name;
    uint16_t version;
    uint16_t type_count;
    const struct packet_type *types;
    size_t body_size; /* of the union of all bodies */
};

struct packet {
    uint16_t type;
    uint32_t id; /* of the request; a reply repeats it, notices carry 0 */
    void *body;  /* owned; NULL for a type without one */
};

/*
 * Sends now or fails; a peer that does not read gives EAGAIN on a
 * non-blocking socket.
 */
int packet_send(int fd, const struct packet_protocol *protocol, uint16_t type,
                uint32_t id, const void *body, struct err *e);

/*
 * Receives one packet: 0, or -EAGAIN when there is none (e untouched),
 * -EPIPE when the peer is gone, -EBADMSG for one that breaks the protocol,
 * -EPROTONOSUPPORT for one of another version.
 */
int packet_receive(int fd, const struct packet_protocol *protocol,
                   struct packet *packet_out, struct err *e);

void packet_clear(const struct packet_protocol *protocol,
                  struct packet *packet);

/* Waits until fd is readable; -ETIMEDOUT after so many milliseconds. */
int packet_wait(int fd, int64_t milliseconds, struct err *e);

#endif
