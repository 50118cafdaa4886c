/*
 * pool.h - builder workers and the queue of jobs for them. A worker does one
 * job at a time; when it dies or is late, it is killed, its job has failed,
 * and the next job gets a new worker.
 */
#ifndef DOMUS_POOL_H
#define DOMUS_POOL_H

#include "domus/job.h"
#include "domus/loop.h"

struct pool;

/* program: see spawn.h; borrowed. */
struct pool *pool_new(struct loop *loop, const char *program,
                      unsigned int workers);
void pool_free(struct pool *pool); /* kills the workers; tells nobody */

/* Starts the workers that are missing, so that the first jobs find them. */
void pool_prestart(struct pool *pool);

/* reply is NULL when the job failed, a RESULT with a code included. */
typedef void pool_done_fn(void *context, const struct packet *reply,
                          const struct err *error);

/* body is copied. done is never called before this returns. */
void pool_submit(struct pool *pool, enum job_type type, const void *body,
                 int64_t deadline_ms, pool_done_fn *done, void *context);

#endif
