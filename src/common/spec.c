#include "domus/spec.h"

#include <string.h>

#include "domus/mem.h"

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

static const struct wire_field scheduler_fields[] = {
    WIRE_FIELD(spec_scheduler, policy, WIRE_U32),
    WIRE_FIELD(spec_scheduler, nice, WIRE_I64),
    WIRE_FIELD(spec_scheduler, priority, WIRE_U32),
    WIRE_FIELD(spec_scheduler, flags, WIRE_U64),
    WIRE_FIELD(spec_scheduler, runtime_ns, WIRE_U64),
    WIRE_FIELD(spec_scheduler, deadline_ns, WIRE_U64),
    WIRE_FIELD(spec_scheduler, period_ns, WIRE_U64),
};
static const struct wire_desc scheduler_desc =
    WIRE_DESC(spec_scheduler, scheduler_fields);

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
    WIRE_FIELD(spec_process, has_io_priority, WIRE_BOOL),
    WIRE_FIELD(spec_process, io_class, WIRE_U32),
    WIRE_FIELD(spec_process, io_priority, WIRE_U32),
    WIRE_FIELD(spec_process, has_scheduler, WIRE_BOOL),
    WIRE_FIELD(spec_process, scheduler, WIRE_STRUCT, .desc = &scheduler_desc),
};
const struct wire_desc spec_process_desc =
    WIRE_DESC(spec_process, process_fields);

static const struct wire_field mount_fields[] = {
    WIRE_FIELD(spec_mount, destination, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(spec_mount, type, WIRE_STRING, .max = 64),
    WIRE_FIELD(spec_mount, source, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(spec_mount, flags, WIRE_U64),
    WIRE_FIELD(spec_mount, propagation, WIRE_U64),
    WIRE_FIELD(spec_mount, all_set, WIRE_U64),
    WIRE_FIELD(spec_mount, all_clear, WIRE_U64),
    WIRE_FIELD(spec_mount, copy_up, WIRE_BOOL),
    WIRE_FIELD(spec_mount, data, WIRE_STRING, .max = SPEC_PATH_MAX),
};
static const struct wire_desc mount_desc = WIRE_DESC(spec_mount, mount_fields);

static const struct wire_field setting_fields[] = {
    WIRE_FIELD(spec_setting, name, WIRE_STRING, .max = SPEC_NAME_MAX),
    WIRE_FIELD(spec_setting, value, WIRE_STRING, .max = SPEC_VALUE_MAX),
};
const struct wire_desc spec_setting_desc =
    WIRE_DESC(spec_setting, setting_fields);

static const struct wire_field device_fields[] = {
    WIRE_FIELD(spec_device, path, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(spec_device, type, WIRE_U32),
    WIRE_FIELD(spec_device, major, WIRE_U32),
    WIRE_FIELD(spec_device, minor, WIRE_U32),
    WIRE_FIELD(spec_device, mode, WIRE_U32),
    WIRE_FIELD(spec_device, uid, WIRE_U32),
    WIRE_FIELD(spec_device, gid, WIRE_U32),
};
static const struct wire_desc device_desc =
    WIRE_DESC(spec_device, device_fields);

static const struct wire_field device_rule_fields[] = {
    WIRE_FIELD(spec_device_rule, allow, WIRE_BOOL),
    WIRE_FIELD(spec_device_rule, type, WIRE_U32),
    WIRE_FIELD(spec_device_rule, major, WIRE_I64),
    WIRE_FIELD(spec_device_rule, minor, WIRE_I64),
    WIRE_FIELD(spec_device_rule, access, WIRE_U32),
};
static const struct wire_desc device_rule_desc =
    WIRE_DESC(spec_device_rule, device_rule_fields);

static const struct wire_field id_map_fields[] = {
    WIRE_FIELD(spec_id_map, inside, WIRE_U32),
    WIRE_FIELD(spec_id_map, outside, WIRE_U32),
    WIRE_FIELD(spec_id_map, size, WIRE_U32),
};
static const struct wire_desc id_map_desc =
    WIRE_DESC(spec_id_map, id_map_fields);

static const struct wire_field time_offset_fields[] = {
    WIRE_FIELD(spec_time_offset, seconds, WIRE_I64),
    WIRE_FIELD(spec_time_offset, nanoseconds, WIRE_U32),
};
static const struct wire_desc time_offset_desc =
    WIRE_DESC(spec_time_offset, time_offset_fields);

static const struct wire_field hook_fields[] = {
    WIRE_FIELD(spec_hook, path, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(spec_hook, args, WIRE_STRINGS, .max = SPEC_ARGS_MAX,
               .max_each = SPEC_ARG_BYTES_MAX),
    WIRE_FIELD(spec_hook, env, WIRE_STRINGS, .max = SPEC_ARGS_MAX,
               .max_each = SPEC_ARG_BYTES_MAX),
    WIRE_FIELD(spec_hook, timeout_s, WIRE_U32),
};
const struct wire_desc spec_hook_desc = WIRE_DESC(spec_hook, hook_fields);

static const struct wire_field container_fields[] = {
    WIRE_FIELD(spec_container, id, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(spec_container, hostname, WIRE_STRING, .max = SPEC_HOSTNAME_MAX),
    WIRE_FIELD(spec_container, domainname, WIRE_STRING,
               .max = SPEC_HOSTNAME_MAX),
    WIRE_FIELD(spec_container, root_readonly, WIRE_BOOL),
    WIRE_FIELD(spec_container, root_propagation, WIRE_U64),
    WIRE_FIELD(spec_container, namespaces, WIRE_U64),
    WIRE_FIELD(spec_container, uid_maps, WIRE_STRUCTS, .max = SPEC_ID_MAPS_MAX,
               .desc = &id_map_desc),
    WIRE_FIELD(spec_container, gid_maps, WIRE_STRUCTS, .max = SPEC_ID_MAPS_MAX,
               .desc = &id_map_desc),
    WIRE_FIELD(spec_container, monotonic, WIRE_STRUCT,
               .desc = &time_offset_desc),
    WIRE_FIELD(spec_container, boottime, WIRE_STRUCT,
               .desc = &time_offset_desc),
    WIRE_FIELD(spec_container, mounts, WIRE_STRUCTS, .max = SPEC_MOUNTS_MAX,
               .desc = &mount_desc),
    WIRE_FIELD(spec_container, masked_paths, WIRE_STRINGS,
               .max = SPEC_PATHS_MAX, .max_each = SPEC_PATH_MAX),
    WIRE_FIELD(spec_container, readonly_paths, WIRE_STRINGS,
               .max = SPEC_PATHS_MAX, .max_each = SPEC_PATH_MAX),
    WIRE_FIELD(spec_container, cgroup, WIRE_STRUCTS, .max = SPEC_SETTINGS_MAX,
               .desc = &spec_setting_desc),
    WIRE_FIELD(spec_container, sysctls, WIRE_STRUCTS, .max = SPEC_SETTINGS_MAX,
               .desc = &spec_setting_desc),
    WIRE_FIELD(spec_container, devices, WIRE_STRUCTS, .max = SPEC_DEVICES_MAX,
               .desc = &device_desc),
    WIRE_FIELD(spec_container, device_rules, WIRE_STRUCTS,
               .max = SPEC_DEVICES_MAX, .desc = &device_rule_desc),
    WIRE_FIELD(spec_container, has_personality, WIRE_BOOL),
    WIRE_FIELD(spec_container, personality, WIRE_U32),
    WIRE_FIELD(spec_container, seccomp_flags, WIRE_U64),
    WIRE_FIELD(spec_container, seccomp, WIRE_BYTES, .max = SPEC_SECCOMP_MAX),
    WIRE_FIELD(spec_container, create_container_hooks, WIRE_STRUCTS,
               .max = SPEC_HOOKS_MAX, .desc = &spec_hook_desc),
    WIRE_FIELD(spec_container, start_container_hooks, WIRE_STRUCTS,
               .max = SPEC_HOOKS_MAX, .desc = &spec_hook_desc),
    WIRE_FIELD(spec_container, hook_state, WIRE_STRING, .max = SPEC_STATE_MAX),
    WIRE_FIELD(spec_container, process, WIRE_STRUCT,
               .desc = &spec_process_desc),
};
const struct wire_desc spec_container_desc =
    WIRE_DESC(spec_container, container_fields);

void spec_setting_add(struct spec_setting_list *list, const char *name,
                      const char *value)
{
    list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
    list->v[list->n++] = (struct spec_setting){
        .name = xstrdup(name),
        .value = xstrdup(value),
    };
}

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
