/*
 * probe.h - the probe's parts share the way in which they tell things.
 */
#ifndef TESTS_DIFF_PROBE_H
#define TESTS_DIFF_PROBE_H

#include <stdbool.h>
#include <sys/types.h>

/* Notes the line "key=value"; what is not printable becomes \xNN. */
void tell(const char *key, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "ok" for 0 and more, else the name of the error. */
const char *outcome(long result);

/* A file's first bytes, cut at size; -1 when it can't be read. */
ssize_t slurp(const char *path, char *text, size_t size);

void tell_calls(void);    /* probe-calls.c: what system calls answer */
void tell_files(void);    /* probe-files.c: mounts, devices, paths */
void tell_settings(void); /* probe-files.c: sysctls, cgroup files */

#endif
