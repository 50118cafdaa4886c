#include "watcher.h"

#include <poll.h>
#include <string.h>

#include "domus/log.h"
#include "domus/loop.h"
#include "domus/mem.h"
#include "xl.h"

#define RELEASE_PATH  "@releaseDomain"
#define RELEASE_TOKEN "release"

/* An event channel's number: what a guest may write is no longer. */
#define PORT_DIGITS_MAX 10
/* A guest that writes nonsense that often is not listened to any more. */
#define BAD_VALUES_MAX 16

struct watched {
    struct watched *next; /* owned */
    uint32_t domid;
    libxl_uuid uuid;
    char *uuid_text; /* owned: as domusd wrote it, and is told */
    bool channel_watched;
    unsigned int bad_values;
};

struct watcher {
    int fd; /* borrowed: to domusd */
    struct xl xl;
    struct loop *loop;
    struct watched *domains; /* owned */
    struct err *e;           /* borrowed: of watcher_run() */
    int result;
};

static void stop(struct watcher *w, int result)
{
    if (w->result == 0)
        w->result = result;
    loop_stop(w->loop);
}

/* --- notices -------------------------------------------------------------- */

static char *channel_path(uint32_t domid)
{
    return xasprintf("/local/domain/%u/data/vchan", domid);
}

static void channel_unwatch(struct watcher *w, struct watched *d)
{
    _cleanup_free_ char *path = channel_path(d->domid);
    _cleanup_free_ char *node = xasprintf("%s/event-channel", path);
    _cleanup_free_ char *token = xasprintf("%u", d->domid);

    if (d->channel_watched)
        (void)xs_unwatch(w->xl.xs, node, token);
    d->channel_watched = false;
}

static void domain_forget(struct watcher *w, struct watched *d)
{
    struct watched **p = &w->domains;

    while (*p && *p != d)
        p = &(*p)->next;
    if (*p)
        *p = d->next;
    channel_unwatch(w, d);
    free(d->uuid_text);
    free(d);
}

static void died(struct watcher *w, const struct watched *d, const char *reason)
{
    _cleanup_free_ char *text = xstrdup(reason);
    struct job_died body = {
        .domid = d->domid, .uuid = d->uuid_text, .reason = text};
    int r = packet_send(w->fd, &job_protocol, JOB_DIED, 0, &body, w->e);

    if (r < 0)
        stop(w, r);
}

static bool port_valid(const char *untrusted_text, unsigned int length)
{
    if (length == 0 || length > PORT_DIGITS_MAX)
        return false;
    for (unsigned int i = 0; i < length; i++)
        if (untrusted_text[i] < '0' || untrusted_text[i] > '9')
            return false;
    return true;
}

/* The node is the guest's own: it may hold anything, and change at will. */
static void channel_check(struct watcher *w, struct watched *d)
{
    _cleanup_free_ char *path = channel_path(d->domid);
    _cleanup_free_ char *node = xasprintf("%s/event-channel", path);
    unsigned int length = 0;
    _cleanup_free_ char *untrusted_port =
        xs_read(w->xl.xs, XBT_NULL, node, &length);
    _cleanup_free_ char *channel = NULL;
    struct job_channel body = {.domid = d->domid, .uuid = d->uuid_text};
    int r;

    if (!untrusted_port)
        return;
    if (!port_valid(untrusted_port, length)) {
        if (++d->bad_values == BAD_VALUES_MAX) {
            log_warn("domain %u offers no valid channel: %s", d->domid,
                     LOG_Q(untrusted_port, length));
            channel_unwatch(w, d);
        }
        return;
    }
    channel_unwatch(w, d);
    channel = xasprintf("vchan:%u:%s", d->domid, path);
    body.channel = channel;
    r = packet_send(w->fd, &job_protocol, JOB_CHANNEL, 0, &body, w->e);
    if (r < 0)
        stop(w, r);
}

/* Has it ended? Then tells so and forgets it. */
static bool death_check(struct watcher *w, struct watched *d)
{
    struct err ignored;
    libxl_dominfo info;
    int r = xl_domain_find(&w->xl, d->domid, &d->uuid, &info, &ignored);

    if (r < 0 && r != -ESRCH) {
        log_warn("%s", ignored.text);
        return false;
    }
    if (r == 0 && !info.shutdown && !info.dying) {
        libxl_dominfo_dispose(&info);
        return false;
    }
    died(w, d, r < 0 ? "destroyed" : xl_reason(&info));
    domain_forget(w, d);
    if (r == 0)
        libxl_dominfo_dispose(&info);
    return true;
}

/* --- xenstore's events ---------------------------------------------------- */

static struct watched *domain_find(struct watcher *w, uint32_t domid)
{
    struct watched *d = w->domains;

    while (d && d->domid != domid)
        d = d->next;
    return d;
}

static void on_xenstore(void *context, short revents)
{
    struct watcher *w = context;
    bool released = false;
    char **event;

    if (revents & (POLLERR | POLLNVAL)) {
        stop(w, err_set(w->e, EIO, "the connection to xenstored is lost"));
        return;
    }
    while ((event = xs_check_watch(w->xl.xs))) {
        const char *token = event[XS_WATCH_TOKEN];

        if (strcmp(token, RELEASE_TOKEN) == 0) {
            released = true;
        } else {
            /* Ours: a number. An event may outlive its watch. */
            struct watched *d =
                domain_find(w, (uint32_t)strtoul(token, NULL, 10));

            if (d && d->channel_watched)
                channel_check(w, d);
        }
        free(event);
    }
    if (errno != EAGAIN) {
        stop(w, err_errno(w->e, "the connection to xenstored is lost"));
        return;
    }
    if (released) {
        struct watched *next;

        for (struct watched *d = w->domains; d; d = next) {
            next = d->next;
            (void)death_check(w, d);
        }
    }
}

/* --- domusd's jobs -------------------------------------------------------- */

static int watch(struct watcher *w, const struct job_domain *domain)
{
    _cleanup_free_ char *path = channel_path(domain->domid);
    _cleanup_free_ char *node = xasprintf("%s/event-channel", path);
    _cleanup_free_ char *token = xasprintf("%u", domain->domid);
    struct watched *d = domain_find(w, domain->domid);
    libxl_uuid uuid;
    int r = xl_uuid_parse(domain->uuid, &uuid, w->e);

    if (r < 0)
        return r;
    if (d)
        domain_forget(w, d);
    d = xcalloc(1, sizeof(*d));
    d->domid = domain->domid;
    d->uuid = uuid;
    d->uuid_text = xstrdup(domain->uuid);
    d->next = w->domains;
    w->domains = d;
    if (death_check(w, d))
        return 0;
    /* xenstored fires a new watch at once: a channel of before is seen. */
    if (!xs_watch(w->xl.xs, node, token))
        return err_errno(w->e, "cannot watch %s", node);
    d->channel_watched = true;
    return 0;
}

static void on_domusd(void *context, short revents)
{
    struct watcher *w = context;
    const union job_body *body;
    struct packet job;
    int r;

    (void)revents;
    r = packet_receive(w->fd, &job_protocol, &job, w->e);
    if (r == -EAGAIN)
        return;
    if (r < 0) {
        stop(w, r);
        return;
    }
    body = job.body;
    xl_log_reset(&w->xl.log);
    if (job.type == JOB_WATCH) {
        r = watch(w, &body->domain);
    } else if (job.type == JOB_UNWATCH) {
        struct watched *d = domain_find(w, body->domain.domid);

        if (d)
            domain_forget(w, d);
    } else {
        r = err_set(w->e, EOPNOTSUPP, "a watcher does no %s",
                    job_protocol.types[job.type].name);
    }
    packet_clear(&job_protocol, &job);
    if (r < 0)
        stop(w, r);
}

int watcher_run(int fd, struct err *e)
{
    struct watcher w = {.fd = fd, .e = e};
    struct loop_fd *domusd, *xenstore;
    int r;

    xl_init(&w.xl);
    r = xl_open(&w.xl, e);
    if (r < 0)
        return r;
    w.loop = loop_new();
    if (!xs_watch(w.xl.xs, RELEASE_PATH, RELEASE_TOKEN)) {
        r = err_errno(e, "cannot watch for the end of domains");
    } else {
        domusd = loop_add_fd(w.loop, fd, POLLIN, on_domusd, &w);
        xenstore =
            loop_add_fd(w.loop, xs_fileno(w.xl.xs), POLLIN, on_xenstore, &w);
        r = loop_run(w.loop, e);
        loop_remove_fd(&domusd);
        loop_remove_fd(&xenstore);
        if (r >= 0)
            r = w.result;
    }
    while (w.domains)
        domain_forget(&w, w.domains);
    loop_free(w.loop);
    xl_close(&w.xl);
    return r == -EPIPE ? 0 : r;
}
