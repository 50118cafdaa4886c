/*
 * log_uri.h - where a process's output goes, as containerd writes it: a FIFO's
 * path with or without fifo://, file:///path, or binary:///program?key=value.
 * Such URIs have come out of labels of images, so nothing else is taken.
 */
#ifndef DOMUS_LOG_URI_H
#define DOMUS_LOG_URI_H

#include "domus/err.h"
#include "domus/wire.h"

enum log_uri_kind { LOG_URI_FIFO, LOG_URI_FILE, LOG_URI_BINARY };

struct log_uri {
    enum log_uri_kind kind;
    char *path;              /* absolute */
    struct string_list args; /* of a binary: key, value, key, value */
};

int log_uri_parse(const char *uri, struct log_uri *uri_out, struct err *e);
void log_uri_clear(struct log_uri *uri);

#endif
