#include "oci_sections.h"

#include <string.h>
#include <sys/mount.h>

#include "domus/mem.h"
#include "domus/spec.h"

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256 /* Linux 5.10; glibc 2.36 lacks it */
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

#define OPTIONS_MAX 256 /* of one mount */

/* Names as in mount(8) and runc; what is not here is the file system's. */
static const struct mount_option {
    const char *name;
    uint64_t set;
    uint64_t clear;
    uint64_t propagation;
} mount_options[] = {
    {.name = "defaults"},
    {.name = "ro", .set = MS_RDONLY},
    {.name = "rw", .clear = MS_RDONLY},
    {.name = "nosuid", .set = MS_NOSUID},
    {.name = "suid", .clear = MS_NOSUID},
    {.name = "nodev", .set = MS_NODEV},
    {.name = "dev", .clear = MS_NODEV},
    {.name = "noexec", .set = MS_NOEXEC},
    {.name = "exec", .clear = MS_NOEXEC},
    {.name = "sync", .set = MS_SYNCHRONOUS},
    {.name = "async", .clear = MS_SYNCHRONOUS},
    {.name = "dirsync", .set = MS_DIRSYNC},
    {.name = "remount", .set = MS_REMOUNT},
    {.name = "mand", .set = MS_MANDLOCK},
    {.name = "nomand", .clear = MS_MANDLOCK},
    {.name = "noatime", .set = MS_NOATIME},
    {.name = "atime", .clear = MS_NOATIME},
    {.name = "nodiratime", .set = MS_NODIRATIME},
    {.name = "diratime", .clear = MS_NODIRATIME},
    {.name = "relatime", .set = MS_RELATIME},
    {.name = "norelatime", .clear = MS_RELATIME},
    {.name = "strictatime", .set = MS_STRICTATIME},
    {.name = "nostrictatime", .clear = MS_STRICTATIME},
    {.name = "lazytime", .set = MS_LAZYTIME},
    {.name = "nolazytime", .clear = MS_LAZYTIME},
    {.name = "iversion", .set = MS_I_VERSION},
    {.name = "noiversion", .clear = MS_I_VERSION},
    {.name = "silent", .set = MS_SILENT},
    {.name = "loud", .clear = MS_SILENT},
    {.name = "acl", .set = MS_POSIXACL},
    {.name = "noacl", .clear = MS_POSIXACL},
    {.name = "nosymfollow", .set = MS_NOSYMFOLLOW},
    {.name = "symfollow", .clear = MS_NOSYMFOLLOW},
    {.name = "bind", .set = MS_BIND},
    {.name = "rbind", .set = MS_BIND | MS_REC},
    {.name = "shared", .propagation = MS_SHARED},
    {.name = "rshared", .propagation = MS_SHARED | MS_REC},
    {.name = "slave", .propagation = MS_SLAVE},
    {.name = "rslave", .propagation = MS_SLAVE | MS_REC},
    {.name = "private", .propagation = MS_PRIVATE},
    {.name = "rprivate", .propagation = MS_PRIVATE | MS_REC},
    {.name = "unbindable", .propagation = MS_UNBINDABLE},
    {.name = "runbindable", .propagation = MS_UNBINDABLE | MS_REC},
};

/* For the mount and all beneath, as runc has them. One of the times that a
 * file was read clears the others, as mount_setattr(2) wants it. */
static const struct recursive_option {
    const char *name;
    uint64_t set;
    uint64_t clear;
} recursive_options[] = {
    {"rro", MOUNT_ATTR_RDONLY, 0},
    {"rrw", 0, MOUNT_ATTR_RDONLY},
    {"rnosuid", MOUNT_ATTR_NOSUID, 0},
    {"rsuid", 0, MOUNT_ATTR_NOSUID},
    {"rnodev", MOUNT_ATTR_NODEV, 0},
    {"rdev", 0, MOUNT_ATTR_NODEV},
    {"rnoexec", MOUNT_ATTR_NOEXEC, 0},
    {"rexec", 0, MOUNT_ATTR_NOEXEC},
    {"rnodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"rdiratime", 0, MOUNT_ATTR_NODIRATIME},
    {"rrelatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"rnorelatime", 0, MOUNT_ATTR__ATIME},
    {"rnoatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"ratime", 0, MOUNT_ATTR__ATIME},
    {"rstrictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"rnostrictatime", 0, MOUNT_ATTR__ATIME},
    {"rnosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"rsymfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
};

static const char *const refused_options[] = {"idmap", "ridmap"};

/* File systems that hold nothing of the host's; guests have cgroup v2 only. */
static const struct {
    const char *name;
    const char *in_guest;
} mount_types[] = {
    {"proc", "proc"},       {"sysfs", "sysfs"},   {"tmpfs", "tmpfs"},
    {"devpts", "devpts"},   {"mqueue", "mqueue"}, {"cgroup", "cgroup2"},
    {"cgroup2", "cgroup2"},
};

struct mount_entry {
    char *destination;
    char *type;
    char *source;
    struct string_list options;
};

#define ENTRY(member) .offset = offsetof(struct mount_entry, member)

static const struct oci_field mount_fields[] = {
    {.name = "destination",
     .kind = OCI_ABSOLUTE,
     .required = true,
     .max = SPEC_PATH_MAX,
     ENTRY(destination)},
    {.name = "type",
     .kind = OCI_STRING,
     .max = 64,
     .why = "proc, sysfs, tmpfs, devpts, mqueue, cgroup and cgroup2; nothing "
            "of the host's is bound yet, resolv.conf, hosts and hostname "
            "neither",
     ENTRY(type)},
    {.name = "source", .kind = OCI_STRING, .max = SPEC_PATH_MAX, ENTRY(source)},
    {.name = "options",
     .kind = OCI_STRINGS,
     .max = OPTIONS_MAX,
     .why = "all of mount(8)'s and runc's but idmap, ridmap, bind and rbind",
     .max_each = SPEC_PATH_MAX,
     ENTRY(options)},
    OCI_REFUSED_FIELD("uidMappings", json_type_array,
                      "mounts with mapped owners are not made"),
    OCI_REFUSED_FIELD("gidMappings", json_type_array,
                      "mounts with mapped owners are not made"),
};
const struct oci_table oci_mount_table = OCI_TABLE_OF(mount_fields);

static void add_data(struct spec_mount *mount, const char *option)
{
    char *joined =
        xasprintf("%s%s%s", mount->data, *mount->data ? "," : "", option);

    free(mount->data);
    mount->data = joined;
}

static int apply_option(const struct oci_path *path, const char *option,
                        struct spec_mount *mount, struct err *e)
{
    for (size_t i = 0; i < ARRAY_SIZE(mount_options); i++) {
        const struct mount_option *known = &mount_options[i];

        if (strcmp(known->name, option) == 0) {
            mount->flags = (mount->flags & ~known->clear) | known->set;
            /* One mount has one; of several the last counts. */
            if (known->propagation)
                mount->propagation = known->propagation;
            return 0;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(recursive_options); i++) {
        const struct recursive_option *known = &recursive_options[i];

        if (strcmp(known->name, option) == 0) {
            /* The last one of "rro,rrw" counts. */
            mount->all_set &= ~known->clear;
            mount->all_clear &= ~known->set;
            mount->all_set |= known->set;
            mount->all_clear |= known->clear;
            return 0;
        }
    }
    if (strcmp(option, "tmpcopyup") == 0) {
        mount->copy_up = true;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(refused_options); i++) {
        if (strcmp(refused_options[i], option) == 0)
            return oci_fail(path, e, ENOTSUP, "is not supported: %s", option);
    }
    if (*option)
        add_data(mount, option);
    if (strlen(mount->data) > SPEC_PATH_MAX)
        return oci_fail(path, e, EINVAL, "must have at most %d bytes in all",
                        SPEC_PATH_MAX);
    return 0;
}

static int check_kind(const struct oci_path *path,
                      const struct mount_entry *entry, struct spec_mount *mount,
                      struct err *e)
{
    const struct oci_path source = {.up = path, .name = "source"};
    const struct oci_path type = {.up = path, .name = "type"};
    const char *name = entry->type ? entry->type : "";

    if (strcmp(name, "bind") == 0 || strcmp(name, "rbind") == 0 ||
        (mount->flags & MS_BIND))
        return oci_fail(&source, e, ENOTSUP,
                        "is not supported: a bind mount of the host's %s; "
                        "nothing of the host is shared with a domain",
                        entry->source ? entry->source : "files");
    if (!*name)
        return oci_fail(&type, e, EINVAL, "is missing");
    for (size_t i = 0; i < ARRAY_SIZE(mount_types); i++) {
        if (strcmp(mount_types[i].name, name) == 0) {
            mount->type = xstrdup(mount_types[i].in_guest);
            return 0;
        }
    }
    return oci_fail(&type, e, ENOTSUP,
                    "is not supported: file system \"%s\" in a guest", name);
}

static int translate(const struct oci_path *path, struct mount_entry *entry,
                     struct spec_mount *mount, struct err *e)
{
    const struct oci_path options = {.up = path, .name = "options"};

    mount->data = xstrdup("");
    for (size_t i = 0; i < entry->options.n; i++) {
        const struct oci_path at = {.up = &options, .index = i};

        if (apply_option(&at, entry->options.v[i], mount, e) < 0)
            return -e->code;
    }
    if (check_kind(path, entry, mount, e) < 0)
        return -e->code;
    if (mount->copy_up && strcmp(mount->type, "tmpfs") != 0)
        return oci_fail(&options, e, EINVAL,
                        "tmpcopyup needs a mount of type tmpfs");
    oci_squeeze_path(entry->destination);
    mount->destination = steal_ptr(&entry->destination);
    mount->source =
        entry->source ? steal_ptr(&entry->source) : xstrdup(mount->type);
    return 0;
}

int oci_take_mount(const struct oci_path *path, struct json_object *value,
                   void *object, struct err *e)
{
    struct spec_mount_list *list = object;
    struct mount_entry entry = {.type = NULL};
    int r = oci_read_object(path, value, &oci_mount_table, &entry, e);

    if (r == 0) {
        list->v = xreallocarray(list->v, list->n + 1, sizeof(*list->v));
        list->v[list->n] = (struct spec_mount){.flags = 0};
        /* In the list at once: whoever clears the list frees it. */
        r = translate(path, &entry, &list->v[list->n++], e);
    }
    free(entry.destination);
    free(entry.type);
    free(entry.source);
    string_list_clear(&entry.options);
    return r;
}
