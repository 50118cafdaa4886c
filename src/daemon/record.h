/*
 * record.h - what domusd writes down about a sandbox, so that the next domusd
 * finds it: <run-dir>/sandboxes/<uuid>.state, INI. Written to a new file,
 * synced and renamed; one that is cut short or garbled is not believed.
 */
#ifndef DOMUS_RECORD_H
#define DOMUS_RECORD_H

#include <stdint.h>

#include "domus/err.h"

#define RECORD_VERSION 2
#define UUID_LENGTH    36

struct record {
    char *namespace;
    char *id;
    char uuid[UUID_LENGTH + 1];
    char *state;       /* as sandbox_state_name() has it */
    char *domain_type; /* "pv", "pvh"; empty before it is chosen */
    uint32_t domid;    /* 0: no domain yet */
    uint64_t memory_kb;
    uint32_t vcpus;
    uint32_t cpu_weight; /* these two since version 2; 0: not said */
    uint32_t cpu_cap;
    char *image;   /* digest; empty: none */
    uint32_t loop; /* number of the image's loop device */
    uint64_t created_unix_ns;
};

/* dir_fd: of the directory of records. */
int record_save(int dir_fd, const struct record *record, struct err *e);
/* EPROTONOSUPPORT: a newer domusd wrote it; it may be whole. */
int record_load(int dir_fd, const char *file_name, struct record *record_out,
                struct err *e);
/* No record is success. */
int record_remove(int dir_fd, const char *uuid, struct err *e);
void record_clear(struct record *record);

/* Calls fn for every file that is named like a record; removes what an
 * interrupted record_save() left. */
typedef void record_found_fn(void *context, const char *file_name);
int record_each(int dir_fd, record_found_fn *fn, void *context, struct err *e);

/* A random one. */
void uuid_make(char uuid[UUID_LENGTH + 1]);

#endif
