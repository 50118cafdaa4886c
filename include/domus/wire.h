/*
 * wire.h - plain C structs to bytes and back, by table.
 *
 * One codec serves the guest protocol, the control protocol and the builder's
 * jobs. A message is a struct; a table of fields says where each member lies
 * and how long it may be, so every bound is written down once and checked in
 * one place. Integers are little-endian; strings and lists carry a 32-bit
 * length. There are no tags: both ends agree on a protocol version first.
 *
 * wire_decode() allocates what it returns and never more than a small multiple
 * of the input's length; wire_clear() frees it. A struct that was zeroed can
 * always be cleared.
 */
#ifndef DOMUS_WIRE_H
#define DOMUS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "domus/buf.h"
#include "domus/err.h"

/* Lists as they stand in the structs: an array that the struct owns. */
struct string_list {
    char **v;
    size_t n;
};

struct u32_list {
    uint32_t *v;
    size_t n;
};

struct byte_list {
    uint8_t *v;
    size_t n;
};

enum wire_kind {
    WIRE_BOOL,    /* bool; one byte, 0 or 1 */
    WIRE_U32,     /* uint32_t */
    WIRE_U64,     /* uint64_t */
    WIRE_I64,     /* int64_t */
    WIRE_STRING,  /* char *, never NULL after decoding, no NUL inside */
    WIRE_BYTES,   /* struct byte_list */
    WIRE_STRINGS, /* struct string_list */
    WIRE_U32S,    /* struct u32_list */
    WIRE_STRUCT,  /* a struct in place */
    WIRE_STRUCTS, /* { struct x *v; size_t n; } */
};

struct wire_desc;

struct wire_field {
    const char *name;
    enum wire_kind kind;
    size_t offset;
    uint32_t max;                 /* bytes of a string, entries of a list */
    uint32_t max_each;            /* bytes of each string of a list */
    const struct wire_desc *desc; /* of WIRE_STRUCT and WIRE_STRUCTS */
};

struct wire_desc {
    const char *name; /* for error messages */
    size_t size;      /* of the struct */
    const struct wire_field *fields;
    size_t field_count;
};

#define WIRE_FIELD(type, member, wire_kind, ...)             \
    {                                                        \
        .name = #member, .kind = (wire_kind),                \
        .offset = offsetof(struct type, member), __VA_ARGS__ \
    }

#define WIRE_DESC(type, table)                                         \
    {                                                                  \
        .name = #type, .size = sizeof(struct type), .fields = (table), \
        .field_count = sizeof(table) / sizeof((table)[0])              \
    }

/* Appends to out; fails with EMSGSIZE, naming the field, beyond a bound. */
int wire_encode(const struct wire_desc *desc, const void *object,
                struct buf *out, struct err *e);

/* object_out is written only on success. Fails with EBADMSG. */
int wire_decode(const struct wire_desc *desc, const uint8_t *bytes, size_t n,
                void *object_out, struct err *e);

void wire_clear(const struct wire_desc *desc, void *object);

/* A deep copy, by way of the codec; fails as wire_encode() does. */
int wire_copy(const struct wire_desc *desc, const void *object,
              void *object_out, struct err *e);

void string_list_add(struct string_list *list, const char *text);
void string_list_clear(struct string_list *list);

#endif
