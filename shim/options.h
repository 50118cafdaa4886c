/*
 * options.h - the command line, by the rules of Go's flag package: -x v, -x=v,
 * --x; the first argument that is no flag is the action.
 */
#ifndef DOMUS_OPTIONS_H
#define DOMUS_OPTIONS_H

#include <stdbool.h>

#include "domus/err.h"

/* Borrowed from argv; "" when not given. */
struct options {
    const char *action; /* "start", "delete"; "": be the server */
    const char *namespace;
    const char *id;
    const char *address;
    const char *publish_binary;
    const char *bundle;
    const char *socket;
    const char *debug_socket;
    bool debug;
    bool version;
    bool info;
    bool help;
};

int options_parse(int argc, char **argv, struct options *options_out,
                  struct err *e);

#endif
