/*
 * loop.h - one poll loop per process, no threads.
 *
 * Descriptors, one-shot timers and deferred calls. A callback may add and
 * remove anything, itself included. Handles belong to the loop; the remove
 * functions set the caller's pointer to NULL and accept NULL.
 */
#ifndef DOMUS_LOOP_H
#define DOMUS_LOOP_H

#include <stdint.h>
#include <sys/types.h>

#include "domus/err.h"

struct loop;
struct loop_fd;
struct loop_timer;

typedef void loop_fd_fn(void *context, short revents);
typedef void loop_timer_fn(void *context);
/* status as waitpid(2) gives it. */
typedef void loop_child_fn(void *context, pid_t pid, int status);

struct loop *loop_new(void);
void loop_free(struct loop *loop); /* descriptors stay the caller's */

/* events: POLLIN, POLLOUT or 0; POLLHUP and POLLERR always arrive. */
struct loop_fd *loop_add_fd(struct loop *loop, int fd, short events,
                            loop_fd_fn *fn, void *context);
void loop_fd_events(struct loop_fd *source, short events);
/* A muted descriptor is not polled at all, not even for POLLHUP. */
void loop_fd_mute(struct loop_fd *source, int muted);
void loop_remove_fd(struct loop_fd **source);

/* Runs fn once after so many milliseconds of CLOCK_MONOTONIC. */
struct loop_timer *loop_add_timer(struct loop *loop, int64_t milliseconds,
                                  loop_timer_fn *fn, void *context);
/* *timer is set to NULL; a timer that has fired is gone: clear your pointer
 * in its callback. */
void loop_remove_timer(struct loop_timer **timer);

/*
 * Tells when a child of this process ends, and reaps it. Uses a pidfd, so it
 * gets along with other code that waits for its own children. Not for PID 1,
 * which reaps everything itself.
 */
int loop_add_child(struct loop *loop, pid_t pid, loop_child_fn *fn,
                   void *context, struct err *e);

/* Runs until loop_stop(); negative errno when poll itself fails. */
int loop_run(struct loop *loop, struct err *e);
void loop_stop(struct loop *loop);

/* As many descriptors as the process may have: poll(2) takes any number. */
void loop_raise_fd_limit(void);

/* Milliseconds and nanoseconds of CLOCK_MONOTONIC. */
int64_t loop_now(void);
uint64_t loop_now_ns(void);

#endif
