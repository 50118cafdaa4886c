#include "oci_sections.h"

#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"
#include "oci.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* What the kernel takes for cpu.max, in microseconds. */
#define PERIOD_DEFAULT 100000
#define PERIOD_MIN     1000
#define PERIOD_MAX     1000000
#define QUOTA_MIN      1000

/* cgroup v1's cpu.shares, from which cgroup v2's cpu.weight is derived. */
#define SHARES_MIN 2
#define SHARES_MAX 262144
#define WEIGHT_MAX 10000

#define CONFIG(member) .offset = offsetof(struct oci_config, member)

struct cpu_limits {
    uint64_t shares;
    int64_t quota;
    uint64_t period;
};

#define CPU(member) .offset = offsetof(struct cpu_limits, member)

static const struct oci_field cpu_fields[] = {
    {.name = "shares", .kind = OCI_U64, .max = INT64_MAX, CPU(shares)},
    {.name = "quota",
     .kind = OCI_I64,
     .min = -1,
     .max = (uint64_t)OCI_VCPUS_MAX * PERIOD_MAX,
     CPU(quota)},
    {.name = "period", .kind = OCI_U64, .max = PERIOD_MAX, CPU(period)},
    OCI_REFUSED_FIELD("realtimeRuntime", json_type_int,
                      "the guest's kernel has no real-time groups"),
    OCI_REFUSED_FIELD("realtimePeriod", json_type_int,
                      "the guest's kernel has no real-time groups"),
    OCI_REFUSED_FIELD("cpus", json_type_string,
                      "it names processors of the host"),
    OCI_REFUSED_FIELD("mems", json_type_string,
                      "it names memory nodes of the host"),
    OCI_REFUSED_FIELD("idle", json_type_int,
                      "idle scheduling is not set in the guest"),
    OCI_REFUSED_FIELD("burst", json_type_int,
                      "processor bursts are not set in the guest"),
};
static const struct oci_table cpu_table = OCI_TABLE_OF(cpu_fields);

static uint64_t weight_of_shares(uint64_t shares)
{
    if (shares == 0)
        return 0;
    if (shares < SHARES_MIN)
        shares = SHARES_MIN;
    if (shares > SHARES_MAX)
        shares = SHARES_MAX;
    return 1 +
           (shares - SHARES_MIN) * (WEIGHT_MAX - 1) / (SHARES_MAX - SHARES_MIN);
}

/* Takes the text. */
static void add_text(struct oci_config *config, const char *name, char *text)
{
    spec_setting_add(&config->container.cgroup, name, text);
    free(text);
}

static void add_number(struct oci_config *config, const char *name,
                       uint64_t number)
{
    add_text(config, name, xasprintf("%" PRIu64, number));
}

static int take_cpu(const struct oci_path *path, struct json_object *value,
                    void *object, struct err *e)
{
    const struct oci_path quota_at = {.up = path, .name = "quota"};
    const struct oci_path period_at = {.up = path, .name = "period"};
    struct oci_config *config = object;
    struct cpu_limits cpu = {.quota = -1};
    uint64_t quota;
    uint64_t vcpus;

    if (oci_read_object(path, value, &cpu_table, &cpu, e) < 0)
        return -e->code;
    if (cpu.shares)
        add_number(config, "cpu.weight", weight_of_shares(cpu.shares));
    if (cpu.period == 0)
        cpu.period = PERIOD_DEFAULT;
    if (cpu.period < PERIOD_MIN)
        return oci_fail(&period_at, e, EINVAL,
                        "must be 0 or at least %d (microseconds)", PERIOD_MIN);
    if (cpu.quota <= 0)
        return 0;
    quota = (uint64_t)cpu.quota;
    if (quota < QUOTA_MIN)
        return oci_fail(&quota_at, e, EINVAL,
                        "must be -1, 0 or at least %d (microseconds)",
                        QUOTA_MIN);
    vcpus = (quota + cpu.period - 1) / cpu.period;
    if (vcpus > OCI_VCPUS_MAX)
        return oci_fail(&quota_at, e, EINVAL, "must be at most %d periods",
                        OCI_VCPUS_MAX);
    add_text(config, "cpu.max",
             xasprintf("%" PRIu64 " %" PRIu64, quota, cpu.period));
    config->vcpus = (uint32_t)vcpus;
    return 0;
}

/* -1 is "no limit" in the specification, 0 in spec.h and to Go. */
static int read_limit(const struct oci_path *path, struct json_object *value,
                      uint64_t *limit_out, struct err *e)
{
    if (oci_read_number(path, value, -1, INT64_MAX, limit_out, e) < 0)
        return -e->code;
    if (*limit_out == (uint64_t)-1)
        *limit_out = 0;
    return 0;
}

static int take_memory(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    struct oci_config *config = object;

    if (read_limit(path, value, &config->memory_max, e) < 0)
        return -e->code;
    if (config->memory_max)
        add_number(config, "memory.max", config->memory_max);
    return 0;
}

static int take_pids(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    uint64_t limit = 0;

    if (read_limit(path, value, &limit, e) < 0)
        return -e->code;
    if (limit)
        add_number(object, "pids.max", limit);
    return 0;
}

static const struct oci_field memory_fields[] = {
    {.name = "limit",
     .kind = OCI_TAKE,
     .type = json_type_int,
     .take = take_memory},
    OCI_NO_WORK_FIELD("swap", json_type_int,
                      "a guest has no swap, so it never uses more than this"),
    OCI_NO_WORK_FIELD("swappiness", json_type_int, "a guest has no swap"),
    OCI_NO_WORK_FIELD(
        "reservation", json_type_int,
        "it decides between containers that compete for the host's "
        "memory; a domain's memory is its own"),
    OCI_NO_WORK_FIELD("useHierarchy", json_type_boolean,
                      "cgroup v2 always does"),
    OCI_NO_WORK_FIELD("checkBeforeUpdate", json_type_boolean,
                      "it is about updates, not about the start"),
    OCI_REFUSED_FIELD("kernel", json_type_int,
                      "cgroup v2 has no limit of kernel memory"),
    OCI_REFUSED_FIELD("kernelTCP", json_type_int,
                      "cgroup v2 has no limit of kernel memory"),
    OCI_REFUSED_FIELD("disableOOMKiller", json_type_boolean,
                      "cgroup v2 cannot"),
};
static const struct oci_table memory_table = OCI_TABLE_OF(memory_fields);

static const struct oci_field pids_fields[] = {
    {.name = "limit",
     .kind = OCI_TAKE,
     .type = json_type_int,
     .take = take_pids},
};
static const struct oci_table pids_table = OCI_TABLE_OF(pids_fields);

static const struct oci_field hugepage_fields[] = {
    OCI_NO_WORK_FIELD("pageSize", json_type_string,
                      "the size of pages that there are none of"),
    OCI_REFUSED_FIELD("limit", json_type_int,
                      "a guest has no huge pages to give"),
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

static const struct oci_field resources_fields[] = {
    OCI_NO_WORK_FIELD(
        "devices", json_type_array,
        "rules about the host's devices; a guest has none of them"),
    {.name = "memory", .kind = OCI_TABLE, .table = &memory_table},
    {.name = "cpu",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = take_cpu},
    {.name = "pids", .kind = OCI_TABLE, .table = &pids_table},
    {.name = "hugepageLimits",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_hugepages},
    OCI_REFUSED_FIELD("blockIO", json_type_object,
                      "input/output of a domain is not limited"),
    OCI_REFUSED_FIELD("network", json_type_object,
                      "cgroup v2 has no network classes"),
    OCI_REFUSED_FIELD("rdma", json_type_object, "a guest has no RDMA devices"),
    OCI_REFUSED_FIELD("unified", json_type_object,
                      "cgroup files are not set by name in the guest"),
};
static const struct oci_table resources_table = OCI_TABLE_OF(resources_fields);

static const struct {
    const char *name;
    uint64_t flag;
    const char *refused; /* why, NULL: it isn't */
} namespace_types[] = {
    {"pid", CLONE_NEWPID, NULL},
    {"network", CLONE_NEWNET, NULL},
    {"mount", CLONE_NEWNS, NULL},
    {"ipc", CLONE_NEWIPC, NULL},
    {"uts", CLONE_NEWUTS, NULL},
    {"cgroup", CLONE_NEWCGROUP, NULL},
    {"user", CLONE_NEWUSER, "user namespaces are not made in the guest"},
    {"time", CLONE_NEWTIME, "time namespaces are not made in the guest"},
};

struct namespace_entry {
    char *type;
};

static const struct oci_field namespace_fields[] = {
    {.name = "type",
     .kind = OCI_STRING,
     .required = true,
     .max = 64,
     .offset = offsetof(struct namespace_entry, type)},
    OCI_REFUSED_FIELD("path", json_type_string,
                      "a domain cannot join a namespace of the host"),
};
static const struct oci_table namespace_table = OCI_TABLE_OF(namespace_fields);

static int add_namespace(const struct oci_path *path, const char *type,
                         uint64_t *flags, struct err *e)
{
    const struct oci_path at = {.up = path, .name = "type"};
    size_t i = 0;

    while (i < ARRAY_SIZE(namespace_types) &&
           strcmp(namespace_types[i].name, type) != 0)
        i++;
    if (i == ARRAY_SIZE(namespace_types))
        return oci_fail(&at, e, EINVAL,
                        "must be the name of a type of namespace");
    if (namespace_types[i].refused)
        return oci_fail(&at, e, ENOTSUP, "is not supported: %s: %s", type,
                        namespace_types[i].refused);
    if (*flags & namespace_types[i].flag)
        return oci_fail(&at, e, EINVAL, "must not be given twice: %s", type);
    *flags |= namespace_types[i].flag;
    return 0;
}

static int take_namespace(const struct oci_path *path,
                          struct json_object *value, void *object,
                          struct err *e)
{
    struct namespace_entry entry = {.type = NULL};
    int r = oci_read_object(path, value, &namespace_table, &entry, e);

    if (r == 0)
        r = add_namespace(path, entry.type, object, e);
    free(entry.type);
    return r;
}

static int take_namespaces(const struct oci_path *path,
                           struct json_object *value, void *object,
                           struct err *e)
{
    return oci_read_list(path, value, ARRAY_SIZE(namespace_types),
                         take_namespace, object, e);
}

static int take_absolute(const struct oci_path *path, struct json_object *value,
                         void *object, struct err *e)
{
    const char *text;

    if (oci_read_string(path, value, SPEC_PATH_MAX, &text, e) < 0)
        return -e->code;
    if (text[0] != '/')
        return oci_fail(path, e, EINVAL, "must be an absolute path");
    string_list_add(object, text);
    return 0;
}

static int take_paths(const struct oci_path *path, struct json_object *value,
                      void *object, struct err *e)
{
    return oci_read_list(path, value, SPEC_PATHS_MAX, take_absolute, object, e);
}

/*
 * Nothing is mounted in the guest outside the container once it runs, so
 * private and slave are the same there.
 */
static int take_propagation(const struct oci_path *path,
                            struct json_object *value, void *object,
                            struct err *e)
{
    static const char *const accepted[] = {"", "private", "rprivate", "slave",
                                           "rslave"};
    const char *text;

    (void)object;
    if (oci_read_string(path, value, 64, &text, e) < 0)
        return -e->code;
    for (size_t i = 0; i < ARRAY_SIZE(accepted); i++) {
        if (strcmp(text, accepted[i]) == 0)
            return 0;
    }
    return oci_fail(path, e, ENOTSUP,
                    "is not supported: mounts do not leave a domain");
}

static const struct oci_field linux_fields[] = {
    {.name = "namespaces",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_namespaces,
     CONFIG(container.namespaces)},
    {.name = "resources", .kind = OCI_TABLE, .table = &resources_table},
    {.name = "maskedPaths",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_paths,
     CONFIG(container.masked_paths)},
    {.name = "readonlyPaths",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_paths,
     CONFIG(container.readonly_paths)},
    {.name = "rootfsPropagation",
     .kind = OCI_TAKE,
     .type = json_type_string,
     .take = take_propagation},
    OCI_NO_WORK_FIELD("cgroupsPath", json_type_string,
                      "a place in the host's cgroups; the domain has its own"),
    OCI_REFUSED_FIELD("uidMappings", json_type_array,
                      "user namespaces are not made in the guest"),
    OCI_REFUSED_FIELD("gidMappings", json_type_array,
                      "user namespaces are not made in the guest"),
    OCI_REFUSED_FIELD("timeOffsets", json_type_object,
                      "time namespaces are not made in the guest"),
    OCI_REFUSED_FIELD("devices", json_type_array,
                      "a guest has none of the host's devices"),
    OCI_REFUSED_FIELD("netDevices", json_type_object,
                      "a guest has none of the host's devices"),
    OCI_REFUSED_FIELD("sysctl", json_type_object,
                      "kernel parameters are not set in the guest"),
    OCI_REFUSED_FIELD("seccomp", json_type_object,
                      "system call filters are not loaded in the guest"),
    OCI_REFUSED_FIELD("mountLabel", json_type_string,
                      "the guest's kernel has no SELinux"),
    OCI_REFUSED_FIELD("intelRdt", json_type_object,
                      "cache and memory bandwidth of a domain are not limited"),
    OCI_REFUSED_FIELD("personality", json_type_object,
                      "execution domains are not set in the guest"),
    OCI_REFUSED_FIELD("memoryPolicy", json_type_object,
                      "it names memory nodes of the host"),
};
const struct oci_table oci_linux_table = OCI_TABLE_OF(linux_fields);
