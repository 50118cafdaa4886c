#include "domus/loop.h"

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "domus/mem.h"

struct loop_fd {
    struct loop_fd *next;
    int fd; /* borrowed */
    short events;
    bool muted;
    bool removed; /* freed after the round of callbacks */
    loop_fd_fn *fn;
    void *context;
};

struct loop_timer {
    struct loop_timer *next;
    struct loop *loop;
    int64_t when;
    loop_timer_fn *fn;
    void *context;
};

struct loop_child {
    pid_t pid;
    int pidfd; /* owned */
    struct loop_fd *source;
    loop_child_fn *fn;
    void *context;
    struct loop_child *next;
    struct loop *loop;
};

struct loop {
    struct loop_fd *fds;
    struct loop_timer *timers; /* sorted, the next one first */
    struct loop_child *children;
    struct pollfd *polled;
    size_t polled_size;
    bool stopped;
};

void loop_raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int64_t loop_now(void)
{
    return (int64_t)(loop_now_ns() / 1000000);
}

uint64_t loop_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct loop *loop_new(void)
{
    return xcalloc(1, sizeof(struct loop));
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    while (loop->children) {
        struct loop_child *child = loop->children;

        loop->children = child->next;
        close_fd(&child->pidfd);
        free(child);
    }
    while (loop->fds) {
        struct loop_fd *source = loop->fds;

        loop->fds = source->next;
        free(source);
    }
    while (loop->timers) {
        struct loop_timer *timer = loop->timers;

        loop->timers = timer->next;
        free(timer);
    }
    free(loop->polled);
    free(loop);
}

struct loop_fd *loop_add_fd(struct loop *loop, int fd, short events,
                            loop_fd_fn *fn, void *context)
{
    struct loop_fd *source = xcalloc(1, sizeof(*source));

    source->fd = fd;
    source->events = events;
    source->fn = fn;
    source->context = context;
    source->next = loop->fds;
    loop->fds = source;
    return source;
}

void loop_fd_events(struct loop_fd *source, short events)
{
    source->events = events;
}

void loop_fd_mute(struct loop_fd *source, int muted)
{
    source->muted = muted;
}

void loop_remove_fd(struct loop_fd **source)
{
    if (*source)
        (*source)->removed = true;
    *source = NULL;
}

struct loop_timer *loop_add_timer(struct loop *loop, int64_t milliseconds,
                                  loop_timer_fn *fn, void *context)
{
    struct loop_timer *timer = xcalloc(1, sizeof(*timer));
    struct loop_timer **at = &loop->timers;

    timer->loop = loop;
    timer->when = loop_now() + milliseconds;
    timer->fn = fn;
    timer->context = context;
    while (*at && (*at)->when <= timer->when)
        at = &(*at)->next;
    timer->next = *at;
    *at = timer;
    return timer;
}

void loop_remove_timer(struct loop_timer **timer)
{
    struct loop_timer **at;

    if (!*timer)
        return;
    at = &(*timer)->loop->timers;
    while (*at && *at != *timer)
        at = &(*at)->next;
    if (*at)
        *at = (*timer)->next;
    free(*timer);
    *timer = NULL;
}

static void child_ended(void *context, short revents)
{
    struct loop_child *child = context;
    struct loop_child **at = &child->loop->children;
    int status = 0;
    pid_t r;

    (void)revents;
    r = waitpid(child->pid, &status, WNOHANG);
    if (r == 0 || (r < 0 && errno == EINTR))
        return;
    while (*at != child)
        at = &(*at)->next;
    *at = child->next;
    loop_remove_fd(&child->source);
    close_fd(&child->pidfd);
    child->fn(child->context, child->pid, status);
    free(child);
}

int loop_add_child(struct loop *loop, pid_t pid, loop_child_fn *fn,
                   void *context, struct err *e)
{
    struct loop_child *child;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec */

    if (pidfd < 0)
        return err_errno(e, "cannot watch process %d", (int)pid);
    child = xcalloc(1, sizeof(*child));
    child->loop = loop;
    child->pid = pid;
    child->pidfd = pidfd;
    child->fn = fn;
    child->context = context;
    child->next = loop->children;
    loop->children = child;
    child->source = loop_add_fd(loop, pidfd, POLLIN, child_ended, child);
    return 0;
}

static void free_removed(struct loop *loop)
{
    struct loop_fd **at = &loop->fds;

    while (*at) {
        struct loop_fd *source = *at;

        if (!source->removed) {
            at = &source->next;
            continue;
        }
        *at = source->next;
        free(source);
    }
}

static void run_timers(struct loop *loop)
{
    int64_t now = loop_now();

    while (loop->timers && loop->timers->when <= now && !loop->stopped) {
        struct loop_timer *timer = loop->timers;
        struct loop_timer fired = *timer;

        loop->timers = timer->next;
        free(timer);
        fired.fn(fired.context);
    }
}

static int poll_timeout(const struct loop *loop)
{
    int64_t wait;

    if (!loop->timers)
        return -1;
    wait = loop->timers->when - loop_now();
    if (wait < 0)
        return 0;
    return wait > 60000 ? 60000 : (int)wait;
}

/* The list only grows at its head during callbacks, so the entries that were
 * polled keep their order and are found again by walking both together. */
static size_t fill_polled(struct loop *loop)
{
    size_t n = 0;

    for (struct loop_fd *source = loop->fds; source; source = source->next) {
        if (n == loop->polled_size) {
            loop->polled_size = n ? 2 * n : 16;
            loop->polled = xreallocarray(loop->polled, loop->polled_size,
                                         sizeof(*loop->polled));
        }
        loop->polled[n++] = (struct pollfd){
            .fd = source->muted ? -1 : source->fd,
            .events = source->events,
        };
    }
    return n;
}

int loop_run(struct loop *loop, struct err *e)
{
    loop->stopped = false;
    while (!loop->stopped) {
        struct loop_fd *source;
        size_t n;
        int ready;

        free_removed(loop);
        n = fill_polled(loop);
        source = loop->fds;
        ready = poll(loop->polled, n, poll_timeout(loop));
        if (ready < 0 && errno != EINTR)
            return err_errno(e, "poll");
        for (size_t i = 0; ready > 0 && i < n; i++) {
            short revents = loop->polled[i].revents;
            struct loop_fd *current = source;

            source = source->next;
            if (revents && !current->removed && !current->muted &&
                !loop->stopped)
                current->fn(current->context, revents);
        }
        run_timers(loop);
    }
    free_removed(loop);
    return 0;
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}
