/*
 * A bundle's config.json, as any client of containerd may write it. What is
 * accepted must also fit the bounds of the guest protocol. The corpus is what
 * ctr writes for several options, and one file with every field.
 *
 * archive: shim
 */
#include <string.h>

#include "domus/log.h"
#include "domus/mem.h"
#include "shim/oci.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct oci_config config;
    _cleanup_buf_ struct buf encoded = BUF_INIT;
    struct err e = ERR_INIT;

    log_set_level(LOG_ERROR);
    if (oci_parse((const char *)data, size, "/bundle", "house", &config, &e) <
        0) {
        FUZZ_CHECK(e.code > 0 && strncmp(e.text, "config.json: ", 13) == 0);
        return 0;
    }
    FUZZ_CHECK(wire_encode(&spec_container_desc, &config.container, &encoded,
                           &e) == 0);
    FUZZ_CHECK(config.root_path[0] == '/');
    oci_config_clear(&config);
    return 0;
}

/* The smallest that is accepted. */
void fuzz_seeds(fuzz_emit_fn *emit)
{
    static const char text[] =
        "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"},"
        "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"},"
        "\"linux\":{\"namespaces\":[{\"type\":\"mount\"}]}}\n";

    emit("smallest.json", text, sizeof(text) - 1);
}
