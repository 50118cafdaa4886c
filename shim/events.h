/*
 * events.h - tells containerd what happens to tasks, in order.
 *
 * Events wait in a bounded queue until containerd took them, one at a time,
 * over its ttrpc socket; while it is away they are kept and tried again. When
 * the queue is full the oldest event that is not an exit is given up.
 */
#ifndef DOMUS_EVENTS_H
#define DOMUS_EVENTS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "domus/loop.h"

struct events;

/* address: path of containerd's ttrpc socket; empty: events are only logged. */
struct events *events_new(struct loop *loop, const char *address,
                          const char *namespace);
void events_free(struct events **events);

/* Encodes at once; the type is the message's full name. */
void events_publish(struct events *events, const char *topic,
                    const ProtobufCMessage *message);

/* True when containerd took everything. */
bool events_flushed(const struct events *events);

#endif
