#include "oci_schedule.h"

#include <string.h>

#include "domus/mem.h"
#include "domus/spec.h"

/* From linux/ioprio.h, linux/sched.h and linux/sched/types.h, which do not go
 * together with glibc's sched.h. */
enum {
    CLASS_REALTIME = 1,
    CLASS_BEST_EFFORT = 2,
    CLASS_IDLE = 3,
};
enum {
    POLICY_OTHER = 0,
    POLICY_FIFO = 1,
    POLICY_RR = 2,
    POLICY_BATCH = 3,
    POLICY_IDLE = 5,
    POLICY_DEADLINE = 6,
};

#define IO_PRIORITY_MAX 7
#define NICE_MIN        (-20)
#define NICE_MAX        19
#define PRIORITY_MAX    99
#define FLAGS_MAX       16
#define WORD_MAX        64
/* The kernel takes no fewer nanoseconds, nor the highest bit. */
#define RUNTIME_MIN  1024
#define DEADLINE_MAX INT64_MAX

static const struct {
    const char *name;
    uint32_t number;
} io_classes[] = {
    {"IOPRIO_CLASS_RT", CLASS_REALTIME},
    {"IOPRIO_CLASS_BE", CLASS_BEST_EFFORT},
    {"IOPRIO_CLASS_IDLE", CLASS_IDLE},
};

static const struct {
    const char *name;
    uint32_t number;
    bool has_nice;
    bool has_priority;
    bool has_deadline;
} policies[] = {
    {"SCHED_OTHER", POLICY_OTHER, .has_nice = true},
    {"SCHED_BATCH", POLICY_BATCH, .has_nice = true},
    {"SCHED_IDLE", POLICY_IDLE, .has_nice = true},
    {"SCHED_FIFO", POLICY_FIFO, .has_priority = true},
    {"SCHED_RR", POLICY_RR, .has_priority = true},
    {"SCHED_DEADLINE", POLICY_DEADLINE, .has_deadline = true},
};

static const struct {
    const char *name;
    uint64_t flag;
} sched_flags[] = {
    {"SCHED_FLAG_RESET_ON_FORK", 0x01}, {"SCHED_FLAG_RECLAIM", 0x02},
    {"SCHED_FLAG_DL_OVERRUN", 0x04},    {"SCHED_FLAG_KEEP_POLICY", 0x08},
    {"SCHED_FLAG_KEEP_PARAMS", 0x10},
};

/* --- ioPriority ----------------------------------------------------------- */

static int take_io_class(const struct oci_path *path, struct json_object *value,
                         void *object, struct err *e)
{
    struct spec_process *process = object;
    const char *name;

    if (oci_read_string(path, value, WORD_MAX, &name, e) < 0)
        return -e->code;
    for (size_t i = 0; i < ARRAY_SIZE(io_classes); i++) {
        if (strcmp(io_classes[i].name, name) == 0) {
            process->has_io_priority = true;
            process->io_class = io_classes[i].number;
            return 0;
        }
    }
    return oci_fail(path, e, EINVAL, "must be the name of a class");
}

static const struct oci_field io_priority_fields[] = {
    {.name = "class",
     .kind = OCI_TAKE,
     .required = true,
     .type = json_type_string,
     .take = take_io_class},
    {.name = "priority",
     .kind = OCI_U32,
     .max = IO_PRIORITY_MAX,
     .offset = offsetof(struct spec_process, io_priority)},
};
const struct oci_table oci_io_priority_table = OCI_TABLE_OF(io_priority_fields);

int oci_take_io_priority(const struct oci_path *path, struct json_object *value,
                         void *object, struct err *e)
{
    if (json_object_object_length(value) == 0)
        return 0;
    return oci_read_object(path, value, &oci_io_priority_table, object, e);
}

/* --- scheduler ------------------------------------------------------------ */

static int take_policy(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    size_t *policy = object;
    const char *name;

    if (oci_read_string(path, value, WORD_MAX, &name, e) < 0)
        return -e->code;
    for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
        if (strcmp(policies[i].name, name) == 0) {
            *policy = i;
            return 0;
        }
    }
    if (strcmp(name, "SCHED_ISO") == 0)
        return oci_fail(path, e, ENOTSUP,
                        "is not supported: Linux has no SCHED_ISO");
    return oci_fail(path, e, EINVAL, "must be the name of a policy");
}

static int take_flag(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    uint64_t *flags = object;
    const char *name;

    if (oci_read_string(path, value, WORD_MAX, &name, e) < 0)
        return -e->code;
    for (size_t i = 0; i < ARRAY_SIZE(sched_flags); i++) {
        if (strcmp(sched_flags[i].name, name) == 0) {
            *flags |= sched_flags[i].flag;
            return 0;
        }
    }
    if (strncmp(name, "SCHED_FLAG_UTIL_CLAMP_", 22) == 0)
        return oci_fail(path, e, ENOTSUP,
                        "is not supported: there is no field for the value");
    return oci_fail(path, e, EINVAL, "must be the name of a flag");
}

static int take_flags(const struct oci_path *path, struct json_object *value,
                      void *object, struct err *e)
{
    return oci_read_list(path, value, FLAGS_MAX, take_flag, object, e);
}

struct scheduler {
    size_t policy; /* place in policies */
    struct spec_scheduler spec;
};

#define SCHEDULER(member) .offset = offsetof(struct scheduler, member)

static const struct oci_field scheduler_fields[] = {
    {.name = "policy",
     .kind = OCI_TAKE,
     .required = true,
     .type = json_type_string,
     .take = take_policy,
     .why = "all of Linux's; SCHED_ISO is refused",
     SCHEDULER(policy)},
    {.name = "nice",
     .kind = OCI_I64,
     .min = NICE_MIN,
     .max = NICE_MAX,
     SCHEDULER(spec.nice)},
    {.name = "priority",
     .kind = OCI_U32,
     .max = PRIORITY_MAX,
     SCHEDULER(spec.priority)},
    {.name = "flags",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_flags,
     .why = "but SCHED_FLAG_UTIL_CLAMP_*, which have no field for the value",
     SCHEDULER(spec.flags)},
    {.name = "runtime",
     .kind = OCI_U64,
     .max = DEADLINE_MAX,
     SCHEDULER(spec.runtime_ns)},
    {.name = "deadline",
     .kind = OCI_U64,
     .max = DEADLINE_MAX,
     SCHEDULER(spec.deadline_ns)},
    {.name = "period",
     .kind = OCI_U64,
     .max = DEADLINE_MAX,
     SCHEDULER(spec.period_ns)},
};
const struct oci_table oci_scheduler_table = OCI_TABLE_OF(scheduler_fields);

/* What a policy has no use for is refused, not ignored as by the kernel. */
static int check_scheduler(const struct oci_path *path,
                           const struct scheduler *scheduler, struct err *e)
{
    const struct oci_path nice_at = {.up = path, .name = "nice"};
    const struct oci_path priority_at = {.up = path, .name = "priority"};
    const struct oci_path runtime_at = {.up = path, .name = "runtime"};
    const struct spec_scheduler *spec = &scheduler->spec;
    const char *name = policies[scheduler->policy].name;
    bool has_deadline = policies[scheduler->policy].has_deadline;
    uint64_t period = spec->period_ns ? spec->period_ns : spec->deadline_ns;

    if (spec->nice && !policies[scheduler->policy].has_nice)
        return oci_fail(&nice_at, e, EINVAL, "must not be given with %s", name);
    if (spec->priority && !policies[scheduler->policy].has_priority)
        return oci_fail(&priority_at, e, EINVAL, "must be 0 with %s", name);
    if (!spec->priority && policies[scheduler->policy].has_priority)
        return oci_fail(&priority_at, e, EINVAL, "must be 1 to 99 with %s",
                        name);
    if (!has_deadline &&
        (spec->runtime_ns || spec->deadline_ns || spec->period_ns))
        return oci_fail(path, e, EINVAL,
                        "runtime, deadline and period must not be given with "
                        "%s",
                        name);
    if (has_deadline &&
        (spec->runtime_ns < RUNTIME_MIN ||
         spec->runtime_ns > spec->deadline_ns || spec->deadline_ns > period))
        return oci_fail(&runtime_at, e, EINVAL,
                        "must be at least %d, at most deadline, and that at "
                        "most period",
                        RUNTIME_MIN);
    return 0;
}

int oci_take_scheduler(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    struct spec_process *process = object;
    struct scheduler scheduler = {.policy = 0};

    if (json_object_object_length(value) == 0)
        return 0;
    if (oci_read_object(path, value, &oci_scheduler_table, &scheduler, e) < 0 ||
        check_scheduler(path, &scheduler, e) < 0)
        return -e->code;
    scheduler.spec.policy = policies[scheduler.policy].number;
    process->has_scheduler = true;
    process->scheduler = scheduler.spec;
    return 0;
}
