/*
 * control.h - the shim's side of the control protocol: requests to domusd, in
 * the loop, and its notices.
 *
 * Connects when there is something to ask and starts domusd when nobody
 * listens. Once attached it keeps the connection: when domusd goes away it
 * comes back and attaches again, and what can be asked twice is asked again.
 */
#ifndef DOMUS_CONTROL_H
#define DOMUS_CONTROL_H

#include "domus/ctl.h"
#include "domus/loop.h"

struct control;

struct control_handler {
    /* CTL_CHANNEL_READY; or, after attaching anew, where the channel is. */
    void (*channel)(void *context, const char *channel);
    void (*died)(void *context, const char *reason);
};

/* reply is NULL when the request failed; why says so, also for a RESULT whose
 * code is not 0. Called once for each request. */
typedef void control_reply_fn(void *context, const struct packet *reply,
                              const struct err *why);

struct control *control_new(struct loop *loop, const char *namespace,
                            const char *id,
                            const struct control_handler *handler,
                            void *context);
void control_free(struct control **control);

/* body is copied; NULL: the sandbox's name. */
void control_request(struct control *control, enum ctl_type type,
                     const void *body, int64_t deadline_ms,
                     control_reply_fn *fn, void *context);

/* With CTL_LOGGER's descriptors, which stay the caller's. */
void control_request_fds(struct control *control, enum ctl_type type,
                         const void *body, const int *fds, size_t n,
                         int64_t deadline_ms, control_reply_fn *fn,
                         void *context);

/* From now on the sandbox exists: keep in touch; or no longer. */
void control_set_attached(struct control *control, bool attached);

#endif
