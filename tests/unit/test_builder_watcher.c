/*
 * The watcher runs in a thread; Xen and xenstore are replaced by a table of
 * domains and of nodes that the tests change.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "src/builder/watcher.h"
#include "src/builder/xl.h"

#define DOMAINS_MAX 8
#define EVENTS_MAX  64
#define WAIT_MS     5000
#define QUIET_MS    50

struct domain {
    bool exists, shut_down, dying;
    int reason;
    uint8_t uuid;
    char port[64]; /* data/vchan/event-channel; empty: not there */
    bool watched;
};

static struct {
    pthread_mutex_t lock;
    struct domain domains[DOMAINS_MAX];
    bool release_watched;
    char events[EVENTS_MAX][16]; /* tokens */
    size_t n, at;
    int fd;
} xen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int ends[2];
static pthread_t thread;

static void event(const char *token)
{
    assert_true(xen.n < EVENTS_MAX);
    (void)snprintf(xen.events[xen.n++], sizeof(xen.events[0]), "%s", token);
    (void)eventfd_write(xen.fd, 1);
}

/* --- in place of the libraries -------------------------------------------- */

int xl_open(struct xl *xl, struct err *e)
{
    (void)e;
    xl->xs = (struct xs_handle *)&xen;
    return 0;
}

void xl_close(struct xl *xl)
{
    (void)xl;
}

int libxl_domain_info(libxl_ctx *ctx, libxl_dominfo *info, uint32_t domid)
{
    int rc = ERROR_DOMAIN_NOTFOUND;

    (void)ctx;
    (void)pthread_mutex_lock(&xen.lock);
    if (domid < DOMAINS_MAX && xen.domains[domid].exists) {
        const struct domain *d = &xen.domains[domid];

        info->domid = domid;
        memset(info->uuid.uuid, d->uuid, sizeof(info->uuid.uuid));
        info->shutdown = d->shut_down;
        info->dying = d->dying;
        info->shutdown_reason = (libxl_shutdown_reason)d->reason;
        rc = 0;
    }
    (void)pthread_mutex_unlock(&xen.lock);
    return rc;
}

static struct domain *of_path(const char *path)
{
    unsigned int domid = DOMAINS_MAX;
    char rest[64] = "";

    if (sscanf(path, "/local/domain/%u/%63s", &domid, rest) != 2 ||
        strcmp(rest, "data/vchan/event-channel") != 0 || domid >= DOMAINS_MAX)
        return NULL;
    return &xen.domains[domid];
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
    struct domain *d = of_path(path);

    (void)h;
    (void)pthread_mutex_lock(&xen.lock);
    if (d)
        d->watched = true;
    else
        xen.release_watched = strcmp(path, "@releaseDomain") == 0;
    event(token); /* xenstored fires each new watch once */
    (void)pthread_mutex_unlock(&xen.lock);
    return true;
}

bool xs_unwatch(struct xs_handle *h, const char *path, const char *token)
{
    struct domain *d = of_path(path);

    (void)h;
    (void)token;
    (void)pthread_mutex_lock(&xen.lock);
    if (d)
        d->watched = false;
    (void)pthread_mutex_unlock(&xen.lock);
    return true;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path,
              unsigned int *length)
{
    struct domain *d = of_path(path);
    char *value = NULL;

    (void)h;
    (void)t;
    (void)pthread_mutex_lock(&xen.lock);
    if (d && d->port[0]) {
        value = xstrdup(d->port);
        *length = (unsigned int)strlen(value);
    }
    (void)pthread_mutex_unlock(&xen.lock);
    errno = ENOENT;
    return value;
}

int xs_fileno(struct xs_handle *h)
{
    (void)h;
    return xen.fd;
}

char **xs_check_watch(struct xs_handle *h)
{
    char **pair = NULL;
    eventfd_t count;

    (void)h;
    (void)pthread_mutex_lock(&xen.lock);
    if (xen.at < xen.n) {
        /* One block, as the library gives it. */
        pair = xcalloc(1, 2 * sizeof(char *) + sizeof(xen.events[0]));
        pair[XS_WATCH_PATH] = (char *)(pair + 2) + 15;
        pair[XS_WATCH_TOKEN] = (char *)(pair + 2);
        memcpy(pair + 2, xen.events[xen.at++], sizeof(xen.events[0]));
    } else {
        (void)eventfd_read(xen.fd, &count);
        xen.n = xen.at = 0;
    }
    (void)pthread_mutex_unlock(&xen.lock);
    errno = EAGAIN;
    return pair;
}

/* --- what tests say and hear ---------------------------------------------- */

static void *run(void *context)
{
    static struct err e;

    (void)context;
    return (void *)(intptr_t)watcher_run(ends[1], &e);
}

static int setup(void **state)
{
    (void)state;
    memset(xen.domains, 0, sizeof(xen.domains));
    xen.n = xen.at = 0;
    xen.release_watched = false;
    xen.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (xen.fd < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -1;
    return pthread_create(&thread, NULL, run, NULL);
}

static int teardown(void **state)
{
    void *result = NULL;

    (void)state;
    close_fd(&ends[0]);
    (void)pthread_join(thread, &result);
    close_fd(&ends[1]);
    close_fd(&xen.fd);
    /* However it went, a domusd that goes away is a normal end. */
    return (int)(intptr_t)result;
}

static char *uuid_text(uint8_t uuid)
{
    return xasprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                     "%02x%02x%02x%02x%02x%02x",
                     uuid, uuid, uuid, uuid, uuid, uuid, uuid, uuid, uuid, uuid,
                     uuid, uuid, uuid, uuid, uuid, uuid);
}

static void send_job(uint16_t type, uint32_t domid, uint8_t uuid)
{
    _cleanup_free_ char *text = uuid_text(uuid);
    struct job_domain body = {.domid = domid, .uuid = text};
    struct err e = ERR_INIT;

    assert_ok(packet_send(ends[0], &job_protocol, type, 0, &body, &e), e);
}

static void hear_channel(uint32_t domid, uint8_t uuid, const char *channel)
{
    _cleanup_free_ char *text = uuid_text(uuid);
    const union job_body *body;
    struct packet packet;
    struct err e = ERR_INIT;

    assert_ok(packet_wait(ends[0], WAIT_MS, &e), e);
    assert_ok(packet_receive(ends[0], &job_protocol, &packet, &e), e);
    assert_int_equal(packet.type, JOB_CHANNEL);
    body = packet.body;
    assert_int_equal(body->channel.domid, domid);
    assert_string_equal(body->channel.uuid, text);
    assert_string_equal(body->channel.channel, channel);
    packet_clear(&job_protocol, &packet);
}

static void hear_died(uint32_t domid, uint8_t uuid, const char *reason)
{
    _cleanup_free_ char *text = uuid_text(uuid);
    const union job_body *body;
    struct packet packet;
    struct err e = ERR_INIT;

    assert_ok(packet_wait(ends[0], WAIT_MS, &e), e);
    assert_ok(packet_receive(ends[0], &job_protocol, &packet, &e), e);
    assert_int_equal(packet.type, JOB_DIED);
    body = packet.body;
    assert_int_equal(body->died.domid, domid);
    assert_string_equal(body->died.uuid, text);
    assert_string_equal(body->died.reason, reason);
    packet_clear(&job_protocol, &packet);
}

static void hear_nothing(void)
{
    struct err e = ERR_INIT;

    assert_int_equal(packet_wait(ends[0], QUIET_MS, &e), -ETIMEDOUT);
}

static void domain_make(uint32_t domid, uint8_t uuid)
{
    (void)pthread_mutex_lock(&xen.lock);
    xen.domains[domid] = (struct domain){.exists = true, .uuid = uuid};
    (void)pthread_mutex_unlock(&xen.lock);
}

static void port_write(uint32_t domid, const char *port)
{
    char token[16];

    (void)snprintf(token, sizeof(token), "%u", domid);
    (void)pthread_mutex_lock(&xen.lock);
    (void)snprintf(xen.domains[domid].port, sizeof(xen.domains[domid].port),
                   "%s", port);
    if (xen.domains[domid].watched)
        event(token);
    (void)pthread_mutex_unlock(&xen.lock);
}

static void domain_end(uint32_t domid, bool shut_down, int reason, bool exists)
{
    struct domain *d = &xen.domains[domid];

    (void)pthread_mutex_lock(&xen.lock);
    d->exists = exists;
    d->shut_down = shut_down;
    d->dying = !shut_down;
    d->reason = reason;
    event("release");
    (void)pthread_mutex_unlock(&xen.lock);
}

static bool is_watched(uint32_t domid)
{
    bool watched;

    (void)pthread_mutex_lock(&xen.lock);
    watched = xen.domains[domid].watched;
    (void)pthread_mutex_unlock(&xen.lock);
    return watched;
}

/* --- tests ---------------------------------------------------------------- */

static void a_life(void **state)
{
    (void)state;
    domain_make(3, 0xaa);
    send_job(JOB_WATCH, 3, 0xaa);
    hear_nothing();
    port_write(3, "17");
    hear_channel(3, 0xaa, "vchan:3:/local/domain/3/data/vchan");
    /* Once only: from here on the guest may write what it likes. */
    assert_false(is_watched(3));
    port_write(3, "18");
    hear_nothing();
    domain_end(3, true, LIBXL_SHUTDOWN_REASON_POWEROFF, true);
    hear_died(3, 0xaa, "poweroff");
    domain_end(3, false, 0, false);
    hear_nothing();
    assert_true(xen.release_watched);
}

static void what_was_before_is_told(void **state)
{
    (void)state;
    domain_make(2, 1);
    port_write(2, "5");
    send_job(JOB_WATCH, 2, 1);
    hear_channel(2, 1, "vchan:2:/local/domain/2/data/vchan");

    domain_make(4, 2);
    xen.domains[4].shut_down = true;
    xen.domains[4].reason = LIBXL_SHUTDOWN_REASON_CRASH;
    send_job(JOB_WATCH, 4, 2);
    hear_died(4, 2, "crash");

    send_job(JOB_WATCH, 5, 3); /* there is none */
    hear_died(5, 3, "destroyed");
    hear_nothing();
}

static void the_number_is_used_again(void **state)
{
    (void)state;
    domain_make(6, 0x11);
    send_job(JOB_WATCH, 6, 0x10);
    hear_died(6, 0x10, "destroyed");

    send_job(JOB_WATCH, 6, 0x11);
    hear_nothing();
    domain_make(6, 0x12);
    (void)pthread_mutex_lock(&xen.lock);
    event("release");
    (void)pthread_mutex_unlock(&xen.lock);
    hear_died(6, 0x11, "destroyed");
}

static void reasons(void **state)
{
    static const struct {
        int reason;
        const char *word;
    } cases[] = {
        {LIBXL_SHUTDOWN_REASON_POWEROFF, "poweroff"},
        {LIBXL_SHUTDOWN_REASON_REBOOT, "reboot"},
        {LIBXL_SHUTDOWN_REASON_SUSPEND, "suspend"},
        {LIBXL_SHUTDOWN_REASON_CRASH, "crash"},
        {LIBXL_SHUTDOWN_REASON_WATCHDOG, "watchdog"},
        {LIBXL_SHUTDOWN_REASON_SOFT_RESET, "soft reset"},
        {LIBXL_SHUTDOWN_REASON_UNKNOWN, "unknown"},
        {200, "unknown"}, /* a guest may name any */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        domain_make(1, 9);
        send_job(JOB_WATCH, 1, 9);
        domain_end(1, true, cases[i].reason, true);
        hear_died(1, 9, cases[i].word);
    }
    domain_make(1, 9);
    send_job(JOB_WATCH, 1, 9);
    domain_end(1, false, 255, true);
    hear_died(1, 9, "destroyed");
}

static void only_the_dead_are_told(void **state)
{
    (void)state;
    for (uint32_t i = 1; i < 6; i++) {
        domain_make(i, (uint8_t)i);
        send_job(JOB_WATCH, i, (uint8_t)i);
    }
    hear_nothing();
    domain_end(3, true, LIBXL_SHUTDOWN_REASON_CRASH, true);
    hear_died(3, 3, "crash");
    hear_nothing();
    port_write(5, "1");
    hear_channel(5, 5, "vchan:5:/local/domain/5/data/vchan");
}

static void unwatched(void **state)
{
    (void)state;
    domain_make(3, 7);
    send_job(JOB_WATCH, 3, 7);
    hear_nothing();
    send_job(JOB_UNWATCH, 3, 7);
    send_job(JOB_UNWATCH, 4, 7); /* never was */
    hear_nothing();
    assert_false(is_watched(3));
    port_write(3, "1");
    domain_end(3, true, LIBXL_SHUTDOWN_REASON_CRASH, true);
    hear_nothing();
}

static void nonsense_from_the_guest(void **state)
{
    static const char *const bad[] = {
        "x",
        "-1",
        "1 ",
        " 1",
        "12345678901",
        "1\n",
        "/local/domain/0",
        "99999999999999999999999999999999999999999"};

    (void)state;
    domain_make(3, 7);
    send_job(JOB_WATCH, 3, 7);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        port_write(3, bad[i]);
        hear_nothing();
        assert_true(is_watched(3));
    }
    port_write(3, "4294967295");
    hear_channel(3, 7, "vchan:3:/local/domain/3/data/vchan");

    /* One that does not stop is not heard any more; its end is. */
    domain_make(4, 8);
    send_job(JOB_WATCH, 4, 8);
    hear_nothing();
    for (int i = 0; i < 30; i++)
        port_write(4, "?");
    hear_nothing();
    assert_false(is_watched(4));
    domain_end(4, true, LIBXL_SHUTDOWN_REASON_CRASH, true);
    hear_died(4, 8, "crash");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_life),
        TEST(what_was_before_is_told),
        TEST(the_number_is_used_again),
        TEST(reasons),
        TEST(only_the_dead_are_told),
        TEST(unwatched),
        TEST(nonsense_from_the_guest),
    };

    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
