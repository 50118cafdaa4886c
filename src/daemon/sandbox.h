/*
 * sandbox.h - the table of sandboxes: one domain each, from CREATE to the
 * reply to DESTROY. Peers are named by the server's serial numbers.
 */
#ifndef DOMUS_SANDBOX_H
#define DOMUS_SANDBOX_H

#include "console.h"
#include "daemon.h"
#include "policy.h"
#include "record.h"
#include "steps.h"

/* CTL_LIST has to name them all. */
#define SANDBOXES_MAX CTL_LIST_MAX
/* A shim that is gone may be replaced; after this its sandbox is orphaned. */
#define SANDBOX_GRACE_MS 2000
/* The same after domusd was away: shims come back at their own pace. */
#define SANDBOX_ADOPT_GRACE_MS 30000
/* DESTROY is answered within this, since containerd gives a delete 5 s; the
 * domain may take longer. */
#define SANDBOX_ANSWER_MS 3000
/* What could not be taken down is tried again, at first soon. */
#define SANDBOX_RETRY_FIRST_MS 250
#define SANDBOX_RETRY_LAST_MS  60000

enum sandbox_state {
    SANDBOX_CREATING,
    SANDBOX_RUNNING,
    SANDBOX_PAUSED,
    SANDBOX_DEAD,  /* its domain ended by itself */
    SANDBOX_DYING, /* being taken down, until nothing is left */
    SANDBOX_STATE_COUNT
};

/* Who waits for the answer to DESTROY. */
struct asker {
    struct asker *next;
    uint64_t peer;
    uint32_t id;
};

struct sandbox {
    struct sandbox *next;
    struct daemon *daemon; /* borrowed */
    enum sandbox_state state;
    struct record record;
    struct steps steps;

    struct ctl_create *create; /* owned; NULL once it is done */
    uint32_t create_id;
    struct domain_plan plan;
    bool build_sent; /* there may be a domain of our uuid */

    struct image *image;     /* NULL: none */
    struct console *console; /* NULL: none */
    char *channel;           /* owned; NULL until the guest offers it */
    char *died;              /* reason; owned; NULL while it lives */

    uint64_t owner; /* peer that gets notices; 0: nobody */
    struct asker *askers;
    bool released; /* dying, and its name may be used again */
    char *trouble; /* why it is not gone yet; owned; NULL: nothing failed */
    struct operation *operations; /* owned, the first is under way */
    struct loop_timer *orphaned;
    struct loop_timer *start_deadline;
    struct loop_timer *answer; /* to DESTROY */
    struct loop_timer *retry;
    int64_t retry_ms;
    struct loop_timer *freeing;

    uint64_t received_ns;
    uint64_t image_ns;
    uint64_t built_ns;
    uint64_t unpaused_ns;
};

/* Of one sandbox, with its name in the fields. */
#define sandbox_log(sandbox, level, ...) \
    do {                                 \
        sandbox_log_fields(sandbox);     \
        log_write((level), __VA_ARGS__); \
        log_set_fields("");              \
    } while (0)
void sandbox_log_fields(const struct sandbox *sandbox);

const char *sandbox_state_name(enum sandbox_state state);
int sandbox_state_parse(const char *name); /* -1: no such state */

/* Takes the record's members. */
struct sandbox *sandbox_new(struct daemon *daemon, struct record *record);
/* Not what is dying and has given its name back. */
struct sandbox *sandbox_find(struct daemon *daemon, const char *namespace,
                             const char *id);
/* Off the table; the memory a little later, callers may be on the stack. */
void sandbox_free(struct sandbox *sandbox);
void sandboxes_free(struct daemon *daemon);

/* create.c: the steps, and the first half of a sandbox's life. */
#define SANDBOX_STEPS 4
extern const struct step sandbox_steps[SANDBOX_STEPS];
void sandbox_create(struct daemon *daemon, uint64_t peer, uint32_t id,
                    const struct ctl_create *create);
void sandbox_fill_reply(const struct sandbox *sandbox,
                        struct ctl_sandbox *reply_out);

/* Writes down the sandbox, as in that state. */
int sandbox_record(struct sandbox *sandbox, enum sandbox_state state,
                   struct err *e);
/* The same, as it is; a failure is logged. */
void sandbox_save(struct sandbox *sandbox);

/* operate.c: PAUSE, RESUME and UPDATE, one after the other. */
void sandbox_operate(struct sandbox *sandbox, uint64_t peer,
                     const struct packet *request);
/* Answers those that have not begun; one under way will find it gone. */
void sandbox_forget_operations(struct sandbox *sandbox);
/* At the end of domusd, which tells nobody. */
void sandbox_free_operations(struct sandbox *sandbox);

/* Runs, paused or not. */
static inline bool sandbox_is_up(const struct sandbox *sandbox)
{
    return sandbox->state == SANDBOX_RUNNING ||
           sandbox->state == SANDBOX_PAUSED;
}

/* That of this name, or one that is dying: there may be several. */
struct sandbox *sandbox_find_to_destroy(struct daemon *daemon,
                                        const struct ctl_name *name);
/* peer 0: nobody waits. Answered when nothing is left, or after a while. */
void sandbox_destroy(struct sandbox *sandbox, uint64_t peer, uint32_t id);
void sandbox_attach(struct sandbox *sandbox, uint64_t peer);
/* Nobody owns it; destroys it after so many milliseconds. */
void sandbox_orphan(struct sandbox *sandbox, int64_t milliseconds);
void sandbox_domain_died(struct sandbox *sandbox, const char *reason);
void sandbox_notify_channel(struct sandbox *sandbox);
void sandbox_notify_died(struct sandbox *sandbox);
void sandbox_await_channel(struct sandbox *sandbox);
/* After a failed undo. */
void sandbox_retry_later(struct sandbox *sandbox);

extern const struct watch_handler sandbox_watch_handler;

#endif
