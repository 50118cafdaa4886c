#include "priority.h"

#include <fcntl.h>
#include <linux/ioprio.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "domus/mem.h"

/* The first version of Linux's struct sched_attr, under a name of its own:
 * newer C libraries define it, older do not. */
struct scheduler_attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};
_Static_assert(sizeof(struct scheduler_attributes) == 48,
               "SCHED_ATTR_SIZE_VER0");

int priority_set_scheduler(const struct spec_scheduler *s, struct err *e)
{
    struct scheduler_attributes attributes = {
        .size = sizeof(attributes),
        .policy = s->policy,
        .flags = s->flags,
        .nice = (int32_t)s->nice,
        .priority = s->priority,
        .runtime = s->runtime_ns,
        .deadline = s->deadline_ns,
        .period = s->period_ns,
    };

    if (s->nice < -20 || s->nice > 19)
        return err_set(e, EINVAL, "scheduler: nice %lld is not in -20 to 19",
                       (long long)s->nice);
    if (syscall(SYS_sched_setattr, 0, &attributes, 0) < 0)
        return err_errno(e,
                         "set the scheduler: policy %u, nice %lld, "
                         "priority %u",
                         s->policy, (long long)s->nice, s->priority);
    return 0;
}

int priority_set_io(uint32_t class, uint32_t level, struct err *e)
{
    if (class > IOPRIO_CLASS_IDLE || level >= IOPRIO_BE_NR)
        return err_set(e, EINVAL,
                       "I/O priority: there is no class %u, "
                       "priority %u",
                       class, level);
    if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
                IOPRIO_PRIO_VALUE(class, level)) < 0)
        return err_errno(e, "set the I/O priority to class %u, priority %u",
                         class, level);
    return 0;
}

int priority_set_oom_score(int64_t score, struct err *e)
{
    _cleanup_fd_ int fd =
        open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || dprintf(fd, "%lld", (long long)score) < 0)
        return err_errno(e, "set oom_score_adj to %lld", (long long)score);
    return 0;
}
