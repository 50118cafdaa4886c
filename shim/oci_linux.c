#include "oci_devices.h"
#include "oci_namespaces.h"
#include "oci_sections.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>

#include "domus/mem.h"

#define CONFIG(member) .offset = offsetof(struct oci_config, member)

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

static const struct {
    const char *name;
    uint64_t flags;
} propagations[] = {
    {"", 0},
    {"private", MS_PRIVATE},
    {"rprivate", MS_PRIVATE | MS_REC},
    {"slave", MS_SLAVE},
    {"rslave", MS_SLAVE | MS_REC},
    {"shared", MS_SHARED},
    {"rshared", MS_SHARED | MS_REC},
    {"unbindable", MS_UNBINDABLE},
    {"runbindable", MS_UNBINDABLE | MS_REC},
};

static int take_propagation(const struct oci_path *path,
                            struct json_object *value, void *object,
                            struct err *e)
{
    uint64_t *flags = object;
    const char *text;

    if (oci_read_string(path, value, 64, &text, e) < 0)
        return -e->code;
    for (size_t i = 0; i < ARRAY_SIZE(propagations); i++) {
        if (strcmp(propagations[i].name, text) == 0) {
            *flags = propagations[i].flags;
            return 0;
        }
    }
    return oci_fail(path, e, EINVAL, "must be the name of a propagation");
}

/* --- personality ---------------------------------------------------------- */

static int take_domain(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    struct spec_container *container = object;
    const char *text;

    if (oci_read_string(path, value, 64, &text, e) < 0)
        return -e->code;
    if (strcmp(text, "LINUX") == 0)
        container->personality = PER_LINUX;
    else if (strcmp(text, "LINUX32") == 0)
        container->personality = PER_LINUX32;
    else
        return oci_fail(path, e, EINVAL, "must be LINUX or LINUX32");
    container->has_personality = true;
    return 0;
}

static const struct oci_field personality_fields[] = {
    {.name = "domain",
     .kind = OCI_TAKE,
     .required = true,
     .type = json_type_string,
     .take = take_domain},
    OCI_REFUSED_FIELD("flags", json_type_array,
                      "the specification has no flags yet"),
};
static const struct oci_table personality_table =
    OCI_TABLE_OF(personality_fields);

static int take_personality(const struct oci_path *path,
                            struct json_object *value, void *object,
                            struct err *e)
{
    if (json_object_object_length(value) == 0)
        return 0;
    return oci_read_object(path, value, &personality_table, object, e);
}

static const struct oci_field linux_fields[] = {
    {.name = "namespaces",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = oci_take_namespaces,
     .table = &oci_namespace_table,
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
     .take = take_propagation,
     .why = "within the guest; private when it is not given",
     CONFIG(container.root_propagation)},
    OCI_NO_WORK_FIELD("cgroupsPath", json_type_string,
                      "a place in the host's cgroups; the domain has its own"),
    {.name = "uidMappings",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = oci_take_id_maps,
     .table = &oci_id_map_table,
     CONFIG(container.uid_maps)},
    {.name = "gidMappings",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = oci_take_id_maps,
     .table = &oci_id_map_table,
     CONFIG(container.gid_maps)},
    {.name = "timeOffsets",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = oci_take_time_offsets,
     .table = &oci_clock_table,
     CONFIG(container)},
    {.name = "devices",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = oci_take_devices,
     .table = &oci_device_table,
     CONFIG(container.devices)},
    {.name = "sysctl",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = oci_take_sysctls,
     .why = "of the container's namespaces, by runc's rules",
     CONFIG(container.sysctls)},
    {.name = "personality",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = take_personality,
     .table = &personality_table,
     CONFIG(container)},
    OCI_REFUSED_FIELD("netDevices", json_type_object,
                      "a guest has none of the host's devices"),
    OCI_REFUSED_FIELD("mountLabel", json_type_string,
                      "the guest's kernel has no SELinux"),
    OCI_REFUSED_FIELD("intelRdt", json_type_object,
                      "cache and memory bandwidth of a domain are not limited"),
    OCI_REFUSED_FIELD("memoryPolicy", json_type_object,
                      "it names memory nodes of the host"),
};
const struct oci_table oci_linux_table = OCI_TABLE_OF(linux_fields);
