/*
 * oci_sections.h - the tables of config.json's large sections; private to
 * oci*.c.
 */
#ifndef DOMUS_OCI_SECTIONS_H
#define DOMUS_OCI_SECTIONS_H

#include "oci_read.h"

extern const struct oci_table oci_process_table; /* into spec_process */
extern const struct oci_table oci_linux_table;   /* into oci_config */

/* An entry of mounts, into a spec_mount_list. */
oci_take oci_take_mount;

#endif
