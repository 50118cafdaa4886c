/*
 * Device nodes, and the rules about them. Numbers of devices are those of the
 * guest's kernel: what the host calls 8:0 may be nothing there.
 */
#include "oci_devices.h"

#include <linux/bpf.h>
#include <string.h>

#include "domus/mem.h"
#include "oci_namespaces.h"
#include "oci_resources.h"

/* A dev_t of Linux has 12 bits and 20. */
#define MAJOR_MAX 4095
#define MINOR_MAX 1048575

#define MODE_DEFAULT 0666
#define MODE_MAX     07777
#define MODE_FORMAT  0170000

#define ACCESS_ALL \
    (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD)

/* --- rules ---------------------------------------------------------------- */

/* What runc allows in every container, after the rules of its own. */
static const struct spec_device_rule deny_all = {
    .allow = false,
    .type = 'a',
    .major = SPEC_DEVICE_ANY,
    .minor = SPEC_DEVICE_ANY,
    .access = ACCESS_ALL,
};
static const struct spec_device_rule default_rules[] = {
    {true, 'c', SPEC_DEVICE_ANY, SPEC_DEVICE_ANY, BPF_DEVCG_ACC_MKNOD},
    {true, 'b', SPEC_DEVICE_ANY, SPEC_DEVICE_ANY, BPF_DEVCG_ACC_MKNOD},
    {true, 'c', 1, 3, ACCESS_ALL},                 /* null */
    {true, 'c', 1, 5, ACCESS_ALL},                 /* zero */
    {true, 'c', 1, 7, ACCESS_ALL},                 /* full */
    {true, 'c', 1, 8, ACCESS_ALL},                 /* random */
    {true, 'c', 1, 9, ACCESS_ALL},                 /* urandom */
    {true, 'c', 5, 0, ACCESS_ALL},                 /* tty */
    {true, 'c', 5, 2, ACCESS_ALL},                 /* ptmx */
    {true, 'c', 136, SPEC_DEVICE_ANY, ACCESS_ALL}, /* pts */
};

#define RULES_MAX (SPEC_DEVICES_MAX - 1 - ARRAY_SIZE(default_rules))

static void add_rule(struct spec_device_rule_list *rules,
                     const struct spec_device_rule *rule)
{
    rules->v = xreallocarray(rules->v, rules->n + 1, sizeof(*rules->v));
    rules->v[rules->n++] = *rule;
}

struct rule_entry {
    bool allow;
    char *type;
    int64_t major;
    int64_t minor;
    char *access;
};

#define RULE(member) .offset = offsetof(struct rule_entry, member)

static const struct oci_field rule_fields[] = {
    {.name = "allow", .kind = OCI_BOOL, .required = true, RULE(allow)},
    {.name = "type",
     .kind = OCI_STRING,
     .max = 1,
     .why = "a, b or c; a without numbers only",
     RULE(type)},
    {.name = "major",
     .kind = OCI_I64,
     .min = SPEC_DEVICE_ANY,
     .max = MAJOR_MAX,
     .why = "a number of the guest",
     RULE(major)},
    {.name = "minor",
     .kind = OCI_I64,
     .min = SPEC_DEVICE_ANY,
     .max = MINOR_MAX,
     .why = "a number of the guest",
     RULE(minor)},
    {.name = "access", .kind = OCI_STRING, .max = 3, RULE(access)},
};
const struct oci_table oci_device_rule_table = OCI_TABLE_OF(rule_fields);

static int access_bits(const struct oci_path *path, const char *text,
                       uint32_t *bits_out, struct err *e)
{
    const struct oci_path at = {.up = path, .name = "access"};
    uint32_t bits = 0;

    for (; *text; text++) {
        uint32_t bit = *text == 'r'   ? BPF_DEVCG_ACC_READ
                       : *text == 'w' ? BPF_DEVCG_ACC_WRITE
                       : *text == 'm' ? BPF_DEVCG_ACC_MKNOD
                                      : 0;

        if (!bit)
            return oci_fail(&at, e, EINVAL, "must be of r, w and m");
        bits |= bit;
    }
    *bits_out = bits ? bits : ACCESS_ALL;
    return 0;
}

static int read_rule(const struct oci_path *path,
                     const struct rule_entry *entry,
                     struct spec_device_rule *rule_out, struct err *e)
{
    const struct oci_path at = {.up = path, .name = "type"};
    char type = entry->type && *entry->type ? *entry->type : 'a';

    if (!strchr("abc", type))
        return oci_fail(&at, e, EINVAL, "must be a, b or c");
    /* runc takes such a rule for one about every device there is. */
    if (type == 'a' && (entry->major >= 0 || entry->minor >= 0))
        return oci_fail(&at, e, EINVAL, "must be b or c beside a number");
    *rule_out = (struct spec_device_rule){
        .allow = entry->allow,
        .type = (uint32_t)type,
        .major = entry->major,
        .minor = entry->minor,
    };
    return access_bits(path, entry->access ? entry->access : "",
                       &rule_out->access, e);
}

static int take_rule(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    struct oci_reading *reading = object;
    struct rule_entry entry = {.major = SPEC_DEVICE_ANY,
                               .minor = SPEC_DEVICE_ANY};
    struct spec_device_rule rule;
    int r = oci_read_object(path, value, &oci_device_rule_table, &entry, e);

    if (r == 0)
        r = read_rule(path, &entry, &rule, e);
    if (r == 0)
        add_rule(&reading->devices, &rule);
    free(entry.type);
    free(entry.access);
    return r;
}

int oci_take_device_rules(const struct oci_path *path,
                          struct json_object *value, void *object,
                          struct err *e)
{
    return oci_read_list(path, value, RULES_MAX, take_rule, object, e);
}

void oci_surround_device_rules(struct spec_device_rule_list *rules)
{
    struct spec_device_rule_list all = {.n = 0};

    add_rule(&all, &deny_all);
    for (size_t i = 0; i < rules->n; i++)
        add_rule(&all, &rules->v[i]);
    for (size_t i = 0; i < ARRAY_SIZE(default_rules); i++)
        add_rule(&all, &default_rules[i]);
    free(rules->v);
    *rules = all;
}

/* --- nodes ---------------------------------------------------------------- */

struct device_entry {
    char *path;
    char *type;
    int64_t major; /* -1: not given */
    int64_t minor;
    int64_t mode;
    uint32_t uid;
    uint32_t gid;
};

#define DEVICE(member) .offset = offsetof(struct device_entry, member)

static const struct oci_field device_fields[] = {
    {.name = "path",
     .kind = OCI_ABSOLUTE,
     .required = true,
     .max = SPEC_PATH_MAX,
     DEVICE(path)},
    {.name = "type",
     .kind = OCI_STRING,
     .required = true,
     .max = 1,
     .why = "c, u, b or p",
     DEVICE(type)},
    {.name = "major",
     .kind = OCI_I64,
     .max = MAJOR_MAX,
     .why = "a number of the guest, not the host's",
     DEVICE(major)},
    {.name = "minor",
     .kind = OCI_I64,
     .max = MINOR_MAX,
     .why = "a number of the guest, not the host's",
     DEVICE(minor)},
    {.name = "fileMode",
     .kind = OCI_I64,
     .max = MODE_FORMAT | MODE_MAX,
     .why = "0666 when it is not given",
     DEVICE(mode)},
    {.name = "uid", .kind = OCI_U32, .max = OCI_ID_MAX, DEVICE(uid)},
    {.name = "gid", .kind = OCI_U32, .max = OCI_ID_MAX, DEVICE(gid)},
};
const struct oci_table oci_device_table = OCI_TABLE_OF(device_fields);

static int check_device(const struct oci_path *path,
                        const struct device_entry *entry,
                        const struct spec_device_list *list, struct err *e)
{
    const struct oci_path path_at = {.up = path, .name = "path"};
    const struct oci_path type_at = {.up = path, .name = "type"};
    const struct oci_path major_at = {.up = path, .name = "major"};
    const struct oci_path minor_at = {.up = path, .name = "minor"};
    char type = *entry->type;

    if (!type || !strchr("cubp", type))
        return oci_fail(&type_at, e, EINVAL, "must be c, u, b or p");
    if (type != 'p' && entry->major < 0)
        return oci_fail(&major_at, e, EINVAL, "is missing");
    if (type != 'p' && entry->minor < 0)
        return oci_fail(&minor_at, e, EINVAL, "is missing");
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->v[i].path, entry->path) == 0)
            return oci_fail(&path_at, e, EINVAL, "must not be given twice");
    return 0;
}

static void add_device(struct spec_device_list *list,
                       struct device_entry *entry)
{
    char type = *entry->type == 'u' ? 'c' : *entry->type;
    bool has_numbers = type != 'p';

    list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
    list->v[list->n++] = (struct spec_device){
        .path = steal_ptr(&entry->path),
        .type = (uint32_t)type,
        .major = has_numbers ? (uint32_t)entry->major : 0,
        .minor = has_numbers ? (uint32_t)entry->minor : 0,
        .mode =
            entry->mode < 0 ? MODE_DEFAULT : (uint32_t)entry->mode & MODE_MAX,
        .uid = entry->uid,
        .gid = entry->gid,
    };
}

static int take_device(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    struct device_entry entry = {.major = -1, .minor = -1, .mode = -1};
    int r = oci_read_object(path, value, &oci_device_table, &entry, e);

    if (r == 0) {
        oci_squeeze_path(entry.path);
        r = check_device(path, &entry, object, e);
    }
    if (r == 0)
        add_device(object, &entry);
    free(entry.path);
    free(entry.type);
    return r;
}

int oci_take_devices(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    return oci_read_list(path, value, SPEC_DEVICES_MAX, take_device, object, e);
}
