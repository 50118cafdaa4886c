/*
 * log.h - one line per event, in the form that containerd prints itself:
 * time="…" level=… msg="…" followed by the process's own fields.
 *
 * The only global state of a program besides its main object: where the lines
 * go, from which level on, and the fields that every line carries.
 */
#ifndef DOMUS_LOG_H
#define DOMUS_LOG_H

#include <stddef.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* A quoted string of untrusted bytes is never longer than this. */
#define LOG_QUOTE_MAX 256

/* fd is borrowed; lines that a full non-blocking pipe won't take are lost. */
void log_open(int fd, enum log_level least);
void log_set_level(enum log_level least);

/* Fields in logfmt, "sandbox=web1 namespace=default"; copied. */
void log_set_fields(const char *fields);

void log_write(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

/*
 * Writes n untrusted bytes as printable text into out (at most LOG_QUOTE_MAX
 * characters and a final NUL): control and non-ASCII bytes as \xNN, "…" where
 * it was cut. Returns out.
 */
struct log_quoted {
    char text[LOG_QUOTE_MAX + 1];
};
const char *log_quote(struct log_quoted *out, const void *bytes, size_t n);

/* For use in an argument list: log_warn("said %s", LOG_Q(bytes, n)). */
#define LOG_Q(bytes, n) log_quote(&(struct log_quoted){{0}}, (bytes), (n))

#endif
