#include "pool.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "spawn.h"

struct job {
    struct job *next;
    enum job_type type;
    union job_body *body; /* owned; NULL for a type without one */
    int64_t deadline_ms;
    uint32_t id;
    unsigned int misses; /* workers that were gone when they were to take it */
    pool_done_fn *done;
    void *context;
};

struct worker {
    struct worker *next;
    struct pool *pool; /* borrowed */
    pid_t pid;
    int fd;
    struct loop_fd *source;
    struct job *job; /* under way; owned */
    struct loop_timer *deadline;
    bool late;
};

struct pool {
    struct loop *loop;
    const char *program;
    unsigned int size;
    struct worker *workers;
    struct job *queue;
    uint32_t last_id;
    struct loop_timer *soon; /* deferred dispatch() */
};

static void dispatch(struct pool *pool);

static const struct packet_type *packet_type(enum job_type type)
{
    return &job_protocol.types[type];
}

static void job_free(struct job *job)
{
    if (!job)
        return;
    if (job->body)
        wire_clear(packet_type(job->type)->desc, job->body);
    free(job->body);
    free(job);
}

struct pool *pool_new(struct loop *loop, const char *program,
                      unsigned int workers)
{
    struct pool *pool = xcalloc(1, sizeof(*pool));

    pool->loop = loop;
    pool->program = program;
    pool->size = workers;
    return pool;
}

/* The process is reaped by the loop. */
static void worker_free(struct worker *worker)
{
    struct worker **at = &worker->pool->workers;

    while (*at != worker)
        at = &(*at)->next;
    *at = worker->next;
    loop_remove_fd(&worker->source);
    loop_remove_timer(&worker->deadline);
    close_fd(&worker->fd);
    job_free(worker->job);
    free(worker);
}

void pool_free(struct pool *pool)
{
    while (pool->workers) {
        (void)kill(pool->workers->pid, SIGKILL);
        worker_free(pool->workers);
    }
    while (pool->queue) {
        struct job *job = pool->queue;

        pool->queue = job->next;
        job_free(job);
    }
    loop_remove_timer(&pool->soon);
    free(pool);
}

static void job_finish(struct job *job, const struct packet *reply,
                       struct err *error)
{
    if (error)
        (void)err_wrap(error, "builder: %s", packet_type(job->type)->name);
    job->done(job->context, error ? NULL : reply, error);
    job_free(job);
}

static void dispatch_soon_fn(void *context)
{
    struct pool *pool = context;

    pool->soon = NULL;
    dispatch(pool);
}

static void dispatch_soon(struct pool *pool)
{
    if (!pool->soon)
        pool->soon = loop_add_timer(pool->loop, 0, dispatch_soon_fn, pool);
}

/* The worker is of no more use; its process is, or will be, dead. */
static void worker_lost(struct worker *worker, struct err *why)
{
    struct pool *pool = worker->pool;
    struct job *job = steal_ptr(&worker->job);

    (void)kill(worker->pid, SIGKILL);
    worker_free(worker);
    if (job)
        job_finish(job, NULL, why);
    if (pool->queue)
        dispatch_soon(pool);
}

static void worker_ended(void *context, pid_t pid, int status)
{
    struct pool *pool = context;
    struct worker *worker = pool->workers;
    struct err e = ERR_INIT;

    while (worker && worker->pid != pid)
        worker = worker->next;
    if (!worker)
        return;
    if (worker->late && worker->job)
        (void)err_set(&e, ETIMEDOUT, "not done within %lld s",
                      (long long)worker->job->deadline_ms / 1000);
    else if (WIFSIGNALED(status))
        (void)err_set(&e, EIO, "the worker was killed by signal %d",
                      WTERMSIG(status));
    else
        (void)err_set(&e, EIO, "the worker ended with status %d",
                      WEXITSTATUS(status));
    if (!worker->job)
        log_warn("an idle builder worker is gone: %s", e.text);
    worker_lost(worker, &e);
}

static void worker_late(void *context)
{
    struct worker *worker = context;

    worker->deadline = NULL;
    worker->late = true;
    (void)kill(worker->pid, SIGKILL);
}

/* Replies that come in before the end of the process are still taken; the
 * end itself is told by worker_ended(), which knows why. */
static void worker_readable(void *context, short revents)
{
    struct worker *worker = context;
    struct pool *pool = worker->pool;
    struct packet packet;
    struct err e = ERR_INIT;
    struct job *job;
    int r;

    (void)revents;
    r = packet_receive(worker->fd, &job_protocol, &packet, &e);
    if (r == -EAGAIN)
        return;
    if (r == -EPIPE) {
        loop_remove_fd(&worker->source);
        (void)kill(worker->pid, SIGKILL);
        return;
    }
    if (r < 0) {
        worker_lost(worker, &e);
        return;
    }
    job = worker->job;
    if (!job || packet.id != job->id) {
        (void)err_set(&e, EBADMSG, "unexpected packet from a worker");
        packet_clear(&job_protocol, &packet);
        worker_lost(worker, &e);
        return;
    }
    worker->job = NULL;
    loop_remove_timer(&worker->deadline);
    if (packet.type == JOB_RESULT) {
        const struct job_result *result = packet.body;

        if (result->code)
            (void)err_set(&e, (int)result->code, "%s", result->text);
    }
    job_finish(job, &packet, e.code ? &e : NULL);
    packet_clear(&job_protocol, &packet);
    dispatch(pool);
}

static struct worker *worker_start(struct pool *pool, struct err *e)
{
    struct worker *worker;
    pid_t pid;
    int fd;

    if (spawn_builder(pool->program, "worker", &pid, &fd, e) < 0)
        return NULL;
    if (loop_add_child(pool->loop, pid, worker_ended, pool, e) < 0) {
        (void)kill(pid, SIGKILL);
        close_fd(&fd);
        return NULL;
    }
    worker = xcalloc(1, sizeof(*worker));
    worker->pool = pool;
    worker->pid = pid;
    worker->fd = fd;
    worker->source =
        loop_add_fd(pool->loop, fd, POLLIN, worker_readable, worker);
    worker->next = pool->workers;
    pool->workers = worker;
    return worker;
}

/* One that can take a job now, new if need be; NULL when all are busy. */
static struct worker *idle_worker(struct pool *pool, struct err *e)
{
    unsigned int n = 0;

    for (struct worker *w = pool->workers; w; w = w->next, n++)
        if (!w->job && w->source)
            return w;
    return n < pool->size ? worker_start(pool, e) : NULL;
}

/* A worker that is idle may be dead already, before the loop tells so. It
 * cannot have begun the job, so another one may. */
static void worker_missed(struct worker *worker, struct err *why)
{
    struct pool *pool = worker->pool;

    if (worker->job->misses++ < pool->size) {
        log_warn("a builder worker was gone before its job: %s", why->text);
        worker->job->next = pool->queue;
        pool->queue = steal_ptr(&worker->job);
    }
    worker_lost(worker, why);
}

static void dispatch(struct pool *pool)
{
    while (pool->queue) {
        struct err e = ERR_INIT;
        struct worker *worker = idle_worker(pool, &e);
        struct job *job = pool->queue;
        int r;

        if (!worker && !e.code)
            return;
        pool->queue = job->next;
        job->next = NULL;
        if (!worker) {
            job_finish(job, NULL, &e);
            continue;
        }
        worker->job = job;
        r = packet_send(worker->fd, &job_protocol, (uint16_t)job->type, job->id,
                        job->body, &e);
        if (r == 0)
            worker->deadline = loop_add_timer(pool->loop, job->deadline_ms,
                                              worker_late, worker);
        else if (r == -EPIPE)
            worker_missed(worker, &e);
        else
            worker_lost(worker, &e);
    }
}

void pool_prestart(struct pool *pool)
{
    struct err e = ERR_INIT;
    unsigned int n = 0;

    for (struct worker *w = pool->workers; w; w = w->next)
        n++;
    for (; n < pool->size; n++) {
        if (!worker_start(pool, &e)) {
            log_warn("no builder worker: %s", e.text);
            return;
        }
    }
}

void pool_submit(struct pool *pool, enum job_type type, const void *body,
                 int64_t deadline_ms, pool_done_fn *done, void *context)
{
    struct job *job = xcalloc(1, sizeof(*job));
    struct job **at = &pool->queue;
    struct err e = ERR_INIT;

    job->type = type;
    job->deadline_ms = deadline_ms;
    job->id = ++pool->last_id;
    job->done = done;
    job->context = context;
    if (packet_type(type)->desc) {
        job->body = xcalloc(1, sizeof(*job->body));
        /* Beyond a bound: sent as it is, empty, and refused by the worker. */
        if (wire_copy(packet_type(type)->desc, body, job->body, &e) < 0)
            log_error("builder job %s: %s", packet_type(type)->name, e.text);
    }
    while (*at)
        at = &(*at)->next;
    *at = job;
    dispatch_soon(pool);
}
