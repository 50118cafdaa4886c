#include "watch.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "spawn.h"

#define RESPAWN_FIRST_MS 100
#define RESPAWN_LAST_MS  5000

struct watched {
    struct watched *next;
    uint32_t domid;
    char *uuid;   /* owned */
    bool told;    /* the watcher knows it */
    bool removed; /* and has to forget it */
};

struct watch {
    struct loop *loop;
    const char *program;
    const struct watch_handler *handler;
    void *context;
    struct watched *domains;
    pid_t pid; /* 0: none */
    int fd;
    struct loop_fd *source;
    struct loop_timer *respawn;
    int64_t respawn_ms;
};

static void start(void *context);

struct watch *watch_new(struct loop *loop, const char *program,
                        const struct watch_handler *handler, void *context)
{
    struct watch *watch = xcalloc(1, sizeof(*watch));

    watch->loop = loop;
    watch->program = program;
    watch->handler = handler;
    watch->context = context;
    watch->fd = -1;
    watch->respawn_ms = RESPAWN_FIRST_MS;
    return watch;
}

static void stop(struct watch *watch)
{
    if (watch->pid > 0)
        (void)kill(watch->pid, SIGKILL);
    watch->pid = 0;
    loop_remove_fd(&watch->source);
    close_fd(&watch->fd);
}

static void forget(struct watched **at)
{
    struct watched *d = *at;

    *at = d->next;
    free(d->uuid);
    free(d);
}

void watch_free(struct watch *watch)
{
    stop(watch);
    loop_remove_timer(&watch->respawn);
    while (watch->domains)
        forget(&watch->domains);
    free(watch);
}

static void lost(struct watch *watch, const char *why)
{
    log_warn("the watcher is gone (%s), starting another one", why);
    stop(watch);
    if (watch->respawn)
        return;
    watch->respawn =
        loop_add_timer(watch->loop, watch->respawn_ms, start, watch);
    watch->respawn_ms *= 2;
    if (watch->respawn_ms > RESPAWN_LAST_MS)
        watch->respawn_ms = RESPAWN_LAST_MS;
}

static int send_packet(struct watch *watch, enum job_type type,
                       struct watched *d)
{
    struct job_domain domain = {.domid = d->domid, .uuid = d->uuid};
    struct err e = ERR_INIT;
    int r =
        packet_send(watch->fd, &job_protocol, (uint16_t)type, 0, &domain, &e);

    if (r == -EAGAIN)
        loop_fd_events(watch->source, POLLIN | POLLOUT);
    else if (r < 0)
        lost(watch, e.text);
    return r;
}

/* Tells the watcher what it does not know yet. A socket holds fewer packets
 * than there may be domains; the rest goes when it has room. What is to be
 * forgotten first: its number may be another domain's by now. */
static void tell(struct watch *watch)
{
    if (watch->fd < 0)
        return;
    loop_fd_events(watch->source, POLLIN);
    for (struct watched **at = &watch->domains; *at;) {
        if (!(*at)->removed) {
            at = &(*at)->next;
            continue;
        }
        if ((*at)->told && send_packet(watch, JOB_UNWATCH, *at) < 0)
            return;
        forget(at);
    }
    for (struct watched *d = watch->domains; d; d = d->next) {
        if (d->told)
            continue;
        if (send_packet(watch, JOB_WATCH, d) < 0)
            return;
        d->told = true;
    }
}

static void readable(void *context, short revents)
{
    struct watch *watch = context;
    const union job_body *body;
    struct packet packet;
    struct err e = ERR_INIT;
    int r;

    if (revents & POLLOUT)
        tell(watch);
    if (watch->fd < 0)
        return;
    r = packet_receive(watch->fd, &job_protocol, &packet, &e);
    if (r == -EAGAIN)
        return;
    if (r < 0) {
        lost(watch, e.text);
        return;
    }
    watch->respawn_ms = RESPAWN_FIRST_MS;
    body = packet.body;
    if (packet.type == JOB_CHANNEL)
        watch->handler->channel(watch->context, &body->channel);
    else if (packet.type == JOB_DIED)
        watch->handler->died(watch->context, &body->died);
    else if (packet.type == JOB_RESULT && body->result.code)
        log_warn("watcher: %s", body->result.text);
    packet_clear(&job_protocol, &packet);
}

static void ended(void *context, pid_t pid, int status)
{
    struct watch *watch = context;

    (void)status;
    if (watch->pid != pid)
        return;
    watch->pid = 0;
    lost(watch, "its process ended");
}

static void start(void *context)
{
    struct watch *watch = context;
    struct err e = ERR_INIT;

    watch->respawn = NULL;
    if (spawn_builder(watch->program, "watcher", &watch->pid, &watch->fd, &e) <
        0) {
        watch->pid = 0;
        lost(watch, e.text);
        return;
    }
    watch->source =
        loop_add_fd(watch->loop, watch->fd, POLLIN, readable, watch);
    if (loop_add_child(watch->loop, watch->pid, ended, watch, &e) < 0) {
        lost(watch, e.text);
        return;
    }
    for (struct watched *d = watch->domains; d; d = d->next)
        d->told = false;
    tell(watch);
}

void watch_add(struct watch *watch, uint32_t domid, const char *uuid)
{
    struct watched *d = xcalloc(1, sizeof(*d));

    d->domid = domid;
    d->uuid = xstrdup(uuid);
    d->next = watch->domains;
    watch->domains = d;
    if (watch->pid == 0 && !watch->respawn)
        start(watch);
    else
        tell(watch);
}

void watch_remove(struct watch *watch, uint32_t domid)
{
    struct watched **at = &watch->domains, *d;

    while (*at && ((*at)->domid != domid || (*at)->removed))
        at = &(*at)->next;
    d = *at;
    if (!d)
        return;
    if (d->told) {
        d->removed = true;
        tell(watch);
    } else {
        forget(at);
    }
}
