#include "policy.h"

#include <string.h>

#include "domus/mem.h"

#define ANNOTATION_PREFIX "io.domus."
/* What Xen itself takes for a domain beside its memory: page tables of a PVH
 * domain, grant frames, vcpus. */
#define DOMAIN_EXTRA_KB 4096
#define CPU_WEIGHT_MAX  65535 /* of credit2 */

static int set_type(struct domain_plan *plan, const char *value, struct err *e)
{
    int type = domain_type_parse(value);

    if (type < 0)
        return err_set(e, EINVAL, "'%.64s' is not auto, pv or pvh", value);
    plan->type = (enum domain_type)type;
    return 0;
}

static int set_memory(struct domain_plan *plan, const char *value,
                      struct err *e)
{
    uint64_t mib;
    int r = parse_number(value, 8, CONFIG_MIB_MAX, &mib, e);

    if (r == 0)
        plan->memory_kb = mib * 1024;
    return r;
}

static int set_vcpus(struct domain_plan *plan, const char *value, struct err *e)
{
    uint64_t n;
    int r = parse_number(value, 1, CONFIG_CPU_MAX, &n, e);

    if (r == 0)
        plan->vcpus = (uint32_t)n;
    return r;
}

static const struct {
    const char *name;
    int (*set)(struct domain_plan *plan, const char *value, struct err *e);
} annotations[] = {
    {ANNOTATION_PREFIX "domain-type", set_type},
    {ANNOTATION_PREFIX "memory", set_memory}, /* MiB, of the whole domain */
    {ANNOTATION_PREFIX "vcpus", set_vcpus},
};

bool policy_knows_annotation(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(annotations); i++)
        if (strcmp(annotations[i].name, name) == 0)
            return true;
    return false;
}

static bool allowed(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->allow_annotations.n; i++)
        if (strcmp(config->allow_annotations.v[i], name) == 0)
            return true;
    return false;
}

static int apply_annotation(const struct config *config, const char *text,
                            struct domain_plan *plan, struct err *e)
{
    const char *equals = strchr(text, '=');
    _cleanup_free_ char *name = NULL;

    if (!equals)
        return err_set(e, EINVAL, "annotation '%.128s' without a value", text);
    name = xstrndup(text, (size_t)(equals - text));
    for (size_t i = 0; i < ARRAY_SIZE(annotations); i++) {
        if (strcmp(annotations[i].name, name) != 0)
            continue;
        if (!allowed(config, name))
            return err_set(e, EPERM,
                           "annotation %s is not allowed on this host "
                           "(allow-annotations in domus.conf)",
                           name);
        if (annotations[i].set(plan, equals + 1, e) < 0)
            return err_wrap(e, "annotation %s", name);
        return 0;
    }
    return err_set(e, EINVAL, "unknown annotation %.128s", name);
}

/* A limit in bytes becomes the domain that holds it. */
static uint64_t domain_kb(const struct config *config, uint64_t memory_max)
{
    return memory_max / 1024 + (uint64_t)config->memory_overhead_mib * 1024;
}

static int check_weight(uint32_t weight, struct err *e)
{
    if (weight > CPU_WEIGHT_MAX)
        return err_set(e, EINVAL, "cpu weight %u: Xen has 1 to %d", weight,
                       CPU_WEIGHT_MAX);
    return 0;
}

/* All of its processors are no limit, and Xen refuses more. */
static uint32_t cap_of(uint32_t cap, uint32_t vcpus)
{
    return cap > vcpus * 100 ? 0 : cap;
}

static int check_path(const char *what, const char *path, bool may_be_empty,
                      struct err *e)
{
    if (path[0] != '/' && !(may_be_empty && !path[0]))
        return err_set(e, EINVAL, "%s '%.256s' is not an absolute path", what,
                       path);
    return 0;
}

int policy_plan(const struct config *config, const struct ctl_create *create,
                struct domain_plan *plan_out, struct err *e)
{
    struct domain_plan plan = {
        .type = config->domain_type,
        .memory_kb = (uint64_t)config->default_memory_mib * 1024,
        .vcpus = config->vcpus,
    };
    int r;

    if (!spec_id_valid(create->namespace))
        return err_set(e, EINVAL, "invalid namespace '%.76s'",
                       create->namespace);
    if (!spec_id_valid(create->id))
        return err_set(e, EINVAL, "invalid id '%.76s'", create->id);
    r = check_path("bundle", create->bundle, false, e);
    if (r == 0)
        r = check_path("root.path", create->rootfs_path, true, e);
    if (r < 0)
        return r;
    if (create->memory_max) {
        uint64_t kb = domain_kb(config, create->memory_max);

        if (kb > (uint64_t)CONFIG_MIB_MAX * 1024)
            return err_set(e, EINVAL,
                           "memory limit of %llu bytes is beyond "
                           "what a domain can have",
                           (unsigned long long)create->memory_max);
        if (kb > plan.memory_kb)
            plan.memory_kb = kb;
    }
    if (create->vcpus > CONFIG_CPU_MAX)
        return err_set(e, EINVAL, "%u vcpus, the limit is %d", create->vcpus,
                       CONFIG_CPU_MAX);
    if (create->vcpus)
        plan.vcpus = create->vcpus;
    for (size_t i = 0; i < create->annotations.n; i++) {
        r = apply_annotation(config, create->annotations.v[i], &plan, e);
        if (r < 0)
            return r;
    }
    r = check_weight(create->cpu_weight, e);
    if (r < 0)
        return r;
    plan.cpu_weight = create->cpu_weight;
    plan.cpu_cap = cap_of(create->cpu_cap, plan.vcpus);
    *plan_out = plan;
    return 0;
}

int policy_update(const struct config *config, uint64_t memory_kb,
                  uint32_t vcpus, struct ctl_update *update, struct err *e)
{
    uint64_t overhead = (uint64_t)config->memory_overhead_mib * 1024;

    if (update->memory_max && domain_kb(config, update->memory_max) > memory_kb)
        return err_set(
            e, ENOMEM,
            "memory limit of %llu bytes: the domain has %llu MiB, of which "
            "%llu MiB are for the container (memory-overhead in domus.conf), "
            "and does not grow; make the container again with that limit",
            (unsigned long long)update->memory_max,
            (unsigned long long)memory_kb / 1024,
            (unsigned long long)(memory_kb > overhead ? memory_kb - overhead
                                                      : 0) /
                1024);
    update->cpu_cap = cap_of(update->cpu_cap, vcpus);
    return check_weight(update->cpu_weight, e);
}

int policy_settle(struct domain_plan *plan, bool has_hap, uint64_t free_kb,
                  struct err *e)
{
    uint64_t needed = plan->memory_kb + DOMAIN_EXTRA_KB;

    if (plan->type == DOMAIN_PVH && !has_hap)
        return err_set(e, ENOTSUP,
                       "this host cannot run PVH domains: no hardware "
                       "virtualisation with nested paging");
    if (plan->type == DOMAIN_AUTO)
        plan->type = has_hap ? DOMAIN_PVH : DOMAIN_PV;
    if (needed > free_kb)
        return err_set(e, ENOMEM,
                       "not enough memory: the domain needs %llu MiB, Xen has "
                       "%llu MiB free",
                       (unsigned long long)((needed + 1023) / 1024),
                       (unsigned long long)(free_kb / 1024));
    return 0;
}
