/*
 * oci_sections.h - the tables of config.json's large sections; private to
 * oci*.c and to the test that makes docs/OCI-SUPPORT.md of them.
 */
#ifndef DOMUS_OCI_SECTIONS_H
#define DOMUS_OCI_SECTIONS_H

#include "oci.h"
#include "oci_read.h"

extern const struct oci_table oci_config_table;    /* into oci_config */
extern const struct oci_table oci_process_table;   /* into spec_process */
extern const struct oci_table oci_linux_table;     /* into oci_config */
extern const struct oci_table oci_hooks_table;     /* into oci_config */
extern const struct oci_table oci_mount_table;     /* private to oci_mount.c */
extern const struct oci_table oci_resources_table; /* private to its file */
extern const struct oci_table oci_seccomp_table;   /* the same */

/* An entry of mounts, into a spec_mount_list. */
oci_take oci_take_mount;

/* linux.resources, into an oci_config. */
oci_take oci_take_resources;

/* linux.seccomp, into a spec_container. */
oci_take oci_take_seccomp;

/* The resources of an update; resources_out is written on success only. */
int oci_read_update(const struct oci_path *path, struct json_object *value,
                    const struct oci_bandwidth *before,
                    struct oci_resources *resources_out, struct err *e);

/* When there are hooks: what their state says of the whole document. */
int oci_fill_hook_state(const char *bundle, struct json_object *tree,
                        struct oci_config *config, struct err *e);

void oci_hooks_clear(struct spec_hook_list *hooks);

#endif
