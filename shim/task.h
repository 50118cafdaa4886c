/*
 * task.h - the one task of a shim: a container that is alone in its sandbox.
 *
 * Each function that takes a call answers it, at once or later. What may be
 * asked when is the table of state.h.
 */
#ifndef DOMUS_TASK_H
#define DOMUS_TASK_H

#include <sys/types.h>

#include "domus/loop.h"
#include "events.h"
#include "server.h"
#include "task.pb-c.h"

struct task;

/* events is borrowed. */
struct task *task_new(struct loop *loop, struct events *events,
                      const char *namespace, const char *id,
                      const char *bundle);
void task_free(struct task **task);

/* OCI's state for hooks: the members of spec.h's hook_state with these. */
char *task_hook_state(const char *members, const char *status, pid_t pid);

/* No task exists, so that the shim may end. */
bool task_gone(const struct task *task);

/* Takes the request as well. */
void task_create(struct task *task, Task__CreateRequest *request,
                 struct call *call);
void task_start(struct task *task, const Task__ProcessRequest *request,
                struct call *call);
void task_delete(struct task *task, const Task__ProcessRequest *request,
                 struct call *call);
void task_describe(struct task *task, const Task__ProcessRequest *request,
                   struct call *call);
void task_wait(struct task *task, const Task__ProcessRequest *request,
               struct call *call);
void task_pids(struct task *task, const Task__TaskRequest *request,
               struct call *call);
void task_kill(struct task *task, const Task__KillRequest *request,
               struct call *call);
void task_close_io(struct task *task, const Task__CloseIORequest *request,
                   struct call *call);
void task_stats(struct task *task, const Task__TaskRequest *request,
                struct call *call);
void task_exec(struct task *task, const Task__ExecRequest *request,
               struct call *call);
void task_resize(struct task *task, const Task__ResizePtyRequest *request,
                 struct call *call);
void task_pause(struct task *task, const Task__TaskRequest *request,
                struct call *call);
void task_resume(struct task *task, const Task__TaskRequest *request,
                 struct call *call);
void task_update(struct task *task, const Task__UpdateRequest *request,
                 struct call *call);
void task_connect(struct task *task, struct call *call);

#endif
