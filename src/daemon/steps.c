#include "steps.h"

#include <string.h>

static void tell(struct steps *steps, steps_finished_fn **slot,
                 const struct err *error)
{
    steps_finished_fn *fn = *slot;

    *slot = NULL;
    if (fn)
        fn(steps->context, error);
}

void steps_init(struct steps *steps, const struct step *table, size_t count,
                void *context)
{
    memset(steps, 0, sizeof(*steps));
    steps->table = table;
    steps->count = count;
    steps->context = context;
}

/* The next one back, or the end. Only the outermost call in a chain of steps
 * that finish at once recurses, and the table is short. */
static void undo_next(struct steps *steps)
{
    steps_finished_fn *undone, *ran;
    struct err error;

    for (size_t i = steps->count; i-- > 0;) {
        if (!(steps->begun & 1u << i))
            continue;
        steps->running = 1u << i;
        steps->table[i].undo(steps->context);
        return;
    }
    steps->undoing = steps->stopping = false;
    /* The owner may free it all in the last call. */
    undone = steps->undone;
    ran = steps->ran;
    error = steps->error;
    steps->undone = steps->ran = NULL;
    if (ran)
        ran(steps->context, &error);
    if (undone)
        undone(steps->context, NULL);
}

static void start_ready(struct steps *steps)
{
    for (size_t i = 0; i < steps->count; i++) {
        /* A step that failed at once may have ended it all. */
        if (!steps->ran || steps->stopping || steps->undoing)
            return;
        if (steps->begun & 1u << i ||
            (steps->table[i].needs & steps->done) != steps->table[i].needs)
            continue;
        steps->begun |= 1u << i;
        steps->running |= 1u << i;
        steps->table[i].run(steps->context);
    }
}

void steps_run(struct steps *steps, steps_finished_fn *ran)
{
    steps->ran = ran;
    start_ready(steps);
}

/* True when one ended by it: steps_done() was called and has gone on. */
static bool cancel_one(struct steps *steps)
{
    for (unsigned int i = 0; i < steps->count; i++) {
        if (!(steps->running & ~steps->cancelled & 1u << i))
            continue;
        steps->cancelled |= 1u << i;
        if (steps->table[i].cancel && steps->table[i].cancel(steps->context))
            return true;
    }
    return false;
}

static void begin_undo(struct steps *steps)
{
    steps->stopping = true;
    if (steps->undoing || cancel_one(steps) || steps->running)
        return;
    steps->undoing = true;
    steps->done = 0;
    undo_next(steps);
}

void steps_undo(struct steps *steps, steps_finished_fn *undone)
{
    steps->undone = undone;
    if (steps->ran && !steps->error.code)
        (void)err_set(&steps->error, ECANCELED,
                      "destroyed while being created");
    begin_undo(steps);
}

static void undo_done(struct steps *steps, unsigned int index,
                      const struct err *error)
{
    struct err failed = ERR_INIT;

    steps->running = 0;
    if (!error) {
        steps->begun &= ~(1u << index);
        undo_next(steps);
        return;
    }
    failed = *error;
    (void)err_wrap(&failed, "undo: %s", steps->table[index].name);
    steps->undoing = steps->stopping = false;
    if (steps->ran)
        tell(steps, &steps->ran, &steps->error);
    tell(steps, &steps->undone, &failed);
}

void steps_done(struct steps *steps, unsigned int index,
                const struct err *error)
{
    bool complete;

    if (steps->undoing) {
        undo_done(steps, index, error);
        return;
    }
    steps->running &= ~(1u << index);
    if (error && !steps->error.code) {
        steps->error = *error;
        (void)err_wrap(&steps->error, "%s", steps->table[index].name);
    }
    if (!error)
        steps->done |= 1u << index;
    if (steps->error.code) {
        begin_undo(steps);
        return;
    }
    complete = steps->done == (1u << steps->count) - 1;
    if (complete)
        tell(steps, &steps->ran, NULL);
    else
        start_ready(steps);
}
