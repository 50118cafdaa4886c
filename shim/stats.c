#include "stats.h"

#include <stdlib.h>
#include <string.h>

#include "metrics.pb-c.h"

/* "max" is the greatest there is; what is no number counts as 0. */
static uint64_t parse(const char *untrusted_text)
{
    if (strncmp(untrusted_text, "max", 3) == 0)
        return UINT64_MAX;
    return strtoull(untrusted_text, NULL, 10);
}

static const char *find_file(const struct proto_stats_result *stats,
                             const char *name)
{
    for (size_t i = 0; i < stats->untrusted_files.n; i++)
        if (strcmp(stats->untrusted_files.v[i].name, name) == 0)
            return stats->untrusted_files.v[i].value;
    return "";
}

/* The value beside key in lines of "key value"; 0 when there is none. */
static uint64_t find_value(const char *untrusted_text, const char *key)
{
    size_t n = strlen(key);

    for (const char *line = untrusted_text; *line; line++) {
        if (strncmp(line, key, n) == 0 && line[n] == ' ')
            return parse(line + n + 1);
        line += strcspn(line, "\n");
        if (*line == '\0')
            break;
    }
    return 0;
}

const char *stats_type_url(void)
{
    return io__containerd__cgroups__v2__metrics__descriptor.name;
}

void stats_encode(const struct proto_stats_result *stats, struct buf *out)
{
    Io__Containerd__Cgroups__V2__Metrics metrics =
        IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
    Io__Containerd__Cgroups__V2__PidsStat pids =
        IO__CONTAINERD__CGROUPS__V2__PIDS_STAT__INIT;
    Io__Containerd__Cgroups__V2__CPUStat cpu =
        IO__CONTAINERD__CGROUPS__V2__CPUSTAT__INIT;
    Io__Containerd__Cgroups__V2__MemoryStat memory =
        IO__CONTAINERD__CGROUPS__V2__MEMORY_STAT__INIT;
    const char *cpu_stat = find_file(stats, "cpu.stat");
    const char *memory_stat = find_file(stats, "memory.stat");
    size_t n;

    pids.current = parse(find_file(stats, "pids.current"));
    pids.limit = parse(find_file(stats, "pids.max"));
    cpu.usage_usec = find_value(cpu_stat, "usage_usec");
    cpu.user_usec = find_value(cpu_stat, "user_usec");
    cpu.system_usec = find_value(cpu_stat, "system_usec");
    cpu.nr_periods = find_value(cpu_stat, "nr_periods");
    cpu.nr_throttled = find_value(cpu_stat, "nr_throttled");
    cpu.throttled_usec = find_value(cpu_stat, "throttled_usec");
    memory.anon = find_value(memory_stat, "anon");
    memory.file = find_value(memory_stat, "file");
    memory.kernel_stack = find_value(memory_stat, "kernel_stack");
    memory.slab = find_value(memory_stat, "slab");
    memory.pgfault = find_value(memory_stat, "pgfault");
    memory.pgmajfault = find_value(memory_stat, "pgmajfault");
    memory.usage = parse(find_file(stats, "memory.current"));
    memory.usage_limit = parse(find_file(stats, "memory.max"));
    memory.max_usage = parse(find_file(stats, "memory.peak"));
    metrics.pids = &pids;
    metrics.cpu = &cpu;
    metrics.memory = &memory;
    n = protobuf_c_message_get_packed_size(&metrics.base);
    (void)protobuf_c_message_pack(&metrics.base, buf_reserve(out, n));
    buf_commit(out, n);
}
