/*
 * hooks.h - OCI's hooks of dom0, as children of domusd: one after the other,
 * OCI's state on stdin, in the bundle, each with a deadline. Which programs may
 * be one is host policy (hooks in domus.conf).
 */
#ifndef DOMUS_HOOKS_H
#define DOMUS_HOOKS_H

#include "daemon.h"

/* Requests under way at a time; each has a process. */
#define HOOKS_RUNS_MAX 64
/* Of a failed hook's stderr, for the error. */
#define HOOKS_STDERR_MAX LOG_QUOTE_MAX

/* Answers RESULT when all have run, or one failed. Those of one container wait
 * for each other. */
void hooks_run(struct daemon *daemon, uint64_t peer, uint32_t id,
               const struct ctl_hooks *hooks);
/* Kills those that it asked for. */
void hooks_peer_gone(struct daemon *daemon, uint64_t peer);
void hooks_free(struct daemon *daemon); /* kills them; tells nobody */

#endif
