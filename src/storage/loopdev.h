/*
 * loopdev.h - read-only loop devices over image files.
 *
 * Buffered, not direct: many guests read the same image, and dom0's page
 * cache then holds it once. Never autoclear: the device has to outlive
 * domusd's descriptor, since block back end and guest use it by number.
 */
#ifndef DOMUS_LOOPDEV_H
#define DOMUS_LOOPDEV_H

#include <stdbool.h>
#include <sys/types.h>

#include "domus/err.h"

struct loopdev {
    int number; /* -1: none */
    unsigned int major;
    unsigned int minor;
    char path[32]; /* "/dev/loop7" */
};

/* file: the image, open for reading; name: its path, for people. */
int loopdev_attach(int file, const char *name, struct loopdev *dev_out,
                   struct err *e);

/* Detaches the device if it still carries the file of that inode. Fails with
 * EBUSY while somebody else has it open; the kernel then detaches it after
 * them, and to call this again tells whether it has. */
int loopdev_detach(const struct loopdev *dev, dev_t device, ino_t inode,
                   struct err *e);

/* Finds devices whose file lies (or lay) in dir; calls fn for each. */
typedef void loopdev_found_fn(void *context, const struct loopdev *dev,
                              const char *file_name, dev_t device, ino_t inode);
int loopdev_scan(const char *dir, loopdev_found_fn *fn, void *context,
                 struct err *e);

#endif
