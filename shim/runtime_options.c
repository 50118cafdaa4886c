#include "runtime_options.h"

#include <stdbool.h>
#include <string.h>

#include "bootstrap.pb-c.h"
#include "domus/log.h"
#include "domus/mem.h"
#include "ttrpc.h"

static int refuse(const char *option, struct err *e)
{
    return err_set(e, ENOTSUP, "runtime option %s is not supported", option);
}

static int check_generic(const ProtobufCMessage *message, struct err *e)
{
    const Bootstrap__RuntimeOptions *o = (const void *)message;

    if (o->config_path[0])
        return refuse("config_path", e);
    return o->config_body.len ? refuse("config_body", e) : 0;
}

/* io_uid and io_gid are the owner of a container's pipes, which is the
 * container's user here anyway; and no key ring is made. */
static int check_runc(const ProtobufCMessage *message, struct err *e)
{
    const Bootstrap__RuncOptions *o = (const void *)message;
    const struct {
        const char *name;
        bool given;
    } refused[] = {
        {"no_pivot_root", o->no_pivot_root},
        {"shim_cgroup", o->shim_cgroup[0]},
        {"binary_name", o->binary_name[0]},
        {"root", o->root[0]},
        {"systemd_cgroup", o->systemd_cgroup},
        {"criu_image_path", o->criu_image_path[0]},
        {"criu_work_path", o->criu_work_path[0]},
        {"task_api_address", o->task_api_address[0]},
        {"task_api_version", o->task_api_version},
    };

    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        if (refused[i].given)
            return refuse(refused[i].name, e);
    return 0;
}

static const struct {
    const char *name;
    const ProtobufCMessageDescriptor *descriptor;
    int (*check)(const ProtobufCMessage *message, struct err *e);
} types[] = {
    {"runtimeoptions.v1.Options", &bootstrap__runtime_options__descriptor,
     check_generic},
    {"containerd.runc.v1.Options", &bootstrap__runc_options__descriptor,
     check_runc},
};

int runtime_options_check(const Wellknown__Any *options, struct err *e)
{
    const char *type, *slash;

    if (!options || options->value.len == 0)
        return 0;
    slash = strrchr(options->type_url, '/');
    type = slash ? slash + 1 : options->type_url;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        ProtobufCMessage *decoded;
        int r;

        if (strcmp(type, types[i].name) != 0)
            continue;
        decoded = ttrpc_unpack(types[i].descriptor, options->value.data,
                               options->value.len);
        if (!decoded)
            return err_set(e, EINVAL, "the runtime options are malformed");
        r = types[i].check(decoded, e);
        protobuf_c_message_free_unpacked(decoded, NULL);
        return r;
    }
    return err_set(e, ENOTSUP, "runtime options of type %s are not supported",
                   LOG_Q(type, strlen(type)));
}
