/*
 * Namespaces, and what is set in them: maps of users, offsets of clocks and
 * kernel parameters.
 */
#include "oci_namespaces.h"

#include <inttypes.h>
#include <sched.h>
#include <string.h>

#include "domus/mem.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define NANOSECONDS_MAX 999999999

static const struct {
    const char *name;
    uint64_t flag;
} namespace_types[] = {
    {"pid", CLONE_NEWPID},   {"network", CLONE_NEWNET},
    {"mount", CLONE_NEWNS},  {"ipc", CLONE_NEWIPC},
    {"uts", CLONE_NEWUTS},   {"cgroup", CLONE_NEWCGROUP},
    {"user", CLONE_NEWUSER}, {"time", CLONE_NEWTIME},
};

struct namespace_entry {
    char *type;
};

static const struct oci_field namespace_fields[] = {
    {.name = "type",
     .kind = OCI_STRING,
     .required = true,
     .max = 64,
     .offset = offsetof(struct namespace_entry, type)},
    OCI_REFUSED_FIELD("path", json_type_string,
                      "joining another container's namespaces comes with "
                      "pods"),
};
const struct oci_table oci_namespace_table = OCI_TABLE_OF(namespace_fields);

static int add_namespace(const struct oci_path *path, const char *type,
                         uint64_t *flags, struct err *e)
{
    const struct oci_path at = {.up = path, .name = "type"};
    size_t i = 0;

    while (i < ARRAY_SIZE(namespace_types) &&
           strcmp(namespace_types[i].name, type) != 0)
        i++;
    if (i == ARRAY_SIZE(namespace_types))
        return oci_fail(&at, e, EINVAL,
                        "must be the name of a type of namespace");
    if (*flags & namespace_types[i].flag)
        return oci_fail(&at, e, EINVAL, "must not be given twice: %s", type);
    *flags |= namespace_types[i].flag;
    return 0;
}

static int take_namespace(const struct oci_path *path,
                          struct json_object *value, void *object,
                          struct err *e)
{
    struct namespace_entry entry = {.type = NULL};
    int r = oci_read_object(path, value, &oci_namespace_table, &entry, e);

    if (r == 0)
        r = add_namespace(path, entry.type, object, e);
    free(entry.type);
    return r;
}

int oci_take_namespaces(const struct oci_path *path, struct json_object *value,
                        void *object, struct err *e)
{
    return oci_read_list(path, value, ARRAY_SIZE(namespace_types),
                         take_namespace, object, e);
}

/* --- maps of users -------------------------------------------------------- */

#define MAP(member) .offset = offsetof(struct spec_id_map, member)

static const struct oci_field id_map_fields[] = {
    {.name = "containerID",
     .kind = OCI_U32,
     .required = true,
     .max = OCI_ID_MAX,
     MAP(inside)},
    {.name = "hostID",
     .kind = OCI_U32,
     .required = true,
     .max = OCI_ID_MAX,
     .why = "a number of the guest, not the host's",
     MAP(outside)},
    {.name = "size",
     .kind = OCI_U32,
     .required = true,
     .min = 1,
     .max = UINT32_MAX,
     MAP(size)},
};
const struct oci_table oci_id_map_table = OCI_TABLE_OF(id_map_fields);

static bool overlap(uint32_t a, uint32_t a_size, uint32_t b, uint32_t b_size)
{
    return a < (uint64_t)b + b_size && b < (uint64_t)a + a_size;
}

static int check_map(const struct oci_path *path, const struct spec_id_map *map,
                     const struct spec_id_map_list *list, struct err *e)
{
    if ((uint64_t)map->inside + map->size > OCI_ID_MAX + UINT64_C(1) ||
        (uint64_t)map->outside + map->size > OCI_ID_MAX + UINT64_C(1))
        return oci_fail(path, e, EINVAL, "must end at %" PRIu32 " at most",
                        OCI_ID_MAX);
    for (size_t i = 0; i < list->n; i++) {
        const struct spec_id_map *other = &list->v[i];

        if (overlap(map->inside, map->size, other->inside, other->size) ||
            overlap(map->outside, map->size, other->outside, other->size))
            return oci_fail(path, e, EINVAL, "must not overlap entry %zu", i);
    }
    return 0;
}

static int take_id_map(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    struct spec_id_map_list *list = object;
    struct spec_id_map map = {.size = 0};

    if (oci_read_object(path, value, &oci_id_map_table, &map, e) < 0 ||
        check_map(path, &map, list, e) < 0)
        return -e->code;
    list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
    list->v[list->n++] = map;
    return 0;
}

int oci_take_id_maps(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    return oci_read_list(path, value, SPEC_ID_MAPS_MAX, take_id_map, object, e);
}

/* --- clocks --------------------------------------------------------------- */

#define OFFSET(member) .offset = offsetof(struct spec_time_offset, member)
#define CLOCK(at, member)                                      \
    {                                                          \
        .name = (at), .kind = OCI_TABLE, .table = &time_table, \
        .offset = offsetof(struct spec_container, member)      \
    }

static const struct oci_field time_fields[] = {
    {.name = "secs",
     .kind = OCI_I64,
     .min = INT64_MIN,
     .max = INT64_MAX,
     OFFSET(seconds)},
    {.name = "nanosecs",
     .kind = OCI_U32,
     .max = NANOSECONDS_MAX,
     OFFSET(nanoseconds)},
};
static const struct oci_table time_table = OCI_TABLE_OF(time_fields);

static const struct oci_field clock_fields[] = {
    CLOCK("monotonic", monotonic),
    CLOCK("boottime", boottime),
};
const struct oci_table oci_clock_table = OCI_TABLE_OF(clock_fields);

/* Names of clocks are values of the specification, not fields of it: of those
 * that there are no others of, none may be dropped. */
int oci_take_time_offsets(const struct oci_path *path,
                          struct json_object *value, void *object,
                          struct err *e)
{
    struct json_object_iter entry;

    json_object_object_foreachC(value, entry)
    {
        const struct oci_path at = {.up = path, .name = entry.key};

        if (strcmp(entry.key, "monotonic") != 0 &&
            strcmp(entry.key, "boottime") != 0)
            return oci_fail(&at, e, EINVAL,
                            "is no clock: only monotonic and boottime have "
                            "offsets");
    }
    return oci_read_object(path, value, &oci_clock_table, object, e);
}

/* --- kernel parameters ---------------------------------------------------- */

/* Which a namespace of the container's has of its own, and which namespace. A
 * name that ends in a dot stands for all beneath. */
static const struct {
    const char *name;
    uint64_t namespace;
    const char *type;
} own_parameters[] = {
    {"net.", 0, NULL}, /* the guest's network is the container's anyway */
    {"kernel.msgmax", CLONE_NEWIPC, "ipc"},
    {"kernel.msgmnb", CLONE_NEWIPC, "ipc"},
    {"kernel.msgmni", CLONE_NEWIPC, "ipc"},
    {"kernel.sem", CLONE_NEWIPC, "ipc"},
    {"kernel.shmall", CLONE_NEWIPC, "ipc"},
    {"kernel.shmmax", CLONE_NEWIPC, "ipc"},
    {"kernel.shmmni", CLONE_NEWIPC, "ipc"},
    {"kernel.shm_rmid_forced", CLONE_NEWIPC, "ipc"},
    {"fs.mqueue.", CLONE_NEWIPC, "ipc"},
    {"kernel.domainname", CLONE_NEWUTS, "uts"},
    {"kernel.hostname", CLONE_NEWUTS, "uts"},
};

/* As sysctl(8) has it: the first separator tells which of the two forms. */
static void use_dots(char *name)
{
    if (name[strcspn(name, "./")] != '/')
        return;
    for (; *name; name++)
        *name = *name == '/' ? '.' : *name == '.' ? '/' : *name;
}

/* With dots, a slash is a dot of a file's name: "..", too, must be none. */
static bool is_parameter(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:@";
    size_t parts = 0;

    if (strlen(name) > SPEC_NAME_MAX || name[strspn(name, allowed)])
        return false;
    for (;; name++) {
        size_t n = strcspn(name, ".");

        if (n == 0 || strspn(name, "/") == n)
            return false;
        parts++;
        name += n;
        if (!*name)
            return parts > 1;
    }
}

static int add_parameter(const struct oci_path *path, const char *key,
                         const char *text, struct spec_setting_list *list,
                         struct err *e)
{
    _cleanup_free_ char *name = xstrdup(key);

    use_dots(name);
    if (!is_parameter(name))
        return oci_fail(path, e, EINVAL,
                        "must be the name of a kernel parameter");
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->v[i].name, name) == 0)
            return oci_fail(path, e, EINVAL, "must not be given twice");
    spec_setting_add(list, name, text);
    return 0;
}

int oci_take_sysctls(const struct oci_path *path, struct json_object *value,
                     void *object, struct err *e)
{
    struct spec_setting_list *list = object;
    struct json_object_iter entry;

    json_object_object_foreachC(value, entry)
    {
        const struct oci_path at = {.up = path, .name = entry.key};
        const char *text;

        if (oci_read_string(&at, entry.val, SPEC_VALUE_MAX, &text, e) < 0)
            return -e->code;
        if (list->n == SPEC_SETTINGS_MAX)
            return oci_fail(path, e, EINVAL, "must have at most %d entries",
                            SPEC_SETTINGS_MAX);
        if (add_parameter(&at, entry.key, text, list, e) < 0)
            return -e->code;
    }
    return 0;
}

/* --- rules about more than one of them -------------------------------------
 */

static const struct oci_path linux_at = {.name = "linux"};

static int check_parameter(const struct spec_container *container,
                           const char *name, struct err *e)
{
    const struct oci_path sysctl = {.up = &linux_at, .name = "sysctl"};
    const struct oci_path at = {.up = &sysctl, .name = name};
    size_t i = 0;

    for (; i < ARRAY_SIZE(own_parameters); i++) {
        const char *known = own_parameters[i].name;
        size_t n = strlen(known);

        if (known[n - 1] == '.' ? strncmp(known, name, n) == 0
                                : strcmp(known, name) == 0)
            break;
    }
    if (i == ARRAY_SIZE(own_parameters))
        return oci_fail(&at, e, EINVAL,
                        "is not a parameter of a namespace of its own");
    if (own_parameters[i].namespace &&
        !(container->namespaces & own_parameters[i].namespace))
        return oci_fail(&at, e, EINVAL, "needs a namespace of type %s",
                        own_parameters[i].type);
    if (strcmp(name, "kernel.hostname") == 0 && *container->hostname)
        return oci_fail(&at, e, EINVAL, "must not be given beside hostname");
    if (strcmp(name, "kernel.domainname") == 0 && *container->domainname)
        return oci_fail(&at, e, EINVAL, "must not be given beside domainname");
    return 0;
}

static bool is_mapped(const struct spec_id_map_list *maps, uint32_t id)
{
    for (size_t i = 0; i < maps->n; i++)
        if (overlap(id, 1, maps->v[i].inside, maps->v[i].size))
            return true;
    return false;
}

static int check_maps(const struct spec_container *container, const char *field,
                      const struct spec_id_map_list *maps, uint32_t id,
                      struct err *e)
{
    const struct oci_path at = {.up = &linux_at, .name = field};
    bool has_users = container->namespaces & CLONE_NEWUSER;

    if (!has_users && maps->n)
        return oci_fail(&at, e, EINVAL, "needs a namespace of type user");
    if (!has_users)
        return 0;
    if (!is_mapped(maps, 0))
        return oci_fail(&at, e, EINVAL, "must map 0 of the container");
    if (!is_mapped(maps, id))
        return oci_fail(&at, e, EINVAL,
                        "must map %" PRIu32 ", which process.user has", id);
    return 0;
}

static bool is_offset(const struct spec_time_offset *offset)
{
    return offset->seconds || offset->nanoseconds;
}

int oci_check_namespaces(const struct spec_container *container, struct err *e)
{
    const struct oci_path namespaces = {.up = &linux_at, .name = "namespaces"};
    const struct oci_path offsets = {.up = &linux_at, .name = "timeOffsets"};
    const struct oci_path hostname = {.name = "hostname"};
    const struct oci_path domainname = {.name = "domainname"};
    bool has_uts = container->namespaces & CLONE_NEWUTS;

    if (!(container->namespaces & CLONE_NEWNS))
        return oci_fail(&namespaces, e, ENOTSUP,
                        "a container without a mount namespace of its own is "
                        "not supported");
    if (*container->hostname && !has_uts)
        return oci_fail(&hostname, e, EINVAL, "needs a namespace of type uts");
    if (*container->domainname && !has_uts)
        return oci_fail(&domainname, e, EINVAL,
                        "needs a namespace of type uts");
    if (!(container->namespaces & CLONE_NEWTIME) &&
        (is_offset(&container->monotonic) || is_offset(&container->boottime)))
        return oci_fail(&offsets, e, EINVAL, "needs a namespace of type time");
    if (check_maps(container, "uidMappings", &container->uid_maps,
                   container->process.uid, e) < 0 ||
        check_maps(container, "gidMappings", &container->gid_maps,
                   container->process.gid, e) < 0)
        return -e->code;
    for (size_t i = 0; i < container->sysctls.n; i++)
        if (check_parameter(container, container->sysctls.v[i].name, e) < 0)
            return -e->code;
    return 0;
}
