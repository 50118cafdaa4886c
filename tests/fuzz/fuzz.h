/*
 * fuzz.h - what a fuzz target offers: libFuzzer's entry point, and the seeds
 * of its corpus. `PROGRAM --write DIR` writes them (see replay.c).
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef void fuzz_emit_fn(const char *name, const void *bytes, size_t n);
/* A target whose corpus was written by hand has none. */
void fuzz_seeds(fuzz_emit_fn *emit) __attribute__((weak));

/* For properties that must hold whatever the input is. */
#define FUZZ_CHECK(condition) \
    do {                      \
        if (!(condition))     \
            __builtin_trap(); \
    } while (0)

#endif
