/* oci_devices.h - nodes and rules; private to oci*.c. */
#ifndef DOMUS_OCI_DEVICES_H
#define DOMUS_OCI_DEVICES_H

#include "domus/spec.h"
#include "oci_read.h"

/* Into a spec_device_list. */
oci_take oci_take_devices;
extern const struct oci_table oci_device_table; /* of one of them */

/* The rules as runc has them: none, then those given, then the usual ones. */
void oci_surround_device_rules(struct spec_device_rule_list *rules);

#endif
