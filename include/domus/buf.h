/*
 * buf.h - a byte queue: append at the end, consume from the front.
 *
 * The owner decides how much may be in it; buf itself never refuses.
 */
#ifndef DOMUS_BUF_H
#define DOMUS_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *bytes; /* owned */
    size_t start;   /* first byte not yet consumed */
    size_t end;     /* one past the last byte */
    size_t size;    /* allocated */
};

#define BUF_INIT      \
    {                 \
        .bytes = NULL \
    }

void buf_clear(struct buf *b); /* frees; usable again afterwards */

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}

/* NULL while nothing was ever in it: adding to NULL is undefined. */
static inline uint8_t *buf_data(const struct buf *b)
{
    return b->bytes ? b->bytes + b->start : NULL;
}

/* Room for n more bytes at the returned address; then buf_commit(). */
uint8_t *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
void buf_append(struct buf *b, const void *bytes, size_t n);
void buf_consume(struct buf *b, size_t n);

#define _cleanup_buf_ _cleanup_(buf_clear)

#endif
