/*
 * daemon.h - domusd's main object: what the parts share. Created and ended by
 * main.c; nothing else is global.
 */
#ifndef DOMUS_DAEMON_H
#define DOMUS_DAEMON_H

#include "../storage/image.h"
#include "config.h"
#include "guest_files.h"
#include "pool.h"
#include "server.h"
#include "watch.h"

struct hook_run;
struct logger;
struct sandbox;

struct daemon {
    struct config config;
    struct loop *loop;
    struct guest_files guest;
    struct image_store *images;
    struct pool *pool;
    struct watch *watch;
    struct server *server; /* NULL until what was found is adopted */
    int records_fd;
    struct sandbox *sandboxes;
    struct hook_run *hook_runs;
    struct logger *loggers;
    int64_t stranger_at; /* last a shim of another version came; 0: never */
};

/* Deadline of a builder's job: a build waits up to 10 s for xenconsoled, and
 * emulated hosts are slow. */
#define DAEMON_JOB_MS (60 * 1000)

/* Fails when this host cannot have domains; says why. */
int daemon_check_xen(const struct daemon *daemon, struct err *e);

#endif
