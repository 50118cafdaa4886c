#include "domus/spec.h"

#include <string.h>

static const struct wire_field rlimit_fields[] = {
    WIRE_FIELD(spec_rlimit, resource, WIRE_U32),
    WIRE_FIELD(spec_rlimit, soft, WIRE_U64),
    WIRE_FIELD(spec_rlimit, hard, WIRE_U64),
};
static const struct wire_desc rlimit_desc =
    WIRE_DESC(spec_rlimit, rlimit_fields);

static const struct wire_field capabilities_fields[] = {
    WIRE_FIELD(spec_capabilities, bounding, WIRE_U64),
    WIRE_FIELD(spec_capabilities, effective, WIRE_U64),
    WIRE_FIELD(spec_capabilities, inheritable, WIRE_U64),
    WIRE_FIELD(spec_capabilities, permitted, WIRE_U64),
    WIRE_FIELD(spec_capabilities, ambient, WIRE_U64),
};
static const struct wire_desc capabilities_desc =
    WIRE_DESC(spec_capabilities, capabilities_fields);

static const struct wire_field process_fields[] = {
    WIRE_FIELD(spec_process, args, WIRE_STRINGS, .max = SPEC_ARGS_MAX,
               .max_each = SPEC_ARG_BYTES_MAX),
    WIRE_FIELD(spec_process, env, WIRE_STRINGS, .max = SPEC_ARGS_MAX,
               .max_each = SPEC_ARG_BYTES_MAX),
    WIRE_FIELD(spec_process, cwd, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(spec_process, uid, WIRE_U32),
    WIRE_FIELD(spec_process, gid, WIRE_U32),
    WIRE_FIELD(spec_process, additional_gids, WIRE_U32S,
               .max = SPEC_GROUPS_MAX),
    WIRE_FIELD(spec_process, has_umask, WIRE_BOOL),
    WIRE_FIELD(spec_process, umask, WIRE_U32),
    WIRE_FIELD(spec_process, terminal, WIRE_BOOL),
    WIRE_FIELD(spec_process, console_width, WIRE_U32),
    WIRE_FIELD(spec_process, console_height, WIRE_U32),
    WIRE_FIELD(spec_process, no_new_privileges, WIRE_BOOL),
    WIRE_FIELD(spec_process, has_capabilities, WIRE_BOOL),
    WIRE_FIELD(spec_process, capabilities, WIRE_STRUCT,
               .desc = &capabilities_desc),
    WIRE_FIELD(spec_process, rlimits, WIRE_STRUCTS, .max = SPEC_RLIMITS_MAX,
               .desc = &rlimit_desc),
    WIRE_FIELD(spec_process, has_oom_score_adj, WIRE_BOOL),
    WIRE_FIELD(spec_process, oom_score_adj, WIRE_I64),
};
const struct wire_desc spec_process_desc =
    WIRE_DESC(spec_process, process_fields);

static const struct wire_field mount_fields[] = {
    WIRE_FIELD(spec_mount, destination, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(spec_mount, type, WIRE_STRING, .max = 64),
    WIRE_FIELD(spec_mount, source, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(spec_mount, flags, WIRE_U64),
    WIRE_FIELD(spec_mount, propagation, WIRE_U64),
    WIRE_FIELD(spec_mount, data, WIRE_STRING, .max = SPEC_PATH_MAX),
};
static const struct wire_desc mount_desc = WIRE_DESC(spec_mount, mount_fields);

static const struct wire_field resources_fields[] = {
    WIRE_FIELD(spec_resources, memory_max, WIRE_U64),
    WIRE_FIELD(spec_resources, pids_max, WIRE_U64),
    WIRE_FIELD(spec_resources, cpu_quota, WIRE_U64),
    WIRE_FIELD(spec_resources, cpu_period, WIRE_U64),
    WIRE_FIELD(spec_resources, cpu_weight, WIRE_U64),
};
static const struct wire_desc resources_desc =
    WIRE_DESC(spec_resources, resources_fields);

static const struct wire_field container_fields[] = {
    WIRE_FIELD(spec_container, id, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(spec_container, hostname, WIRE_STRING, .max = SPEC_HOSTNAME_MAX),
    WIRE_FIELD(spec_container, domainname, WIRE_STRING,
               .max = SPEC_HOSTNAME_MAX),
    WIRE_FIELD(spec_container, root_readonly, WIRE_BOOL),
    WIRE_FIELD(spec_container, namespaces, WIRE_U64),
    WIRE_FIELD(spec_container, mounts, WIRE_STRUCTS, .max = SPEC_MOUNTS_MAX,
               .desc = &mount_desc),
    WIRE_FIELD(spec_container, masked_paths, WIRE_STRINGS,
               .max = SPEC_PATHS_MAX, .max_each = SPEC_PATH_MAX),
    WIRE_FIELD(spec_container, readonly_paths, WIRE_STRINGS,
               .max = SPEC_PATHS_MAX, .max_each = SPEC_PATH_MAX),
    WIRE_FIELD(spec_container, resources, WIRE_STRUCT, .desc = &resources_desc),
    WIRE_FIELD(spec_container, process, WIRE_STRUCT,
               .desc = &spec_process_desc),
};
const struct wire_desc spec_container_desc =
    WIRE_DESC(spec_container, container_fields);

bool spec_id_valid(const char *id)
{
    bool separator = true; /* also at the start */
    size_t n = 0;

    for (; id[n]; n++) {
        char c = id[n];
        bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                            (c >= 'A' && c <= 'Z');

        if (!alphanumeric && (separator || !strchr("._-", c)))
            return false;
        separator = !alphanumeric;
    }
    return n > 0 && n <= SPEC_ID_MAX && !separator;
}
