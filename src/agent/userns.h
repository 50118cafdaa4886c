/*
 * userns.h - a user namespace: the container's users are others to the guest.
 *
 * Some of what a container needs only the guest's root may make: the root
 * over a block device, device nodes, limits beyond its own. So the first
 * process makes that, and then leaves for the user namespace, together with
 * the namespaces that are to belong to it. Its pid namespace is older and
 * belongs to the guest, whence /proc and /sys are mounted in advance. The
 * image's files keep their owners; a snapshot is to have those of the map.
 */
#ifndef AGENT_USERNS_H
#define AGENT_USERNS_H

#include <stdbool.h>

#include "domus/err.h"
#include "domus/spec.h"

/* The number that an id of the container has in the guest. Fails with EINVAL
 * when the map has none. */
int userns_map(const struct spec_id_map_list *maps, uint32_t inside,
               uint32_t *outside_out, struct err *e);

/* Mounts /proc and /sys where mounts.c finds them. */
int userns_prepare(struct err *e);

/* Leaves for a user namespace with spec's maps, still as who it was. Needs the
 * guest's /proc. */
int userns_leave(const struct spec_container *spec, struct err *e);

/* Becomes its root, and makes those of the namespaces of spec that are to
 * belong to it. */
int userns_become_root(const struct spec_container *spec, struct err *e);

#endif
