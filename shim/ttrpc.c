#include "ttrpc.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"
#include "ttrpc.pb-c.h"

/* A large request leaves no large buffer behind. */
#define KEEP_MAX 16384

uint8_t *ttrpc_reader_room(struct ttrpc_reader *r, size_t n)
{
    return buf_reserve(&r->received, n);
}

void ttrpc_reader_took(struct ttrpc_reader *r, size_t n)
{
    buf_commit(&r->received, n);
}

static void drop_handled(struct ttrpc_reader *r)
{
    size_t n = buf_len(&r->received);

    if (r->handled > 0) {
        buf_consume(&r->received, r->handled);
        r->handled = 0;
        n = buf_len(&r->received);
    }
    if (r->throwing > 0) {
        if (n > r->throwing)
            n = r->throwing;
        buf_consume(&r->received, n);
        r->throwing -= (uint32_t)n;
    }
    if (buf_len(&r->received) == 0 && r->received.size > KEEP_MAX)
        buf_clear(&r->received);
}

bool ttrpc_reader_next(struct ttrpc_reader *r, struct ttrpc_frame *frame_out)
{
    struct ttrpc_frame frame = {0};
    const uint8_t *header;

    drop_handled(r);
    if (r->throwing > 0 || buf_len(&r->received) < TTRPC_HEADER_SIZE)
        return false;
    header = buf_data(&r->received);
    memcpy(&frame.length, header, 4);
    memcpy(&frame.stream, header + 4, 4);
    frame.length = be32toh(frame.length);
    frame.stream = be32toh(frame.stream);
    frame.type = header[8];
    frame.flags = header[9];
    if (frame.length > TTRPC_PAYLOAD_MAX) {
        frame.oversized = true;
        r->throwing = frame.length;
        r->handled = TTRPC_HEADER_SIZE;
        *frame_out = frame;
        return true;
    }
    if (buf_len(&r->received) - TTRPC_HEADER_SIZE < frame.length)
        return false;
    frame.payload = header + TTRPC_HEADER_SIZE;
    r->handled = TTRPC_HEADER_SIZE + (size_t)frame.length;
    *frame_out = frame;
    return true;
}

void ttrpc_reader_clear(struct ttrpc_reader *r)
{
    buf_clear(&r->received);
    *r = (struct ttrpc_reader){.received = BUF_INIT};
}

static uint8_t *put_header(struct buf *out, uint32_t stream,
                           enum ttrpc_type type, size_t n)
{
    uint8_t *at = buf_reserve(out, TTRPC_HEADER_SIZE + n);
    uint32_t length = htobe32((uint32_t)n);

    stream = htobe32(stream);
    memcpy(at, &length, 4);
    memcpy(at + 4, &stream, 4);
    at[8] = (uint8_t)type;
    at[9] = 0;
    return at + TTRPC_HEADER_SIZE;
}

void ttrpc_put_frame(struct buf *out, uint32_t stream, enum ttrpc_type type,
                     const void *payload, size_t n)
{
    uint8_t *at = put_header(out, stream, type, n);

    if (n > 0)
        memcpy(at, payload, n);
    buf_commit(out, TTRPC_HEADER_SIZE + n);
}

void ttrpc_put_message(struct buf *out, uint32_t stream, enum ttrpc_type type,
                       const ProtobufCMessage *message)
{
    size_t n = protobuf_c_message_get_packed_size(message);

    (void)protobuf_c_message_pack(message, put_header(out, stream, type, n));
    buf_commit(out, TTRPC_HEADER_SIZE + n);
}

void ttrpc_put_reply(struct buf *out, uint32_t stream,
                     const ProtobufCMessage *message)
{
    Ttrpc__Response response = TTRPC__RESPONSE__INIT;
    _cleanup_free_ uint8_t *payload = NULL;

    if (message) {
        size_t n = protobuf_c_message_get_packed_size(message);

        payload = xmalloc(n);
        response.payload.len = protobuf_c_message_pack(message, payload);
        response.payload.data = payload;
    }
    ttrpc_put_message(out, stream, TTRPC_RESPONSE, &response.base);
}

void ttrpc_put_error(struct buf *out, uint32_t stream, enum ttrpc_code code,
                     const char *text)
{
    Ttrpc__Response response = TTRPC__RESPONSE__INIT;
    Ttrpc__Status status = TTRPC__STATUS__INIT;

    status.code = (int32_t)code;
    status.message = (char *)text;
    response.status = &status;
    ttrpc_put_message(out, stream, TTRPC_RESPONSE, &response.base);
}

static void *bounded_alloc(void *data, size_t size)
{
    size_t *left = data;

    if (size > *left)
        return NULL;
    *left -= size;
    return malloc(size);
}

static void bounded_free(void *data, void *pointer)
{
    (void)data;
    free(pointer);
}

ProtobufCMessage *ttrpc_unpack(const ProtobufCMessageDescriptor *descriptor,
                               const uint8_t *untrusted_bytes, size_t n)
{
    size_t left = TTRPC_UNPACKED_MAX;
    ProtobufCAllocator allocator = {bounded_alloc, bounded_free, &left};

    return protobuf_c_message_unpack(descriptor, &allocator, n,
                                     untrusted_bytes);
}

enum ttrpc_code ttrpc_code_of(int error)
{
    static const struct {
        int error;
        enum ttrpc_code code;
    } codes[] = {
        {ENOENT, TTRPC_NOT_FOUND},
        {ESRCH, TTRPC_NOT_FOUND},
        {EEXIST, TTRPC_ALREADY_EXISTS},
        {EINVAL, TTRPC_INVALID_ARGUMENT},
        {EFBIG, TTRPC_INVALID_ARGUMENT},
        {EMSGSIZE, TTRPC_INVALID_ARGUMENT},
        {ENAMETOOLONG, TTRPC_INVALID_ARGUMENT},
        {ENOTDIR, TTRPC_INVALID_ARGUMENT},
        {ENOEXEC, TTRPC_INVALID_ARGUMENT},
        {ENOTSUP, TTRPC_INVALID_ARGUMENT},
        {EBUSY, TTRPC_FAILED_PRECONDITION},
        {EISCONN, TTRPC_FAILED_PRECONDITION},
        {EACCES, TTRPC_PERMISSION_DENIED},
        {EPERM, TTRPC_PERMISSION_DENIED},
        {ENOSYS, TTRPC_UNIMPLEMENTED},
        {ETIMEDOUT, TTRPC_DEADLINE_EXCEEDED},
        {ENOMEM, TTRPC_RESOURCE_EXHAUSTED},
        {ENOSPC, TTRPC_RESOURCE_EXHAUSTED},
        {ENOBUFS, TTRPC_RESOURCE_EXHAUSTED},
        {EMFILE, TTRPC_RESOURCE_EXHAUSTED},
        {ENFILE, TTRPC_RESOURCE_EXHAUSTED},
        {EAGAIN, TTRPC_UNAVAILABLE},
        {EPIPE, TTRPC_UNAVAILABLE},
        {ECONNREFUSED, TTRPC_UNAVAILABLE},
        {ECONNRESET, TTRPC_UNAVAILABLE},
        {ECANCELED, TTRPC_ABORTED},
        {EBADMSG, TTRPC_INTERNAL},
    };

    if (error == 0)
        return TTRPC_OK;
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
        if (codes[i].error == error)
            return codes[i].code;
    return TTRPC_UNKNOWN;
}
