#include "oci.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "oci_devices.h"
#include "oci_namespaces.h"
#include "oci_sections.h"

#define ANNOTATION_PREFIX "io.domus."
/* domusd takes no more of them than this (ctl.h). */
#define ANNOTATIONS_MAX      64
#define ANNOTATION_BYTES_MAX 1024
#define VERSION_PREFIX       "1."

#define CONFIG(member) .offset = offsetof(struct oci_config, member)

/* --- sections of the top level ------------------------------------------- */

static int take_version(const struct oci_path *path, struct json_object *value,
                        void *object, struct err *e)
{
    const char *text;

    (void)object;
    if (oci_read_string(path, value, 64, &text, e) < 0)
        return -e->code;
    if (strncmp(text, VERSION_PREFIX, strlen(VERSION_PREFIX)) != 0)
        return oci_fail(path, e, ENOTSUP,
                        "is not supported: only versions 1.x of the "
                        "specification are known");
    return 0;
}

static int take_annotations(const struct oci_path *path,
                            struct json_object *value, void *object,
                            struct err *e)
{
    struct string_list *list = object;
    struct json_object_iter entry;

    json_object_object_foreachC(value, entry)
    {
        const struct oci_path at = {.up = path, .name = entry.key};
        _cleanup_free_ char *pair = NULL;
        const char *text = "";

        if (entry.val &&
            oci_read_string(&at, entry.val, OCI_CONFIG_MAX, &text, e) < 0)
            return -e->code;
        if (strncmp(entry.key, ANNOTATION_PREFIX, strlen(ANNOTATION_PREFIX)) !=
            0)
            continue;
        pair = xasprintf("%s=%s", entry.key, text);
        if (strlen(pair) > ANNOTATION_BYTES_MAX)
            return oci_fail(&at, e, EINVAL,
                            "must have at most %d bytes with its name",
                            ANNOTATION_BYTES_MAX);
        if (list->n == ANNOTATIONS_MAX)
            return oci_fail(path, e, EINVAL,
                            "must have at most %d entries of " ANNOTATION_PREFIX
                            "*",
                            ANNOTATIONS_MAX);
        string_list_add(list, pair);
    }
    return 0;
}

static int take_mounts(const struct oci_path *path, struct json_object *value,
                       void *object, struct err *e)
{
    return oci_read_list(path, value, SPEC_MOUNTS_MAX, oci_take_mount, object,
                         e);
}

static const struct oci_field root_fields[] = {
    {.name = "path",
     .kind = OCI_STRING,
     .required = true,
     .min = 1,
     .max = SPEC_PATH_MAX,
     CONFIG(root_path)},
    {.name = "readonly", .kind = OCI_BOOL, CONFIG(container.root_readonly)},
};
static const struct oci_table root_table = OCI_TABLE_OF(root_fields);

#define OTHER_PLATFORM(platform) \
    OCI_REFUSED_FIELD(platform, json_type_object, "containers here are Linux")
static const struct oci_field config_fields[] = {
    {.name = "ociVersion",
     .kind = OCI_TAKE,
     .required = true,
     .type = json_type_string,
     .take = take_version},
    {.name = "root", .kind = OCI_TABLE, .required = true, .table = &root_table},
    {.name = "hostname",
     .kind = OCI_STRING,
     .max = SPEC_HOSTNAME_MAX,
     CONFIG(container.hostname)},
    {.name = "domainname",
     .kind = OCI_STRING,
     .max = SPEC_HOSTNAME_MAX,
     CONFIG(container.domainname)},
    {.name = "mounts",
     .kind = OCI_TAKE,
     .type = json_type_array,
     .take = take_mounts,
     .table = &oci_mount_table,
     CONFIG(container.mounts)},
    {.name = "process",
     .kind = OCI_TABLE,
     .required = true,
     .table = &oci_process_table,
     CONFIG(container.process)},
    {.name = "linux",
     .kind = OCI_TABLE,
     .required = true,
     .table = &oci_linux_table},
    {.name = "annotations",
     .kind = OCI_TAKE,
     .type = json_type_object,
     .take = take_annotations,
     .why = "io.domus.*, if domus.conf allows them; hooks get all",
     CONFIG(annotations)},
    {.name = "hooks", .kind = OCI_TABLE, .table = &oci_hooks_table},
    OTHER_PLATFORM("solaris"),
    OTHER_PLATFORM("windows"),
    OTHER_PLATFORM("zos"),
    OTHER_PLATFORM("freebsd"),
    OCI_REFUSED_FIELD("vm", json_type_object,
                      "kernel and hypervisor are the host's choice"),
};
const struct oci_table oci_config_table = OCI_TABLE_OF(config_fields);

/* --- the whole ------------------------------------------------------------ */

static int finish(const char *bundle, const char *id, struct json_object *tree,
                  struct oci_config *config, struct err *e)
{
    const struct oci_path root = {.name = "root"};
    const struct oci_path at = {.up = &root, .name = "path"};

    /* As in runc: who names none has none. */
    config->container.process.has_capabilities = true;
    /* Every string of a spec is there, if empty. */
    config->container.id = xstrdup(id);
    if (!config->container.hostname)
        config->container.hostname = xstrdup("");
    if (!config->container.domainname)
        config->container.domainname = xstrdup("");
    if (config->root_path[0] != '/') {
        char *joined = xasprintf("%s/%s", bundle, config->root_path);

        free(config->root_path);
        config->root_path = joined;
    }
    if (strlen(config->root_path) > SPEC_PATH_MAX)
        return oci_fail(&at, e, EINVAL, "must have at most %d bytes",
                        SPEC_PATH_MAX);
    oci_surround_device_rules(&config->container.device_rules);
    if (oci_check_namespaces(&config->container, e) < 0)
        return -e->code;
    return oci_fill_hook_state(bundle, tree, config, e);
}

static void cleanup_jsonp(struct json_object **object)
{
    json_object_put(*object);
}

int oci_parse(const char *json, size_t n, const char *bundle, const char *id,
              struct oci_config *config_out, struct err *e)
{
    _cleanup_(cleanup_jsonp) struct json_object *tree = NULL;
    struct oci_config config = {.vcpus = 0};

    if (oci_read_json(NULL, json, n, &tree, e) < 0)
        return -e->code;
    if (oci_read_object(NULL, tree, &oci_config_table, &config, e) < 0 ||
        finish(bundle, id, tree, &config, e) < 0) {
        oci_config_clear(&config);
        return -e->code;
    }
    *config_out = config;
    return 0;
}

int oci_parse_process(const char *json, size_t n,
                      struct spec_process *process_out, struct err *e)
{
    static const struct oci_path root = {.document = "process"};
    _cleanup_(cleanup_jsonp) struct json_object *tree = NULL;
    struct spec_process process = {.uid = 0};

    if (oci_read_json(&root, json, n, &tree, e) < 0)
        return -e->code;
    if (oci_read_object(&root, tree, &oci_process_table, &process, e) < 0) {
        wire_clear(&spec_process_desc, &process);
        return -e->code;
    }
    *process_out = process;
    return 0;
}

int oci_parse_resources(const char *json, size_t n,
                        const struct oci_bandwidth *before,
                        struct oci_resources *resources_out, struct err *e)
{
    static const struct oci_path root = {.document = "resources"};
    _cleanup_(cleanup_jsonp) struct json_object *tree = NULL;

    if (oci_read_json(&root, json, n, &tree, e) < 0)
        return -e->code;
    return oci_read_update(&root, tree, before, resources_out, e);
}

/* --- the file ------------------------------------------------------------- */

static int read_all(int fd, const char *path, struct buf *content,
                    struct err *e)
{
    while (buf_len(content) <= OCI_CONFIG_MAX) {
        ssize_t got = read(fd, buf_reserve(content, 65536), 65536);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, "%s", path);
        if (got == 0)
            return 0;
        buf_commit(content, (size_t)got);
    }
    return err_set(e, EFBIG, "%s: is larger than %d bytes", path,
                   OCI_CONFIG_MAX);
}

int oci_load(const char *bundle, const char *id, struct oci_config *config_out,
             struct err *e)
{
    _cleanup_free_ char *path = xasprintf("%s/config.json", bundle);
    _cleanup_buf_ struct buf content = BUF_INIT;
    _cleanup_fd_ int fd = -1;
    struct stat status;

    /* Neither waits for a writer of a FIFO nor follows a link elsewhere. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &status) < 0)
        return err_errno(e, "%s", path);
    if (!S_ISREG(status.st_mode))
        return err_set(e, EINVAL, "%s: is not a regular file", path);
    if (status.st_size > OCI_CONFIG_MAX)
        return err_set(e, EFBIG, "%s: is larger than %d bytes", path,
                       OCI_CONFIG_MAX);
    if (read_all(fd, path, &content, e) < 0)
        return -e->code;
    return oci_parse(content.bytes ? (const char *)buf_data(&content) : "",
                     buf_len(&content), bundle, id, config_out, e);
}

void oci_config_clear(struct oci_config *config)
{
    wire_clear(&spec_container_desc, &config->container);
    string_list_clear(&config->annotations);
    free(config->root_path);
    oci_hooks_clear(&config->prestart_hooks);
    oci_hooks_clear(&config->create_runtime_hooks);
    oci_hooks_clear(&config->poststart_hooks);
    oci_hooks_clear(&config->poststop_hooks);
    free(config->hook_state);
    *config = (struct oci_config){.vcpus = 0};
}
