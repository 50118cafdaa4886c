/*
 * packet.h - typed packets over a SOCK_SEQPACKET socket between our own
 * programs: shim, domusd, builder workers. One packet is one message: 8 bytes
 * of header (u16 protocol version, u16 type, u32 id; little-endian) and a
 * struct in wire.h's form.
 */
#ifndef DOMUS_PACKET_H
#define DOMUS_PACKET_H

#include "domus/wire.h"

/* The lists of 512 sandboxes and of 1,024 domains have to fit into one, and one
 * into a socket's send buffer, which Linux makes 208 KiB if nobody says more.
 */
#define PACKET_MAX (192 * 1024)
/* Of one packet: a logger's three, and one to spare. */
#define PACKET_FDS_MAX 4

/* A protocol is a table of types; a type without a name does not exist. */
struct packet_type {
    const char *name;
    const struct wire_desc *desc; /* NULL: no body */
    size_t fds;                   /* descriptors that go with each */
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
    int fds[PACKET_FDS_MAX]; /* owned, close-on-exec; -1 once taken */
    size_t fd_count;         /* as the type has it */
};

/*
 * Sends now or fails; a peer that does not read gives EAGAIN on a
 * non-blocking socket.
 */
int packet_send(int fd, const struct packet_protocol *protocol, uint16_t type,
                uint32_t id, const void *body, struct err *e);

/* The same with n descriptors, which remain the caller's. */
int packet_send_fds(int fd, const struct packet_protocol *protocol,
                    uint16_t type, uint32_t id, const void *body,
                    const int *fds, size_t n, struct err *e);

/*
 * Receives one packet: 0, or -EAGAIN when there is none (e untouched),
 * -EPIPE when the peer is gone, -EBADMSG for one that breaks the protocol (not
 * the type's number of descriptors included; they are closed),
 * -EPROTONOSUPPORT for one of another version.
 */
int packet_receive(int fd, const struct packet_protocol *protocol,
                   struct packet *packet_out, struct err *e);

/* Frees the body and closes the descriptors. */
void packet_clear(const struct packet_protocol *protocol,
                  struct packet *packet);

/* Waits until fd is readable; -ETIMEDOUT after so many milliseconds. */
int packet_wait(int fd, int64_t milliseconds, struct err *e);

#endif
