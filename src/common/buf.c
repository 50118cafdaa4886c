#include "domus/buf.h"

#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"

void buf_clear(struct buf *b)
{
    free(b->bytes);
    *b = (struct buf)BUF_INIT;
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
    size_t len = buf_len(b);

    if (b->size - b->end >= n)
        return b->bytes + b->end;
    if (b->start > 0) {
        memmove(b->bytes, buf_data(b), len);
        b->start = 0;
        b->end = len;
    }
    if (b->size - b->end < n) {
        size_t size = b->size ? b->size : 256;

        while (size - len < n)
            size *= 2;
        b->bytes = xreallocarray(b->bytes, size, 1);
        b->size = size;
    }
    return b->bytes + b->end;
}

void buf_commit(struct buf *b, size_t n)
{
    b->end += n;
}

void buf_append(struct buf *b, const void *bytes, size_t n)
{
    if (n == 0)
        return;
    memcpy(buf_reserve(b, n), bytes, n);
    buf_commit(b, n);
}

void buf_consume(struct buf *b, size_t n)
{
    b->start += n;
    if (b->start == b->end)
        b->start = b->end = 0;
}
