/* worker.h - one job at a time, as job.h says, until domusd goes away. */
#ifndef DOMUS_BUILDER_WORKER_H
#define DOMUS_BUILDER_WORKER_H

#include "domus/err.h"

/* 0 when the other end of fd is closed. */
int worker_run(int fd, struct err *e);

#endif
