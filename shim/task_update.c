/*
 * Update and ResizePty: what changes a container that runs. Limits exist
 * twice, in the guest's cgroup and as the domain's share of the host; either
 * both change or none.
 */
#include "task_internal.h"

#include <stdlib.h>
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"

#define RESOURCES_TYPE "LinuxResources"
#define SIZE_MAX_PTY   65535 /* struct winsize */

/* credit2's own. */
#define CPU_WEIGHT_DEFAULT 256

struct update {
    struct task *task;
    struct call *call;
    struct oci_resources resources;
    bool domain_changed;
};

static void update_end(struct update *update, const struct err *why)
{
    struct err e;

    update->task->updating = false;
    if (why) {
        e = *why;
        if (e.code == ENOENT)
            e.code = EINVAL;
        (void)err_wrap(&e, "container %s: update", update->task->id);
        call_fail(&update->call, &e);
    } else {
        call_reply(&update->call, NULL);
    }
    oci_resources_clear(&update->resources);
    free(update);
}

static void undone(void *context, const struct packet *reply,
                   const struct err *why)
{
    (void)context;
    (void)reply;
    if (why)
        log_warn("undoing an update of the domain: %s", why->text);
}

static void undo_domain(const struct update *update)
{
    struct task *task = update->task;
    const struct oci_resources *r = &update->resources;
    struct ctl_update body = {
        .namespace = task->namespace,
        .id = task->id,
        .memory_max = r->memory_max ? task->share.memory_max : 0,
        .has_cpu_cap = r->has_cpu_cap,
        .cpu_cap = task->share.cpu_cap,
    };

    if (r->cpu_weight)
        body.cpu_weight = task->share.cpu_weight ? task->share.cpu_weight
                                                 : CPU_WEIGHT_DEFAULT;
    control_request(task->control, CTL_UPDATE, &body, TASK_DOMAIN_MS, undone,
                    task);
}

static void cgroup_updated(void *context, const struct proto_message *reply,
                           const struct err *why)
{
    struct update *update = context;
    struct share *share = &update->task->share;
    const struct oci_resources *r = &update->resources;

    (void)reply;
    if (why && update->domain_changed) {
        undo_domain(update);
    } else if (!why) {
        if (r->memory_max)
            share->memory_max = r->memory_max;
        if (r->cpu_weight)
            share->cpu_weight = r->cpu_weight;
        if (r->has_cpu_cap)
            share->cpu_cap = r->cpu_cap;
        share->bandwidth = r->bandwidth;
    }
    update_end(update, why);
}

static void update_cgroup(struct update *update)
{
    struct proto_message message = {.type = PROTO_UPDATE};
    struct task *task = update->task;

    if (update->resources.cgroup.n == 0) {
        cgroup_updated(update, NULL, NULL);
        return;
    }
    message.body.update.container = task->id;
    message.body.update.cgroup = update->resources.cgroup;
    message.body.update.check_memory = update->resources.check_memory;
    task_request(task, &message, TASK_ANSWER_MS, cgroup_updated, update);
}

static void domain_updated(void *context, const struct packet *reply,
                           const struct err *why)
{
    struct update *update = context;
    struct err e;

    (void)reply;
    if (why) {
        e = *why;
        (void)err_wrap(&e, "the domain's share");
        update_end(update, &e);
        return;
    }
    update->domain_changed = true;
    update_cgroup(update);
}

static int parse_resources(const struct task *task, const Wellknown__Any *any,
                           struct oci_resources *resources_out, struct err *e)
{
    const char *type;

    if (!any || any->value.len == 0)
        return err_set(e, EINVAL, "the request has no resources");
    type = strrchr(any->type_url, '/');
    type = type ? type + 1 : any->type_url;
    if (strcmp(type, RESOURCES_TYPE) != 0)
        return err_set(e, ENOTSUP, "resources of type %s",
                       LOG_Q(type, strlen(type)));
    if (any->value.len > OCI_CONFIG_MAX)
        return err_set(e, EFBIG, "resources of more than %d bytes",
                       OCI_CONFIG_MAX);
    return oci_parse_resources((const char *)any->value.data, any->value.len,
                               &task->share.bandwidth, resources_out, e);
}

/* One after the other: undoing needs to know what there was. */
void task_update(struct task *task, const Task__UpdateRequest *request,
                 struct call *call)
{
    struct ctl_update body = {.namespace = task->namespace, .id = task->id};
    struct update *update;
    struct err e = ERR_INIT;

    if (task_refuses(task, CALL_UPDATE, request->id, call))
        return;
    update = xcalloc(1, sizeof(*update));
    update->task = task;
    update->call = call;
    if (task->updating)
        (void)err_set(&e, EBUSY, "another update is under way");
    else
        (void)parse_resources(task, request->resources, &update->resources, &e);
    if (e.code) {
        bool others = task->updating;

        update_end(update, &e);
        task->updating = others;
        return;
    }
    task->updating = true;
    body.memory_max = update->resources.memory_max;
    body.cpu_weight = update->resources.cpu_weight;
    body.has_cpu_cap = update->resources.has_cpu_cap;
    body.cpu_cap = update->resources.cpu_cap;
    if (body.memory_max || body.cpu_weight || body.has_cpu_cap)
        control_request(task->control, CTL_UPDATE, &body, TASK_DOMAIN_MS,
                        domain_updated, update);
    else
        update_cgroup(update);
}

void task_resize(struct task *task, const Task__ResizePtyRequest *request,
                 struct call *call)
{
    struct proto_message message = {.type = PROTO_RESIZE};
    struct process *process =
        task_process(task, CALL_RESIZE, request->id, request->exec_id, call);
    struct err e = ERR_INIT;

    if (!process)
        return;
    if (request->width > SIZE_MAX_PTY || request->height > SIZE_MAX_PTY) {
        (void)err_set(&e, EINVAL, "%u x %u, the limit is %d", request->width,
                      request->height, SIZE_MAX_PTY);
        task_name_error(process, "resize", &e);
        call_fail(&call, &e);
        return;
    }
    /* As with runc: clients resize without asking what there is. */
    if (!process->paths.terminal) {
        call_reply(&call, NULL);
        return;
    }
    /* Its terminal is made at its start. */
    if (process->spec) {
        process->spec->console_width = request->width;
        process->spec->console_height = request->height;
        call_reply(&call, NULL);
        return;
    }
    message.body.resize.container = task->id;
    message.body.resize.exec = process->exec;
    message.body.resize.width = request->width;
    message.body.resize.height = request->height;
    task_simple_request(task, &message, "resize", call);
}
