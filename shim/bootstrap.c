#include "bootstrap.h"

#include <stdlib.h>
#include <string.h>

#include "bootstrap.pb-c.h"
#include "domus/mem.h"
#include "ttrpc.h"
#include "wellknown.pb-c.h"

#define RUNTIME_NAME "io.containerd.domus.v2"
/* Version 3 would let containerd put several containers into one shim without
 * asking it. */
#define SHIM_VERSION 2

static void pack(const ProtobufCMessage *message, struct buf *out)
{
    size_t n = protobuf_c_message_get_packed_size(message);

    (void)protobuf_c_message_pack(message, buf_reserve(out, n));
    buf_commit(out, n);
}

int bootstrap_parse(const uint8_t *bytes, size_t n,
                    const struct options *options,
                    struct bootstrap *bootstrap_out, struct err *e)
{
    struct bootstrap bootstrap = {0};
    Bootstrap__Params *params;
    ProtobufCMessage *any;

    /* An Any decodes as BootstrapParams too, so its contents decide. */
    params = (Bootstrap__Params *)ttrpc_unpack(&bootstrap__params__descriptor,
                                               bytes, n);
    if (params && params->instance_id[0] &&
        strcmp(params->instance_id, options->id) == 0 &&
        strcmp(params->namespace_, options->namespace) == 0) {
        bootstrap.recognised = true;
        if (params->socket_dir[0])
            bootstrap.socket_dir = xstrdup(params->socket_dir);
        if (params->containerd_ttrpc_address[0])
            bootstrap.ttrpc_address = xstrdup(params->containerd_ttrpc_address);
    }
    if (params)
        protobuf_c_message_free_unpacked(&params->base, NULL);
    if (!bootstrap.recognised) {
        any = ttrpc_unpack(&wellknown__any__descriptor, bytes, n);
        if (!any)
            return err_set(e, EINVAL,
                           "standard input holds neither bootstrap parameters "
                           "for this container nor runtime options");
        protobuf_c_message_free_unpacked(any, NULL);
    }
    *bootstrap_out = bootstrap;
    return 0;
}

void bootstrap_clear(struct bootstrap *bootstrap)
{
    free(bootstrap->socket_dir);
    free(bootstrap->ttrpc_address);
    *bootstrap = (struct bootstrap){0};
}

void bootstrap_reply(const struct bootstrap *bootstrap,
                     const char *max_shim_version, const char *address,
                     struct buf *out)
{
    Bootstrap__Result result = BOOTSTRAP__RESULT__INIT;
    _cleanup_free_ char *text = NULL;

    if (bootstrap->recognised) {
        result.version = SHIM_VERSION;
        result.address = (char *)address;
        result.protocol = (char *)"ttrpc";
        pack(&result.base, out);
        return;
    }
    /* The address is hexadecimal digits in a directory that we chose. */
    if (max_shim_version)
        text = xasprintf("{\"version\":%d,\"address\":\"%s\","
                         "\"protocol\":\"ttrpc\"}\n",
                         SHIM_VERSION, address);
    else
        text = xasprintf("%s\n", address);
    buf_append(out, text, strlen(text));
}

void bootstrap_info(struct buf *out)
{
    Bootstrap__RuntimeInfo info = BOOTSTRAP__RUNTIME_INFO__INIT;
    Bootstrap__RuntimeVersion version = BOOTSTRAP__RUNTIME_VERSION__INIT;

    version.version = (char *)DOMUS_VERSION;
    info.name = (char *)RUNTIME_NAME;
    info.version = &version;
    pack(&info.base, out);
}
