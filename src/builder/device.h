/*
 * device.h - block devices of a guest, written to xenstore in libxl's layout,
 * so that `xl` sees them and removes them with the domain; blkback connects
 * by itself, no hotplug script runs.
 *
 * All nodes of all devices and their permissions go into one transaction:
 * front and back end see everything or nothing.
 */
#ifndef DOMUS_BUILDER_DEVICE_H
#define DOMUS_BUILDER_DEVICE_H

#include <stdint.h>
#include <xenstore.h>

#include "domus/err.h"
#include "domus/job.h"

/* The number in xenstore of "xvda" to "xvdp"; -EINVAL for any other name. */
int device_vbd_number(const char *name, uint32_t *number_out, struct err *e);

/* Is it a block device of these numbers still? A loop device is used again. */
int device_vbd_check(const struct job_vbd *vbd, struct err *e);

int device_attach_vbds(struct xs_handle *xs, uint32_t domid,
                       const struct job_vbd_list *vbds, struct err *e);

/*
 * Until every back end has opened its device and waits for the guest; the
 * error of one that failed, -ETIMEDOUT after so many milliseconds.
 */
int device_wait_backends(struct xs_handle *xs, uint32_t domid,
                         const struct job_vbd_list *vbds, int64_t milliseconds,
                         struct err *e);

/* What blkback's complaints about a domain left in xenstore. */
void device_forget_errors(struct xs_handle *xs, uint32_t domid);

/* Until blkback serves this domain no more. */
int device_wait_released(uint32_t domid, int64_t milliseconds, struct err *e);

#endif
