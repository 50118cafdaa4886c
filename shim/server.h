/*
 * server.h - the ttrpc server: a listening socket, its connections, and the
 * calls that wait for an answer.
 *
 * Calls are handed out as they come and may be answered in any order, from
 * anywhere, also after their connection is gone. A connection whose peer does
 * not read its answers is not read from either.
 */
#ifndef DOMUS_SERVER_H
#define DOMUS_SERVER_H

#include "domus/err.h"
#include "domus/loop.h"
#include "ttrpc.h"

struct server;
struct call;

/* Takes the call: it must be answered, now or later, once. */
typedef void server_call_fn(void *context, struct call *call,
                            const char *method, const uint8_t *payload,
                            size_t n);

/* Takes fd, a listening socket that does not block. services ends with NULL. */
struct server *server_new(struct loop *loop, int fd,
                          const char *const *services, server_call_fn *fn,
                          void *context);
void server_free(struct server **server);

/* True when no answer waits to be sent. */
bool server_flushed(const struct server *server);

/* For one that may stay open for ever and that nobody takes back: it no longer
 * counts against what its connection may have open. */
void call_uncount(struct call *call);
/* False once its connection is gone. */
bool call_wanted(const struct call *call);
/* Milliseconds that its client waits for the answer; -1: without end. */
int64_t call_timeout(const struct call *call);

/* They free the call and set the caller's pointer to NULL. */
void call_reply(struct call **call, const ProtobufCMessage *message);
void call_fail(struct call **call, const struct err *why);
void call_fail_code(struct call **call, enum ttrpc_code code, const char *text);

#endif
