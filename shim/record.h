/*
 * record.h - what the shim leaves in its bundle for the `delete` command,
 * which containerd runs once the shim is gone: whether domusd may know the
 * sandbox, and how the task ended.
 */
#ifndef DOMUS_RECORD_H
#define DOMUS_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "domus/err.h"

#define RECORD_FILE "domus-record"

struct record {
    pid_t shim;   /* of the server; 0: none was started */
    bool sandbox; /* domusd was asked for one and it was not taken down */
    bool exited;
    uint32_t status;
    uint64_t exited_ns; /* since 1970 */
};

/* On disk, by rename, when it returns. */
int record_write(const char *bundle, const struct record *record,
                 struct err *e);

/* A missing file is an empty record. */
int record_read(const char *bundle, struct record *record_out, struct err *e);

/* Writes bundle/name so that a reader sees all of it or nothing. */
int record_write_file(const char *bundle, const char *name, const char *text,
                      struct err *e);

#endif
