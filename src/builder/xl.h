/*
 * xl.h - the connection of a builder process to Xen: a libxl context, a
 * xenstore connection, and libxl's own last error lines, which are the only
 * place where libxl says why something failed.
 */
#ifndef DOMUS_BUILDER_XL_H
#define DOMUS_BUILDER_XL_H

#define LIBXL_API_VERSION 0x041400
#include <libxl.h>
#include <libxl_utils.h>
#include <xenstore.h>

#include "domus/err.h"
#include "domus/job.h"

/* Of libxl's error lines, the first ones name the cause: they are kept. */
#define XL_LINES_MAX 1024

struct xl_log {
    struct xentoollog_logger vtable; /* first: libxl hands us this pointer */
    char lines[XL_LINES_MAX];
};

struct xl {
    struct xl_log log;
    libxl_ctx *ctx;       /* owned; NULL until xl_open() */
    struct xs_handle *xs; /* owned; NULL until xl_open() */
};

void xl_init(struct xl *xl);

/* Opens what is not open. The error says what this host lacks. */
int xl_open(struct xl *xl, struct err *e);
void xl_close(struct xl *xl);

/* Forgets the lines of earlier calls. */
void xl_log_reset(struct xl_log *log);

/* libxl's rc and its lines as an error, "text: rc (lines)". */
int xl_fail(struct xl *xl, int rc, struct err *e, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The domain with this domid and uuid: 0, or -ESRCH. */
int xl_domain_find(struct xl *xl, uint32_t domid, const libxl_uuid *uuid,
                   libxl_dominfo *info_out, struct err *e);

/* uuid from its text; -EINVAL for anything but 36 characters of one. */
int xl_uuid_parse(const char *text, libxl_uuid *uuid_out, struct err *e);

/* Xen's word for why a domain ended, of a domain that shut down or dies. */
const char *xl_reason(const libxl_dominfo *info);

int xl_host(struct xl *xl, struct job_host_result *result_out, struct err *e);

#endif
