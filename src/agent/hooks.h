/*
 * hooks.h - programs of the specification that run in the guest, each to its
 * end, while a container is made or started.
 *
 * They are found beneath the container's root, and have it as theirs: a guest
 * has no other programs, and one that needs libraries needs them from there.
 * Who writes the specification answers for them; they run with the rights of
 * whoever calls.
 */
#ifndef AGENT_HOOKS_H
#define AGENT_HOOKS_H

#include "domus/err.h"
#include "domus/spec.h"

enum hooks_when { HOOKS_CREATE_CONTAINER, HOOKS_START_CONTAINER };

/*
 * Runs each with the state on its standard input: members is what OCI's state
 * has but status and pid. root: a directory that becomes their root, or -1 for
 * the caller's own. The first that fails ends it, with its exit status and
 * what it said: ECANCELED, or ETIMEDOUT when it was killed for being late.
 * env: of those that have none of their own, as in runc. The caller ignores
 * no SIGPIPE.
 */
int hooks_run(const struct spec_hook_list *hooks, enum hooks_when when,
              int root, const char *members, const struct string_list *env,
              struct err *e);

#endif
