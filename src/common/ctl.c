#include "domus/ctl.h"

#define TEXT_MAX 4096
#define WORD_MAX 64

static const struct wire_field result_fields[] = {
    WIRE_FIELD(ctl_result, code, WIRE_U32),
    WIRE_FIELD(ctl_result, text, WIRE_STRING, .max = TEXT_MAX),
};
static const struct wire_desc result_desc =
    WIRE_DESC(ctl_result, result_fields);

static const struct wire_field name_fields[] = {
    WIRE_FIELD(ctl_name, namespace, WIRE_STRING, .max = CTL_NAMESPACE_MAX),
    WIRE_FIELD(ctl_name, id, WIRE_STRING, .max = SPEC_ID_MAX),
};
static const struct wire_desc name_desc = WIRE_DESC(ctl_name, name_fields);

static const struct wire_field mount_fields[] = {
    WIRE_FIELD(ctl_mount, type, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(ctl_mount, source, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(ctl_mount, options, WIRE_STRINGS, .max = CTL_OPTIONS_MAX,
               .max_each = CTL_OPTION_MAX),
};
static const struct wire_desc mount_desc = WIRE_DESC(ctl_mount, mount_fields);

static const struct wire_field create_fields[] = {
    WIRE_FIELD(ctl_create, namespace, WIRE_STRING, .max = CTL_NAMESPACE_MAX),
    WIRE_FIELD(ctl_create, id, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(ctl_create, bundle, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(ctl_create, annotations, WIRE_STRINGS,
               .max = CTL_ANNOTATIONS_MAX, .max_each = 1024),
    WIRE_FIELD(ctl_create, memory_max, WIRE_U64),
    WIRE_FIELD(ctl_create, vcpus, WIRE_U32),
    WIRE_FIELD(ctl_create, cpu_weight, WIRE_U32),
    WIRE_FIELD(ctl_create, cpu_cap, WIRE_U32),
    WIRE_FIELD(ctl_create, rootfs, WIRE_STRUCTS, .max = CTL_MOUNTS_MAX,
               .desc = &mount_desc),
    WIRE_FIELD(ctl_create, rootfs_path, WIRE_STRING, .max = SPEC_PATH_MAX),
};
static const struct wire_desc create_desc =
    WIRE_DESC(ctl_create, create_fields);

static const struct wire_field sandbox_fields[] = {
    WIRE_FIELD(ctl_sandbox, domid, WIRE_U32),
    WIRE_FIELD(ctl_sandbox, uuid, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(ctl_sandbox, domain_type, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(ctl_sandbox, channel, WIRE_STRING, .max = 256),
    WIRE_FIELD(ctl_sandbox, root_device, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(ctl_sandbox, start_timeout_s, WIRE_U32),
    WIRE_FIELD(ctl_sandbox, received_ns, WIRE_U64),
    WIRE_FIELD(ctl_sandbox, image_ns, WIRE_U64),
    WIRE_FIELD(ctl_sandbox, built_ns, WIRE_U64),
    WIRE_FIELD(ctl_sandbox, unpaused_ns, WIRE_U64),
};
static const struct wire_desc sandbox_desc =
    WIRE_DESC(ctl_sandbox, sandbox_fields);

static const struct wire_field channel_fields[] = {
    WIRE_FIELD(ctl_channel, namespace, WIRE_STRING, .max = CTL_NAMESPACE_MAX),
    WIRE_FIELD(ctl_channel, id, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(ctl_channel, channel, WIRE_STRING, .max = 256),
};
static const struct wire_desc channel_desc =
    WIRE_DESC(ctl_channel, channel_fields);

static const struct wire_field console_result_fields[] = {
    WIRE_FIELD(ctl_console_result, untrusted_text, WIRE_BYTES,
               .max = CTL_CONSOLE_MAX),
};
static const struct wire_desc console_result_desc =
    WIRE_DESC(ctl_console_result, console_result_fields);

static const struct wire_field listed_fields[] = {
    WIRE_FIELD(ctl_listed, namespace, WIRE_STRING, .max = CTL_NAMESPACE_MAX),
    WIRE_FIELD(ctl_listed, id, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(ctl_listed, uuid, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(ctl_listed, domain_type, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(ctl_listed, state, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(ctl_listed, domid, WIRE_U32),
    WIRE_FIELD(ctl_listed, memory_kb, WIRE_U64),
    WIRE_FIELD(ctl_listed, vcpus, WIRE_U32),
    WIRE_FIELD(ctl_listed, created_unix_ns, WIRE_U64),
};
static const struct wire_desc listed_desc =
    WIRE_DESC(ctl_listed, listed_fields);

static const struct wire_field list_result_fields[] = {
    WIRE_FIELD(ctl_list_result, sandboxes, WIRE_STRUCTS, .max = CTL_LIST_MAX,
               .desc = &listed_desc),
};
static const struct wire_desc list_result_desc =
    WIRE_DESC(ctl_list_result, list_result_fields);

static const struct wire_field died_fields[] = {
    WIRE_FIELD(ctl_died, namespace, WIRE_STRING, .max = CTL_NAMESPACE_MAX),
    WIRE_FIELD(ctl_died, id, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(ctl_died, reason, WIRE_STRING, .max = WORD_MAX),
};
static const struct wire_desc died_desc = WIRE_DESC(ctl_died, died_fields);

static const struct wire_field update_fields[] = {
    WIRE_FIELD(ctl_update, namespace, WIRE_STRING, .max = CTL_NAMESPACE_MAX),
    WIRE_FIELD(ctl_update, id, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(ctl_update, memory_max, WIRE_U64),
    WIRE_FIELD(ctl_update, cpu_weight, WIRE_U32),
    WIRE_FIELD(ctl_update, has_cpu_cap, WIRE_BOOL),
    WIRE_FIELD(ctl_update, cpu_cap, WIRE_U32),
};
static const struct wire_desc update_desc =
    WIRE_DESC(ctl_update, update_fields);

static const struct wire_field hooks_fields[] = {
    WIRE_FIELD(ctl_hooks, namespace, WIRE_STRING, .max = CTL_NAMESPACE_MAX),
    WIRE_FIELD(ctl_hooks, id, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(ctl_hooks, kind, WIRE_STRING, .max = WORD_MAX),
    WIRE_FIELD(ctl_hooks, hooks, WIRE_STRUCTS, .max = SPEC_HOOKS_MAX,
               .desc = &spec_hook_desc),
    WIRE_FIELD(ctl_hooks, state, WIRE_STRING, .max = CTL_STATE_MAX),
    WIRE_FIELD(ctl_hooks, bundle, WIRE_STRING, .max = SPEC_PATH_MAX),
};
static const struct wire_desc hooks_desc = WIRE_DESC(ctl_hooks, hooks_fields);

static const struct wire_field logger_fields[] = {
    WIRE_FIELD(ctl_logger, namespace, WIRE_STRING, .max = CTL_NAMESPACE_MAX),
    WIRE_FIELD(ctl_logger, id, WIRE_STRING, .max = SPEC_ID_MAX),
    WIRE_FIELD(ctl_logger, path, WIRE_STRING, .max = SPEC_PATH_MAX),
    WIRE_FIELD(ctl_logger, args, WIRE_STRINGS, .max = CTL_LOGGER_ARGS_MAX,
               .max_each = SPEC_PATH_MAX),
};
static const struct wire_desc logger_desc =
    WIRE_DESC(ctl_logger, logger_fields);

static const struct packet_type types[CTL_TYPE_COUNT] = {
    [CTL_RESULT] = {"RESULT", &result_desc, 0},
    [CTL_CREATE] = {"CREATE", &create_desc, 0},
    [CTL_SANDBOX] = {"SANDBOX", &sandbox_desc, 0},
    [CTL_ATTACH] = {"ATTACH", &name_desc, 0},
    [CTL_DESTROY] = {"DESTROY", &name_desc, 0},
    [CTL_CONSOLE] = {"CONSOLE", &name_desc, 0},
    [CTL_CONSOLE_RESULT] = {"CONSOLE_RESULT", &console_result_desc, 0},
    [CTL_LIST] = {"LIST", NULL, 0},
    [CTL_LIST_RESULT] = {"LIST_RESULT", &list_result_desc, 0},
    [CTL_CHANNEL_READY] = {"CHANNEL_READY", &channel_desc, 0},
    [CTL_DOMAIN_DIED] = {"DOMAIN_DIED", &died_desc, 0},
    [CTL_PAUSE] = {"PAUSE", &name_desc, 0},
    [CTL_RESUME] = {"RESUME", &name_desc, 0},
    [CTL_UPDATE] = {"UPDATE", &update_desc, 0},
    [CTL_HOOKS] = {"HOOKS", &hooks_desc, 0},
    [CTL_LOGGER] = {"LOGGER", &logger_desc, 4},
};

const struct packet_protocol ctl_protocol = {
    .name = "control",
    .version = CTL_VERSION,
    .type_count = CTL_TYPE_COUNT,
    .types = types,
    .body_size = sizeof(union ctl_body),
};
