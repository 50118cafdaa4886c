/*
 * Pause and Resume. The guest freezes the container; since it is alone there,
 * the whole domain is stopped then and takes no processor time at all. Whatever
 * is asked of the guest meanwhile lets the domain run again first, and the
 * container stays frozen.
 */
#include "task_internal.h"

#include <stdlib.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "events.pb-c.h"
#include "stats.h"

static void sleeper_free(struct sleeper *sleeper)
{
    wire_clear(proto_desc(sleeper->message.type), &sleeper->message.body);
    free(sleeper);
}

void task_fail_sleepers(struct task *task, const struct err *why)
{
    struct sleeper *sleeper = steal_ptr(&task->sleepers);

    while (sleeper) {
        struct sleeper *next = sleeper->next;
        guest_reply_fn *fn = sleeper->fn;
        void *context = sleeper->context;

        sleeper_free(sleeper);
        fn(context, NULL, why);
        sleeper = next;
    }
}

static void awake(struct task *task)
{
    struct sleeper *sleeper = steal_ptr(&task->sleepers);

    task->domain = DOMAIN_AWAKE;
    while (sleeper) {
        struct sleeper *next = sleeper->next;

        task_request(task, &sleeper->message, sleeper->deadline_ms, sleeper->fn,
                     sleeper->context);
        sleeper_free(sleeper);
        sleeper = next;
    }
}

static void domain_resumed(void *context, const struct packet *reply,
                           const struct err *why)
{
    struct task *task = context;
    struct err e;

    (void)reply;
    if (!why) {
        awake(task);
        return;
    }
    task->domain = DOMAIN_ASLEEP;
    e = *why;
    if (e.code == ENOENT)
        e.code = EAGAIN;
    (void)err_wrap(&e, "resuming the domain");
    task_fail_sleepers(task, &e);
}

static void wake(struct task *task)
{
    task->domain = DOMAIN_WAKING;
    control_request(task->control, CTL_RESUME, NULL, TASK_DOMAIN_MS,
                    domain_resumed, task);
}

void task_request(struct task *task, struct proto_message *message,
                  int64_t deadline_ms, guest_reply_fn *fn, void *context)
{
    struct sleeper *sleeper, **at = &task->sleepers;
    struct err e = ERR_INIT;

    if (!task->guest) {
        (void)err_set(&e, EPIPE, "the guest is gone");
        fn(context, NULL, &e);
        return;
    }
    if (task->domain == DOMAIN_AWAKE) {
        guest_request(task->guest, message, deadline_ms, fn, context);
        return;
    }
    sleeper = xcalloc(1, sizeof(*sleeper));
    sleeper->message.type = message->type;
    sleeper->deadline_ms = deadline_ms;
    sleeper->fn = fn;
    sleeper->context = context;
    if (wire_copy(proto_desc(message->type), &message->body,
                  &sleeper->message.body, &e) < 0) {
        free(sleeper);
        fn(context, NULL, &e);
        return;
    }
    while (*at)
        at = &(*at)->next;
    *at = sleeper;
    if (task->domain == DOMAIN_ASLEEP)
        wake(task);
}

static void simple_answered(void *context, const struct proto_message *reply,
                            const struct err *why)
{
    struct simple_call *simple = context;

    (void)reply;
    if (why) {
        struct err e = *why;

        (void)err_wrap(&e, "container %s: %s", simple->task->id, simple->what);
        call_fail(&simple->call, &e);
    } else {
        call_reply(&simple->call, NULL);
    }
    free(simple);
}

void task_simple_request(struct task *task, struct proto_message *message,
                         const char *what, struct call *call)
{
    struct simple_call *simple = xcalloc(1, sizeof(*simple));

    simple->task = task;
    simple->call = call;
    simple->what = what;
    task_request(task, message, TASK_ANSWER_MS, simple_answered, simple);
}

static void publish_paused(struct task *task)
{
    Containerd__Events__TaskPaused event =
        CONTAINERD__EVENTS__TASK_PAUSED__INIT;

    event.container_id = task->id;
    events_publish(task->events, "/tasks/paused", &event.base);
}

static void publish_resumed(struct task *task)
{
    Containerd__Events__TaskResumed event =
        CONTAINERD__EVENTS__TASK_RESUMED__INIT;

    event.container_id = task->id;
    events_publish(task->events, "/tasks/resumed", &event.base);
}

/* The container may have ended meanwhile; then its end was told and all that
 * is left is the answer. */
static void pause_failed(struct task *task, const char *what,
                         enum task_state back, const struct err *why)
{
    struct err e = *why;

    if (task->init.state == TASK_PAUSING || task->init.state == TASK_RESUMING)
        task->init.state = back;
    if (e.code == ENOENT)
        e.code = EBUSY;
    (void)err_wrap(&e, "container %s: %s", task->id, what);
    call_fail(&task->pause_call, &e);
}

static void paused(struct task *task)
{
    struct err e = ERR_INIT;

    if (task->init.state != TASK_PAUSING) {
        (void)err_set(&e, EBUSY, "it has ended");
        pause_failed(task, "pause", TASK_STOPPED, &e);
        return;
    }
    task->init.state = TASK_PAUSED;
    publish_paused(task);
    call_reply(&task->pause_call, NULL);
}

/* The container is frozen in any case, so that it counts as paused. */
static void domain_paused(void *context, const struct packet *reply,
                          const struct err *why)
{
    struct task *task = context;

    (void)reply;
    task->domain = DOMAIN_ASLEEP;
    if (why)
        log_warn("the container is paused, its domain runs on: %s", why->text);
    if (task->pause_call)
        paused(task);
    /* When unsure whether it sleeps it is woken: that does no harm. */
    if (why || task->sleepers || task->ended)
        wake(task);
}

static void last_stats(void *context, const struct proto_message *reply,
                       const struct err *why)
{
    struct task *task = context;

    buf_clear(&task->stats);
    if (reply)
        stats_encode(&reply->body.stats_result, &task->stats);
    else
        log_warn("figures of the container: %s", why->text);
    if (task->init.state != TASK_PAUSING || task->ended) {
        paused(task);
        awake(task);
        return;
    }
    control_request(task->control, CTL_PAUSE, NULL, TASK_DOMAIN_MS,
                    domain_paused, task);
}

/* The guest answers in order. What is asked after its last figures would meet a
 * domain that stands still, so it waits from here on. */
static void frozen(void *context, const struct proto_message *reply,
                   const struct err *why)
{
    struct task *task = context;
    struct proto_message message = {.type = PROTO_STATS};

    (void)reply;
    if (why) {
        pause_failed(task, "pause", TASK_RUNNING, why);
        return;
    }
    message.body.process.container = task->id;
    message.body.process.exec = (char *)"";
    buf_clear(&task->stats);
    task_request(task, &message, TASK_ANSWER_MS, last_stats, task);
    task->domain = DOMAIN_FALLING;
}

void task_pause(struct task *task, const Task__TaskRequest *request,
                struct call *call)
{
    struct proto_message message = {.type = PROTO_PAUSE};

    if (task_refuses(task, CALL_PAUSE, request->id, call))
        return;
    task->init.state = TASK_PAUSING;
    task->pause_call = call;
    message.body.container.container = task->id;
    task_request(task, &message, TASK_FREEZE_MS, frozen, task);
}

static void thawed(void *context, const struct proto_message *reply,
                   const struct err *why)
{
    struct task *task = context;
    struct err e = ERR_INIT;

    (void)reply;
    if (!why && task->init.state != TASK_RESUMING)
        (void)err_set(&e, EBUSY, "it has ended");
    if (why || e.code) {
        pause_failed(task, "resume", TASK_PAUSED, why ? why : &e);
        return;
    }
    task->init.state = TASK_RUNNING;
    publish_resumed(task);
    call_reply(&task->pause_call, NULL);
}

void task_resume(struct task *task, const Task__TaskRequest *request,
                 struct call *call)
{
    struct proto_message message = {.type = PROTO_RESUME};

    if (task_refuses(task, CALL_RESUME, request->id, call))
        return;
    task->init.state = TASK_RESUMING;
    task->pause_call = call;
    message.body.container.container = task->id;
    task_request(task, &message, TASK_FREEZE_MS, thawed, task);
}
