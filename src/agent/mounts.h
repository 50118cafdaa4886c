/*
 * mounts.h - the mounts of a container's specification.
 */
#ifndef AGENT_MOUNTS_H
#define AGENT_MOUNTS_H

#include "domus/err.h"
#include "domus/spec.h"

/* In their order, beneath root. cgroup: the container's own, as a path in the
 * guest. A tmpfs and /dev are writable until mounts_close(), which takes what
 * is mounted at their places by then, as runc does. */
int mounts_make(const struct spec_container *spec, int root, const char *cgroup,
                struct err *e);
int mounts_close(const struct spec_container *spec, int root, struct err *e);

/* The one that is at /dev in the end, or NULL. */
const struct spec_mount *mounts_find_dev(const struct spec_container *spec);
bool mounts_is_bind(const struct spec_mount *m);

#endif
