/*
 * A bundle's config.json, as any client of containerd may write it, and the
 * process of an Exec and the resources of an Update. What is accepted must
 * also fit the bounds of the guest protocol. The corpus is what ctr writes for
 * several options, and one file with every field.
 *
 * archive: shim
 */
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "shim/oci.h"
#include "tests/fuzz/fuzz.h"

/* What the guest is sent. */
static void must_fit(const struct wire_desc *desc, void *object)
{
    _cleanup_buf_ struct buf encoded = BUF_INIT;
    struct err e = ERR_INIT;

    FUZZ_CHECK(wire_encode(desc, object, &encoded, &e) == 0);
}

static void must_be_about(const struct err *e, const char *document)
{
    FUZZ_CHECK(e->code > 0 &&
               strncmp(e->text, document, strlen(document)) == 0);
}

static void try_config(const char *json, size_t n)
{
    struct oci_config config;
    struct err e = ERR_INIT;

    if (oci_parse(json, n, "/bundle", "house", &config, &e) < 0) {
        must_be_about(&e, "config.json: ");
        return;
    }
    must_fit(&spec_container_desc, &config.container);
    FUZZ_CHECK(config.root_path[0] == '/');
    for (size_t i = 0; i < config.poststop_hooks.n; i++)
        must_fit(&spec_hook_desc, &config.poststop_hooks.v[i]);
    oci_config_clear(&config);
}

static void try_process(const char *json, size_t n)
{
    struct spec_process process;
    struct err e = ERR_INIT;

    if (oci_parse_process(json, n, &process, &e) < 0) {
        must_be_about(&e, "process: ");
        return;
    }
    must_fit(&spec_process_desc, &process);
    wire_clear(&spec_process_desc, &process);
}

static void try_resources(const char *json, size_t n)
{
    const struct oci_bandwidth before = {.quota = 50000, .period = 20000};
    struct oci_resources resources;
    struct err e = ERR_INIT;

    if (oci_parse_resources(json, n, &before, &resources, &e) < 0) {
        must_be_about(&e, "resources: ");
        return;
    }
    FUZZ_CHECK(resources.cgroup.n <= SPEC_SETTINGS_MAX);
    for (size_t i = 0; i < resources.cgroup.n; i++)
        must_fit(&spec_setting_desc, &resources.cgroup.v[i]);
    oci_resources_clear(&resources);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_level(LOG_ERROR);
    try_config((const char *)data, size);
    try_process((const char *)data, size);
    try_resources((const char *)data, size);
    return 0;
}

/* The smallest that each of the three accepts. */
void fuzz_seeds(fuzz_emit_fn *emit)
{
    static const char config[] =
        "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"},"
        "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"},"
        "\"linux\":{\"namespaces\":[{\"type\":\"mount\"}]}}\n";
    static const char process[] =
        "{\"args\":[\"a\"],\"cwd\":\"/\",\"rlimits\":"
        "[{\"type\":\"RLIMIT_CPU\",\"soft\":1,\"hard\":2}]}\n";
    static const char resources[] =
        "{\"memory\":{\"limit\":-1},\"cpu\":{\"shares\":2,\"quota\":5000},"
        "\"pids\":{\"limit\":1},\"unified\":{\"memory.high\":\"max\"}}\n";

    emit("smallest.json", config, sizeof(config) - 1);
    emit("process.json", process, sizeof(process) - 1);
    emit("resources.json", resources, sizeof(resources) - 1);
}
