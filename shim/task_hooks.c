/*
 * Hooks of OCI that run on the host: domusd runs them, each kind when the
 * specification says so.
 *
 * prestart and createRuntime: "after the runtime environment has been created"
 * and before pivot_root, so once the guest is up and before it makes the
 * container. Failing, they fail Create. poststart: before Start is answered;
 * poststop: when the domain is gone, before Delete is answered. Their failure
 * is only told (specification 1.0.2, "Lifecycle").
 */
#include "task_internal.h"

#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"

struct hook_run {
    struct task *task;
    const char *kind;
    task_hooks_fn *fn;
};

static void hooks_ran(void *context, const struct packet *reply,
                      const struct err *why)
{
    struct hook_run *run = context;
    struct hook_run done = *run;
    struct err e;

    (void)reply;
    free(run);
    if (!why) {
        done.fn(done.task, NULL);
        return;
    }
    e = *why;
    /* NotFound would mean the container. */
    if (e.code == ENOENT)
        e.code = EINVAL;
    (void)err_wrap(&e, "%s hooks", done.kind);
    done.fn(done.task, &e);
}

char *task_hook_state(const char *members, const char *status, pid_t pid)
{
    const char *comma = members && members[0] ? "," : "";
    bool stopped = strcmp(status, "stopped") == 0;
    _cleanup_free_ char *process =
        stopped ? xstrdup("") : xasprintf(",\"pid\":%d", (int)pid);

    return xasprintf("{%s%s\"status\":\"%s\"%s}", members ? members : "", comma,
                     status, process);
}

void task_run_hooks(struct task *task, const char *kind,
                    const struct spec_hook_list *hooks, const char *state,
                    const char *status, task_hooks_fn *fn)
{
    _cleanup_free_ char *text = NULL;
    struct ctl_hooks body = {
        .namespace = task->namespace,
        .id = task->id,
        .kind = (char *)kind,
        .hooks = *hooks,
        .bundle = task->bundle,
    };
    struct hook_run *run;

    if (hooks->n == 0) {
        fn(task, NULL);
        return;
    }
    text = task_hook_state(state, status, getpid());
    body.state = text;
    run = xcalloc(1, sizeof(*run));
    run->task = task;
    run->kind = kind;
    run->fn = fn;
    control_request(task->control, CTL_HOOKS, &body, TASK_HOOKS_MS, hooks_ran,
                    run);
}

static void clear_list(struct spec_hook_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        wire_clear(&spec_hook_desc, &list->v[i]);
    free(list->v);
    *list = (struct spec_hook_list){0};
}

void task_clear_hooks(struct task *task)
{
    clear_list(&task->poststart_hooks);
    clear_list(&task->poststop_hooks);
    free(steal_ptr(&task->hook_state));
}
