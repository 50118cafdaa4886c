/*
 * sample.h - random structs of any table of wire.h, and their comparison; for
 * tests that want every field of every message to be there and to differ.
 */
#ifndef TESTS_SAMPLE_H
#define TESTS_SAMPLE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"
#include "domus/wire.h"

struct sample_any {
    void *v;
    size_t n;
};

/* xorshift: the same sequence on every machine. */
static inline uint64_t sample_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static inline char *sample_string(uint64_t *seed, uint32_t max)
{
    size_t n = sample_next(seed) % 24;
    char *text;

    if (n > max)
        n = max;
    text = xmalloc(n + 1);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(1 + sample_next(seed) % 255);
    text[n] = '\0';
    return text;
}

static inline void sample_fill(const struct wire_desc *desc, void *object,
                               uint64_t *seed);

static inline void sample_list(const struct wire_field *f, void *member,
                               uint64_t *seed)
{
    struct sample_any list = {NULL, sample_next(seed) % 5};
    size_t size = 1;

    if (list.n > f->max)
        list.n = f->max;
    if (f->kind == WIRE_STRINGS)
        size = sizeof(char *);
    else if (f->kind == WIRE_U32S)
        size = sizeof(uint32_t);
    else if (f->kind == WIRE_STRUCTS)
        size = f->desc->size;
    if (list.n > 0)
        list.v = xcalloc(list.n, size);
    for (size_t i = 0; i < list.n; i++) {
        if (f->kind == WIRE_STRINGS)
            ((char **)list.v)[i] = sample_string(seed, f->max_each);
        else if (f->kind == WIRE_U32S)
            ((uint32_t *)list.v)[i] = (uint32_t)sample_next(seed);
        else if (f->kind == WIRE_BYTES)
            ((uint8_t *)list.v)[i] = (uint8_t)sample_next(seed);
        else
            sample_fill(f->desc, (char *)list.v + i * size, seed);
    }
    memcpy(member, &list, sizeof(list));
}

static inline void sample_fill(const struct wire_desc *desc, void *object,
                               uint64_t *seed)
{
    for (size_t i = 0; i < desc->field_count; i++) {
        const struct wire_field *f = &desc->fields[i];
        void *member = (char *)object + f->offset;

        switch (f->kind) {
        case WIRE_BOOL:
            *(bool *)member = sample_next(seed) & 1;
            break;
        case WIRE_U32:
            *(uint32_t *)member = (uint32_t)sample_next(seed);
            break;
        case WIRE_U64:
        case WIRE_I64:
            *(uint64_t *)member = sample_next(seed);
            break;
        case WIRE_STRING:
            *(char **)member = sample_string(seed, f->max);
            break;
        case WIRE_STRUCT:
            sample_fill(f->desc, member, seed);
            break;
        case WIRE_BYTES:
        case WIRE_STRINGS:
        case WIRE_U32S:
        case WIRE_STRUCTS:
            sample_list(f, member, seed);
            break;
        }
    }
}

static inline bool sample_equal(const struct wire_desc *desc, const void *a,
                                const void *b);

static inline bool sample_list_equal(const struct wire_field *f, const void *a,
                                     const void *b)
{
    struct sample_any x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    if (x.n != y.n)
        return false;
    for (size_t i = 0; i < x.n; i++) {
        bool same;

        if (f->kind == WIRE_STRINGS)
            same = strcmp(((char **)x.v)[i], ((char **)y.v)[i]) == 0;
        else if (f->kind == WIRE_U32S)
            same = ((uint32_t *)x.v)[i] == ((uint32_t *)y.v)[i];
        else if (f->kind == WIRE_BYTES)
            same = ((uint8_t *)x.v)[i] == ((uint8_t *)y.v)[i];
        else
            same = sample_equal(f->desc, (char *)x.v + i * f->desc->size,
                                (char *)y.v + i * f->desc->size);
        if (!same)
            return false;
    }
    return true;
}

static inline bool sample_equal(const struct wire_desc *desc, const void *a,
                                const void *b)
{
    for (size_t i = 0; i < desc->field_count; i++) {
        const struct wire_field *f = &desc->fields[i];
        const char *x = (const char *)a + f->offset;
        const char *y = (const char *)b + f->offset;
        bool same = false;

        switch (f->kind) {
        case WIRE_BOOL:
            same = *(const bool *)x == *(const bool *)y;
            break;
        case WIRE_U32:
            same = memcmp(x, y, 4) == 0;
            break;
        case WIRE_U64:
        case WIRE_I64:
            same = memcmp(x, y, 8) == 0;
            break;
        case WIRE_STRING:
            same = strcmp(*(char *const *)x, *(char *const *)y) == 0;
            break;
        case WIRE_STRUCT:
            same = sample_equal(f->desc, x, y);
            break;
        case WIRE_BYTES:
        case WIRE_STRINGS:
        case WIRE_U32S:
        case WIRE_STRUCTS:
            same = sample_list_equal(f, x, y);
            break;
        }
        if (!same)
            return false;
    }
    return true;
}

#endif
