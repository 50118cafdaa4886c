/*
 * oci_resources.h - what the parts of linux.resources are read into; private
 * to oci_resources.c and oci_devices.c.
 */
#ifndef DOMUS_OCI_RESOURCES_H
#define DOMUS_OCI_RESOURCES_H

#include "oci.h"
#include "oci_read.h"

struct oci_reading {
    bool update; /* of a container that runs: "no limit" must be written */
    struct oci_resources out; /* bandwidth: at first that of before */
    uint32_t vcpus;
    struct spec_device_rule_list devices; /* owned */
    struct spec_setting_list unified;     /* owned; comes last */
};

/* Adds a setting; takes the text. */
void oci_resources_set(struct oci_reading *reading, const char *name,
                       char *text);

/* Into an oci_reading. */
oci_take oci_take_device_rules;
extern const struct oci_table oci_device_rule_table; /* of one of them */
extern const struct oci_table oci_block_table;

#endif
