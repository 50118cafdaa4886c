/*
 * bootstrap.h - what containerd writes to `start` and reads from it; each of
 * its versions does so in a form of its own.
 */
#ifndef DOMUS_BOOTSTRAP_H
#define DOMUS_BOOTSTRAP_H

#include <stdbool.h>

#include "domus/buf.h"
#include "domus/err.h"
#include "options.h"

#define BOOTSTRAP_MAX (10 * 1024 * 1024)

struct bootstrap {
    bool recognised; /* containerd 2.3 or later: it sent BootstrapParams */
    char *socket_dir;
    char *ttrpc_address;
};

/* What came on standard input: BootstrapParams for this very container, or
 * runtime options (an Any), or nothing. */
int bootstrap_parse(const uint8_t *bytes, size_t n,
                    const struct options *options,
                    struct bootstrap *bootstrap_out, struct err *e);
void bootstrap_clear(struct bootstrap *bootstrap);

/* The answer: protobuf to whoever sent BootstrapParams, JSON to containerd
 * 1.7 to 2.2 (it sets MAX_SHIM_VERSION), the plain address to 1.6. */
void bootstrap_reply(const struct bootstrap *bootstrap,
                     const char *max_shim_version, const char *address,
                     struct buf *out);

/* The answer to -info. */
void bootstrap_info(struct buf *out);

#endif
