/*
 * sysctl.h - a container's kernel parameters, set in its own namespaces.
 */
#ifndef AGENT_SYSCTL_H
#define AGENT_SYSCTL_H

#include "domus/err.h"
#include "domus/spec.h"

/* The path beneath /proc/sys for a name with dots, or with slashes where a
 * part has dots of its own, as sysctl(8) reads it. Fails with EINVAL. */
int sysctl_path(const char *name, char **path_out, struct err *e);

/* Those of the network, which belongs to the guest, or all others. */
enum sysctl_part { SYSCTL_NETWORK, SYSCTL_OTHER };

/* Needs the guest's /proc; the namespaces are those of the calling process.
 * Which names are allowed is decided by the host. */
int sysctl_apply(const struct spec_setting_list *settings,
                 enum sysctl_part part, struct err *e);

#endif
