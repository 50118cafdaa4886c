/*
 * oci.h - a bundle's config.json (OCI runtime specification 1.0.2 to 1.3) as
 * the plain structs of spec.h. docs/OCI-SUPPORT.md lists all of its fields.
 *
 * The file is the client's: its size and nesting are bounded, every type is
 * checked, and a field that domus does not carry out is refused by its name.
 */
#ifndef DOMUS_OCI_H
#define DOMUS_OCI_H

#include "domus/err.h"
#include "domus/spec.h"

#define OCI_CONFIG_MAX (4 * 1024 * 1024) /* bytes of config.json */
#define OCI_DEPTH_MAX  32
#define OCI_VALUES_MAX 200000 /* room for the longest args, env and groups */
#define OCI_VCPUS_MAX  512    /* quota in periods: as many as Xen gives */

/* Of cpu.max, microseconds. What an update does not give of it stays. */
struct oci_bandwidth {
    uint64_t quota;  /* 0: not limited */
    uint64_t period; /* 0: never given */
};

/* linux.resources; what an update may change of them. */
struct oci_resources {
    struct spec_setting_list cgroup; /* an explicit -1 is "max" */
    /* For the domain, beside the same limits inside of it. 0: not given, or
     * not limited. */
    uint64_t memory_max; /* bytes */
    bool check_memory;   /* refuse memory_max when more is in use */
    uint32_t cpu_weight; /* of credit2, 256 is its default */
    bool has_cpu_cap;
    uint32_t cpu_cap; /* per cent of one processor, 0: not limited */
    struct oci_bandwidth bandwidth; /* with this update, or as it was */
};

struct oci_config {
    struct spec_container container;
    char *root_path;                /* root.path made absolute */
    struct string_list annotations; /* "io.domus.…=value" only */
    /* For the domain, beside the same limits inside of it. 0: not limited. */
    uint64_t memory_max; /* bytes */
    uint32_t vcpus;      /* quota / period, rounded up */
    uint32_t cpu_weight; /* as in oci_resources */
    uint32_t cpu_cap;
    struct oci_bandwidth bandwidth;
    /* Those that run outside the guest. */
    struct spec_hook_list prestart_hooks;
    struct spec_hook_list create_runtime_hooks;
    struct spec_hook_list poststart_hooks;
    struct spec_hook_list poststop_hooks;
    /* As spec_container has it; here when there is a hook of any kind, and
     * then short enough for ctl_hooks with status and pid. */
    char *hook_state;
};

/*
 * Reads bundle/config.json for the container id. Fails with ENOENT or EACCES
 * when it cannot be read, EFBIG when too large, EINVAL when it is not a valid
 * configuration and ENOTSUP for a field that is not supported; the text names
 * file and field.
 */
int oci_load(const char *bundle, const char *id, struct oci_config *config_out,
             struct err *e);

/* The same from memory; for tests and the fuzzer. */
int oci_parse(const char *json, size_t n, const char *bundle, const char *id,
              struct oci_config *config_out, struct err *e);

void oci_config_clear(struct oci_config *config);

/* The process of an Exec: config.json's process alone. To be cleared with
 * wire_clear() and spec_process_desc. */
int oci_parse_process(const char *json, size_t n,
                      struct spec_process *process_out, struct err *e);

/* The resources of an Update: config.json's linux.resources alone, after what
 * the container has by now. */
int oci_parse_resources(const char *json, size_t n,
                        const struct oci_bandwidth *before,
                        struct oci_resources *resources_out, struct err *e);

void oci_resources_clear(struct oci_resources *resources);

#endif
