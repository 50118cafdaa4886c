/*
 * stats.h - the guest's cgroup figures in containerd's form.
 */
#ifndef DOMUS_STATS_H
#define DOMUS_STATS_H

#include "domus/buf.h"
#include "domus/proto.h"

/* The full name of containerd's message, the type_url of its Any. */
const char *stats_type_url(void);

/* Appends the encoded Metrics message. */
void stats_encode(const struct proto_stats_result *stats, struct buf *out);

#endif
