/*
 * stats.h - the files of a guest's cgroup as containerd's
 * io.containerd.cgroups.v2.Metrics.
 *
 * The files are the guest's word: what is not there or no number is 0, lists
 * are bounded.
 */
#ifndef DOMUS_STATS_H
#define DOMUS_STATS_H

#include "domus/proto.h"

#define STATS_DEVICES_MAX    64 /* lines of io.stat */
#define STATS_PAGE_SIZES_MAX 4  /* of hugetlb: x86 has two */

/* Appends an encoded Metrics. */
void stats_encode(const struct proto_stats_result *stats, struct buf *out);
const char *stats_type_url(void);

#endif
