/*
 * PAUSE, RESUME and UPDATE of a sandbox whose domain runs. Those of one
 * sandbox go to the workers one after the other, in the order that they came.
 */
#include <string.h>

#include "domus/mem.h"
#include "sandbox.h"

struct operation {
    struct operation *next;
    struct sandbox *sandbox; /* borrowed; NULL when it is gone or dying */
    struct daemon *daemon;   /* borrowed */
    uint64_t peer;
    uint32_t id;
    enum ctl_type type;
    struct ctl_update update; /* its numbers */
};

static const struct {
    const char *what;
    enum job_type job;
} kinds[CTL_TYPE_COUNT] = {
    [CTL_PAUSE] = {"pause", JOB_PAUSE},
    [CTL_RESUME] = {"resume", JOB_RESUME},
    [CTL_UPDATE] = {"update", JOB_SCHED},
};

static void begin(struct operation *operation);

static void answer(const struct operation *operation, struct err *error)
{
    if (error) {
        if (operation->sandbox)
            (void)err_wrap(error, "container %s",
                           operation->sandbox->record.id);
        (void)err_wrap(error, "%s", kinds[operation->type].what);
    }
    server_result(operation->daemon->server, operation->peer, operation->id,
                  error);
}

static void apply(struct sandbox *sandbox, const struct operation *operation)
{
    if (operation->type == CTL_UPDATE) {
        if (operation->update.cpu_weight)
            sandbox->record.cpu_weight = operation->update.cpu_weight;
        if (operation->update.has_cpu_cap)
            sandbox->record.cpu_cap = operation->update.cpu_cap;
    } else if (sandbox_is_up(sandbox)) {
        sandbox->state =
            operation->type == CTL_PAUSE ? SANDBOX_PAUSED : SANDBOX_RUNNING;
    }
    sandbox_log(sandbox, LOG_INFO, "%s: done", kinds[operation->type].what);
    sandbox_save(sandbox);
}

/* Of the one under way. */
static void finish(struct operation *operation, const struct err *error)
{
    struct sandbox *sandbox = operation->sandbox;
    struct err e = ERR_INIT;

    if (error)
        e = *error;
    else if (!sandbox)
        (void)err_set(&e, ESRCH, "it was destroyed meanwhile");
    else
        apply(sandbox, operation);
    answer(operation, e.code ? &e : NULL);
    if (sandbox) {
        sandbox->operations = operation->next;
        if (sandbox->operations)
            begin(sandbox->operations);
    }
    free(operation);
}

static void on_done(void *context, const struct packet *reply,
                    const struct err *error)
{
    (void)reply;
    finish(context, error);
}

/* From a timer, so that a chain of operations that need no job does not
 * recurse. */
static void finish_now(void *context)
{
    finish(context, NULL);
}

static int check(const struct sandbox *sandbox, struct operation *operation,
                 struct err *e)
{
    if (sandbox->start_deadline && operation->type == CTL_PAUSE)
        return err_set(e, EBUSY, "its guest is still starting");
    if (operation->type != CTL_UPDATE)
        return 0;
    return policy_update(&sandbox->daemon->config, sandbox->record.memory_kb,
                         sandbox->record.vcpus, &operation->update, e);
}

static void begin(struct operation *operation)
{
    const struct ctl_update *update = &operation->update;
    const struct sandbox *sandbox = operation->sandbox;
    struct daemon *daemon = operation->daemon;
    union job_body job = {
        .domain = {.domid = sandbox->record.domid,
                   .uuid = (char *)sandbox->record.uuid},
    };

    if (operation->type == CTL_UPDATE) {
        if (!update->cpu_weight && !update->has_cpu_cap) {
            (void)loop_add_timer(daemon->loop, 0, finish_now, operation);
            return;
        }
        job.sched = (struct job_sched){
            .domid = sandbox->record.domid,
            .uuid = (char *)sandbox->record.uuid,
            .cpu_weight = update->cpu_weight,
            .has_cpu_cap = update->has_cpu_cap,
            .cpu_cap = update->cpu_cap,
        };
    }
    pool_submit(daemon->pool, kinds[operation->type].job, &job, DAEMON_JOB_MS,
                on_done, operation);
}

void sandbox_operate(struct sandbox *sandbox, uint64_t peer,
                     const struct packet *request)
{
    struct operation *operation = xcalloc(1, sizeof(*operation)), **at;
    struct err e = ERR_INIT;

    operation->sandbox = sandbox;
    operation->daemon = sandbox->daemon;
    operation->peer = peer;
    operation->id = request->id;
    operation->type = (enum ctl_type)request->type;
    if (operation->type == CTL_UPDATE) {
        operation->update = ((const union ctl_body *)request->body)->update;
        /* The request's own. */
        operation->update.namespace = operation->update.id = NULL;
    }
    if (!sandbox_is_up(sandbox))
        (void)err_set(&e, ESRCH, "its domain is %s",
                      sandbox_state_name(sandbox->state));
    if (e.code || check(sandbox, operation, &e) < 0) {
        answer(operation, &e);
        free(operation);
        return;
    }
    at = &sandbox->operations;
    while (*at)
        at = &(*at)->next;
    *at = operation;
    if (sandbox->operations == operation)
        begin(operation);
}

void sandbox_forget_operations(struct sandbox *sandbox)
{
    struct operation *under_way = sandbox->operations;
    struct operation *waiting = under_way ? under_way->next : NULL;

    sandbox->operations = NULL;
    /* Its job comes back, and frees it. */
    if (under_way)
        under_way->sandbox = NULL;
    while (waiting) {
        struct operation *operation = waiting;
        struct err e = ERR_INIT;

        waiting = operation->next;
        (void)err_set(&e, ESRCH, "it was destroyed meanwhile");
        answer(operation, &e);
        free(operation);
    }
}

void sandbox_free_operations(struct sandbox *sandbox)
{
    while (sandbox->operations) {
        struct operation *operation = sandbox->operations;

        sandbox->operations = operation->next;
        free(operation);
    }
}
