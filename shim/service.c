#include "service.h"

#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "task.pb-c.h"

/* The messages of both are the same. */
const char *const service_names[] = {"containerd.task.v2.Task",
                                     "containerd.task.v3.Task", NULL};

typedef void method_fn(struct service *service, ProtobufCMessage *request,
                       struct call *call);

static void do_start(struct service *service, ProtobufCMessage *request,
                     struct call *call)
{
    task_start(service->task, (Task__ProcessRequest *)request, call);
}

static void do_delete(struct service *service, ProtobufCMessage *request,
                      struct call *call)
{
    task_delete(service->task, (Task__ProcessRequest *)request, call);
}

static void do_state(struct service *service, ProtobufCMessage *request,
                     struct call *call)
{
    task_describe(service->task, (Task__ProcessRequest *)request, call);
}

static void do_wait(struct service *service, ProtobufCMessage *request,
                    struct call *call)
{
    task_wait(service->task, (Task__ProcessRequest *)request, call);
}

static void do_pids(struct service *service, ProtobufCMessage *request,
                    struct call *call)
{
    task_pids(service->task, (Task__TaskRequest *)request, call);
}

static void do_kill(struct service *service, ProtobufCMessage *request,
                    struct call *call)
{
    task_kill(service->task, (Task__KillRequest *)request, call);
}

static void do_close_io(struct service *service, ProtobufCMessage *request,
                        struct call *call)
{
    task_close_io(service->task, (Task__CloseIORequest *)request, call);
}

static void do_stats(struct service *service, ProtobufCMessage *request,
                     struct call *call)
{
    task_stats(service->task, (Task__TaskRequest *)request, call);
}

static void do_connect(struct service *service, ProtobufCMessage *request,
                       struct call *call)
{
    (void)request;
    task_connect(service->task, call);
}

static void do_exec(struct service *service, ProtobufCMessage *request,
                    struct call *call)
{
    task_exec(service->task, (Task__ExecRequest *)request, call);
}

static void do_resize(struct service *service, ProtobufCMessage *request,
                      struct call *call)
{
    task_resize(service->task, (Task__ResizePtyRequest *)request, call);
}

static void do_pause(struct service *service, ProtobufCMessage *request,
                     struct call *call)
{
    task_pause(service->task, (Task__TaskRequest *)request, call);
}

static void do_resume(struct service *service, ProtobufCMessage *request,
                      struct call *call)
{
    task_resume(service->task, (Task__TaskRequest *)request, call);
}

static void do_update(struct service *service, ProtobufCMessage *request,
                      struct call *call)
{
    task_update(service->task, (Task__UpdateRequest *)request, call);
}

/* containerd calls this after every delete of a task, also when others are
 * left, so it may mean nothing. */
static void do_shutdown(struct service *service, ProtobufCMessage *request,
                        struct call *call)
{
    (void)request;
    call_reply(&call, NULL);
    if (task_gone(service->task))
        service->end(service->context);
}

/* Create is not here: it keeps its request. */
static const struct method {
    const char *name;
    const ProtobufCMessageDescriptor *request;
    method_fn *fn;
} methods[] = {
    {"State", &task__process_request__descriptor, do_state},
    {"Start", &task__process_request__descriptor, do_start},
    {"Delete", &task__process_request__descriptor, do_delete},
    {"Pids", &task__task_request__descriptor, do_pids},
    {"Kill", &task__kill_request__descriptor, do_kill},
    {"CloseIO", &task__close_iorequest__descriptor, do_close_io},
    {"Exec", &task__exec_request__descriptor, do_exec},
    {"ResizePty", &task__resize_pty_request__descriptor, do_resize},
    {"Pause", &task__task_request__descriptor, do_pause},
    {"Resume", &task__task_request__descriptor, do_resume},
    {"Update", &task__update_request__descriptor, do_update},
    {"Wait", &task__process_request__descriptor, do_wait},
    {"Stats", &task__task_request__descriptor, do_stats},
    {"Connect", &task__task_request__descriptor, do_connect},
    {"Shutdown", &task__shutdown_request__descriptor, do_shutdown},
};

static void malformed(struct call *call, const char *method)
{
    struct err e = ERR_INIT;

    (void)err_set(&e, EINVAL, "the request of %s is malformed", method);
    call_fail(&call, &e);
}

void service_call(void *context, struct call *call, const char *method,
                  const uint8_t *payload, size_t n)
{
    struct service *service = context;
    ProtobufCMessage *request;
    struct err e = ERR_INIT;

    if (strcmp(method, "Create") == 0) {
        request = ttrpc_unpack(&task__create_request__descriptor, payload, n);
        if (request)
            task_create(service->task, (Task__CreateRequest *)request, call);
        else
            malformed(call, "Create");
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (strcmp(method, methods[i].name) != 0)
            continue;
        request = ttrpc_unpack(methods[i].request, payload, n);
        if (!request) {
            malformed(call, methods[i].name);
            return;
        }
        methods[i].fn(service, request, call);
        protobuf_c_message_free_unpacked(request, NULL);
        return;
    }
    (void)err_set(&e, ENOSYS, "domus does not support %s",
                  LOG_Q(method, strlen(method)));
    call_fail(&call, &e);
}
