#include "domus/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static struct {
    int fd;
    enum log_level least;
    char fields[256];
} sink = {.fd = STDERR_FILENO, .least = LOG_INFO};

static const char *const level_names[] = {
    [LOG_DEBUG] = "debug",
    [LOG_INFO] = "info",
    [LOG_WARN] = "warning",
    [LOG_ERROR] = "error",
};

void log_open(int fd, enum log_level least)
{
    sink.fd = fd;
    sink.least = least;
}

void log_set_level(enum log_level least)
{
    sink.least = least;
}

void log_set_fields(const char *fields)
{
    (void)snprintf(sink.fields, sizeof(sink.fields), "%s", fields);
}

/* Appends text to line with quotes, backslashes and controls escaped. */
static size_t put_escaped(char *line, size_t at, size_t size, const char *text)
{
    for (const char *p = text; *p && at + 4 < size; p++) {
        unsigned char c = (unsigned char)*p;

        if (c == '"' || c == '\\') {
            line[at++] = '\\';
            line[at++] = (char)c;
        } else if (c == '\n') {
            line[at++] = '\\';
            line[at++] = 'n';
        } else if (c < 0x20 || c == 0x7f) {
            at += (size_t)snprintf(line + at, size - at, "\\x%02x", c);
        } else {
            line[at++] = (char)c;
        }
    }
    return at;
}

void log_write(enum log_level level, const char *format, ...)
{
    char text[LINE_MAX_BYTES / 2], line[LINE_MAX_BYTES];
    int saved = errno;
    struct timespec now;
    struct tm tm;
    size_t at;
    va_list args;

    if (level < sink.least || sink.fd < 0)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    at = strftime(line, sizeof(line), "time=\"%Y-%m-%dT%H:%M:%S", &tm);
    at += (size_t)snprintf(line + at, sizeof(line) - at,
                           ".%06ldZ\" level=%s msg=\"", now.tv_nsec / 1000,
                           level_names[level]);
    at = put_escaped(line, at, sizeof(line) - sizeof(sink.fields) - 4, text);
    at += (size_t)snprintf(line + at, sizeof(line) - at, "\"%s%s\n",
                           sink.fields[0] ? " " : "", sink.fields);
    /* One write, so that lines of several processes do not mix. */
    (void)!write(sink.fd, line, at);
    errno = saved;
}

const char *log_quote(struct log_quoted *out, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        if (at + 8 > sizeof(out->text)) {
            at +=
                (size_t)snprintf(out->text + at, sizeof(out->text) - at, "...");
            break;
        }
        if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\\')
            out->text[at++] = (char)p[i];
        else
            at += (size_t)snprintf(out->text + at, sizeof(out->text) - at,
                                   "\\x%02x", p[i]);
    }
    out->text[at] = '\0';
    return out->text;
}
