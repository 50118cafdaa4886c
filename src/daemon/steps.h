/*
 * steps.h - work that is a table of steps, each with its undo.
 *
 * A step starts as soon as those it needs are done, so independent ones run
 * side by side. When one fails, those under way are cancelled or waited for,
 * and then everything that was begun is undone, the last one first. Taking down
 * runs the same undo, and an undo that failed can be tried again.
 */
#ifndef DOMUS_STEPS_H
#define DOMUS_STEPS_H

#include <stdbool.h>
#include <stddef.h>

#include "domus/err.h"

#define STEPS_MAX 16

/* Both must lead to one call of steps_done(), at once or later. An undo must
 * cope with a step that was begun and failed. */
typedef void step_fn(void *context);

struct step {
    const char *name;   /* what it does: "build the domain" */
    unsigned int needs; /* bits of the steps that come before */
    step_fn *run;
    step_fn *undo;
    /* May be NULL. Ends a run that takes long by steps_done() with an error,
     * and returns true; false when it cannot. */
    bool (*cancel)(void *context);
};

/* error NULL: success. */
typedef void steps_finished_fn(void *context, const struct err *error);

struct steps {
    const struct step *table; /* borrowed */
    size_t count;
    void *context;
    unsigned int begun; /* and not undone yet */
    unsigned int running;
    unsigned int cancelled; /* or cannot be */
    unsigned int done;
    bool undoing;
    bool stopping; /* waits for the running ones in order to undo */
    struct err error;
    steps_finished_fn *ran;    /* NULL once told */
    steps_finished_fn *undone; /* NULL when nobody asked */
};

void steps_init(struct steps *steps, const struct step *table, size_t count,
                void *context);

/* ran is told when all are done, or after all was undone when one failed. */
void steps_run(struct steps *steps, steps_finished_fn *ran);

/* Stops a run under way (ran is told ECANCELED) and undoes. */
void steps_undo(struct steps *steps, steps_finished_fn *undone);

/* Of a step's run or undo, whichever is under way. */
void steps_done(struct steps *steps, unsigned int index,
                const struct err *error);

#endif
