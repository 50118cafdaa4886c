/*
 * digest.h - SHA-256 by libcrypto, as 64 lowercase hexadecimal digits.
 */
#ifndef DOMUS_DIGEST_H
#define DOMUS_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "domus/err.h"

#define DIGEST_HEX_LENGTH 64

struct digest {
    char hex[DIGEST_HEX_LENGTH + 1];
};

/* Of bytes that come piece by piece. */
struct digester;

struct digester *digester_new(void);
void digester_add(struct digester *d, const void *bytes, size_t n);
/* Frees d. */
struct digest digester_end(struct digester *d);

/* Of a file from its first byte to its end. */
int digest_file(int fd, struct digest *digest_out, struct err *e);

/* True for exactly 64 lowercase hexadecimal digits. */
bool digest_hex_valid(const char *hex, size_t n);

#endif
