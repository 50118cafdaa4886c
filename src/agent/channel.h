/*
 * channel.h - the agent's end of its channel: a vchan in a guest, one
 * connection of a listening socket in tests.
 */
#ifndef AGENT_CHANNEL_H
#define AGENT_CHANNEL_H

#include "domus/chan.h"

/* where: "unix:PATH", or NULL for the vchan. */
int channel_open(const char *where, struct chan **chan_out, struct err *e);

#endif
