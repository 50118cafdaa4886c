/*
 * oci_ascii.h - JSON with escapes in place of characters beyond ASCII.
 *
 * json-c 0.18 (Debian 13), when it is strict, takes their bytes for control
 * characters and refuses them.
 */
#ifndef DOMUS_OCI_ASCII_H
#define DOMUS_OCI_ASCII_H

#include <stddef.h>

#include "domus/buf.h"

/* Appends to out. -EILSEQ when the bytes are not UTF-8, or a backslash stands
 * before a character beyond ASCII; bad_out is the place then. */
int oci_ascii(const char *json, size_t n, struct buf *out, size_t *bad_out);

#endif
