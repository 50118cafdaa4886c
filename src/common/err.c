#include "domus/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *format, ...)
{
    va_list args;

    e->code = code;
    va_start(args, format);
    (void)vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
    return -code;
}

int err_errno(struct err *e, const char *format, ...)
{
    int code = errno ? errno : EIO;
    va_list args;
    size_t n;

    e->code = code;
    va_start(args, format);
    (void)vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
    n = strlen(e->text);
    (void)snprintf(e->text + n, sizeof(e->text) - n, ": %s", strerror(code));
    return -code;
}

int err_wrap(struct err *e, const char *format, ...)
{
    char cause[ERR_TEXT_MAX];
    va_list args;
    size_t n;

    memcpy(cause, e->text, sizeof(cause));
    cause[sizeof(cause) - 1] = '\0';
    va_start(args, format);
    (void)vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
    n = strlen(e->text);
    (void)snprintf(e->text + n, sizeof(e->text) - n, ": %s", cause);
    return -e->code;
}
