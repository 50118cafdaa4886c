/*
 * watcher.h - tells domusd, once each, when a watched domain offers its
 * channel and when it ends, and why. Every condition is looked at when the
 * watch is asked for, too: what came earlier is not missed.
 */
#ifndef DOMUS_BUILDER_WATCHER_H
#define DOMUS_BUILDER_WATCHER_H

#include "domus/err.h"

/* 0 when the other end of fd is closed. */
int watcher_run(int fd, struct err *e);

#endif
