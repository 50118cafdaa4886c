#include "oci_ascii.h"

#include <errno.h>
#include <stdio.h>

/* Bytes of UTF-8 by what the first one says, and the smallest character that
 * needs so many. */
static const struct {
    uint8_t mask;
    uint8_t value;
    uint32_t least;
} lengths[] = {
    {0xe0, 0xc0, 0x80},
    {0xf0, 0xe0, 0x800},
    {0xf8, 0xf0, 0x10000},
};

/* How many of the n bytes are the first character, 0 when they are none. */
static size_t decode(const uint8_t *bytes, size_t n, uint32_t *character_out)
{
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t length = i + 2;
        uint32_t c = bytes[0] & (uint8_t)~lengths[i].mask;

        if ((bytes[0] & lengths[i].mask) != lengths[i].value)
            continue;
        if (length > n)
            return 0;
        for (size_t j = 1; j < length; j++) {
            if ((bytes[j] & 0xc0) != 0x80)
                return 0;
            c = c << 6 | (bytes[j] & 0x3f);
        }
        if (c < lengths[i].least || c > 0x10ffff ||
            (c >= 0xd800 && c <= 0xdfff))
            return 0;
        *character_out = c;
        return length;
    }
    return 0;
}

static void append_escape(struct buf *out, uint32_t c)
{
    char text[16];
    int n;

    if (c < 0x10000)
        n = snprintf(text, sizeof(text), "\\u%04x", c);
    else
        n = snprintf(text, sizeof(text), "\\u%04x\\u%04x",
                     0xd800 + ((c - 0x10000) >> 10),
                     0xdc00 + ((c - 0x10000) & 0x3ff));
    buf_append(out, text, (size_t)n);
}

int oci_ascii(const char *json, size_t n, struct buf *out, size_t *bad_out)
{
    const uint8_t *bytes = (const uint8_t *)json;
    size_t i = 0;

    while (i < n) {
        /* A backslash goes with what it escapes: an escape of ours in that
         * place would be half of another one. */
        size_t length = bytes[i] == '\\' && i + 1 < n ? 2 : 1;
        uint32_t c;

        if (bytes[i + length - 1] < 0x80) {
            buf_append(out, bytes + i, length);
        } else {
            length = length == 1 ? decode(bytes + i, n - i, &c) : 0;
            if (length == 0) {
                *bad_out = i;
                return -EILSEQ;
            }
            append_escape(out, c);
        }
        i += length;
    }
    return 0;
}
