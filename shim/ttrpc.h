/*
 * ttrpc.h - frames of ttrpc, the transport that containerd speaks to shims.
 *
 * Ten bytes of header (big-endian: u32 length, u32 stream id; u8 type, u8
 * flags), then the payload. The reader takes bytes as they come, cut anywhere,
 * and never holds room for more than was received.
 */
#ifndef DOMUS_TTRPC_H
#define DOMUS_TTRPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "domus/buf.h"

#define TTRPC_HEADER_SIZE 10
#define TTRPC_PAYLOAD_MAX (4 * 1024 * 1024) /* the protocol's own limit */
/* What the structs of one decoded message may take: the payload's size says
 * little, since an empty submessage of two bytes becomes a whole struct. */
#define TTRPC_UNPACKED_MAX (16 * 1024 * 1024)

enum ttrpc_type { TTRPC_REQUEST = 1, TTRPC_RESPONSE, TTRPC_DATA };

#define TTRPC_FLAG_REMOTE_CLOSED 0x01
#define TTRPC_FLAG_REMOTE_OPEN   0x02

/* gRPC's codes, as far as they are used. */
enum ttrpc_code {
    TTRPC_OK = 0,
    TTRPC_UNKNOWN = 2,
    TTRPC_INVALID_ARGUMENT = 3,
    TTRPC_DEADLINE_EXCEEDED = 4,
    TTRPC_NOT_FOUND = 5,
    TTRPC_ALREADY_EXISTS = 6,
    TTRPC_PERMISSION_DENIED = 7,
    TTRPC_RESOURCE_EXHAUSTED = 8,
    TTRPC_FAILED_PRECONDITION = 9,
    TTRPC_ABORTED = 10,
    TTRPC_UNIMPLEMENTED = 12,
    TTRPC_INTERNAL = 13,
    TTRPC_UNAVAILABLE = 14,
};

struct ttrpc_frame {
    uint32_t length;
    uint32_t stream;
    uint8_t type;
    uint8_t flags;
    bool oversized;         /* beyond the limit: the payload is thrown away */
    const uint8_t *payload; /* the reader's, until its next call */
};

struct ttrpc_reader {
    struct buf received;
    size_t handled;    /* bytes of the frame that was returned last */
    uint32_t throwing; /* bytes of an oversized payload still to come */
};

/* Room for n bytes that the caller reads; then ttrpc_reader_took(). */
uint8_t *ttrpc_reader_room(struct ttrpc_reader *r, size_t n);
void ttrpc_reader_took(struct ttrpc_reader *r, size_t n);
/* True and the next whole frame, or false when there is none yet. An oversized
 * one is returned as soon as its header is there. */
bool ttrpc_reader_next(struct ttrpc_reader *r, struct ttrpc_frame *frame_out);
void ttrpc_reader_clear(struct ttrpc_reader *r);

/* Appends a frame; n is at most TTRPC_PAYLOAD_MAX. */
void ttrpc_put_frame(struct buf *out, uint32_t stream, enum ttrpc_type type,
                     const void *payload, size_t n);
void ttrpc_put_message(struct buf *out, uint32_t stream, enum ttrpc_type type,
                       const ProtobufCMessage *message);

/* A response that carries message (NULL: an empty one), or an error. */
void ttrpc_put_reply(struct buf *out, uint32_t stream,
                     const ProtobufCMessage *message);
void ttrpc_put_error(struct buf *out, uint32_t stream, enum ttrpc_code code,
                     const char *text);

/* Decodes within TTRPC_UNPACKED_MAX; NULL when it is not such a message. Free
 * with protobuf_c_message_free_unpacked(message, NULL). */
ProtobufCMessage *ttrpc_unpack(const ProtobufCMessageDescriptor *descriptor,
                               const uint8_t *untrusted_bytes, size_t n);

/* The one place where errno values become codes. */
enum ttrpc_code ttrpc_code_of(int error);

#endif
