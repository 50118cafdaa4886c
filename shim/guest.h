/*
 * guest.h - the shim's side of the guest protocol: handshake, requests with
 * deadlines, notices.
 *
 * Whatever the guest says is checked here: a reply must answer a request that
 * waits and be of its type, HELLO comes once and first. A breach ends the
 * channel; the owner is told once and then takes the guest down.
 */
#ifndef DOMUS_GUEST_H
#define DOMUS_GUEST_H

#include "domus/link.h"

struct guest;

struct guest_handler {
    /* The handshake is done. */
    void (*up)(void *context);
    void (*exited)(void *context, const struct proto_exited *exited);
    /* The kernel killed a process for want of memory. */
    void (*oom)(void *context, const char *container);
    /* The channel is closed. Requests that wait stay until guest_fail(). */
    void (*lost)(void *context, const struct err *why);
    /* The first bytes of an output stream came. */
    void (*first_data)(void *context, uint32_t stream);
};

/* reply is NULL when the request failed; why says so, also for a RESULT whose
 * code is not 0. Called once for each request. */
typedef void guest_reply_fn(void *context, const struct proto_message *reply,
                            const struct err *why);

/* channel: "vchan:DOMID:PATH", or "unix:PATH". */
int guest_connect(struct loop *loop, const char *channel,
                  const struct guest_handler *handler, void *context,
                  struct guest **guest_out, struct err *e);
/* Requests that wait are forgotten, so fail them first. */
void guest_free(struct guest **guest);

struct link *guest_link(struct guest *guest);

/* message->id is set here. */
void guest_request(struct guest *guest, struct proto_message *message,
                   int64_t deadline_ms, guest_reply_fn *fn, void *context);

/* Ends every request that waits. */
void guest_fail(struct guest *guest, const struct err *why);

#endif
