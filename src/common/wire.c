#include "domus/wire.h"

#include <endian.h>
#include <string.h>

#include "domus/mem.h"

/* Tables nest by hand, so this deep at most; a guard for the recursion. */
#define DEPTH_MAX 6

/* Every list member starts like this, whatever its entries are. */
struct any_list {
    void *v;
    size_t n;
};

struct reader {
    const uint8_t *bytes;
    size_t left;
};

static void put_u32(struct buf *out, uint32_t value)
{
    value = htole32(value);
    buf_append(out, &value, sizeof(value));
}

static void put_u64(struct buf *out, uint64_t value)
{
    value = htole64(value);
    buf_append(out, &value, sizeof(value));
}

static int too_long(const struct wire_desc *desc, const struct wire_field *f,
                    size_t n, uint32_t max, struct err *e)
{
    return err_set(e, EMSGSIZE, "%s.%s: %zu, the limit is %u", desc->name,
                   f->name, n, max);
}

static int put_string(const struct wire_desc *desc, const struct wire_field *f,
                      const char *text, uint32_t max, struct buf *out,
                      struct err *e)
{
    size_t n = text ? strlen(text) : 0;

    if (n > max)
        return too_long(desc, f, n, max, e);
    put_u32(out, (uint32_t)n);
    buf_append(out, text, n);
    return 0;
}

static int encode_struct(const struct wire_desc *desc, const void *object,
                         int depth, struct buf *out, struct err *e);

static int encode_list(const struct wire_desc *desc, const struct wire_field *f,
                       const void *member, int depth, struct buf *out,
                       struct err *e)
{
    struct any_list list;
    int r = 0;

    memcpy(&list, member, sizeof(list));
    if (list.n > f->max)
        return too_long(desc, f, list.n, f->max, e);
    put_u32(out, (uint32_t)list.n);
    if (f->kind == WIRE_BYTES) {
        buf_append(out, list.v, list.n);
        return 0;
    }
    for (size_t i = 0; i < list.n && r == 0; i++) {
        if (f->kind == WIRE_STRINGS)
            r = put_string(desc, f, ((char **)list.v)[i], f->max_each, out, e);
        else if (f->kind == WIRE_U32S)
            put_u32(out, ((uint32_t *)list.v)[i]);
        else
            r = encode_struct(f->desc, (char *)list.v + i * f->desc->size,
                              depth + 1, out, e);
    }
    return r;
}

static int encode_field(const struct wire_desc *desc,
                        const struct wire_field *f, const void *member,
                        int depth, struct buf *out, struct err *e)
{
    uint8_t byte;

    switch (f->kind) {
    case WIRE_BOOL:
        byte = *(const bool *)member ? 1 : 0;
        buf_append(out, &byte, 1);
        return 0;
    case WIRE_U32:
        put_u32(out, *(const uint32_t *)member);
        return 0;
    case WIRE_U64:
    case WIRE_I64:
        put_u64(out, *(const uint64_t *)member);
        return 0;
    case WIRE_STRING:
        return put_string(desc, f, *(char *const *)member, f->max, out, e);
    case WIRE_STRUCT:
        return encode_struct(f->desc, member, depth + 1, out, e);
    case WIRE_BYTES:
    case WIRE_STRINGS:
    case WIRE_U32S:
    case WIRE_STRUCTS:
        return encode_list(desc, f, member, depth, out, e);
    }
    return err_set(e, EINVAL, "%s.%s: bad table", desc->name, f->name);
}

static int encode_struct(const struct wire_desc *desc, const void *object,
                         int depth, struct buf *out, struct err *e)
{
    if (depth > DEPTH_MAX)
        return err_set(e, EMSGSIZE, "%s: nested too deep", desc->name);
    for (size_t i = 0; i < desc->field_count; i++) {
        const struct wire_field *f = &desc->fields[i];
        int r = encode_field(desc, f, (const char *)object + f->offset, depth,
                             out, e);

        if (r < 0)
            return r;
    }
    return 0;
}

int wire_encode(const struct wire_desc *desc, const void *object,
                struct buf *out, struct err *e)
{
    return encode_struct(desc, object, 0, out, e);
}

static int cut_short(const struct wire_desc *desc, const struct wire_field *f,
                     struct err *e)
{
    return err_set(e, EBADMSG, "%s.%s: message ends here", desc->name, f->name);
}

static int get_u32(struct reader *r, uint32_t *value_out)
{
    uint32_t value;

    if (r->left < sizeof(value))
        return -EBADMSG;
    memcpy(&value, r->bytes, sizeof(value));
    r->bytes += sizeof(value);
    r->left -= sizeof(value);
    *value_out = le32toh(value);
    return 0;
}

static int get_u64(struct reader *r, uint64_t *value_out)
{
    uint32_t low, high;

    if (get_u32(r, &low) < 0 || get_u32(r, &high) < 0)
        return -EBADMSG;
    *value_out = (uint64_t)high << 32 | low;
    return 0;
}

/* A length that is within the table's bound and within the message. */
static int get_length(const struct wire_desc *desc, const struct wire_field *f,
                      uint32_t max, size_t smallest, struct reader *r,
                      uint32_t *n_out, struct err *e)
{
    uint32_t n;

    if (get_u32(r, &n) < 0)
        return cut_short(desc, f, e);
    if (n > max)
        return err_set(e, EBADMSG, "%s.%s: %u, the limit is %u", desc->name,
                       f->name, n, max);
    if ((uint64_t)n * smallest > r->left)
        return cut_short(desc, f, e);
    *n_out = n;
    return 0;
}

static int get_string(const struct wire_desc *desc, const struct wire_field *f,
                      uint32_t max, struct reader *r, char **text_out,
                      struct err *e)
{
    uint32_t n;
    int rc = get_length(desc, f, max, 1, r, &n, e);

    if (rc < 0)
        return rc;
    if (memchr(r->bytes, '\0', n))
        return err_set(e, EBADMSG, "%s.%s: NUL in a string", desc->name,
                       f->name);
    *text_out = xmalloc((size_t)n + 1);
    memcpy(*text_out, r->bytes, n);
    (*text_out)[n] = '\0';
    r->bytes += n;
    r->left -= n;
    return 0;
}

static int decode_struct(const struct wire_desc *desc, struct reader *r,
                         int depth, void *object, struct err *e);

/* The fewest bytes that one entry can take, for the check of list lengths. */
static size_t smallest_entry(const struct wire_field *f)
{
    size_t bytes = 0;

    if (f->kind == WIRE_BYTES)
        return 1;
    if (f->kind != WIRE_STRUCTS)
        return 4;
    for (size_t i = 0; i < f->desc->field_count; i++)
        bytes += f->desc->fields[i].kind == WIRE_BOOL ? 1 : 4;
    return bytes ? bytes : 1;
}

static int decode_list(const struct wire_desc *desc, const struct wire_field *f,
                       struct reader *r, int depth, void *member, struct err *e)
{
    struct any_list list = {NULL, 0};
    size_t size;
    uint32_t n;
    int rc = get_length(desc, f, f->max, smallest_entry(f), r, &n, e);

    if (rc < 0)
        return rc;
    if (f->kind == WIRE_STRINGS)
        size = sizeof(char *);
    else if (f->kind == WIRE_U32S)
        size = sizeof(uint32_t);
    else
        size = f->kind == WIRE_BYTES ? 1 : f->desc->size;
    list.v = n ? xcalloc(n, size) : NULL;
    /* The count goes up entry by entry: the caller clears what is there. */
    memcpy(member, &list, sizeof(list));
    if (f->kind == WIRE_BYTES && n) {
        memcpy(list.v, r->bytes, n);
        r->bytes += n;
        r->left -= n;
        list.n = n;
    }
    for (; list.n < n && rc == 0; list.n++) {
        void *entry = (char *)list.v + list.n * size;

        if (f->kind == WIRE_STRINGS)
            rc = get_string(desc, f, f->max_each, r, entry, e);
        else if (f->kind == WIRE_U32S)
            rc = get_u32(r, entry) < 0 ? cut_short(desc, f, e) : 0;
        else
            rc = decode_struct(f->desc, r, depth + 1, entry, e);
    }
    memcpy(member, &list, sizeof(list));
    return rc;
}

static int decode_field(const struct wire_desc *desc,
                        const struct wire_field *f, struct reader *r, int depth,
                        void *member, struct err *e)
{
    switch (f->kind) {
    case WIRE_BOOL:
        if (r->left < 1)
            return cut_short(desc, f, e);
        if (r->bytes[0] > 1)
            return err_set(e, EBADMSG, "%s.%s: neither 0 nor 1", desc->name,
                           f->name);
        *(bool *)member = r->bytes[0];
        r->bytes++;
        r->left--;
        return 0;
    case WIRE_U32:
        return get_u32(r, member) < 0 ? cut_short(desc, f, e) : 0;
    case WIRE_U64:
    case WIRE_I64:
        return get_u64(r, member) < 0 ? cut_short(desc, f, e) : 0;
    case WIRE_STRING:
        return get_string(desc, f, f->max, r, member, e);
    case WIRE_STRUCT:
        return decode_struct(f->desc, r, depth + 1, member, e);
    case WIRE_BYTES:
    case WIRE_STRINGS:
    case WIRE_U32S:
    case WIRE_STRUCTS:
        return decode_list(desc, f, r, depth, member, e);
    }
    return err_set(e, EINVAL, "%s.%s: bad table", desc->name, f->name);
}

static int decode_struct(const struct wire_desc *desc, struct reader *r,
                         int depth, void *object, struct err *e)
{
    if (depth > DEPTH_MAX)
        return err_set(e, EBADMSG, "%s: nested too deep", desc->name);
    for (size_t i = 0; i < desc->field_count; i++) {
        const struct wire_field *f = &desc->fields[i];
        int rc = decode_field(desc, f, r, depth, (char *)object + f->offset, e);

        if (rc < 0)
            return rc;
    }
    return 0;
}

int wire_decode(const struct wire_desc *desc, const uint8_t *bytes, size_t n,
                void *object_out, struct err *e)
{
    struct reader r = {bytes, n};
    _cleanup_free_ void *object = xcalloc(1, desc->size);
    int rc = decode_struct(desc, &r, 0, object, e);

    if (rc == 0 && r.left > 0)
        rc = err_set(e, EBADMSG, "%s: %zu bytes too many", desc->name, r.left);
    if (rc < 0) {
        wire_clear(desc, object);
        return rc;
    }
    memcpy(object_out, object, desc->size);
    return 0;
}

static void clear_field(const struct wire_field *f, void *member)
{
    struct any_list list;

    if (f->kind == WIRE_STRING) {
        free(*(char **)member);
        *(char **)member = NULL;
        return;
    }
    if (f->kind == WIRE_STRUCT) {
        wire_clear(f->desc, member);
        return;
    }
    if (f->kind == WIRE_BOOL || f->kind == WIRE_U32 || f->kind == WIRE_U64 ||
        f->kind == WIRE_I64)
        return;
    memcpy(&list, member, sizeof(list));
    for (size_t i = 0; i < list.n; i++) {
        if (f->kind == WIRE_STRINGS)
            free(((char **)list.v)[i]);
        else if (f->kind == WIRE_STRUCTS)
            wire_clear(f->desc, (char *)list.v + i * f->desc->size);
    }
    free(list.v);
    memset(member, 0, sizeof(list));
}

void wire_clear(const struct wire_desc *desc, void *object)
{
    for (size_t i = 0; i < desc->field_count; i++)
        clear_field(&desc->fields[i], (char *)object + desc->fields[i].offset);
}

int wire_copy(const struct wire_desc *desc, const void *object,
              void *object_out, struct err *e)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT;
    int r = wire_encode(desc, object, &bytes, e);

    if (r < 0)
        return r;
    return wire_decode(desc, buf_data(&bytes), buf_len(&bytes), object_out, e);
}

void string_list_add(struct string_list *list, const char *text)
{
    list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
    list->v[list->n++] = xstrdup(text);
}

void string_list_clear(struct string_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->v[i]);
    free(list->v);
    *list = (struct string_list){NULL, 0};
}
