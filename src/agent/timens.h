/*
 * timens.h - a time namespace: clocks of the container's own.
 */
#ifndef AGENT_TIMENS_H
#define AGENT_TIMENS_H

#include "domus/err.h"
#include "domus/spec.h"

/* Makes one with these offsets and enters it. Needs the guest's /proc. The
 * calling process's own monotonic clock jumps. */
int timens_enter(const struct spec_time_offset *monotonic,
                 const struct spec_time_offset *boottime, struct err *e);

#endif
