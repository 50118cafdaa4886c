/*
 * Frames of the guest protocol, as either end sees them: one byte says who is
 * speaking, the rest is the stream. What was accepted must encode to the bytes
 * that it came from.
 */
#include <stdio.h>
#include <string.h>

#include "domus/mem.h"
#include "domus/proto.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/sample.h"

static void check_again(const struct proto_message *m, const uint8_t *frame,
                        size_t n)
{
    _cleanup_buf_ struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    FUZZ_CHECK(proto_encode(m, &b, &e) == 0);
    FUZZ_CHECK(buf_len(&b) == n && memcmp(buf_data(&b), frame, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum proto_direction direction;

    if (size < 1)
        return 0;
    direction = data[0] & 1 ? PROTO_FROM_GUEST : PROTO_TO_GUEST;
    data++;
    size--;
    while (size >= PROTO_HEADER_SIZE) {
        struct proto_message message;
        struct proto_header header;
        struct err e = ERR_INIT;
        size_t frame;

        if (proto_header_decode(data, direction, &header, &e) < 0)
            return 0;
        frame = PROTO_HEADER_SIZE + (size_t)header.length;
        if (frame > size)
            return 0;
        if (header.type != PROTO_DATA) {
            if (proto_decode(&header, data + PROTO_HEADER_SIZE, &message, &e) <
                0)
                return 0;
            check_again(&message, data, frame);
            proto_clear(&message);
        }
        data += frame;
        size -= frame;
    }
    return 0;
}

static void seed_of(enum proto_type type, enum proto_direction direction,
                    fuzz_emit_fn *emit)
{
    const struct wire_desc *desc = proto_desc(type);
    struct proto_message m = {.type = type, .id = 1};
    _cleanup_buf_ struct buf b = BUF_INIT;
    uint64_t random = 1000 + (uint64_t)type;
    struct proto_header header;
    struct err e = ERR_INIT;
    char name[64];

    buf_append(&b, (uint8_t[]){(uint8_t)direction}, 1);
    if (type == PROTO_DATA) {
        proto_encode_data(1, "some bytes", 10, &b);
    } else {
        if (desc)
            sample_fill(desc, &m.body, &random);
        FUZZ_CHECK(proto_encode(&m, &b, &e) == 0);
    }
    proto_clear(&m);
    if (proto_header_decode(buf_data(&b) + 1, direction, &header, &e) < 0)
        return; /* not said in that direction */
    (void)snprintf(name, sizeof(name), "%s-%s",
                   direction == PROTO_FROM_GUEST ? "guest" : "host",
                   proto_type_name(type));
    emit(name, buf_data(&b), buf_len(&b));
}

void fuzz_seeds(fuzz_emit_fn *emit)
{
    for (int type = 1; type < PROTO_TYPE_COUNT; type++) {
        seed_of((enum proto_type)type, PROTO_TO_GUEST, emit);
        seed_of((enum proto_type)type, PROTO_FROM_GUEST, emit);
    }
}
