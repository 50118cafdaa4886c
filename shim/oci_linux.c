#include "oci_sections.h"

#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"
#include "oci.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define CONFIG(member) .offset = offsetof(struct oci_config, member)

static const struct {
    const char *name;
    uint64_t flag;
    const char *refused; /* why, NULL: it isn't */
} namespace_types[] = {
    {"pid", CLONE_NEWPID, NULL},
    {"network", CLONE_NEWNET, NULL},
    {"mount", CLONE_NEWNS, NULL},
    {"ipc", CLONE_NEWIPC, NULL},
    {"uts", CLONE_NEWUTS, NULL},
    {"cgroup", CLONE_NEWCGROUP, NULL},
    {"user", CLONE_NEWUSER, "user namespaces are not made in the guest"},
    {"time", CLONE_NEWTIME, "time namespaces are not made in the guest"},
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
                      "a domain cannot join a namespace of the host"),
};
static const struct oci_table namespace_table = OCI_TABLE_OF(namespace_fields);

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
    if (namespace_types[i].refused)
        return oci_fail(&at, e, ENOTSUP, "is not supported: %s: %s", type,
                        namespace_types[i].refused);
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
    int r = oci_read_object(path, value, &namespace_table, &entry, e);

    if (r == 0)
        r = add_namespace(path, entry.type, object, e);
    free(entry.type);
    return r;
}

static int take_namespaces(const struct oci_path *path,
                           struct json_object *value, void *object,
                           struct err *e)
{
    return oci_read_list(path, value, ARRAY_SIZE(namespace_types),
                         take_namespace, object, e);
}

static int take_absolute(const struct oci_path *path, struct json_object *value,
                         void *object, struct err *e)
{
    const char *text;

    if (oci_read_string(path, value, SPEC_PATH_MAX, &text, e) < 0)
        return -e->code;
    if (text[0] != '/')
        return oci_fail(path, e, EINVAL, "must be an absolute path");
    string_list_add(object, text);
    return 0;
}

static int take_paths(const struct oci_path *path, struct json_object *value,
                      void *object, struct err *e)
{
    return oci_read_list(path, value, SPEC_PATHS_MAX, take_absolute, object, e);
}

/*
 * Nothing is mounted in the guest outside the container once it runs, so
 * private and slave are the same there.
 */
static int take_propagation(const struct oci_path *path,
                            struct json_object *value, void *object,
                            struct err *e)
{
    static const char *const accepted[] = {"", "private", "rprivate", "slave",
                                           "rslave"};
    const char *text;

    (void)object;
    if (oci_read_string(path, value, 64, &text, e) < 0)
        return -e->code;
    for (size_t i = 0; i < ARRAY_SIZE(accepted); i++) {
        if (strcmp(text, accepted[i]) == 0)
            return 0;
    }
    return oci_fail(path, e, ENOTSUP,
                    "is not supported: mounts do not leave a domain");
}

static const struct oci_field linux_fields[] = {
    {.name = "namespaces",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_namespaces,
     CONFIG(container.namespaces)},
    {.name = "resources",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = oci_take_resources,
     .table = &oci_resources_table},
    {.name = "seccomp",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = oci_take_seccomp,
     .table = &oci_seccomp_table,
     CONFIG(container)},
    {.name = "maskedPaths",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_paths,
     CONFIG(container.masked_paths)},
    {.name = "readonlyPaths",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_paths,
     CONFIG(container.readonly_paths)},
    {.name = "rootfsPropagation",
     .kind = OCI_TAKE,
     .type = json_type_string,
     .take = take_propagation},
    OCI_NO_WORK_FIELD("cgroupsPath", json_type_string,
                      "a place in the host's cgroups; the domain has its own"),
    OCI_REFUSED_FIELD("uidMappings", json_type_array,
                      "user namespaces are not made in the guest"),
    OCI_REFUSED_FIELD("gidMappings", json_type_array,
                      "user namespaces are not made in the guest"),
    OCI_REFUSED_FIELD("timeOffsets", json_type_object,
                      "time namespaces are not made in the guest"),
    OCI_REFUSED_FIELD("devices", json_type_array,
                      "a guest has none of the host's devices"),
    OCI_REFUSED_FIELD("netDevices", json_type_object,
                      "a guest has none of the host's devices"),
    OCI_REFUSED_FIELD("sysctl", json_type_object,
                      "kernel parameters are not set in the guest"),
    OCI_REFUSED_FIELD("mountLabel", json_type_string,
                      "the guest's kernel has no SELinux"),
    OCI_REFUSED_FIELD("intelRdt", json_type_object,
                      "cache and memory bandwidth of a domain are not limited"),
    OCI_REFUSED_FIELD("personality", json_type_object,
                      "execution domains are not set in the guest"),
    OCI_REFUSED_FIELD("memoryPolicy", json_type_object,
                      "it names memory nodes of the host"),
};
const struct oci_table oci_linux_table = OCI_TABLE_OF(linux_fields);
