#include "requests.h"

#include "domus/mem.h"
#include "hooks.h"
#include "logger.h"
#include "sandbox.h"

typedef void request_fn(struct daemon *daemon, uint64_t peer,
                        const struct packet *packet);

static void on_create(struct daemon *daemon, uint64_t peer,
                      const struct packet *packet)
{
    const union ctl_body *body = packet->body;
    sandbox_create(daemon, peer, packet->id, &body->create);
}

static void no_sandbox(struct daemon *daemon, uint64_t peer, uint32_t id,
                       const struct ctl_name *name)
{
    struct err e = ERR_INIT;

    (void)err_set(&e, ENOENT, "no sandbox '%.76s' in namespace '%.76s'",
                  name->id, name->namespace);
    server_result(daemon->server, peer, id, &e);
}

static void on_attach(struct daemon *daemon, uint64_t peer,
                      const struct packet *packet)
{
    const union ctl_body *body = packet->body;
    struct sandbox *sandbox =
        sandbox_find(daemon, body->name.namespace, body->name.id);
    struct ctl_sandbox reply;

    /* One that is being made answers its creator, one that goes is gone. */
    if (!sandbox || sandbox->state == SANDBOX_CREATING ||
        sandbox->state == SANDBOX_DYING) {
        no_sandbox(daemon, peer, packet->id, &body->name);
        return;
    }
    sandbox_attach(sandbox, peer);
    sandbox_fill_reply(sandbox, &reply);
    server_send(daemon->server, peer, CTL_SANDBOX, packet->id, &reply);
    sandbox_notify_died(sandbox);
}

static void on_destroy(struct daemon *daemon, uint64_t peer,
                       const struct packet *packet)
{
    const union ctl_body *body = packet->body;
    struct sandbox *sandbox = sandbox_find_to_destroy(daemon, &body->name);

    if (sandbox)
        sandbox_destroy(sandbox, peer, packet->id);
    else
        server_result(daemon->server, peer, packet->id, NULL);
}

static void on_console(struct daemon *daemon, uint64_t peer,
                       const struct packet *packet)
{
    const union ctl_body *body = packet->body;
    struct sandbox *sandbox =
        sandbox_find(daemon, body->name.namespace, body->name.id);
    struct ctl_console_result reply = {.untrusted_text = {.n = 0}};

    if (!sandbox) {
        no_sandbox(daemon, peer, packet->id, &body->name);
        return;
    }
    reply.untrusted_text = console_untrusted_tail(sandbox->console);
    server_send(daemon->server, peer, CTL_CONSOLE_RESULT, packet->id, &reply);
    free(reply.untrusted_text.v);
}

static void on_list(struct daemon *daemon, uint64_t peer,
                    const struct packet *packet)
{
    _cleanup_free_ struct ctl_listed *listed =
        xcalloc(SANDBOXES_MAX, sizeof(*listed));
    struct ctl_list_result reply = {.sandboxes = {.v = listed}};

    for (struct sandbox *s = daemon->sandboxes;
         s && reply.sandboxes.n < SANDBOXES_MAX; s = s->next)
        listed[reply.sandboxes.n++] = (struct ctl_listed){
            .namespace = s->record.namespace,
            .id = s->record.id,
            .uuid = s->record.uuid,
            .domain_type = s->record.domain_type,
            .state = (char *)sandbox_state_name(s->state),
            .domid = s->record.domid,
            .memory_kb = s->record.memory_kb,
            .vcpus = s->record.vcpus,
            .created_unix_ns = s->record.created_unix_ns,
        };
    server_send(daemon->server, peer, CTL_LIST_RESULT, packet->id, &reply);
}

static void on_operation(struct daemon *daemon, uint64_t peer,
                         const struct packet *packet)
{
    const union ctl_body *body = packet->body;
    struct ctl_name name = body->name;
    struct sandbox *sandbox;

    if (packet->type == CTL_UPDATE)
        name = (struct ctl_name){body->update.namespace, body->update.id};
    sandbox = sandbox_find(daemon, name.namespace, name.id);
    if (sandbox)
        sandbox_operate(sandbox, peer, packet);
    else
        no_sandbox(daemon, peer, packet->id, &name);
}

static void on_hooks(struct daemon *daemon, uint64_t peer,
                     const struct packet *packet)
{
    const union ctl_body *body = packet->body;

    hooks_run(daemon, peer, packet->id, &body->hooks);
}

static void on_logger(struct daemon *daemon, uint64_t peer,
                      const struct packet *packet)
{
    const union ctl_body *body = packet->body;

    logger_start(daemon, peer, packet->id, &body->logger, packet->fds);
}

static request_fn *const table[CTL_TYPE_COUNT] = {
    [CTL_CREATE] = on_create,    [CTL_ATTACH] = on_attach,
    [CTL_DESTROY] = on_destroy,  [CTL_CONSOLE] = on_console,
    [CTL_LIST] = on_list,        [CTL_PAUSE] = on_operation,
    [CTL_RESUME] = on_operation, [CTL_UPDATE] = on_operation,
    [CTL_HOOKS] = on_hooks,      [CTL_LOGGER] = on_logger,
};

/* The permit table lets only these through. */
static void on_request(void *context, uint64_t peer,
                       const struct packet *packet)
{
    table[packet->type](context, peer, packet);
}

static void on_gone(void *context, uint64_t peer)
{
    struct daemon *daemon = context;

    for (struct sandbox *s = daemon->sandboxes; s; s = s->next)
        if (s->owner == peer)
            sandbox_orphan(s, SANDBOX_GRACE_MS);
    hooks_peer_gone(daemon, peer);
}

static void on_stranger(void *context)
{
    struct daemon *daemon = context;

    if (!daemon->stranger_at)
        log_error("a shim of another version of domus is there; containers "
                  "without a shim are kept while it is");
    daemon->stranger_at = loop_now();
}

const struct server_handler requests_handler = {
    .request = on_request,
    .gone = on_gone,
    .stranger = on_stranger,
};
