/*
 * Packets of the control and builder protocols, through the socket code: one
 * byte says which protocol, the rest is the packet.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "domus/ctl.h"
#include "domus/job.h"
#include "domus/mem.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/sample.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int ends[2] = {-1, -1};
    const struct packet_protocol *protocol;
    struct packet packet;
    struct err e = ERR_INIT;
    uint8_t bytes[PACKET_MAX + 1];
    ssize_t n;

    if (ends[0] < 0)
        FUZZ_CHECK(socketpair(AF_UNIX,
                              SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                              ends) == 0);
    if (size < 2)
        return 0;
    protocol = data[0] & 1 ? &job_protocol : &ctl_protocol;
    if (send(ends[0], data + 1, size - 1, 0) < 0)
        return 0; /* beyond the socket's room */
    if (packet_receive(ends[1], protocol, &packet, &e) < 0)
        return 0;
    /* What was accepted is sent as the bytes that it came from. */
    FUZZ_CHECK(packet_send(ends[0], protocol, packet.type, packet.id,
                           packet.body, &e) == 0);
    n = recv(ends[1], bytes, sizeof(bytes), 0);
    FUZZ_CHECK((size_t)n == size - 1 && memcmp(bytes, data + 1, size - 1) == 0);
    packet_clear(protocol, &packet);
    return 0;
}

static void seeds_of(const struct packet_protocol *protocol, uint8_t which,
                     fuzz_emit_fn *emit)
{
    for (uint16_t type = 1; type < protocol->type_count; type++) {
        const struct packet_type *t = &protocol->types[type];
        _cleanup_buf_ struct buf b = BUF_INIT;
        _cleanup_free_ void *body = xcalloc(1, protocol->body_size);
        uint64_t random = 2000 + type;
        struct err e = ERR_INIT;
        char name[64];

        buf_append(&b,
                   (uint8_t[]){which, (uint8_t)protocol->version, 0,
                               (uint8_t)type, 0, 1, 0, 0, 0},
                   9);
        if (t->desc) {
            sample_fill(t->desc, body, &random);
            FUZZ_CHECK(wire_encode(t->desc, body, &b, &e) == 0);
            wire_clear(t->desc, body);
        }
        (void)snprintf(name, sizeof(name), "%s-%s", protocol->name, t->name);
        emit(name, buf_data(&b), buf_len(&b));
    }
}

void fuzz_seeds(fuzz_emit_fn *emit)
{
    seeds_of(&ctl_protocol, 0, emit);
    seeds_of(&job_protocol, 1, emit);
}
