/*
 * seccomp.h - the filter of a container's processes. The shim compiled it; to
 * the agent it is bytes.
 */
#ifndef AGENT_SECCOMP_H
#define AGENT_SECCOMP_H

#include "domus/err.h"
#include "domus/wire.h"

/*
 * Loads a program of struct sock_filter for the calling process and all that
 * it becomes. Empty: nothing to do. Fails with EINVAL for bytes that are no
 * program, and for flags that need more than loading.
 */
int seccomp_load(const struct byte_list *program, uint64_t flags,
                 struct err *e);

#endif
