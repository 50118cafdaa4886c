/* Pausing and resuming: asked of the kernel, answered when it says so. */
#include "container_impl.h"

#include <poll.h>
#include <string.h>

#include "domus/mem.h"

/* A process that waits for a device cannot be frozen until it is served. */
#define FREEZE_DEADLINE_MS 10000

static void stop_watching(struct container *c)
{
    loop_remove_timer(&c->timer);
    loop_remove_fd(&c->events_source);
    close_fd(&c->events);
}

void container_freeze_give_up(struct container *c, const char *why)
{
    struct err e = ERR_INIT;

    stop_watching(c);
    (void)err_set(&e, ESRCH, "container %s %s", c->id, why);
    container_answer(c, &e, 0);
}

/* True when it is as was asked for. */
static bool settled(struct container *c)
{
    bool freezing = c->state == CONTAINER_PAUSING;
    uint64_t frozen;

    return cgroup_counter(c->events, "frozen", &frozen) == 0 &&
           (frozen != 0) == freezing;
}

static void check(struct container *c)
{
    if (!settled(c))
        return;
    stop_watching(c);
    c->state =
        c->state == CONTAINER_PAUSING ? CONTAINER_PAUSED : CONTAINER_RUNNING;
    container_answer(c, NULL, 0);
}

static void events_ready(void *context, short revents)
{
    (void)revents;
    check(context);
}

/* Back to where it was. */
static void too_long(void *context)
{
    struct container *c = context;
    bool freezing = c->state == CONTAINER_PAUSING;
    struct err e = ERR_INIT, why = ERR_INIT;

    c->timer = NULL;
    stop_watching(c);
    (void)err_set(&e, ETIMEDOUT,
                  "container %s was not %s within %d s: a process of it waits "
                  "in the kernel",
                  c->id, freezing ? "paused" : "resumed",
                  FREEZE_DEADLINE_MS / 1000);
    c->state = freezing ? CONTAINER_RUNNING : CONTAINER_PAUSED;
    if (cgroup_freeze(c->cgroup, !freezing, &why) < 0)
        session_warn(c->agent, &why);
    container_answer(c, &e, 0);
}

static int change(struct container *c, bool freeze, uint32_t request,
                  struct err *e)
{
    _cleanup_fd_ int events = cgroup_open_events(c->cgroup, "cgroup.events");
    int r;

    if (events < 0)
        return err_set(e, -events, "watch the cgroup of container %s: %s",
                       c->id, strerror(-events));
    r = cgroup_freeze(c->cgroup, freeze, e);
    if (r < 0)
        return r;
    c->events = steal_fd(&events);
    c->request = request;
    c->state = freeze ? CONTAINER_PAUSING : CONTAINER_RESUMING;
    c->events_source =
        loop_add_fd(c->agent->loop, c->events, POLLPRI, events_ready, c);
    c->timer = loop_add_timer(c->agent->loop, FREEZE_DEADLINE_MS, too_long, c);
    check(c);
    return 0;
}

int container_pause(struct container *c, const struct container_event *event,
                    struct err *e)
{
    return change(c, true, event->request, e);
}

int container_resume(struct container *c, const struct container_event *event,
                     struct err *e)
{
    return change(c, false, event->request, e);
}
