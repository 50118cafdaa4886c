/*
 * Create, in the order of time: read the configuration, open the streams, have
 * domusd build the sandbox, meet the guest, have it prepare the container.
 * Whatever fails on the way takes down what there is, then answers.
 */
#include "task_internal.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "events.pb-c.h"
#include "runtime_options.h"

static void creation_free(struct creation *creation)
{
    loop_remove_timer(&creation->deadline);
    protobuf_c_message_free_unpacked(&creation->request->base, NULL);
    oci_config_clear(&creation->config);
    free(creation->root_device);
    free(creation->channel);
    free(creation);
}

static int check_request(const struct task *task,
                         const Task__CreateRequest *request, struct err *e)
{
    if (!spec_id_valid(request->id))
        return err_set(e, EINVAL, "not a valid id: \"%s\"",
                       LOG_Q(request->id, strlen(request->id)));
    if (strcmp(request->id, task->id) != 0)
        return err_set(e, EINVAL, "container %s: this shim serves %s",
                       request->id, task->id);
    if (request->bundle[0] != '/' || strlen(request->bundle) > SPEC_PATH_MAX)
        return err_set(e, EINVAL, "bundle \"%s\": not an absolute path",
                       LOG_Q(request->bundle, strlen(request->bundle)));
    if (request->checkpoint[0] || request->parent_checkpoint[0])
        return err_set(e, ENOTSUP, "checkpoints are not supported");
    if (request->n_rootfs > CTL_MOUNTS_MAX)
        return err_set(e, EINVAL,
                       "%zu root file system mounts, the limit is "
                       "%d",
                       request->n_rootfs, CTL_MOUNTS_MAX);
    return runtime_options_check(request->options, e);
}

/* All that can be known to be wrong before anything is built. */
static int prepare(struct task *task, struct creation *creation, struct err *e)
{
    const Task__CreateRequest *request = creation->request;
    int r = check_request(task, request, e);

    if (r < 0)
        return r;
    r = oci_load(request->bundle, task->id, &creation->config, e);
    if (r < 0) {
        /* NotFound would mean the container, not its configuration. */
        if (r == -ENOENT || r == -EACCES)
            e->code = EINVAL;
        return -e->code;
    }
    task_clear_hooks(task);
    task->poststart_hooks = creation->config.poststart_hooks;
    task->poststop_hooks = creation->config.poststop_hooks;
    task->hook_state = creation->config.hook_state;
    creation->config.poststart_hooks = (struct spec_hook_list){0};
    creation->config.poststop_hooks = (struct spec_hook_list){0};
    creation->config.hook_state = NULL;
    task->share = (struct share){
        .memory_max = creation->config.memory_max,
        .cpu_weight = creation->config.cpu_weight,
        .cpu_cap = creation->config.cpu_cap,
        .bandwidth = creation->config.bandwidth,
    };
    if (creation->config.container.process.terminal != request->terminal)
        return err_set(e, EINVAL,
                       "config.json and the request differ about a terminal");
    task->init.paths = (struct stdio_paths){
        .in = xstrdup(request->stdin),
        .out = xstrdup(request->stdout),
        .err = xstrdup(request->stderr),
        .terminal = request->terminal,
    };
    return 0;
}

static void give_up(struct task *task)
{
    struct creation *creation = steal_ptr(&task->creation);
    struct err why = creation->why;

    process_close_streams(&task->init);
    stdio_paths_clear(&task->init.paths);
    task->init.state = TASK_NONE;
    task_clear_hooks(task);
    task_save_record(task);
    process_answer_waiters(&task->init);
    (void)err_wrap(&why, "container %s", task->id);
    log_error("create: %s", why.text);
    call_fail(&creation->call, &why);
    creation_free(creation);
}

static void destroyed(void *context, const struct packet *reply,
                      const struct err *why)
{
    struct task *task = context;

    (void)reply;
    /* Otherwise the record stays, so that `delete` tries again. */
    if (!why)
        task->record.sandbox = false;
    else
        log_warn("undoing create: %s", why->text);
    give_up(task);
}

static void undo(struct task *task)
{
    task_drop_guest(task);
    control_set_attached(task->control, false);
    if (task->record.sandbox)
        control_request(task->control, CTL_DESTROY, NULL, TASK_DESTROY_MS,
                        destroyed, task);
    else
        give_up(task);
}

static void console_came(void *context, const struct packet *reply,
                         const struct err *why)
{
    struct task *task = context;

    (void)why;
    task_add_console(&task->creation->why, reply);
    undo(task);
}

void task_create_failed(struct task *task, const struct err *why,
                        bool with_console)
{
    struct creation *creation = task->creation;

    if (creation->failing)
        return;
    creation->failing = true;
    creation->why = *why;
    process_open_cancel(&task->init);
    loop_remove_timer(&creation->deadline);
    if (with_console)
        control_request(task->control, CTL_CONSOLE, NULL, TASK_CONSOLE_MS,
                        console_came, task);
    else
        undo(task);
}

static void publish_created(struct task *task,
                            const Task__CreateRequest *request)
{
    Containerd__Events__TaskCreate event =
        CONTAINERD__EVENTS__TASK_CREATE__INIT;
    Containerd__Events__TaskIO io = CONTAINERD__EVENTS__TASK_IO__INIT;

    io.stdin = request->stdin;
    io.stdout = request->stdout;
    io.stderr = request->stderr;
    io.terminal = request->terminal;
    event.container_id = task->id;
    event.bundle = request->bundle;
    event.n_rootfs = request->n_rootfs;
    event.rootfs = request->rootfs;
    event.io = &io;
    event.checkpoint = request->checkpoint;
    event.pid = (uint32_t)getpid();
    events_publish(task->events, "/tasks/create", &event.base);
}

static void container_ready(void *context, const struct proto_message *reply,
                            const struct err *why)
{
    struct task *task = context;
    struct creation *creation = task->creation;
    Task__CreateResponse response = TASK__CREATE_RESPONSE__INIT;

    (void)reply;
    if (!creation || creation->failing)
        return;
    if (why) {
        struct err e = *why;

        /* A file that the guest misses is a fault of what it was told. */
        if (e.code == ENOENT)
            e.code = EINVAL;
        task_create_failed(task, &e, why->code == ETIMEDOUT);
        return;
    }
    task->creation = NULL;
    task->phases.container_ready = loop_now_ns();
    process_add_input(&task->init, guest_link(task->guest));
    task->init.state = TASK_CREATED;
    publish_created(task, creation->request);
    response.pid = (uint32_t)getpid();
    call_reply(&creation->call, &response.base);
    creation_free(creation);
    (void)malloc_trim(0);
}

static void send_create(struct task *task)
{
    struct creation *creation = task->creation;
    struct link *link = guest_link(task->guest);
    struct proto_message message = {.type = PROTO_CREATE};
    struct proto_create *create = &message.body.create;

    create->container = creation->config.container;
    create->root_device = creation->root_device;
    create->stdin_stream = process_input_id(&task->init);
    create->stdout_stream = process_add_output(&task->init, link, PROCESS_OUT);
    create->stderr_stream = process_add_output(&task->init, link, PROCESS_ERR);
    guest_request(task->guest, &message, TASK_PREPARE_MS, container_ready,
                  task);
    if (task->creation) {
        oci_config_clear(&creation->config);
        creation->config = (struct oci_config){0};
    }
}

static void create_runtime_ran(struct task *task, const struct err *why)
{
    if (!task->creation || task->creation->failing)
        return;
    if (why)
        task_create_failed(task, why, false);
    else
        send_create(task);
}

static void prestart_ran(struct task *task, const struct err *why)
{
    const struct creation *creation = task->creation;

    if (!creation || creation->failing)
        return;
    if (why)
        task_create_failed(task, why, false);
    else
        task_run_hooks(task, "createRuntime",
                       &creation->config.create_runtime_hooks, task->hook_state,
                       "creating", create_runtime_ran);
}

void task_create_up(struct task *task)
{
    struct creation *creation = task->creation;

    if (!creation || creation->failing)
        return;
    loop_remove_timer(&creation->deadline);
    task->phases.agent_up = loop_now_ns();
    task_run_hooks(task, "prestart", &creation->config.prestart_hooks,
                   task->hook_state, "creating", prestart_ran);
}

static void hello_late(void *context)
{
    struct task *task = context;
    struct err e = ERR_INIT;

    task->creation->deadline = NULL;
    (void)err_set(&e, ETIMEDOUT,
                  task->guest ? "the guest said no hello in time"
                              : "the guest offered no channel in time");
    task_create_failed(task, &e, true);
}

void task_create_channel(struct task *task, const char *channel)
{
    struct creation *creation = task->creation;
    struct err e = ERR_INIT;

    if (!creation || creation->failing || task->guest)
        return;
    if (!creation->built) {
        free(creation->channel);
        creation->channel = xstrdup(channel);
        return;
    }
    if (guest_connect(task->loop, channel, &task_guest_handler, task,
                      &task->guest, &e) < 0)
        task_create_failed(task, &e, true);
}

static void sandbox_built(void *context, const struct packet *reply,
                          const struct err *why)
{
    struct task *task = context;
    struct creation *creation = task->creation;
    const struct ctl_sandbox *sandbox;
    struct err e = ERR_INIT;

    /* Given up and destroyed, when the domain ended before this came. */
    if (!creation)
        return;
    if (why) {
        /* domusd cleans up after its own failures; when its answer did not
         * come nobody knows. */
        task->record.sandbox = why->code == ETIMEDOUT || why->code == EPIPE;
        e = *why;
        if (e.code == ENOENT)
            e.code = EAGAIN;
        task_create_failed(task, &e, false);
        return;
    }
    if (creation->failing)
        return;
    if (reply->type != CTL_SANDBOX) {
        (void)err_set(&e, EBADMSG, "domusd answers CREATE with %s",
                      ctl_protocol.types[reply->type].name);
        task_create_failed(task, &e, false);
        return;
    }
    sandbox = reply->body;
    creation->built = true;
    creation->root_device = xstrdup(sandbox->root_device);
    task->phases.image_ready = sandbox->image_ns;
    task->phases.domain_built = sandbox->built_ns;
    task->phases.unpaused = sandbox->unpaused_ns;
    control_set_attached(task->control, true);
    creation->deadline = loop_add_timer(
        task->loop, (int64_t)sandbox->start_timeout_s * 1000 + TASK_HELLO_MS,
        hello_late, task);
    if (sandbox->channel[0])
        task_create_channel(task, sandbox->channel);
    else if (creation->channel)
        task_create_channel(task, creation->channel);
}

static void ask_for_sandbox(struct task *task)
{
    const Task__CreateRequest *request = task->creation->request;
    const struct oci_config *config = &task->creation->config;
    struct ctl_mount mounts[CTL_MOUNTS_MAX];
    struct ctl_create body = {
        .namespace = task->namespace,
        .id = task->id,
        .bundle = request->bundle,
        .annotations = config->annotations,
        .memory_max = config->memory_max,
        .vcpus = config->vcpus,
        .cpu_weight = config->cpu_weight,
        .cpu_cap = config->cpu_cap,
        .rootfs = {mounts, request->n_rootfs},
        .rootfs_path = config->root_path,
    };

    for (size_t i = 0; i < request->n_rootfs; i++)
        mounts[i] = (struct ctl_mount){
            .type = request->rootfs[i]->type,
            .source = request->rootfs[i]->source,
            .options = {request->rootfs[i]->options,
                        request->rootfs[i]->n_options},
        };
    control_request(task->control, CTL_CREATE, &body, TASK_SANDBOX_MS,
                    sandbox_built, task);
}

static void streams_open(struct process *process, const struct err *why)
{
    struct task *task = process->task;
    struct err e = ERR_INIT;

    if (why) {
        task_create_failed(task, why, false);
        return;
    }
    task->record.sandbox = true;
    if (record_write(task->bundle, &task->record, &e) < 0) {
        task->record.sandbox = false;
        task_create_failed(task, &e, false);
        return;
    }
    ask_for_sandbox(task);
}

void task_create(struct task *task, Task__CreateRequest *request,
                 struct call *call)
{
    uint64_t received = loop_now_ns();
    struct creation *creation;
    struct err e = ERR_INIT;
    int refused = task_state_refuses(task->init.state, CALL_CREATE);

    if (refused) {
        (void)err_set(&e, refused, "container %s %s", task->id,
                      task_state_text(task->init.state));
        call_fail(&call, &e);
        protobuf_c_message_free_unpacked(&request->base, NULL);
        return;
    }
    creation = xcalloc(1, sizeof(*creation));
    creation->call = call;
    creation->request = request;
    task->creation = creation;
    task->init.state = TASK_CREATING;
    task->ending = false;
    task->ended = false;
    task->domain = DOMAIN_AWAKE;
    task->oom_held = false;
    task->init.exit_held = false;
    task->init.exited = false;
    task->init.input_closed = false;
    task->init.first_stream = 1;
    task->last_stream = PROCESS_STREAMS;
    task->phases = (struct phases){.create_received = received};
    task->phases_told = false;
    task->record.exited = false;
    if (prepare(task, creation, &e) < 0)
        task_create_failed(task, &e, false);
    else
        process_open(&task->init, streams_open);
}
