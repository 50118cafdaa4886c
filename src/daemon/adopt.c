#include "adopt.h"

#include <string.h>

#include "domus/mem.h"
#include "sandbox.h"

#define LIST_RETRY_MS 2000
#define ALL_STEPS     ((1u << SANDBOX_STEPS) - 1)

struct adoption {
    struct daemon *daemon; /* borrowed */
    adopt_done_fn *done;
};

static void list(void *context);

struct reading {
    struct daemon *daemon; /* borrowed */
    struct err newer;      /* its code is 0: none is */
};

static void found_record(void *context, const char *file_name)
{
    struct reading *reading = context;
    struct daemon *daemon = reading->daemon;
    struct record record = {.domid = 0};
    struct err e = ERR_INIT;
    struct sandbox *sandbox;
    int state, r = record_load(daemon->records_fd, file_name, &record, &e);

    if (r == -EPROTONOSUPPORT) {
        reading->newer = e;
        return;
    }
    if (r < 0) {
        /* Its domain, if any, is still named by what the file is called. */
        log_error("%s", e.text);
        record.namespace = xstrdup("unknown");
        record.id = xstrdup(file_name);
        memcpy(record.uuid, file_name, UUID_LENGTH);
        record.state = xstrdup(sandbox_state_name(SANDBOX_DYING));
        record.domain_type = xstrdup("");
        record.image = xstrdup("");
    }
    state = sandbox_state_parse(record.state);
    sandbox = sandbox_new(daemon, &record);
    sandbox->state = state < 0 ? SANDBOX_DYING : (enum sandbox_state)state;
    sandbox->build_sent = true;
    sandbox->steps.begun = sandbox->steps.done = ALL_STEPS;
}

static void take_image(struct sandbox *sandbox)
{
    struct err e = ERR_INIT;

    if (sandbox->record.image[0] &&
        image_adopt(sandbox->daemon->images, sandbox->record.image,
                    (int)sandbox->record.loop, &sandbox->image, &e) < 0)
        sandbox_log(sandbox, LOG_WARN, "%s", e.text);
}

static void take_over(struct sandbox *sandbox, const struct job_listed *domain)
{
    struct daemon *daemon = sandbox->daemon;
    struct err e = ERR_INIT;

    sandbox->record.domid = domain->domid;
    if (console_open(daemon->loop, domain->console, &sandbox->console, &e) < 0)
        sandbox_log(sandbox, LOG_WARN, "%s", e.text);
    if (domain->shut_down && !sandbox->died)
        sandbox->died = xstrndup(domain->reason, 63);
    /* A pause may have been under way, or somebody else's: Xen knows. */
    sandbox->state = sandbox->died    ? SANDBOX_DEAD
                     : domain->paused ? SANDBOX_PAUSED
                                      : SANDBOX_RUNNING;
    sandbox_save(sandbox);
    watch_add(daemon->watch, domain->domid, sandbox->record.uuid);
    sandbox_log(sandbox, LOG_INFO, "found again, %s",
                sandbox_state_name(sandbox->state));
    sandbox_orphan(sandbox, SANDBOX_ADOPT_GRACE_MS);
}

static const struct job_listed *find(const struct job_list_result *list,
                                     const char *uuid)
{
    for (size_t i = 0; i < list->domains.n; i++)
        if (strcmp(list->domains.v[i].uuid, uuid) == 0)
            return &list->domains.v[i];
    return NULL;
}

static void decide(struct sandbox *sandbox, const struct job_list_result *found)
{
    const struct job_listed *domain = find(found, sandbox->record.uuid);
    bool was_up = sandbox_is_up(sandbox) || sandbox->state == SANDBOX_DEAD;

    if (was_up && domain && !domain->dying) {
        if (sandbox->state == SANDBOX_DEAD)
            sandbox->died =
                xstrdup(domain->shut_down ? domain->reason : "no channel");
        take_over(sandbox, domain);
        return;
    }
    /* The number may be another domain's by now. */
    sandbox->record.domid = domain ? domain->domid : 0;
    sandbox_log(sandbox, LOG_WARN, "%s: cleaning up",
                domain ? "half done when domusd ended" : "its domain is gone");
    /* Whoever asked for its end has an answer, or asks again. */
    sandbox->released = sandbox->state == SANDBOX_DYING;
    sandbox_destroy(sandbox, 0, 0);
}

static void on_list(void *context, const struct packet *reply,
                    const struct err *error)
{
    struct adoption *adoption = context;
    struct daemon *daemon = adoption->daemon;
    struct sandbox *next;

    if (error || reply->type != JOB_LIST_RESULT) {
        log_error("cannot list the domains that were left running, trying "
                  "again: %s",
                  error ? error->text : "the builder gave no LIST_RESULT");
        (void)loop_add_timer(daemon->loop, LIST_RETRY_MS, list, adoption);
        return;
    }
    /* All images first, so that none is taken for a stray. */
    for (struct sandbox *s = daemon->sandboxes; s; s = s->next)
        take_image(s);
    image_sweep(daemon->images);
    adoption->done(daemon);
    for (struct sandbox *s = daemon->sandboxes; s; s = next) {
        next = s->next;
        decide(s, reply->body);
    }
    free(adoption);
}

static void list(void *context)
{
    struct adoption *adoption = context;

    pool_submit(adoption->daemon->pool, JOB_LIST, NULL, DAEMON_JOB_MS, on_list,
                adoption);
}

int adopt_all(struct daemon *daemon, adopt_done_fn *done, struct err *error)
{
    struct reading reading = {.daemon = daemon, .newer = ERR_INIT};
    struct adoption *adoption;
    struct err e = ERR_INIT;

    if (record_each(daemon->records_fd, found_record, &reading, &e) < 0)
        log_error("%s", e.text);
    if (reading.newer.code) {
        *error = reading.newer;
        return err_wrap(error, "containers of a newer domusd are running, "
                               "which this one would destroy");
    }
    /* Without Xen nothing can be asked; who wants a container is told why,
     * and the records wait for a start with Xen. */
    if (daemon->sandboxes && daemon_check_xen(daemon, &e) < 0) {
        log_error("records of sandboxes, but no Xen: %s", e.text);
        sandboxes_free(daemon);
    }
    if (!daemon->sandboxes) {
        image_sweep(daemon->images);
        done(daemon);
        return 0;
    }
    adoption = xcalloc(1, sizeof(*adoption));
    adoption->daemon = daemon;
    adoption->done = done;
    list(adoption);
    return 0;
}
