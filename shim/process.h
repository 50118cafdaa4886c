/*
 * process.h - one process of a task: the container's first, or an exec. Its
 * state, its streams, who waits for its end, and how that was.
 */
#ifndef DOMUS_PROCESS_H
#define DOMUS_PROCESS_H

#include "domus/link.h"
#include "server.h"
#include "state.h"
#include "streams.h"

/* Offsets from the first stream id of a process. */
enum process_stream { PROCESS_IN, PROCESS_OUT, PROCESS_ERR, PROCESS_STREAMS };

/* Waits for the end of one process. containerd forgets those whose client has
 * gone, but ttrpc has no word to tell us. */
#define WAITERS_MAX 16384

/* Who takes output where that is no reader of a FIFO: writers of files, by
 * LOGGER_OUT and LOGGER_ERR, and a logger. */
enum { PROCESS_LOGGER = STDIO_FILES, PROCESS_WRITERS };

struct writer {
    struct process *process; /* borrowed */
    int fd;                  /* owned: a file's reports; ends with the writer */
    struct loop_fd *source;  /* NULL: there is none, or it has ended */
    bool ready;
};

struct task;
struct waiter;
struct opening;

struct process {
    struct process *next; /* the task's next exec */
    struct task *task;    /* borrowed */
    char *exec;           /* "" for the first process */
    enum task_state state;
    struct stdio_paths paths;
    struct stdio stdio;
    struct writer writers[PROCESS_WRITERS];
    uint32_t first_stream; /* its ids are PROCESS_STREAMS in a row */
    unsigned sinks;        /* output streams that have not ended */
    bool input_closed;     /* CloseIO came before the start */
    uint32_t guest_pid;    /* in the guest, 0: unknown */
    struct call *start_call;
    struct call *delete_call;
    struct waiter *waiters;
    size_t waiter_count;
    bool draining;          /* Delete waits for the last output */
    int64_t drain_until;    /* by loop_now() */
    bool probed;            /* the guest was asked whether it is there */
    struct call *kill_call; /* of an exec that is being started */
    uint32_t kill_signal;
    bool exit_held; /* it ended before its start was told */
    uint32_t held_status;
    bool exited;
    uint32_t status;
    uint64_t exited_ns;        /* since 1970 */
    struct loop_timer *timer;  /* of draining */
    struct opening *opening;   /* owned; a logger is being started */
    struct spec_process *spec; /* owned; of an exec that was not started */
};

/* In place: the first process is a member of its task. */
void process_init(struct process *process, struct task *task, const char *exec);
/* Whoever still waits is told that it is gone. */
void process_clear(struct process *process);

/* Opens its streams, and has writers and loggers started; fn is called once,
 * perhaps at once, unless it is cancelled. */
typedef void process_open_fn(struct process *process, const struct err *why);
void process_open(struct process *process, process_open_fn *fn);
void process_open_cancel(struct process *process);
/* What is left of them here. Writers end when they have written what they got.
 */
void process_close_streams(struct process *process);
bool process_has_writer(const struct process *process);
/* All of its output has come, and was read or is in its files. */
bool process_written(const struct process *process);

void process_wait(struct process *process, struct call *call);
/* With its exit; or that it is gone, when there was none. */
void process_answer_waiters(struct process *process);

/* The streams of the link; what is handed over leaves stdio. Ids are 0 where
 * there is no stream. Output before the guest is asked, input after. */
uint32_t process_add_output(struct process *process, struct link *link,
                            enum process_stream which);
/* Since either of these was last asked. */
bool process_output_moves(struct process *process, struct link *link);
/* Ends what nothing came of, and of which nothing waits for its reader. */
void process_end_silent_output(struct process *process, struct link *link);
void process_add_input(struct process *process, struct link *link);
uint32_t process_input_id(const struct process *process);

/* Writes down the end of the process, now. */
void process_exit(struct process *process, uint32_t status);

void process_publish_exit(struct process *process);

#endif
