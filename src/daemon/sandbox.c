#include "sandbox.h"

#include <string.h>

#include "domus/mem.h"

static const char *const state_names[SANDBOX_STATE_COUNT] = {
    [SANDBOX_CREATING] = "creating", [SANDBOX_RUNNING] = "running",
    [SANDBOX_PAUSED] = "paused",     [SANDBOX_DEAD] = "dead",
    [SANDBOX_DYING] = "dying",
};

const char *sandbox_state_name(enum sandbox_state state)
{
    return state_names[state];
}

int sandbox_state_parse(const char *name)
{
    for (int i = 0; i < SANDBOX_STATE_COUNT; i++)
        if (strcmp(state_names[i], name) == 0)
            return i;
    return -1;
}

void sandbox_log_fields(const struct sandbox *sandbox)
{
    _cleanup_free_ char *fields =
        xasprintf("namespace=%s sandbox=%s domid=%u", sandbox->record.namespace,
                  sandbox->record.id, sandbox->record.domid);

    log_set_fields(fields);
}

struct sandbox *sandbox_new(struct daemon *daemon, struct record *record)
{
    struct sandbox *sandbox = xcalloc(1, sizeof(*sandbox));

    sandbox->daemon = daemon;
    sandbox->record = *record;
    memset(record, 0, sizeof(*record));
    steps_init(&sandbox->steps, sandbox_steps, SANDBOX_STEPS, sandbox);
    sandbox->next = daemon->sandboxes;
    daemon->sandboxes = sandbox;
    return sandbox;
}

static bool is_named(const struct sandbox *sandbox, const char *namespace,
                     const char *id)
{
    return strcmp(sandbox->record.id, id) == 0 &&
           strcmp(sandbox->record.namespace, namespace) == 0;
}

struct sandbox *sandbox_find(struct daemon *daemon, const char *namespace,
                             const char *id)
{
    for (struct sandbox *s = daemon->sandboxes; s; s = s->next)
        if (!s->released && is_named(s, namespace, id))
            return s;
    return NULL;
}

struct sandbox *sandbox_find_to_destroy(struct daemon *daemon,
                                        const struct ctl_name *name)
{
    struct sandbox *s = sandbox_find(daemon, name->namespace, name->id);

    if (s)
        return s;
    for (s = daemon->sandboxes; s; s = s->next)
        if (is_named(s, name->namespace, name->id))
            return s;
    return NULL;
}

static void free_create(struct sandbox *sandbox)
{
    if (sandbox->create)
        wire_clear(ctl_protocol.types[CTL_CREATE].desc, sandbox->create);
    free(sandbox->create);
    sandbox->create = NULL;
}

static void free_now(void *context)
{
    struct sandbox *sandbox = context;

    free_create(sandbox);
    record_clear(&sandbox->record);
    console_free(&sandbox->console);
    while (sandbox->askers) {
        struct asker *asker = sandbox->askers;

        sandbox->askers = asker->next;
        free(asker);
    }
    free(sandbox->channel);
    free(sandbox->died);
    free(sandbox->trouble);
    free(sandbox);
}

static void take_off(struct sandbox *sandbox)
{
    struct sandbox **at = &sandbox->daemon->sandboxes;

    while (*at != sandbox)
        at = &(*at)->next;
    *at = sandbox->next;
    loop_remove_timer(&sandbox->orphaned);
    loop_remove_timer(&sandbox->start_deadline);
    loop_remove_timer(&sandbox->answer);
    loop_remove_timer(&sandbox->retry);
}

void sandbox_free(struct sandbox *sandbox)
{
    take_off(sandbox);
    sandbox_forget_operations(sandbox);
    sandbox->freeing =
        loop_add_timer(sandbox->daemon->loop, 0, free_now, sandbox);
}

void sandboxes_free(struct daemon *daemon)
{
    while (daemon->sandboxes) {
        struct sandbox *sandbox = daemon->sandboxes;

        take_off(sandbox);
        sandbox_free_operations(sandbox);
        free_now(sandbox);
    }
}

int sandbox_record(struct sandbox *sandbox, enum sandbox_state state,
                   struct err *e)
{
    free(sandbox->record.state);
    sandbox->record.state = xstrdup(sandbox_state_name(state));
    return record_save(sandbox->daemon->records_fd, &sandbox->record, e);
}

void sandbox_save(struct sandbox *sandbox)
{
    struct err e = ERR_INIT;

    if (sandbox_record(sandbox, sandbox->state, &e) < 0)
        sandbox_log(sandbox, LOG_ERROR, "%s", e.text);
}

void sandbox_notify_channel(struct sandbox *sandbox)
{
    struct ctl_channel notice = {
        .namespace = sandbox->record.namespace,
        .id = sandbox->record.id,
        .channel = sandbox->channel,
    };

    if (sandbox->channel)
        server_send(sandbox->daemon->server, sandbox->owner, CTL_CHANNEL_READY,
                    0, &notice);
}

void sandbox_notify_died(struct sandbox *sandbox)
{
    struct ctl_died notice = {
        .namespace = sandbox->record.namespace,
        .id = sandbox->record.id,
        .reason = sandbox->died,
    };

    if (sandbox->died)
        server_send(sandbox->daemon->server, sandbox->owner, CTL_DOMAIN_DIED, 0,
                    &notice);
}

/* --- what the domain does --------------------------------------------------
 */

static void log_console(struct sandbox *sandbox)
{
    struct byte_list untrusted_tail = console_untrusted_tail(sandbox->console);
    size_t n = untrusted_tail.n < LOG_QUOTE_MAX / 2 ? untrusted_tail.n
                                                    : LOG_QUOTE_MAX / 2;

    if (n > 0)
        sandbox_log(sandbox, LOG_INFO, "the guest's last words: %s",
                    LOG_Q(untrusted_tail.v + untrusted_tail.n - n, n));
    free(untrusted_tail.v);
}

void sandbox_domain_died(struct sandbox *sandbox, const char *reason)
{
    if (sandbox->died)
        return;
    loop_remove_timer(&sandbox->start_deadline);
    /* 64 bytes are what a notice can carry. */
    sandbox->died = xstrndup(reason, 63);
    sandbox_log(sandbox, LOG_INFO, "domain ended: %s", sandbox->died);
    if (!sandbox->channel)
        log_console(sandbox);
    if (!sandbox_is_up(sandbox))
        return;
    sandbox->state = SANDBOX_DEAD;
    sandbox_save(sandbox);
    sandbox_notify_died(sandbox);
}

static struct sandbox *find_domain(struct daemon *daemon, uint32_t domid,
                                   const char *uuid)
{
    for (struct sandbox *s = daemon->sandboxes; s; s = s->next)
        if (s->record.domid == domid && strcmp(s->record.uuid, uuid) == 0 &&
            s->state != SANDBOX_DYING)
            return s;
    return NULL;
}

static void on_channel(void *context, const struct job_channel *channel)
{
    struct sandbox *sandbox =
        find_domain(context, channel->domid, channel->uuid);

    /* A new watcher tells again what is known. */
    if (!sandbox || sandbox->channel)
        return;
    loop_remove_timer(&sandbox->start_deadline);
    sandbox->channel = xstrdup(channel->channel);
    if (sandbox_is_up(sandbox))
        sandbox_notify_channel(sandbox);
}

static void on_died(void *context, const struct job_died *died)
{
    struct sandbox *sandbox = find_domain(context, died->domid, died->uuid);

    if (sandbox)
        sandbox_domain_died(sandbox, died->reason);
}

const struct watch_handler sandbox_watch_handler = {
    .channel = on_channel,
    .died = on_died,
};

static void no_channel(void *context)
{
    struct sandbox *sandbox = context;
    _cleanup_free_ char *reason = xasprintf(
        "no channel within %u s", sandbox->daemon->config.start_timeout_s);

    sandbox->start_deadline = NULL;
    sandbox_domain_died(sandbox, reason);
}

void sandbox_await_channel(struct sandbox *sandbox)
{
    struct daemon *daemon = sandbox->daemon;

    if (!sandbox->channel && !sandbox->died)
        sandbox->start_deadline = loop_add_timer(
            daemon->loop, (int64_t)daemon->config.start_timeout_s * 1000,
            no_channel, sandbox);
}

/* --- its owner, and its end ------------------------------------------------
 */

void sandbox_attach(struct sandbox *sandbox, uint64_t peer)
{
    sandbox->owner = peer;
    loop_remove_timer(&sandbox->orphaned);
}

/* Any of them may be that of a shim that this domusd does not understand: it
 * lives as long as its container, and tries to reach us all the time. */
static bool may_have_a_shim(const struct daemon *daemon)
{
    return daemon->stranger_at &&
           loop_now() - daemon->stranger_at < SANDBOX_ADOPT_GRACE_MS;
}

static void orphaned(void *context)
{
    struct sandbox *sandbox = context;

    sandbox->orphaned = NULL;
    if (may_have_a_shim(sandbox->daemon)) {
        sandbox_orphan(sandbox, SANDBOX_ADOPT_GRACE_MS);
        return;
    }
    sandbox_log(sandbox, LOG_WARN, "its shim is gone: destroying the sandbox");
    sandbox_destroy(sandbox, 0, 0);
}

void sandbox_orphan(struct sandbox *sandbox, int64_t milliseconds)
{
    sandbox->owner = 0;
    if (sandbox->state != SANDBOX_DYING && !sandbox->orphaned)
        sandbox->orphaned = loop_add_timer(sandbox->daemon->loop, milliseconds,
                                           orphaned, sandbox);
}

/* text: empty when nothing is left of it. */
static void answer_askers(struct sandbox *sandbox, char *text)
{
    struct ctl_result result = {.code = 0, .text = text};

    loop_remove_timer(&sandbox->answer);
    while (sandbox->askers) {
        struct asker *asker = sandbox->askers;

        sandbox->askers = asker->next;
        /* To the owner its own DESTROY is the whole answer. */
        if (asker->peer == sandbox->owner)
            sandbox->owner = 0;
        server_send(sandbox->daemon->server, asker->peer, CTL_RESULT, asker->id,
                    &result);
        free(asker);
    }
}

/* The caller must not wait longer: it knows how to go on, and so do we. */
static void answer_early(void *context)
{
    struct sandbox *sandbox = context;
    _cleanup_free_ char *text = xasprintf(
        "domusd goes on to take down container %s: %.1024s", sandbox->record.id,
        sandbox->trouble ? sandbox->trouble : "its domain takes its time");

    sandbox->answer = NULL;
    sandbox->released = true;
    sandbox_log(sandbox, LOG_WARN, "not gone after %d ms: %s",
                SANDBOX_ANSWER_MS, text);
    answer_askers(sandbox, text);
}

static void destroyed(void *context, const struct err *error)
{
    struct sandbox *sandbox = context;
    char nothing[] = "";

    if (error) {
        free(sandbox->trouble);
        sandbox->trouble = xstrdup(error->text);
        sandbox_retry_later(sandbox);
        sandbox_log(sandbox, LOG_WARN,
                    "still there, next attempt in %lld ms: %s",
                    (long long)sandbox->retry_ms, error->text);
        return;
    }
    sandbox_log(sandbox, LOG_INFO, "destroyed");
    answer_askers(sandbox, nothing);
    if (!sandbox->died)
        sandbox->died = xstrdup("destroyed");
    sandbox_notify_died(sandbox);
    sandbox_free(sandbox);
}

static void retry(void *context)
{
    struct sandbox *sandbox = context;

    sandbox->retry = NULL;
    steps_undo(&sandbox->steps, destroyed);
}

static void set_dying(struct sandbox *sandbox)
{
    if (sandbox->state == SANDBOX_DYING)
        return;
    sandbox->state = SANDBOX_DYING;
    sandbox_save(sandbox);
}

void sandbox_retry_later(struct sandbox *sandbox)
{
    set_dying(sandbox);
    if (sandbox->retry)
        return;
    sandbox->retry_ms =
        sandbox->retry_ms ? 2 * sandbox->retry_ms : SANDBOX_RETRY_FIRST_MS;
    if (sandbox->retry_ms > SANDBOX_RETRY_LAST_MS)
        sandbox->retry_ms = SANDBOX_RETRY_LAST_MS;
    sandbox->retry = loop_add_timer(sandbox->daemon->loop, sandbox->retry_ms,
                                    retry, sandbox);
}

void sandbox_destroy(struct sandbox *sandbox, uint64_t peer, uint32_t id)
{
    if (peer) {
        struct asker *asker = xcalloc(1, sizeof(*asker));

        asker->peer = peer;
        asker->id = id;
        asker->next = sandbox->askers;
        sandbox->askers = asker;
    }
    loop_remove_timer(&sandbox->orphaned);
    loop_remove_timer(&sandbox->start_deadline);
    loop_remove_timer(&sandbox->retry);
    sandbox_forget_operations(sandbox);
    set_dying(sandbox);
    if (!sandbox->answer)
        sandbox->answer = loop_add_timer(
            sandbox->daemon->loop, SANDBOX_ANSWER_MS, answer_early, sandbox);
    steps_undo(&sandbox->steps, destroyed);
}
