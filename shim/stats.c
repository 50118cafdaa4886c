#include "stats.h"

#include "metrics.pb-c.h"

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
    size_t n;

    pids.current = stats->pids_current;
    pids.limit = stats->pids_limit;
    cpu.usage_usec = stats->cpu_usage_us;
    cpu.user_usec = stats->cpu_user_us;
    cpu.system_usec = stats->cpu_system_us;
    cpu.nr_periods = stats->cpu_periods;
    cpu.nr_throttled = stats->cpu_throttled;
    cpu.throttled_usec = stats->cpu_throttled_us;
    memory.anon = stats->memory_anon;
    memory.file = stats->memory_file;
    memory.kernel_stack = stats->memory_kernel_stack;
    memory.slab = stats->memory_slab;
    memory.pgfault = stats->memory_pgfault;
    memory.pgmajfault = stats->memory_pgmajfault;
    memory.usage = stats->memory_usage;
    memory.usage_limit = stats->memory_limit;
    memory.max_usage = stats->memory_peak;
    metrics.pids = &pids;
    metrics.cpu = &cpu;
    metrics.memory = &memory;
    n = protobuf_c_message_get_packed_size(&metrics.base);
    (void)protobuf_c_message_pack(&metrics.base, buf_reserve(out, n));
    buf_commit(out, n);
}
