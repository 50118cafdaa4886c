/*
 * err.h - how a failure travels upward.
 *
 * A function that can fail takes `struct err *` last and returns 0 or a
 * negative errno value. The first cause is set with err_set(); callers put
 * their own words in front with err_wrap(). Only the edge (main, a request
 * handler) logs or answers it.
 */
#ifndef DOMUS_ERR_H
#define DOMUS_ERR_H

#include <errno.h>

/* Room for a sentence and the last lines of a guest's console. */
#define ERR_TEXT_MAX 2048

struct err {
    int code; /* positive errno value, 0 while nothing failed */
    char text[ERR_TEXT_MAX];
};

#define ERR_INIT  \
    {             \
        .code = 0 \
    }

/* Sets code (a positive errno value) and text; returns -code. */
int err_set(struct err *e, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with errno as the code and its description after the text. */
int err_errno(struct err *e, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts "text: " in front of what is there; returns -e->code. */
int err_wrap(struct err *e, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
