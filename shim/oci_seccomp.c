/*
 * linux.seccomp, read for oci_filter.c to compile. The agent loads what comes
 * out; nothing of a profile is read in the guest.
 */
#include "oci_filter.h"

#include <malloc.h>
#include <string.h>

#include "domus/mem.h"
#include "oci_sections.h"

#define ERRNO_MAX 4094  /* libseccomp takes no more */
#define DATA_MAX  65535 /* what a tracer gets to see */
#define LISTS_MAX 4096  /* entries of syscalls, and of names in each */
#define WORD_MAX  64

static const struct {
    const char *name;
    uint32_t action;
    uint32_t data_max; /* 0: takes no errnoRet */
} actions[] = {
    {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW, 0},
    {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0), ERRNO_MAX},
    {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD, 0},
    {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS, 0},
    {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD, 0},
    {"SCMP_ACT_LOG", SCMP_ACT_LOG, 0},
    {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0), DATA_MAX},
    {"SCMP_ACT_TRAP", SCMP_ACT_TRAP, 0},
};

/* Of x86-64's calls alone there can be any in a guest: its kernel has neither
 * 32-bit nor x32 calls. The rules of others would take five times as long to
 * compile, at each start. */
static const char *const architectures[] = {
    "SCMP_ARCH_X86_64",  "SCMP_ARCH_X86",         "SCMP_ARCH_X32",
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM",         "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",    "SCMP_ARCH_MIPS",        "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPS64N32",   "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_PARISC",  "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",     "SCMP_ARCH_PPC64",       "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390",        "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",      "SCMP_ARCH_SHEB",
};

static const struct {
    const char *name;
    uint64_t flag;
} flags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
};

static const struct {
    const char *name;
    enum scmp_compare op;
} operators[] = {
    {"SCMP_CMP_NE", SCMP_CMP_NE},
    {"SCMP_CMP_LT", SCMP_CMP_LT},
    {"SCMP_CMP_LE", SCMP_CMP_LE},
    {"SCMP_CMP_EQ", SCMP_CMP_EQ},
    {"SCMP_CMP_GE", SCMP_CMP_GE},
    {"SCMP_CMP_GT", SCMP_CMP_GT},
    {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
};

/* --- actions -------------------------------------------------------------- */

struct action {
    char *name;
    bool has_data;
    uint32_t data;
};

static int take_errno(const struct oci_path *path, struct json_object *value,
                      void *object, struct err *e)
{
    struct action *action = object;
    uint64_t number;

    if (oci_read_number(path, value, 0, DATA_MAX, &number, e) < 0)
        return -e->code;
    action->has_data = true;
    action->data = (uint32_t)number;
    return 0;
}

static int find_action(const struct oci_path *path, const char *field,
                       const char *errno_field, const struct action *wanted,
                       uint32_t *action_out, struct err *e)
{
    const struct oci_path at = {.up = path, .name = field};
    const struct oci_path errno_at = {.up = path, .name = errno_field};
    size_t i = 0;

    if (strcmp(wanted->name, "SCMP_ACT_NOTIFY") == 0)
        return oci_fail(&at, e, ENOTSUP,
                        "is not supported: a decision per call by a program "
                        "outside of the guest");
    while (i < ARRAY_SIZE(actions) &&
           strcmp(actions[i].name, wanted->name) != 0)
        i++;
    if (i == ARRAY_SIZE(actions))
        return oci_fail(&at, e, EINVAL, "must be the name of an action");
    if (wanted->has_data && wanted->data > actions[i].data_max)
        return oci_fail(&errno_at, e, EINVAL, "must not be %u with %s",
                        wanted->data, wanted->name);
    *action_out = actions[i].action;
    if (actions[i].data_max)
        *action_out |= wanted->has_data ? wanted->data : EPERM;
    return 0;
}

/* --- a rule --------------------------------------------------------------- */

struct arg_entry {
    uint32_t index;
    uint64_t value;
    uint64_t value_two;
    char *op;
};

#define ARG(member) .offset = offsetof(struct arg_entry, member)

static const struct oci_field arg_fields[] = {
    {.name = "index",
     .kind = OCI_U32,
     .required = true,
     .max = FILTER_ARGS_MAX - 1,
     ARG(index)},
    {.name = "value",
     .kind = OCI_U64,
     .required = true,
     .max = UINT64_MAX,
     ARG(value)},
    {.name = "valueTwo", .kind = OCI_U64, .max = UINT64_MAX, ARG(value_two)},
    {.name = "op",
     .kind = OCI_STRING,
     .required = true,
     .max = WORD_MAX,
     ARG(op)},
};
static const struct oci_table arg_table = OCI_TABLE_OF(arg_fields);

struct rule_entry {
    struct action action;
    struct string_list names;
    struct filter_condition args[FILTER_ARGS_MAX];
    size_t n_args;
};

static int add_arg(const struct oci_path *path, const struct arg_entry *entry,
                   struct rule_entry *rule, struct err *e)
{
    const struct oci_path at = {.up = path, .name = "op"};
    size_t i = 0;

    while (i < ARRAY_SIZE(operators) &&
           strcmp(operators[i].name, entry->op) != 0)
        i++;
    if (i == ARRAY_SIZE(operators))
        return oci_fail(&at, e, EINVAL, "must be the name of an operator");
    rule->args[rule->n_args++] = (struct filter_condition){
        .arg = entry->index,
        .op = operators[i].op,
        .datum_a = entry->value,
        .datum_b = entry->value_two,
    };
    return 0;
}

static int take_arg(const struct oci_path *path, struct json_object *value,
                    void *object, struct err *e)
{
    struct arg_entry entry = {.op = NULL};
    int r = oci_read_object(path, value, &arg_table, &entry, e);

    if (r == 0)
        r = add_arg(path, &entry, object, e);
    free(entry.op);
    return r;
}

static int take_args(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    return oci_read_list(path, value, FILTER_ARGS_MAX, take_arg, object, e);
}

#define RULE(member) .offset = offsetof(struct rule_entry, member)

static const struct oci_field rule_fields[] = {
    {.name = "names",
     .kind = OCI_STRINGS,
     .required = true,
     .min = 1,
     .max = LISTS_MAX,
     .max_each = WORD_MAX,
     .why = "those that libseccomp does not know are warned of",
     RULE(names)},
    {.name = "action",
     .kind = OCI_STRING,
     .required = true,
     .max = WORD_MAX,
     .why = "all but SCMP_ACT_NOTIFY",
     RULE(action.name)},
    {.name = "errnoRet",
     .kind = OCI_TAKE,
     .type = json_type_int,
     .take = take_errno,
     RULE(action)},
    {.name = "args",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_args,
     .table = &arg_table,
     .why = "two of one index are two rules, as runc has it"},
};
static const struct oci_table rule_table = OCI_TABLE_OF(rule_fields);

static int add_rule(const struct oci_path *path, const struct rule_entry *rule,
                    struct filter *filter, struct err *e)
{
    uint32_t action;

    if (find_action(path, "action", "errnoRet", &rule->action, &action, e) < 0)
        return -e->code;
    for (size_t i = 0; i < rule->names.n; i++) {
        const struct oci_path names = {.up = path, .name = "names"};
        const struct oci_path at = {.up = &names, .index = i};

        if (filter_add(&at, filter, rule->names.v[i], action, rule->args,
                       rule->n_args, e) < 0)
            return -e->code;
    }
    return 0;
}

static int take_rule(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    struct rule_entry rule = {.n_args = 0};
    int r = oci_read_object(path, value, &rule_table, &rule, e);

    if (r == 0)
        r = add_rule(path, &rule, object, e);
    free(rule.action.name);
    string_list_clear(&rule.names);
    return r;
}

/* --- the profile ---------------------------------------------------------- */

struct profile {
    struct action action;
    uint64_t flags;
    struct json_object *syscalls; /* borrowed */
};

static int take_architecture(const struct oci_path *path,
                             struct json_object *value, void *object,
                             struct err *e)
{
    const char *name;

    (void)object;
    if (oci_read_string(path, value, WORD_MAX, &name, e) < 0)
        return -e->code;
    for (size_t i = 0; i < ARRAY_SIZE(architectures); i++)
        if (strcmp(architectures[i], name) == 0)
            return 0;
    return oci_fail(path, e, EINVAL, "must be the name of an architecture");
}

static int take_architectures(const struct oci_path *path,
                              struct json_object *value, void *object,
                              struct err *e)
{
    return oci_read_list(path, value, LISTS_MAX, take_architecture, object, e);
}

static int take_flag(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    uint64_t *bits = object;
    const char *name;

    if (oci_read_string(path, value, WORD_MAX, &name, e) < 0)
        return -e->code;
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (strcmp(flags[i].name, name) == 0) {
            *bits |= flags[i].flag;
            return 0;
        }
    }
    if (strcmp(name, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") == 0)
        return oci_fail(path, e, ENOTSUP,
                        "is not supported: it is about SCMP_ACT_NOTIFY");
    return oci_fail(path, e, EINVAL, "must be the name of a flag");
}

static int take_flags(const struct oci_path *path, struct json_object *value,
                      void *object, struct err *e)
{
    return oci_read_list(path, value, LISTS_MAX, take_flag, object, e);
}

/* Rules need the filter, and that needs the other fields. */
static int take_syscalls(const struct oci_path *path, struct json_object *value,
                         void *object, struct err *e)
{
    struct json_object **slot = object;

    (void)path;
    (void)e;
    *slot = value;
    return 0;
}

#define PROFILE(member) .offset = offsetof(struct profile, member)
#define NO_LISTENER     "calls are not handed to a program outside of the guest"

static const struct oci_field seccomp_fields[] = {
    {.name = "defaultAction",
     .kind = OCI_STRING,
     .required = true,
     .max = WORD_MAX,
     .why = "all but SCMP_ACT_NOTIFY",
     PROFILE(action.name)},
    {.name = "defaultErrnoRet",
     .kind = OCI_TAKE,
     .type = json_type_int,
     .take = take_errno,
     PROFILE(action)},
    {.name = "architectures",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_architectures,
     .why = "x86-64, always; the guest's kernel has no other calls, and one "
            "would kill its thread"},
    {.name = "flags",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_flags,
     .why = "but SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
     PROFILE(flags)},
    {.name = "syscalls",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_syscalls,
     .table = &rule_table,
     PROFILE(syscalls)},
    OCI_REFUSED_FIELD("listenerPath", json_type_string, NO_LISTENER),
    OCI_REFUSED_FIELD("listenerMetadata", json_type_string, NO_LISTENER),
};
const struct oci_table oci_seccomp_table = OCI_TABLE_OF(seccomp_fields);

static int compile(const struct oci_path *path, const struct profile *profile,
                   struct byte_list *program_out, struct err *e)
{
    const struct oci_path syscalls = {.up = path, .name = "syscalls"};
    _cleanup_(filter_clear) struct filter filter = {.ctx = NULL};
    uint32_t action;

    if (find_action(path, "defaultAction", "defaultErrnoRet", &profile->action,
                    &action, e) < 0 ||
        filter_init(path, &filter, action, e) < 0)
        return -e->code;
    if (profile->syscalls &&
        oci_read_list(&syscalls, profile->syscalls, LISTS_MAX, take_rule,
                      &filter, e) < 0)
        return -e->code;
    return filter_compile(path, &filter, program_out, e);
}

int oci_take_seccomp(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    struct spec_container *container = object;
    struct profile profile = {.syscalls = NULL};
    int r;

    if (json_object_object_length(value) == 0)
        return 0;
    r = oci_read_object(path, value, &oci_seccomp_table, &profile, e);
    if (r == 0) {
        r = compile(path, &profile, &container->seccomp, e);
        /* The shim lives long, and this took more than all that it needs. */
        (void)malloc_trim(0);
    }
    if (r == 0)
        container->seccomp_flags = profile.flags;
    free(profile.action.name);
    return r;
}
