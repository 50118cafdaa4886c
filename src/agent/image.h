/*
 * image.h - the root of a container: its image, read-only, under a layer of
 * the container's own.
 */
#ifndef AGENT_IMAGE_H
#define AGENT_IMAGE_H

#include "domus/err.h"

/* Waits for the block device (a path) and mounts the root at ROOTFS_ROOT. */
int image_mount(const char *device, struct err *e);

#endif
