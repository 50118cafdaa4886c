/* oci_schedule.h - priorities of a process; private to oci*.c. */
#ifndef DOMUS_OCI_SCHEDULE_H
#define DOMUS_OCI_SCHEDULE_H

#include "oci_read.h"

/* Into a spec_process. */
oci_take oci_take_io_priority;
oci_take oci_take_scheduler;

extern const struct oci_table oci_io_priority_table;
extern const struct oci_table oci_scheduler_table;

#endif
