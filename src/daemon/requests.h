/*
 * requests.h - the requests that domusd answers, by table.
 */
#ifndef DOMUS_REQUESTS_H
#define DOMUS_REQUESTS_H

#include "server.h"

/* Its context is the struct daemon. */
extern const struct server_handler requests_handler;

#endif
