#include "container_impl.h"

#include <poll.h>

#include "domus/mem.h"

void container_check_memory(struct container *c)
{
    uint64_t kills;

    if (c->memory_events < 0)
        return;
    /* It would stay ready for ever. */
    if (cgroup_counter(c->memory_events, "oom_kill", &kills) < 0) {
        container_unwatch_memory(c);
        return;
    }
    if (kills > c->oom_kills)
        session_oom(c->agent, c->id);
    c->oom_kills = kills;
}

static void memory_ready(void *context, short revents)
{
    (void)revents;
    container_check_memory(context);
}

void container_watch_memory(struct container *c)
{
    int events = cgroup_open_events(c->cgroup, "memory.events");

    if (events < 0)
        return;
    c->memory_events = events;
    /* Reading arms it. */
    container_check_memory(c);
    c->memory_source =
        loop_add_fd(c->agent->loop, c->memory_events, POLLPRI, memory_ready, c);
}

void container_unwatch_memory(struct container *c)
{
    loop_remove_fd(&c->memory_source);
    close_fd(&c->memory_events);
}
