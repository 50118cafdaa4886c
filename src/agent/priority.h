/*
 * priority.h - how the kernel schedules a process: its processor time, its
 * input and output, and its place when memory runs out.
 */
#ifndef AGENT_PRIORITY_H
#define AGENT_PRIORITY_H

#include "domus/err.h"
#include "domus/spec.h"

/* Of the calling process; needs the privilege to raise what is raised. */
int priority_set_scheduler(const struct spec_scheduler *s, struct err *e);
int priority_set_io(uint32_t class, uint32_t level, struct err *e);
/* Needs a /proc. */
int priority_set_oom_score(int64_t score, struct err *e);

#endif
