#include "xl.h"

#include <stdio.h>
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"

#define COMMAND_LINE_MAX 4095

/* --- libxl's log ---------------------------------------------------------- */

static void __attribute__((format(printf, 5, 0)))
log_vmessage(struct xentoollog_logger *logger, xentoollog_level level,
             int errnoval, const char *context, const char *format,
             va_list args)
{
    struct xl_log *log = (struct xl_log *)logger;
    size_t at = strlen(log->lines);
    char line[512];

    (void)context;
    (void)vsnprintf(line, sizeof(line), format, args);
    if (level < XTL_ERROR) {
        log_debug("lib=xl %s", line);
        return;
    }
    if (errnoval > 0)
        (void)snprintf(log->lines + at, sizeof(log->lines) - at, "%s%s: %s",
                       at ? "; " : "", line, strerror(errnoval));
    else
        (void)snprintf(log->lines + at, sizeof(log->lines) - at, "%s%s",
                       at ? "; " : "", line);
}

static void log_destroy(struct xentoollog_logger *logger)
{
    (void)logger; /* part of struct xl, nothing of its own */
}

void xl_log_reset(struct xl_log *log)
{
    log->lines[0] = '\0';
}

static int errno_of(int rc)
{
    switch (rc) {
    case ERROR_NOMEM:
        return ENOMEM;
    case ERROR_INVAL:
    case ERROR_VERSION:
        return EINVAL;
    case ERROR_NI:
    case ERROR_NOPARAVIRT:
    case ERROR_FEATURE_REMOVED:
        return ENOTSUP;
    case ERROR_TIMEDOUT:
    case ERROR_GUEST_TIMEDOUT:
        return ETIMEDOUT;
    case ERROR_DOMAIN_NOTFOUND:
    case ERROR_DOMAIN_DESTROYED:
        return ESRCH;
    case ERROR_DEVICE_EXISTS:
        return EEXIST;
    default:
        return EIO;
    }
}

int xl_fail(struct xl *xl, int rc, struct err *e, const char *format, ...)
{
    const char *lines = xl->log.lines;
    char text[256];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return err_set(e, errno_of(rc), "%s: %s%s%s%s", text,
                   libxl_error_to_string(rc), lines[0] ? " (" : "", lines,
                   lines[0] ? ")" : "");
}

/* --- what everybody asks -------------------------------------------------- */

void xl_init(struct xl *xl)
{
    memset(xl, 0, sizeof(*xl));
    xl->log.vtable.vmessage = log_vmessage;
    xl->log.vtable.destroy = log_destroy;
}

int xl_uuid_parse(const char *text, libxl_uuid *uuid_out, struct err *e)
{
    if (strlen(text) != 36 || libxl_uuid_from_string(uuid_out, text) != 0)
        return err_set(e, EINVAL, "\"%s\" is not a uuid",
                       LOG_Q(text, strlen(text)));
    return 0;
}

int xl_domain_find(struct xl *xl, uint32_t domid, const libxl_uuid *uuid,
                   libxl_dominfo *info_out, struct err *e)
{
    libxl_dominfo info;
    int rc;

    libxl_dominfo_init(&info);
    rc = libxl_domain_info(xl->ctx, &info, domid);
    if (rc && rc != ERROR_DOMAIN_NOTFOUND) {
        libxl_dominfo_dispose(&info);
        return xl_fail(xl, rc, e, "domain %u", domid);
    }
    if (rc || libxl_uuid_compare(&info.uuid, uuid) != 0) {
        libxl_dominfo_dispose(&info);
        return err_set(e, ESRCH, "domain %u is gone", domid);
    }
    *info_out = info;
    return 0;
}

const char *xl_reason(const libxl_dominfo *info)
{
    if (!info->shutdown)
        return info->dying ? "destroyed" : "";
    switch (info->shutdown_reason) {
    case LIBXL_SHUTDOWN_REASON_POWEROFF:
        return "poweroff";
    case LIBXL_SHUTDOWN_REASON_REBOOT:
        return "reboot";
    case LIBXL_SHUTDOWN_REASON_SUSPEND:
        return "suspend";
    case LIBXL_SHUTDOWN_REASON_CRASH:
        return "crash";
    case LIBXL_SHUTDOWN_REASON_WATCHDOG:
        return "watchdog";
    case LIBXL_SHUTDOWN_REASON_SOFT_RESET:
        return "soft reset";
    case LIBXL_SHUTDOWN_REASON_UNKNOWN:
        break;
    }
    return "unknown";
}

int xl_host(struct xl *xl, struct job_host_result *result_out, struct err *e)
{
    const libxl_version_info *version = libxl_get_version_info(xl->ctx);
    libxl_physinfo info;
    uint64_t page_kb, claimed;
    int rc;

    if (!version)
        return xl_fail(xl, ERROR_FAIL, e, "cannot ask Xen for its version");
    libxl_physinfo_init(&info);
    rc = libxl_get_physinfo(xl->ctx, &info);
    if (rc) {
        libxl_physinfo_dispose(&info);
        return xl_fail(xl, rc, e, "cannot ask Xen for its memory");
    }
    page_kb = (uint64_t)version->pagesize / 1024;
    /* What running builds have claimed still counts as free in Xen. */
    claimed = info.outstanding_pages < info.free_pages ? info.outstanding_pages
                                                       : info.free_pages;
    *result_out = (struct job_host_result){
        .xen_version = xasprintf(
            "%d.%d%s", version->xen_version_major, version->xen_version_minor,
            version->xen_version_extra ? version->xen_version_extra : ""),
        .command_line = xstrndup(
            version->commandline ? version->commandline : "", COMMAND_LINE_MAX),
        .has_hap = info.cap_hvm && info.cap_hap,
        .free_kb = (info.free_pages - claimed) * page_kb,
        .total_kb = info.total_pages * page_kb,
    };
    libxl_physinfo_dispose(&info);
    return 0;
}
