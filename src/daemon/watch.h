/*
 * watch.h - the watcher process: tells of guests' channels and of domains'
 * ends. When it dies another one is started and told what to watch; notices
 * may then come again.
 */
#ifndef DOMUS_WATCH_H
#define DOMUS_WATCH_H

#include "domus/job.h"
#include "domus/loop.h"

struct watch;

struct watch_handler {
    /* Of any domain that was ever watched: a notice may come late, when its
     * domid is another one's. */
    void (*channel)(void *context, const struct job_channel *channel);
    void (*died)(void *context, const struct job_died *died);
};

/* program: see spawn.h; borrowed. */
struct watch *watch_new(struct loop *loop, const char *program,
                        const struct watch_handler *handler, void *context);
void watch_free(struct watch *watch);

void watch_add(struct watch *watch, uint32_t domid, const char *uuid);
void watch_remove(struct watch *watch, uint32_t domid);

#endif
