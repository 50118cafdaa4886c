/*
 * task_internal.h - the task's inside, shared by the files that carry out its
 * parts: task.c (calls and the end of the process), task_create.c (from Create
 * to its answer), task_delete.c (taking everything down).
 */
#ifndef DOMUS_TASK_INTERNAL_H
#define DOMUS_TASK_INTERNAL_H

#include "control.h"
#include "guest.h"
#include "oci.h"
#include "record.h"
#include "state.h"
#include "streams.h"
#include "task.h"

/* An image may have to be made first, from a large root file system. */
#define TASK_SANDBOX_MS 300000
/* From a running domain to its HELLO; DOMUS_START_TIMEOUT (seconds). */
#define TASK_HELLO_MS   60000
#define TASK_PREPARE_MS 60000 /* CREATE and START in the guest */
#define TASK_ANSWER_MS  5000  /* SIGNAL and STATS */
#define TASK_KILL_MS    10000 /* SIGKILL to EXITED; then the domain goes */
#define TASK_DRAIN_MS   10000 /* the last output, once the process ended */
#define TASK_DESTROY_MS 30000
#define TASK_CONSOLE_MS 1000
/* What a dying guest sent may still stand in the channel. */
#define TASK_GRACE_MS 50

#define TASK_STREAM_IN  1
#define TASK_STREAM_OUT 2
#define TASK_STREAM_ERR 3

/* CLOCK_MONOTONIC in ns; 0: did not happen. */
struct phases {
    uint64_t create_received;
    uint64_t image_ready;
    uint64_t domain_built;
    uint64_t unpaused;
    uint64_t agent_up;
    uint64_t container_ready;
    uint64_t start_received;
    uint64_t process_started;
    uint64_t first_byte;
    uint64_t exited;
};

/* What only exists while a Create is under way. */
struct creation {
    struct call *call;
    Task__CreateRequest *request; /* owned */
    struct oci_config config;
    char *root_device;
    char *channel; /* named before domusd's answer came */
    bool built;    /* domusd's answer came */
    bool failing;
    struct err why;
    struct loop_timer *deadline; /* for HELLO */
};

struct waiter {
    struct waiter *next;
    struct call *call;
};

struct task {
    struct loop *loop;       /* borrowed */
    struct events *events;   /* borrowed */
    struct control *control; /* owned */
    char *namespace;
    char *id;
    char *bundle;
    enum task_state state;
    struct record record;
    struct stdio_paths paths;
    struct stdio stdio;
    struct creation *creation; /* owned, NULL but in TASK_CREATING */
    struct guest *guest;       /* owned, NULL: no channel */
    unsigned sinks;            /* output streams that have not ended */
    struct call *start_call;
    struct call *delete_call;
    struct waiter *waiters;
    bool draining;  /* Delete waits for the last output */
    bool exit_held; /* the process ended before START was answered */
    uint32_t held_status;
    bool ending; /* the guest is gone, its console is being asked for */
    char *end_reason;
    struct loop_timer *timer; /* of draining, killing, and the grace */
    struct loop_timer *kill_timer;
    struct phases phases;
    bool phases_told;
};

/* task.c */
/* Answers the call itself when it is not allowed now. */
bool task_refuses(struct task *task, enum task_call what, const char *id,
                  const char *exec, struct call *call);
void task_stopped(struct task *task, uint32_t status, bool tell);
void task_answer_waiters(struct task *task);
void task_guest_ended(struct task *task, const char *reason);
void task_save_record(struct task *task);
void task_add_console(struct err *e, const struct packet *reply);
extern const struct guest_handler task_guest_handler;

/* task_create.c */
void task_create_channel(struct task *task, const char *channel);
void task_create_up(struct task *task);
void task_create_failed(struct task *task, const struct err *why,
                        bool with_console);

/* task_delete.c */
void task_drained(struct task *task);
void task_drop_guest(struct task *task);

/* A timestamp in the form of the messages, from ns since 1970. */
#define TASK_TIMESTAMP(ns)                                                  \
    {                                                                       \
        .base = PROTOBUF_C_MESSAGE_INIT(&wellknown__timestamp__descriptor), \
        .seconds = (int64_t)((ns) / 1000000000),                            \
        .nanos = (int32_t)((ns) % 1000000000)                               \
    }

#endif
