#include "oci_namespaces.h"
#include "oci_schedule.h"
#include "oci_sections.h"

#include <cap-ng.h>
#include <string.h>
#include <sys/resource.h>

#include "domus/mem.h"
#include "domus/spec.h"

#define CONSOLE_MAX 65535 /* struct winsize has 16 bits */

#define PROCESS(member) .offset = offsetof(struct spec_process, member)
#define CAPABILITY_SET(set)                                                \
    {                                                                      \
        .name = #set, .kind = OCI_TAKE, .type = json_type_array,           \
        .take = take_capability_set, .why = "unknown names are warned of", \
        .offset = offsetof(struct spec_capabilities, set)                  \
    }

static const struct {
    const char *name;
    uint32_t resource;
} rlimit_names[] = {
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

struct rlimit_entry {
    char *type;
    uint64_t soft;
    uint64_t hard;
};

static const struct oci_field rlimit_fields[] = {
    {.name = "type",
     .kind = OCI_STRING,
     .required = true,
     .max = 64,
     .offset = offsetof(struct rlimit_entry, type)},
    {.name = "soft",
     .kind = OCI_U64,
     .required = true,
     .max = UINT64_MAX,
     .offset = offsetof(struct rlimit_entry, soft)},
    {.name = "hard",
     .kind = OCI_U64,
     .required = true,
     .max = UINT64_MAX,
     .offset = offsetof(struct rlimit_entry, hard)},
};
static const struct oci_table rlimit_table = OCI_TABLE_OF(rlimit_fields);

static int add_rlimit(const struct oci_path *path,
                      const struct rlimit_entry *entry,
                      struct spec_rlimit_list *list, struct err *e)
{
    const struct oci_path at = {.up = path, .name = "type"};
    size_t i = 0;

    while (i < ARRAY_SIZE(rlimit_names) &&
           strcmp(rlimit_names[i].name, entry->type) != 0)
        i++;
    if (i == ARRAY_SIZE(rlimit_names))
        return oci_fail(&at, e, EINVAL, "must be the name of a limit of Linux");
    for (size_t j = 0; j < list->n; j++) {
        if (list->v[j].resource == rlimit_names[i].resource)
            return oci_fail(&at, e, EINVAL, "must not be given twice");
    }
    if (entry->soft > entry->hard)
        return oci_fail(path, e, EINVAL, "soft must not be more than hard");
    list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
    list->v[list->n++] = (struct spec_rlimit){
        .resource = rlimit_names[i].resource,
        .soft = entry->soft,
        .hard = entry->hard,
    };
    return 0;
}

static int take_rlimit(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    struct rlimit_entry entry = {.type = NULL};
    int r = oci_read_object(path, value, &rlimit_table, &entry, e);

    if (r == 0)
        r = add_rlimit(path, &entry, object, e);
    free(entry.type);
    return r;
}

static int take_rlimits(const struct oci_path *path, struct json_object *value,
                        void *object, struct err *e)
{
    return oci_read_list(path, value, SPEC_RLIMITS_MAX, take_rlimit, object, e);
}

/* A client may know more of them than we do. The specification asks for a
 * warning, and to go without. */
static int take_capability(const struct oci_path *path,
                           struct json_object *value, void *object,
                           struct err *e)
{
    static const char prefix[] = "CAP_";
    uint64_t *set = object;
    const char *name;
    int number = -1;

    if (oci_read_string(path, value, 64, &name, e) < 0)
        return -e->code;
    if (strncmp(name, prefix, strlen(prefix)) == 0)
        number = capng_name_to_capability(name + strlen(prefix));
    if (number < 0 || number > 63)
        oci_warn(path, "not the name of a capability of Linux, ignored");
    else
        *set |= UINT64_C(1) << number;
    return 0;
}

static int take_capability_set(const struct oci_path *path,
                               struct json_object *value, void *object,
                               struct err *e)
{
    return oci_read_list(path, value, 64, take_capability, object, e);
}

static const struct oci_field capabilities_fields[] = {
    CAPABILITY_SET(bounding),  CAPABILITY_SET(effective),
    CAPABILITY_SET(permitted), CAPABILITY_SET(inheritable),
    CAPABILITY_SET(ambient),
};
static const struct oci_table capabilities_table =
    OCI_TABLE_OF(capabilities_fields);

static int take_capabilities(const struct oci_path *path,
                             struct json_object *value, void *object,
                             struct err *e)
{
    struct spec_process *process = object;

    process->has_capabilities = true;
    return oci_read_object(path, value, &capabilities_table,
                           &process->capabilities, e);
}

static int take_group(const struct oci_path *path, struct json_object *value,
                      void *object, struct err *e)
{
    struct u32_list *list = object;
    uint64_t gid;

    if (oci_read_number(path, value, 0, OCI_ID_MAX, &gid, e) < 0)
        return -e->code;
    list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
    list->v[list->n++] = (uint32_t)gid;
    return 0;
}

static int take_groups(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    return oci_read_list(path, value, SPEC_GROUPS_MAX, take_group, object, e);
}

static int take_umask(const struct oci_path *path, struct json_object *value,
                      void *object, struct err *e)
{
    struct spec_process *process = object;
    uint64_t mask;

    if (oci_read_number(path, value, 0, 0777, &mask, e) < 0)
        return -e->code;
    process->has_umask = true;
    process->umask = (uint32_t)mask;
    return 0;
}

static int take_oom_score_adj(const struct oci_path *path,
                              struct json_object *value, void *object,
                              struct err *e)
{
    struct spec_process *process = object;
    uint64_t number;

    if (oci_read_number(path, value, -1000, 1000, &number, e) < 0)
        return -e->code;
    process->has_oom_score_adj = true;
    process->oom_score_adj = (int64_t)number;
    return 0;
}

/* As runc: what has no name or no value is no variable. */
static int take_variable(const struct oci_path *path, struct json_object *value,
                         void *object, struct err *e)
{
    const char *text;

    if (oci_read_string(path, value, SPEC_ARG_BYTES_MAX, &text, e) < 0)
        return -e->code;
    if (*text == '=' || !strchr(text, '='))
        return oci_fail(path, e, EINVAL, "must be NAME=value");
    string_list_add(object, text);
    return 0;
}

static int take_environment(const struct oci_path *path,
                            struct json_object *value, void *object,
                            struct err *e)
{
    return oci_read_list(path, value, SPEC_ARGS_MAX, take_variable, object, e);
}

static const struct oci_field user_fields[] = {
    {.name = "uid", .kind = OCI_U32, .max = OCI_ID_MAX, PROCESS(uid)},
    {.name = "gid", .kind = OCI_U32, .max = OCI_ID_MAX, PROCESS(gid)},
    {.name = "umask",
     .kind = OCI_TAKE,
     .type = json_type_int,
     .take = take_umask},
    {.name = "additionalGids",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_groups,
     PROCESS(additional_gids)},
    OCI_REFUSED_FIELD("username", json_type_string,
                      "user names belong to Windows"),
};
static const struct oci_table user_table = OCI_TABLE_OF(user_fields);

static const struct oci_field console_fields[] = {
    {.name = "height",
     .kind = OCI_U32,
     .required = true,
     .max = CONSOLE_MAX,
     PROCESS(console_height)},
    {.name = "width",
     .kind = OCI_U32,
     .required = true,
     .max = CONSOLE_MAX,
     PROCESS(console_width)},
};
static const struct oci_table console_table = OCI_TABLE_OF(console_fields);

static const struct oci_field process_fields[] = {
    {.name = "terminal", .kind = OCI_BOOL, PROCESS(terminal)},
    {.name = "consoleSize", .kind = OCI_TABLE, .table = &console_table},
    {.name = "user", .kind = OCI_TABLE, .table = &user_table},
    {.name = "args",
     .kind = OCI_STRINGS,
     .required = true,
     .min = 1,
     .max = SPEC_ARGS_MAX,
     .max_each = SPEC_ARG_BYTES_MAX,
     PROCESS(args)},
    {.name = "env",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_environment,
     PROCESS(env)},
    {.name = "cwd",
     .kind = OCI_ABSOLUTE,
     .required = true,
     .max = SPEC_PATH_MAX,
     PROCESS(cwd)},
    {.name = "capabilities",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = take_capabilities,
     .table = &capabilities_table},
    {.name = "rlimits",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_rlimits,
     .table = &rlimit_table,
     PROCESS(rlimits)},
    {.name = "noNewPrivileges", .kind = OCI_BOOL, PROCESS(no_new_privileges)},
    {.name = "oomScoreAdj",
     .kind = OCI_TAKE,
     .type = json_type_int,
     .take = take_oom_score_adj},
    {.name = "ioPriority",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = oci_take_io_priority,
     .table = &oci_io_priority_table},
    {.name = "scheduler",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = oci_take_scheduler,
     .table = &oci_scheduler_table},
    OCI_REFUSED_FIELD("apparmorProfile", json_type_string,
                      "the guest's kernel has no AppArmor"),
    OCI_REFUSED_FIELD("selinuxLabel", json_type_string,
                      "the guest's kernel has no SELinux"),
    OCI_REFUSED_FIELD("commandLine", json_type_string,
                      "command lines belong to Windows"),
    OCI_REFUSED_FIELD("execCPUAffinity", json_type_object,
                      "it names processors of the host"),
};
const struct oci_table oci_process_table = OCI_TABLE_OF(process_fields);
