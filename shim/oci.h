/*
 * oci.h - a bundle's config.json (OCI runtime specification 1.0.2) as the
 * plain structs of spec.h.
 *
 * The file is the client's: its size and nesting are bounded, every type is
 * checked, and a field that domus does not carry out is refused by its name.
 */
#ifndef DOMUS_OCI_H
#define DOMUS_OCI_H

#include "domus/err.h"
#include "domus/spec.h"

#define OCI_CONFIG_MAX (4 * 1024 * 1024) /* bytes of config.json */
#define OCI_DEPTH_MAX  32
#define OCI_VALUES_MAX 200000 /* room for the longest args, env and groups */
#define OCI_VCPUS_MAX  512    /* quota in periods: as many as Xen gives */

struct oci_config {
    struct spec_container container; /* id is left empty */
    char *root_path;                 /* root.path made absolute */
    struct string_list annotations;  /* "io.domus.…=value" only */
    /* For the domain, beside the same limits inside of it. 0: not limited. */
    uint64_t memory_max; /* bytes */
    uint32_t vcpus;      /* quota / period, rounded up */
};

/*
 * Reads bundle/config.json. Fails with ENOENT or EACCES when it cannot be
 * read, EFBIG when too large, EINVAL when it is not a valid configuration and
 * ENOTSUP for a field that is not supported; the text names file and field.
 */
int oci_load(const char *bundle, struct oci_config *config_out, struct err *e);

/* The same from memory; for tests and the fuzzer. */
int oci_parse(const char *json, size_t n, const char *bundle,
              struct oci_config *config_out, struct err *e);

void oci_config_clear(struct oci_config *config);

#endif
