#include "stats.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"
#include "metrics.pb-c.h"

#define HUGETLB       "hugetlb."
#define PAGE_SIZE_MAX 16 /* "1GB" and the like */

struct all_metrics {
    Io__Containerd__Cgroups__V2__Metrics metrics;
    Io__Containerd__Cgroups__V2__PidsStat pids;
    Io__Containerd__Cgroups__V2__CPUStat cpu;
    Io__Containerd__Cgroups__V2__MemoryStat memory;
    Io__Containerd__Cgroups__V2__MemoryEvents events;
    Io__Containerd__Cgroups__V2__IOStat io;
    Io__Containerd__Cgroups__V2__IOEntry devices[STATS_DEVICES_MAX];
    Io__Containerd__Cgroups__V2__IOEntry *device_list[STATS_DEVICES_MAX];
    Io__Containerd__Cgroups__V2__HugeTlbStat pages[STATS_PAGE_SIZES_MAX];
    Io__Containerd__Cgroups__V2__HugeTlbStat *page_list[STATS_PAGE_SIZES_MAX];
    char page_sizes[STATS_PAGE_SIZES_MAX][PAGE_SIZE_MAX];
};

/* Where a value stands: key is NULL in files that are one number. */
struct figure {
    const char *file;
    const char *key;
    size_t offset;
};

#define FIGURE(in_file, in_key, member)                \
    {                                                  \
        .file = (in_file), .key = (in_key),            \
        .offset = offsetof(struct all_metrics, member) \
    }
#define CPU(name)    FIGURE("cpu.stat", #name, cpu.name)
#define MEMORY(name) FIGURE("memory.stat", #name, memory.name)
#define EVENT(name)  FIGURE("memory.events", #name, events.name)

/* Several keys of one member are added: newer kernels count the workingset for
 * anonymous and file pages apart. */
static const struct figure figures[] = {
    FIGURE("pids.current", NULL, pids.current),
    FIGURE("pids.max", NULL, pids.limit),
    CPU(usage_usec),
    CPU(user_usec),
    CPU(system_usec),
    CPU(nr_periods),
    CPU(nr_throttled),
    CPU(throttled_usec),
    MEMORY(anon),
    MEMORY(file),
    MEMORY(kernel_stack),
    MEMORY(slab),
    MEMORY(sock),
    MEMORY(shmem),
    MEMORY(file_mapped),
    MEMORY(file_dirty),
    MEMORY(file_writeback),
    MEMORY(anon_thp),
    MEMORY(inactive_anon),
    MEMORY(active_anon),
    MEMORY(inactive_file),
    MEMORY(active_file),
    MEMORY(unevictable),
    MEMORY(slab_reclaimable),
    MEMORY(slab_unreclaimable),
    MEMORY(pgfault),
    MEMORY(pgmajfault),
    MEMORY(workingset_refault),
    FIGURE("memory.stat", "workingset_refault_anon", memory.workingset_refault),
    FIGURE("memory.stat", "workingset_refault_file", memory.workingset_refault),
    MEMORY(workingset_activate),
    FIGURE("memory.stat", "workingset_activate_anon",
           memory.workingset_activate),
    FIGURE("memory.stat", "workingset_activate_file",
           memory.workingset_activate),
    MEMORY(workingset_nodereclaim),
    MEMORY(pgrefill),
    MEMORY(pgscan),
    MEMORY(pgsteal),
    MEMORY(pgactivate),
    MEMORY(pgdeactivate),
    MEMORY(pglazyfree),
    MEMORY(pglazyfreed),
    MEMORY(thp_fault_alloc),
    MEMORY(thp_collapse_alloc),
    FIGURE("memory.current", NULL, memory.usage),
    FIGURE("memory.max", NULL, memory.usage_limit),
    FIGURE("memory.peak", NULL, memory.max_usage),
    FIGURE("memory.swap.current", NULL, memory.swap_usage),
    FIGURE("memory.swap.max", NULL, memory.swap_limit),
    FIGURE("memory.swap.peak", NULL, memory.swap_max_usage),
    EVENT(low),
    EVENT(high),
    EVENT(max),
    EVENT(oom),
    EVENT(oom_kill),
};

/* "max" is the greatest there is; what is no number counts as 0. */
static uint64_t parse(const char *untrusted_text)
{
    if (strncmp(untrusted_text, "max", 3) == 0)
        return UINT64_MAX;
    if (!isdigit((unsigned char)untrusted_text[0]))
        return 0;
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

static void fill_figures(const struct proto_stats_result *stats,
                         struct all_metrics *all)
{
    for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
        const struct figure *f = &figures[i];
        const char *untrusted_text = find_file(stats, f->file);
        uint64_t *value = (uint64_t *)((char *)all + f->offset);
        uint64_t found =
            f->key ? find_value(untrusted_text, f->key) : parse(untrusted_text);

        *value = found > UINT64_MAX - *value ? UINT64_MAX : *value + found;
    }
}

/* "202:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" */
static void parse_device(const char *untrusted_line, size_t n,
                         Io__Containerd__Cgroups__V2__IOEntry *entry)
{
    const struct {
        const char *key;
        uint64_t *value;
    } values[] = {
        {"rbytes=", &entry->rbytes},
        {"wbytes=", &entry->wbytes},
        {"rios=", &entry->rios},
        {"wios=", &entry->wios},
    };
    const char *end = untrusted_line + n;
    const char *colon = memchr(untrusted_line, ':', n);

    entry->major = parse(untrusted_line);
    entry->minor = colon ? parse(colon + 1) : 0;
    for (const char *at = untrusted_line; at < end; at++) {
        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
            size_t len = strlen(values[i].key);

            if (strncmp(at, values[i].key, len) == 0)
                *values[i].value = parse(at + len);
        }
        at += strcspn(at, " \n");
    }
}

static void fill_devices(const char *untrusted_text, struct all_metrics *all)
{
    size_t *count = &all->io.n_usage;

    while (*untrusted_text && *count < STATS_DEVICES_MAX) {
        size_t n = strcspn(untrusted_text, "\n");

        if (isdigit((unsigned char)untrusted_text[0])) {
            Io__Containerd__Cgroups__V2__IOEntry *entry = &all->devices[*count];

            io__containerd__cgroups__v2__ioentry__init(entry);
            parse_device(untrusted_text, n, entry);
            all->device_list[(*count)++] = entry;
        }
        untrusted_text += n;
        untrusted_text += *untrusted_text == '\n';
    }
}

/* "hugetlb.2MB.current", for each page size that the guest's kernel has. */
static void fill_pages(const struct proto_stats_result *stats,
                       struct all_metrics *all)
{
    size_t *count = &all->metrics.n_hugetlb;

    for (size_t i = 0; i < stats->untrusted_files.n; i++) {
        const struct spec_setting *file = &stats->untrusted_files.v[i];
        Io__Containerd__Cgroups__V2__HugeTlbStat *stat;
        _cleanup_free_ char *max = NULL;
        const char *size = file->name + strlen(HUGETLB);
        size_t n;

        if (*count >= STATS_PAGE_SIZES_MAX ||
            strncmp(file->name, HUGETLB, strlen(HUGETLB)) != 0)
            continue;
        n = strcspn(size, ".");
        if (n == 0 || n >= PAGE_SIZE_MAX || strcmp(size + n, ".current") != 0 ||
            strspn(size, "0123456789KMGTB") != n)
            continue;
        max = xasprintf(HUGETLB "%.*s.max", (int)n, size);
        stat = &all->pages[*count];
        io__containerd__cgroups__v2__huge_tlb_stat__init(stat);
        memcpy(all->page_sizes[*count], size, n);
        stat->pagesize = all->page_sizes[*count];
        stat->current = parse(file->value);
        stat->max = parse(find_file(stats, max));
        all->page_list[(*count)++] = stat;
    }
}

const char *stats_type_url(void)
{
    return io__containerd__cgroups__v2__metrics__descriptor.name;
}

void stats_encode(const struct proto_stats_result *stats, struct buf *out)
{
    struct all_metrics *all = xcalloc(1, sizeof(*all));
    size_t n;

    io__containerd__cgroups__v2__metrics__init(&all->metrics);
    io__containerd__cgroups__v2__pids_stat__init(&all->pids);
    io__containerd__cgroups__v2__cpustat__init(&all->cpu);
    io__containerd__cgroups__v2__memory_stat__init(&all->memory);
    io__containerd__cgroups__v2__memory_events__init(&all->events);
    io__containerd__cgroups__v2__iostat__init(&all->io);
    all->metrics.pids = &all->pids;
    all->metrics.cpu = &all->cpu;
    all->metrics.memory = &all->memory;
    all->metrics.memory_events = &all->events;
    all->metrics.io = &all->io;
    all->io.usage = all->device_list;
    all->metrics.hugetlb = all->page_list;
    fill_figures(stats, all);
    fill_devices(find_file(stats, "io.stat"), all);
    fill_pages(stats, all);
    n = protobuf_c_message_get_packed_size(&all->metrics.base);
    (void)protobuf_c_message_pack(&all->metrics.base, buf_reserve(out, n));
    buf_commit(out, n);
    free(all);
}
