#include <string.h>
#include <time.h>

#include "domus/mem.h"
#include "sandbox.h"

/* What the guest's kernel is told; nothing of it comes from a container.
 * panic=-1: at once, so that the domain's end is seen. */
#define GUEST_COMMAND_LINE                                             \
    "console=hvc0 quiet loglevel=4 panic=-1 rcupdate.rcu_expedited=1 " \
    "cryptomgr.notests random.trust_cpu=on rdinit=/init"
#define ROOT_DEVICE "xvda"

enum { STEP_RECORD, STEP_IMAGE, STEP_DOMAIN, STEP_START };

static void step_done(struct sandbox *sandbox, unsigned int step,
                      const struct err *error)
{
    steps_done(&sandbox->steps, step, error);
}

/* --- the record ------------------------------------------------------------
 */

static void record_run(void *context)
{
    struct sandbox *sandbox = context;
    struct err e = ERR_INIT;

    record_save(sandbox->daemon->records_fd, &sandbox->record, &e);
    step_done(sandbox, STEP_RECORD, e.code ? &e : NULL);
}

static void record_undo(void *context)
{
    struct sandbox *sandbox = context;
    struct err e = ERR_INIT;

    record_remove(sandbox->daemon->records_fd, sandbox->record.uuid, &e);
    step_done(sandbox, STEP_RECORD, e.code ? &e : NULL);
}

/* --- the image -------------------------------------------------------------
 */

static void image_ready(void *context, struct image *image,
                        const struct err *error)
{
    struct sandbox *sandbox = context;

    sandbox->image_ns = loop_now_ns();
    sandbox->image = image;
    if (image) {
        free(sandbox->record.image);
        sandbox->record.image = xstrdup(image_digest(image));
        sandbox->record.loop = (uint32_t)image_device(image)->number;
    }
    step_done(sandbox, STEP_IMAGE, error);
}

static void image_run(void *context)
{
    struct sandbox *sandbox = context;

    image_prepare(sandbox->daemon->images, &sandbox->create->rootfs,
                  sandbox->create->rootfs_path, image_ready, sandbox);
}

/* A large image takes minutes, and nobody waits for it any more. */
static bool image_stop(void *context)
{
    struct sandbox *sandbox = context;
    struct err e = ERR_INIT;

    if (!image_cancel(sandbox->daemon->images, image_ready, sandbox))
        return false;
    (void)err_set(&e, ECANCELED, "it is not wanted any more");
    step_done(sandbox, STEP_IMAGE, &e);
    return true;
}

static void image_gone(void *context, const struct err *error)
{
    struct sandbox *sandbox = context;

    /* Held open by somebody: the kernel detaches it after them, and the
     * sweep of the next start looks again. Not a reason to keep the rest. */
    if (error)
        sandbox_log(sandbox, LOG_WARN, "%s", error->text);
    step_done(sandbox, STEP_IMAGE, NULL);
}

static void image_undo(void *context)
{
    struct sandbox *sandbox = context;
    struct image *image = steal_ptr(&sandbox->image);

    if (image)
        image_release(image, image_gone, sandbox);
    else
        step_done(sandbox, STEP_IMAGE, NULL);
}

/* --- the domain ------------------------------------------------------------
 */

static void on_built(void *context, const struct packet *reply,
                     const struct err *error)
{
    struct sandbox *sandbox = context;
    struct err e = ERR_INIT;

    if (reply && reply->type != JOB_BUILT) {
        (void)err_set(&e, EBADMSG, "the builder gave no BUILT");
        error = &e;
    }
    if (!error) {
        const struct job_built *built = reply->body;

        sandbox->built_ns = loop_now_ns();
        sandbox->record.domid = built->domid;
        if (console_open(sandbox->daemon->loop, built->console,
                         &sandbox->console, &e) < 0)
            error = &e;
    }
    step_done(sandbox, STEP_DOMAIN, error);
}

static void build(struct sandbox *sandbox)
{
    struct daemon *daemon = sandbox->daemon;
    /* Neither may contain a colon, so no two containers make one name. */
    _cleanup_free_ char *name =
        xasprintf("domus-%s:%s", sandbox->record.namespace, sandbox->record.id);
    _cleanup_free_ char *command_line = xstrdup(GUEST_COMMAND_LINE);
    struct job_build job = {
        .name = name,
        .uuid = sandbox->record.uuid,
        .pvh = sandbox->plan.type == DOMAIN_PVH,
        .kernel = daemon->guest.kernel,
        .initramfs = daemon->guest.initramfs,
        .command_line = command_line,
        .memory_kb = sandbox->plan.memory_kb,
        .vcpus = sandbox->plan.vcpus,
        .cpu_weight = sandbox->plan.cpu_weight,
        .cpu_cap = sandbox->plan.cpu_cap,
    };

    sandbox->build_sent = true;
    pool_submit(daemon->pool, JOB_BUILD, &job, DAEMON_JOB_MS, on_built,
                sandbox);
}

static void on_host(void *context, const struct packet *reply,
                    const struct err *error)
{
    struct sandbox *sandbox = context;
    struct err e = ERR_INIT;

    if (reply && reply->type != JOB_HOST_RESULT) {
        (void)err_set(&e, EBADMSG, "the builder gave no HOST_RESULT");
        error = &e;
    }
    if (!error) {
        const struct job_host_result *host = reply->body;

        if (policy_settle(&sandbox->plan, host->has_hap, host->free_kb, &e) < 0)
            error = &e;
    }
    if (error || sandbox->steps.stopping) {
        if (!error) {
            (void)err_set(&e, ECANCELED, "given up");
            error = &e;
        }
        step_done(sandbox, STEP_DOMAIN, error);
        return;
    }
    free(sandbox->record.domain_type);
    sandbox->record.domain_type = xstrdup(domain_type_name(sandbox->plan.type));
    build(sandbox);
}

static void domain_run(void *context)
{
    struct sandbox *sandbox = context;
    struct err e = ERR_INIT;

    if (guest_files_check(&sandbox->daemon->guest, &e) < 0) {
        step_done(sandbox, STEP_DOMAIN, &e);
        return;
    }
    pool_submit(sandbox->daemon->pool, JOB_HOST, NULL, DAEMON_JOB_MS, on_host,
                sandbox);
}

static void on_destroyed(void *context, const struct packet *reply,
                         const struct err *error)
{
    struct sandbox *sandbox = context;

    (void)reply;
    if (!error) {
        sandbox->build_sent = false;
        sandbox->record.domid = 0;
    }
    step_done(sandbox, STEP_DOMAIN, error);
}

static void destroy_domain(struct sandbox *sandbox)
{
    struct job_domain domain = {
        .domid = sandbox->record.domid,
        .uuid = sandbox->record.uuid,
    };

    pool_submit(sandbox->daemon->pool, JOB_DESTROY, &domain, DAEMON_JOB_MS,
                on_destroyed, sandbox);
}

/* The worker failed before it could say which domain it made, if any. */
static void on_list(void *context, const struct packet *reply,
                    const struct err *error)
{
    struct sandbox *sandbox = context;

    if (reply && reply->type == JOB_LIST_RESULT) {
        const struct job_list_result *list = reply->body;

        for (size_t i = 0; i < list->domains.n; i++)
            if (strcmp(list->domains.v[i].uuid, sandbox->record.uuid) == 0)
                sandbox->record.domid = list->domains.v[i].domid;
    }
    if (sandbox->record.domid)
        destroy_domain(sandbox);
    else
        step_done(sandbox, STEP_DOMAIN, error);
}

static void domain_undo(void *context)
{
    struct sandbox *sandbox = context;

    if (sandbox->record.domid)
        destroy_domain(sandbox);
    else if (sandbox->build_sent)
        pool_submit(sandbox->daemon->pool, JOB_LIST, NULL, DAEMON_JOB_MS,
                    on_list, sandbox);
    else
        step_done(sandbox, STEP_DOMAIN, NULL);
}

/* --- start -----------------------------------------------------------------
 */

/* Without a record of it the next domusd would take it for half done; but one
 * that is to go stays recorded as that. */
static void on_started(void *context, const struct packet *reply,
                       const struct err *error)
{
    struct sandbox *sandbox = context;
    struct err e = ERR_INIT;

    (void)reply;
    sandbox->unpaused_ns = loop_now_ns();
    if (!error && sandbox->state != SANDBOX_DYING &&
        sandbox_record(sandbox, SANDBOX_RUNNING, &e) < 0)
        error = &e;
    step_done(sandbox, STEP_START, error);
}

static void start_run(void *context)
{
    struct sandbox *sandbox = context;
    const struct loopdev *device = image_device(sandbox->image);
    _cleanup_free_ char *name = xstrdup(ROOT_DEVICE);
    _cleanup_free_ char *path = xstrdup(device->path);
    struct job_vbd vbd = {
        .name = name,
        .major = device->major,
        .minor = device->minor,
        .writable = false,
        .path = path,
    };
    struct job_start job = {
        .domid = sandbox->record.domid,
        .uuid = sandbox->record.uuid,
        .vbds = {.v = &vbd, .n = 1},
    };

    watch_add(sandbox->daemon->watch, sandbox->record.domid,
              sandbox->record.uuid);
    pool_submit(sandbox->daemon->pool, JOB_START, &job, DAEMON_JOB_MS,
                on_started, sandbox);
}

static void start_undo(void *context)
{
    struct sandbox *sandbox = context;

    watch_remove(sandbox->daemon->watch, sandbox->record.domid);
    step_done(sandbox, STEP_START, NULL);
}

/* Image and domain are made side by side. */
const struct step sandbox_steps[SANDBOX_STEPS] = {
    [STEP_RECORD] = {"write the sandbox's record", 0, record_run, record_undo,
                     NULL},
    [STEP_IMAGE] = {"prepare the rootfs", 1u << STEP_RECORD, image_run,
                    image_undo, image_stop},
    [STEP_DOMAIN] = {"build the domain", 1u << STEP_RECORD, domain_run,
                     domain_undo, NULL},
    [STEP_START] = {"start the domain", 1u << STEP_IMAGE | 1u << STEP_DOMAIN,
                    start_run, start_undo, NULL},
};

/* --- CREATE ----------------------------------------------------------------
 */

void sandbox_fill_reply(const struct sandbox *sandbox,
                        struct ctl_sandbox *reply_out)
{
    static char root_device[] = ROOT_DEVICE, none[] = "";

    *reply_out = (struct ctl_sandbox){
        .domid = sandbox->record.domid,
        .uuid = (char *)sandbox->record.uuid,
        .domain_type = sandbox->record.domain_type,
        .channel = sandbox->channel ? sandbox->channel : none,
        .root_device = root_device,
        .start_timeout_s = sandbox->daemon->config.start_timeout_s,
        .received_ns = sandbox->received_ns,
        .image_ns = sandbox->image_ns,
        .built_ns = sandbox->built_ns,
        .unpaused_ns = sandbox->unpaused_ns,
    };
}

static void add_console(const struct sandbox *sandbox, struct err *e)
{
    struct byte_list untrusted_tail = console_untrusted_tail(sandbox->console);
    size_t n =
        untrusted_tail.n < LOG_QUOTE_MAX ? untrusted_tail.n : LOG_QUOTE_MAX;
    size_t at = strlen(e->text);

    if (n > 0)
        (void)snprintf(e->text + at, sizeof(e->text) - at,
                       "; the guest's last words: %s",
                       LOG_Q(untrusted_tail.v + untrusted_tail.n - n, n));
    free(untrusted_tail.v);
}

static void create_failed(struct sandbox *sandbox, const struct err *error)
{
    struct err e = *error;

    (void)err_wrap(&e, "container %s", sandbox->record.id);
    add_console(sandbox, &e);
    sandbox_log(sandbox, LOG_ERROR, "not created: %s", e.text);
    server_result(sandbox->daemon->server, sandbox->owner, sandbox->create_id,
                  &e);
    /* That was all its creator needs to know. */
    sandbox->owner = 0;
    /* Who asked for its end meanwhile gets an answer of their own. */
    if (sandbox->state == SANDBOX_DYING)
        return;
    /* Its name is free for another attempt. */
    sandbox->released = true;
    if (sandbox->steps.begun)
        sandbox_retry_later(sandbox);
    else
        sandbox_free(sandbox);
}

static void create_finished(void *context, const struct err *error)
{
    struct sandbox *sandbox = context;
    struct ctl_sandbox reply;

    if (error) {
        create_failed(sandbox, error);
        return;
    }
    sandbox->state = sandbox->died ? SANDBOX_DEAD : SANDBOX_RUNNING;
    if (sandbox->died)
        sandbox_save(sandbox);
    sandbox_fill_reply(sandbox, &reply);
    sandbox_log(sandbox, LOG_INFO,
                "created in %llu ms: %s domain, %llu MiB, image %.12s",
                (unsigned long long)(loop_now_ns() - sandbox->received_ns) /
                    1000000,
                sandbox->record.domain_type,
                (unsigned long long)sandbox->record.memory_kb / 1024,
                sandbox->record.image);
    /* The channel comes as a notice, always, also when it is there first. */
    reply.channel += strlen(reply.channel);
    server_send(sandbox->daemon->server, sandbox->owner, CTL_SANDBOX,
                sandbox->create_id, &reply);
    sandbox_notify_channel(sandbox);
    sandbox_notify_died(sandbox);
    sandbox_await_channel(sandbox);
}

static uint64_t unix_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int check_table(struct daemon *daemon, const struct ctl_create *create,
                       struct err *e)
{
    size_t n = 0;

    if (sandbox_find(daemon, create->namespace, create->id))
        return err_set(e, EEXIST, "it exists already in namespace %s",
                       create->namespace);
    for (struct sandbox *s = daemon->sandboxes; s; s = s->next)
        n++;
    if (n >= SANDBOXES_MAX)
        return err_set(e, ENOSPC, "there are %zu sandboxes, the limit is %d", n,
                       SANDBOXES_MAX);
    return 0;
}

void sandbox_create(struct daemon *daemon, uint64_t peer, uint32_t id,
                    const struct ctl_create *create)
{
    struct record record = {.domid = 0};
    struct domain_plan plan;
    struct sandbox *sandbox;
    struct err e = ERR_INIT;
    int r = policy_plan(&daemon->config, create, &plan, &e);

    if (r == 0)
        r = check_table(daemon, create, &e);
    if (r == 0)
        r = daemon_check_xen(daemon, &e);
    if (r < 0) {
        (void)err_wrap(&e, "container %s", create->id);
        log_error("not created: %s", e.text);
        server_result(daemon->server, peer, id, &e);
        return;
    }
    record.namespace = xstrdup(create->namespace);
    record.id = xstrdup(create->id);
    uuid_make(record.uuid);
    record.state = xstrdup(sandbox_state_name(SANDBOX_CREATING));
    record.domain_type = xstrdup("");
    record.image = xstrdup("");
    record.memory_kb = plan.memory_kb;
    record.vcpus = plan.vcpus;
    record.cpu_weight = plan.cpu_weight;
    record.cpu_cap = plan.cpu_cap;
    record.created_unix_ns = unix_now_ns();
    sandbox = sandbox_new(daemon, &record);
    sandbox->received_ns = loop_now_ns();
    sandbox->plan = plan;
    sandbox->owner = peer;
    sandbox->create_id = id;
    sandbox->create = xcalloc(1, sizeof(*sandbox->create));
    /* It was decoded by the same table, so it fits. */
    (void)wire_copy(ctl_protocol.types[CTL_CREATE].desc, create,
                    sandbox->create, &e);
    steps_run(&sandbox->steps, create_finished);
}
