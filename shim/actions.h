/*
 * actions.h - what the program can be asked to do. Each returns the exit
 * status of the process.
 */
#ifndef DOMUS_ACTIONS_H
#define DOMUS_ACTIONS_H

#include "options.h"

/* Where `start` hands the listening socket to the server. */
#define ACTION_SOCKET_FD 3

int action_start(const struct options *options);
int action_delete(const struct options *options);
int action_serve(const struct options *options);

/* Both ids are containerd's, to become part of paths and names. */
int action_check_names(const struct options *options, struct err *e);

#endif
