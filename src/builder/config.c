#include "config.h"

#include <string.h>

#include "domus/mem.h"

/*
 * 16 frames hold 8192 grants: two rings of the channel (512 pages at most)
 * and seven block devices with persistent grants (1056 each).
 */
#define GRANT_FRAMES   16
#define EVENT_CHANNELS 255

/* Page tables, the domain's own structures and its grant frames in Xen. */
#define DOMAIN_OVERHEAD_KB 2048

int config_check_sched(uint32_t weight, uint32_t cap, struct err *e)
{
    if (weight > CONFIG_WEIGHT_MAX)
        return err_set(e, EINVAL, "cpu weight of %u: credit2 has 1 to %d",
                       weight, CONFIG_WEIGHT_MAX);
    if (cap > CONFIG_VCPUS_MAX * 100)
        return err_set(e, EINVAL, "cpu cap of %u %%: a domain has at most %d",
                       cap, CONFIG_VCPUS_MAX * 100);
    return 0;
}

static int check(const struct job_build *build, struct err *e)
{
    if (!build->name[0] || !build->kernel[0] || !build->initramfs[0])
        return err_set(e, EINVAL,
                       "a domain needs a name, a kernel and an initramfs");
    if (build->vcpus < 1 || build->vcpus > CONFIG_VCPUS_MAX)
        return err_set(e, EINVAL, "%u vcpus: a domain has 1 to %d",
                       build->vcpus, CONFIG_VCPUS_MAX);
    if (build->memory_kb < CONFIG_MEMORY_KB_MIN ||
        build->memory_kb > CONFIG_MEMORY_KB_MAX)
        return err_set(e, EINVAL, "memory of %llu KiB: a domain has %d to %llu",
                       (unsigned long long)build->memory_kb,
                       CONFIG_MEMORY_KB_MIN,
                       (unsigned long long)CONFIG_MEMORY_KB_MAX);
    return config_check_sched(build->cpu_weight, build->cpu_cap, e);
}

/* libxl's own allocator of bitmaps wants a context. */
static void set_vcpus(libxl_domain_build_info *info, uint32_t vcpus)
{
    info->max_vcpus = (int)vcpus;
    info->avail_vcpus.size = (vcpus + 7) / 8;
    info->avail_vcpus.map = xcalloc(info->avail_vcpus.size, 1);
    for (uint32_t i = 0; i < vcpus; i++)
        libxl_bitmap_set(&info->avail_vcpus, (int)i);
}

int config_from_job(const struct job_build *build, uint32_t nodes,
                    libxl_domain_config *config_out, struct err *e)
{
    libxl_domain_create_info *create;
    libxl_domain_build_info *info;
    libxl_domain_config config;
    libxl_uuid uuid;
    int r = check(build, e);

    if (r == 0)
        r = xl_uuid_parse(build->uuid, &uuid, e);
    if (r < 0)
        return r;

    libxl_domain_config_init(&config);
    create = &config.c_info;
    create->type = build->pvh ? LIBXL_DOMAIN_TYPE_PVH : LIBXL_DOMAIN_TYPE_PV;
    create->name = xstrdup(build->name);
    create->uuid = uuid;
    create->passthrough = LIBXL_PASSTHROUGH_DISABLED;
    libxl_defbool_set(&create->driver_domain, false);

    info = &config.b_info;
    libxl_domain_build_info_init_type(info, create->type);
    set_vcpus(info, build->vcpus);
    /* Equal, or a PVH guest would start with populate-on-demand. */
    info->max_memkb = build->memory_kb;
    info->target_memkb = build->memory_kb;
    info->video_memkb = 0;
    info->kernel = xstrdup(build->kernel);
    info->ramdisk = xstrdup(build->initramfs);
    info->cmdline = xstrdup(build->command_line);
    /* The scheduler is that of the pool, credit2 unless it was chosen. */
    if (build->cpu_weight)
        info->sched_params.weight = (int)build->cpu_weight;
    if (build->cpu_cap)
        info->sched_params.cap = (int)build->cpu_cap;

    /* Fail before memory is taken rather than half-way. */
    libxl_defbool_set(&info->claim_mode, true);
    libxl_defbool_set(&info->numa_placement, nodes > 1);
    /* Else rdtsc traps wherever the processor's is not invariant. */
    info->tsc_mode = LIBXL_TSC_MODE_NATIVE;

    /* The guest grants its own pages and maps nobody else's. */
    info->max_grant_frames = GRANT_FRAMES;
    info->max_maptrack_frames = 0;
    info->max_grant_version = 1;
    info->event_channels = EVENT_CHANNELS;
    libxl_defbool_set(&info->vpmu, false);
    libxl_defbool_set(&info->nested_hvm, false);
    libxl_defbool_set(&info->arch_x86.msr_relaxed, false);
    info->altp2m = LIBXL_ALTP2M_MODE_DISABLED;
    if (build->pvh)
        libxl_defbool_set(&info->u.pvh.pvshim, false);
    else
        libxl_defbool_set(&info->u.pv.e820_host, false);

    /* A dead domain stays until domusd has read why it died. */
    config.on_poweroff = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
    config.on_reboot = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
    config.on_crash = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
    config.on_watchdog = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
    config.on_soft_reset = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;
    *config_out = config;
    return 0;
}

uint64_t config_needs_kb(const struct job_build *build)
{
    uint64_t need = build->memory_kb + DOMAIN_OVERHEAD_KB;

    /* libxl's formula for the nested page tables of a PVH domain. */
    if (build->pvh)
        need += 4 * (256 * (uint64_t)build->vcpus + build->memory_kb / 1024);
    return need;
}
