/*
 * linux.resources as settings of a cgroup, version 2: the same translation as
 * runc's, so that a limit means here what it means there. At the start, what
 * says "no limit" is what a new group has; in an update it is written.
 */
#include "oci_sections.h"

#include <inttypes.h>
#include <string.h>

#include "domus/mem.h"
#include "oci_resources.h"

/* What the kernel takes for cpu.max, in microseconds. */
#define PERIOD_DEFAULT 100000
#define PERIOD_MIN     1000
#define PERIOD_MAX     1000000
#define QUOTA_MIN      1000
#define QUOTA_MAX      ((uint64_t)OCI_VCPUS_MAX * PERIOD_MAX)

/* cgroup v1's cpu.shares, from which cgroup v2's cpu.weight is derived. */
#define SHARES_MIN 2
#define SHARES_MAX 262144
#define WEIGHT_MAX 10000

/* credit2's weight: 1024 shares are its default of 256. */
#define SHARES_PER_WEIGHT  4
#define CREDIT2_WEIGHT_MAX 65535

#define PERCENT 100

/* A list of processors or memory nodes: "0-3,7". */
#define LIST_MAX 1024

/* Takes the text. */
void oci_resources_set(struct oci_reading *reading, const char *name,
                       char *text)
{
    spec_setting_add(&reading->out.cgroup, name, text);
    free(text);
}

static void set_number(struct oci_reading *reading, const char *name,
                       uint64_t number)
{
    oci_resources_set(reading, name, xasprintf("%" PRIu64, number));
}

static void set_max(struct oci_reading *reading, const char *name)
{
    if (reading->update)
        oci_resources_set(reading, name, xstrdup("max"));
}

/* --- cpu ------------------------------------------------------------------ */

struct cpu_limits {
    uint64_t shares;
    int64_t quota; /* 0: not given, -1: none */
    uint64_t period;
    bool has_burst;
    uint64_t burst;
    bool has_idle;
    bool idle;
    char *cpus;
    char *mems;
};

#define CPU(member) .offset = offsetof(struct cpu_limits, member)

static int take_burst(const struct oci_path *path, struct json_object *value,
                      void *object, struct err *e)
{
    struct cpu_limits *cpu = object;

    cpu->has_burst = true;
    return oci_read_number(path, value, 0, QUOTA_MAX, &cpu->burst, e);
}

static int take_idle(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    struct cpu_limits *cpu = object;
    uint64_t idle;

    if (oci_read_number(path, value, 0, 1, &idle, e) < 0)
        return -e->code;
    cpu->has_idle = true;
    cpu->idle = idle == 1;
    return 0;
}

/* Whether such processors exist is for the guest's kernel to say. */
static int take_numbers(const struct oci_path *path, struct json_object *value,
                        void *object, struct err *e)
{
    char **slot = object;
    const char *text;

    if (oci_read_string(path, value, LIST_MAX, &text, e) < 0)
        return -e->code;
    if (text[strspn(text, "0123456789,-")])
        return oci_fail(path, e, EINVAL, "must be a list like \"0-3,7\"");
    free(*slot);
    *slot = xstrdup(text);
    return 0;
}

#define NUMBERS(at, member)                                              \
    {                                                                    \
        .name = (at), .kind = OCI_TAKE, .type = json_type_string,        \
        .take = take_numbers, .why = "numbers of the guest", CPU(member) \
    }
static const struct oci_field cpu_fields[] = {
    {.name = "shares",
     .kind = OCI_U64,
     .max = INT64_MAX,
     .why = "cpu.weight, and the domain's weight",
     CPU(shares)},
    {.name = "quota",
     .kind = OCI_I64,
     .min = -1,
     .max = QUOTA_MAX,
     CPU(quota),
     .why = "cpu.max, the domain's cap, and its number of processors"},
    {.name = "period", .kind = OCI_U64, .max = PERIOD_MAX, CPU(period)},
    {.name = "burst",
     .kind = OCI_TAKE,
     .type = json_type_int,
     .take = take_burst,
     .why = "cpu.max.burst"},
    {.name = "idle",
     .kind = OCI_TAKE,
     .type = json_type_int,
     .take = take_idle,
     .why = "cpu.idle"},
    NUMBERS("cpus", cpus),
    NUMBERS("mems", mems),
    OCI_REFUSED_FIELD("realtimeRuntime", json_type_int,
                      "the guest's kernel has no real-time groups"),
    OCI_REFUSED_FIELD("realtimePeriod", json_type_int,
                      "the guest's kernel has no real-time groups"),
};
static const struct oci_table cpu_table = OCI_TABLE_OF(cpu_fields);

static uint64_t clamped(uint64_t number, uint64_t min, uint64_t max)
{
    return number < min ? min : number > max ? max : number;
}

static uint64_t weight_of_shares(uint64_t shares)
{
    shares = clamped(shares, SHARES_MIN, SHARES_MAX);
    return 1 +
           (shares - SHARES_MIN) * (WEIGHT_MAX - 1) / (SHARES_MAX - SHARES_MIN);
}

static void set_weight(struct oci_reading *reading, uint64_t shares)
{
    set_number(reading, "cpu.weight", weight_of_shares(shares));
    reading->out.cpu_weight =
        (uint32_t)clamped(shares / SHARES_PER_WEIGHT, 1, CREDIT2_WEIGHT_MAX);
}

/* With what was given before. The quota of before stays where 0 is given, as
 * in runc's update; -1 takes it away. */
static struct oci_bandwidth merged(const struct oci_bandwidth *before,
                                   const struct cpu_limits *cpu)
{
    struct oci_bandwidth b = *before;

    if (cpu->quota)
        b.quota = cpu->quota > 0 ? (uint64_t)cpu->quota : 0;
    if (cpu->period)
        b.period = cpu->period;
    return b;
}

static uint64_t period_of(const struct oci_bandwidth *b)
{
    return b->period ? b->period : PERIOD_DEFAULT;
}

static uint32_t periods_in_quota(const struct oci_bandwidth *b)
{
    return (uint32_t)((b->quota + period_of(b) - 1) / period_of(b));
}

static int check_bandwidth(const struct oci_path *path,
                           const struct cpu_limits *cpu,
                           const struct oci_bandwidth *b, struct err *e)
{
    const struct oci_path quota_at = {.up = path, .name = "quota"};
    const struct oci_path period_at = {.up = path, .name = "period"};
    const struct oci_path burst_at = {.up = path, .name = "burst"};

    if (period_of(b) < PERIOD_MIN)
        return oci_fail(&period_at, e, EINVAL,
                        "must be 0 or at least %d (microseconds)", PERIOD_MIN);
    if (b->quota && b->quota < QUOTA_MIN)
        return oci_fail(&quota_at, e, EINVAL,
                        "must be -1, 0 or at least %d (microseconds)",
                        QUOTA_MIN);
    if (periods_in_quota(b) > OCI_VCPUS_MAX)
        return oci_fail(cpu->quota ? &quota_at : &period_at, e, EINVAL,
                        "quota must be at most %d periods", OCI_VCPUS_MAX);
    if (b->quota && cpu->burst > b->quota)
        return oci_fail(&burst_at, e, EINVAL, "must not be more than quota");
    return 0;
}

static void set_bandwidth(struct oci_reading *reading,
                          const struct cpu_limits *cpu,
                          const struct oci_bandwidth *b)
{
    uint64_t period = period_of(b);

    /* The kernel refuses a quota below the burst of before. */
    if (reading->update && cpu->has_burst && b->quota)
        set_number(reading, "cpu.max.burst", 0);
    if ((cpu->quota || cpu->period) && b->quota) {
        oci_resources_set(reading, "cpu.max",
                          xasprintf("%" PRIu64 " %" PRIu64, b->quota, period));
        reading->vcpus = periods_in_quota(b);
        reading->out.has_cpu_cap = true;
        reading->out.cpu_cap =
            (uint32_t)clamped(b->quota * PERCENT / period, 1, UINT32_MAX);
    } else if ((cpu->quota || cpu->period) &&
               (reading->update || period != PERIOD_DEFAULT)) {
        oci_resources_set(reading, "cpu.max",
                          xasprintf("max %" PRIu64, period));
        reading->out.has_cpu_cap = true;
    }
    if (cpu->has_burst)
        set_number(reading, "cpu.max.burst", cpu->burst);
    reading->out.bandwidth = *b;
}

static int apply_cpu(const struct oci_path *path, struct oci_reading *reading,
                     const struct cpu_limits *cpu, struct err *e)
{
    const struct oci_path idle_at = {.up = path, .name = "idle"};
    const struct oci_bandwidth b = merged(&reading->out.bandwidth, cpu);

    if (check_bandwidth(path, cpu, &b, e) < 0)
        return -e->code;
    if (cpu->idle && cpu->shares)
        return oci_fail(&idle_at, e, EINVAL,
                        "must not be 1 beside shares: an idle group has no "
                        "weight");
    if (cpu->has_idle)
        set_number(reading, "cpu.idle", cpu->idle);
    if (cpu->shares)
        set_weight(reading, cpu->shares);
    set_bandwidth(reading, cpu, &b);
    if (cpu->cpus && *cpu->cpus)
        oci_resources_set(reading, "cpuset.cpus", xstrdup(cpu->cpus));
    if (cpu->mems && *cpu->mems)
        oci_resources_set(reading, "cpuset.mems", xstrdup(cpu->mems));
    return 0;
}

static int take_cpu(const struct oci_path *path, struct json_object *value,
                    void *object, struct err *e)
{
    struct cpu_limits cpu = {.shares = 0};
    int r = oci_read_object(path, value, &cpu_table, &cpu, e);

    if (r == 0)
        r = apply_cpu(path, object, &cpu, e);
    free(cpu.cpus);
    free(cpu.mems);
    return r;
}

/* --- memory and pids ------------------------------------------------------ */

struct memory_limits {
    int64_t limit; /* 0: not given, -1: none */
    int64_t swap;
    int64_t reservation;
    bool check;
};

#define MEMORY(member)                            \
    .kind = OCI_I64, .min = -1, .max = INT64_MAX, \
    .offset = offsetof(struct memory_limits, member)

static const struct oci_field memory_fields[] = {
    {.name = "limit", MEMORY(limit), .why = "memory.max, and the domain's"},
    {.name = "swap",
     MEMORY(swap),
     .why = "checked only: a guest has no swap, so it never uses more"},
    {.name = "reservation", MEMORY(reservation), .why = "memory.low"},
    {.name = "checkBeforeUpdate",
     .kind = OCI_BOOL,
     .offset = offsetof(struct memory_limits, check)},
    OCI_NO_WORK_FIELD("swappiness", json_type_int, "a guest has no swap"),
    OCI_NO_WORK_FIELD("useHierarchy", json_type_boolean,
                      "cgroup v2 always does"),
    OCI_REFUSED_FIELD("kernel", json_type_int,
                      "cgroup v2 has no limit of kernel memory"),
    OCI_REFUSED_FIELD("kernelTCP", json_type_int,
                      "cgroup v2 has no limit of kernel memory"),
    OCI_REFUSED_FIELD("disableOOMKiller", json_type_boolean,
                      "cgroup v2 cannot"),
};
static const struct oci_table memory_table = OCI_TABLE_OF(memory_fields);

static int check_swap(const struct oci_path *path,
                      const struct oci_reading *reading,
                      const struct memory_limits *memory, struct err *e)
{
    const struct oci_path at = {.up = path, .name = "swap"};

    if (memory->swap <= 0)
        return 0;
    if (memory->limit > 0 && memory->swap < memory->limit)
        return oci_fail(&at, e, EINVAL,
                        "must not be less than limit: it counts memory and "
                        "swap together");
    /* In an update, the limit of before goes on. */
    if (memory->limit < 0 || (memory->limit == 0 && !reading->update))
        return oci_fail(&at, e, EINVAL, "needs limit beside it");
    return 0;
}

static void set_limit(struct oci_reading *reading, const char *name,
                      int64_t limit)
{
    if (limit > 0)
        set_number(reading, name, (uint64_t)limit);
    else if (limit < 0)
        set_max(reading, name);
}

static int take_memory(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    struct oci_reading *reading = object;
    struct memory_limits memory = {.limit = 0};

    if (oci_read_object(path, value, &memory_table, &memory, e) < 0 ||
        check_swap(path, reading, &memory, e) < 0)
        return -e->code;
    set_limit(reading, "memory.max", memory.limit);
    set_limit(reading, "memory.low", memory.reservation);
    if (memory.limit > 0)
        reading->out.memory_max = (uint64_t)memory.limit;
    reading->out.check_memory = memory.check;
    return 0;
}

static int take_pids_limit(const struct oci_path *path,
                           struct json_object *value, void *object,
                           struct err *e)
{
    uint64_t limit;

    if (oci_read_number(path, value, -1, INT64_MAX, &limit, e) < 0)
        return -e->code;
    set_limit(object, "pids.max", (int64_t)limit);
    return 0;
}

static const struct oci_field pids_fields[] = {
    {.name = "limit",
     .kind = OCI_TAKE,
     .type = json_type_int,
     .take = take_pids_limit,
     .why = "pids.max"},
};
static const struct oci_table pids_table = OCI_TABLE_OF(pids_fields);

/* --- huge pages, and files by name -----------------------------------------
 */

static const struct oci_field hugepage_fields[] = {
    OCI_NO_WORK_FIELD("pageSize", json_type_string,
                      "the size of pages that there are none of"),
    OCI_REFUSED_FIELD("limit", json_type_int,
                      "a guest has no huge pages to give; 0 is accepted"),
};
static const struct oci_table hugepage_table = OCI_TABLE_OF(hugepage_fields);

static int take_hugepage(const struct oci_path *path, struct json_object *value,
                         void *object, struct err *e)
{
    return oci_read_object(path, value, &hugepage_table, object, e);
}

/* kubelet writes a limit of 0 for every size that the host knows. */
static int take_hugepages(const struct oci_path *path,
                          struct json_object *value, void *object,
                          struct err *e)
{
    return oci_read_list(path, value, 64, take_hugepage, object, e);
}

/* Of a controller, and none of those by which domus-init runs the group. */
static bool is_limit_file(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    return strlen(name) <= SPEC_NAME_MAX && name[0] != '.' &&
           strchr(name, '.') && !name[strspn(name, allowed)] &&
           strncmp(name, "cgroup.", strlen("cgroup.")) != 0;
}

static int take_unified(const struct oci_path *path, struct json_object *value,
                        void *object, struct err *e)
{
    struct oci_reading *reading = object;
    struct json_object_iter entry;

    json_object_object_foreachC(value, entry)
    {
        const struct oci_path at = {.up = path, .name = entry.key};
        const char *text;

        if (!is_limit_file(entry.key))
            return oci_fail(&at, e, EINVAL,
                            "must be the name of a controller's file, like "
                            "memory.high");
        if (oci_read_string(&at, entry.val, SPEC_VALUE_MAX, &text, e) < 0)
            return -e->code;
        if (reading->unified.n == SPEC_SETTINGS_MAX)
            return oci_fail(path, e, EINVAL, "must have at most %d entries",
                            SPEC_SETTINGS_MAX);
        spec_setting_add(&reading->unified, entry.key, text);
    }
    return 0;
}

static const struct oci_field resources_fields[] = {
    {.name = "devices",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = oci_take_device_rules,
     .table = &oci_device_rule_table,
     .why = "at the start; an update leaves them, as runc's does"},
    {.name = "memory",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = take_memory,
     .table = &memory_table},
    {.name = "cpu",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = take_cpu,
     .table = &cpu_table},
    {.name = "pids", .kind = OCI_TABLE, .table = &pids_table},
    {.name = "blockIO", .kind = OCI_TABLE, .table = &oci_block_table},
    {.name = "hugepageLimits",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_hugepages,
     .table = &hugepage_table},
    {.name = "unified",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = take_unified,
     .why = "written last and as they are; files cgroup.* are refused"},
    OCI_REFUSED_FIELD("network", json_type_object,
                      "cgroup v2 has no network classes and priorities"),
    OCI_REFUSED_FIELD("rdma", json_type_object, "a guest has no RDMA devices"),
};
const struct oci_table oci_resources_table = OCI_TABLE_OF(resources_fields);

/* --- the whole ------------------------------------------------------------ */

static void reading_clear(struct oci_reading *reading)
{
    oci_resources_clear(&reading->out);
    for (size_t i = 0; i < reading->unified.n; i++)
        wire_clear(&spec_setting_desc, &reading->unified.v[i]);
    free(reading->unified.v);
    free(reading->devices.v);
}

/* On failure, reading is cleared. */
static int read_resources(const struct oci_path *path,
                          struct json_object *value,
                          struct oci_reading *reading, struct err *e)
{
    int r = oci_read_object(path, value, &oci_resources_table, reading, e);

    for (size_t i = 0; r == 0 && i < reading->unified.n; i++)
        spec_setting_add(&reading->out.cgroup, reading->unified.v[i].name,
                         reading->unified.v[i].value);
    if (r == 0 && reading->out.cgroup.n > SPEC_SETTINGS_MAX)
        r = oci_fail(path, e, EINVAL, "must be at most %d limits",
                     SPEC_SETTINGS_MAX);
    if (r < 0)
        reading_clear(reading);
    return r;
}

int oci_take_resources(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    struct oci_config *config = object;
    struct oci_reading reading = {.update = false};

    if (read_resources(path, value, &reading, e) < 0)
        return -e->code;
    config->memory_max = reading.out.memory_max;
    config->vcpus = reading.vcpus;
    config->cpu_weight = reading.out.cpu_weight;
    config->cpu_cap = reading.out.cpu_cap;
    config->bandwidth = reading.out.bandwidth;
    config->container.cgroup = reading.out.cgroup;
    config->container.device_rules = reading.devices;
    reading.out.cgroup = (struct spec_setting_list){.n = 0};
    reading.devices = (struct spec_device_rule_list){.n = 0};
    reading_clear(&reading);
    return 0;
}

int oci_read_update(const struct oci_path *path, struct json_object *value,
                    const struct oci_bandwidth *before,
                    struct oci_resources *resources_out, struct err *e)
{
    struct oci_reading reading = {.update = true,
                                  .out = {.bandwidth = *before}};

    if (read_resources(path, value, &reading, e) < 0)
        return -e->code;
    *resources_out = reading.out;
    reading.out = (struct oci_resources){.memory_max = 0};
    reading_clear(&reading);
    return 0;
}

void oci_resources_clear(struct oci_resources *resources)
{
    for (size_t i = 0; i < resources->cgroup.n; i++)
        wire_clear(&spec_setting_desc, &resources->cgroup.v[i]);
    free(resources->cgroup.v);
    *resources = (struct oci_resources){.memory_max = 0};
}
