/* oci_namespaces.h - namespaces and what is set in them; private to oci*.c. */
#ifndef DOMUS_OCI_NAMESPACES_H
#define DOMUS_OCI_NAMESPACES_H

#include "domus/spec.h"
#include "oci_read.h"

/* (uid_t)-1 means "leave it" to the kernel, so it is nobody's number. */
#define OCI_ID_MAX (UINT32_MAX - 1)

oci_take oci_take_namespaces;   /* into CLONE_NEW bits */
oci_take oci_take_id_maps;      /* into a spec_id_map_list */
oci_take oci_take_time_offsets; /* into a spec_container */
oci_take oci_take_sysctls;      /* into a spec_setting_list */

extern const struct oci_table oci_namespace_table;
extern const struct oci_table oci_id_map_table;
extern const struct oci_table oci_clock_table;

/* That what needs a namespace has it. */
int oci_check_namespaces(const struct spec_container *container, struct err *e);

#endif
