/*
 * service.h - containerd's task service: from a method's name and bytes to a
 * call of the task.
 */
#ifndef DOMUS_SERVICE_H
#define DOMUS_SERVICE_H

#include "server.h"
#include "task.h"

typedef void service_end_fn(void *context);

struct service {
    struct task *task;   /* borrowed */
    service_end_fn *end; /* Shutdown was called and no task is left */
    void *context;
};

/* For server_new(): the names of the service, and its calls; context is a
 * struct service. */
extern const char *const service_names[];
void service_call(void *context, struct call *call, const char *method,
                  const uint8_t *payload, size_t n);

#endif
