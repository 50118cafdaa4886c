/*
 * task_internal.h - the task's inside, shared by the files that carry out its
 * parts: task.c (start and the end of the process), task_create.c (from Create
 * to its answer), task_exec.c (more processes), task_pause.c (a domain that
 * stands still), task_calls.c and task_update.c (what changes little),
 * task_hooks.c, task_delete.c (taking everything down).
 */
#ifndef DOMUS_TASK_INTERNAL_H
#define DOMUS_TASK_INTERNAL_H

#include "control.h"
#include "guest.h"
#include "oci.h"
#include "process.h"
#include "record.h"
#include "task.h"

/* An image may have to be made first, from a large root file system. */
#define TASK_SANDBOX_MS 300000
/* Beyond domusd's own wait for the guest's channel, to its HELLO. */
#define TASK_HELLO_MS   2000
#define TASK_PREPARE_MS 60000 /* CREATE and START in the guest */
#define TASK_ANSWER_MS  5000  /* SIGNAL, STATS and the like */
/* PAUSE and RESUME of the container: more than the guest gives the kernel for
 * it, lest a late answer leave it frozen and told to run. */
#define TASK_FREEZE_MS 15000
#define TASK_KILL_MS   10000 /* SIGKILL to EXITED; then the domain goes */
/* The last output, once the process ended: as long as runc waits for it, or
 * longer while bytes move. A background process may hold it for ever. */
#define TASK_DRAIN_MS     2000
#define TASK_DRAIN_ALL_MS 10000
/* From the guest's answer, which may come before the output that it had. */
#define TASK_DRAIN_LAST_MS 500
/* From init's end to that of its output, while nothing comes: every process of
 * the container is gone, and whoever reads it waits for its end. */
#define TASK_OUTPUT_MS  15000
#define TASK_DESTROY_MS 30000
#define TASK_CONSOLE_MS 1000
/* What a dying guest sent may still stand in the channel. */
#define TASK_GRACE_MS 50

/* From init's end to that of the execs, which the guest kills. */
#define TASK_EXECS_MS 2000
/* PAUSE and RESUME of the domain, or its new share. */
#define TASK_DOMAIN_MS 10000
/* All hooks of one kind; domusd bounds each by itself. */
#define TASK_HOOKS_MS 300000
/* Each is some memory here, up to seven descriptors, a process in the guest and
 * one for each file of its output. */
#define TASK_EXECS_MAX 1024
/* Notices of OOM that are passed on in each ten seconds. */
#define TASK_OOM_BURST     20
#define TASK_OOM_PERIOD_MS 10000

#define TASK_KILLED (128 + 9)

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

/* What the domain is doing besides its task's state: a paused task's domain
 * runs as soon as something is asked of the guest. */
enum domain_state {
    DOMAIN_AWAKE,
    DOMAIN_FALLING, /* its last figures or CTL_PAUSE are under way */
    DOMAIN_ASLEEP,
    DOMAIN_WAKING,
};

/* A request to the guest that waits for its domain to run. */
struct sleeper {
    struct sleeper *next;
    struct proto_message message; /* owned */
    int64_t deadline_ms;
    guest_reply_fn *fn;
    void *context;
};

/* Of the domain, as last agreed with domusd. */
struct share {
    uint64_t memory_max;
    uint32_t cpu_weight;
    uint32_t cpu_cap;
    struct oci_bandwidth bandwidth;
};

struct task {
    struct loop *loop;       /* borrowed */
    struct events *events;   /* borrowed */
    struct control *control; /* owned */
    char *namespace;
    char *id;
    char *bundle;
    struct process init;
    struct process *execs; /* owned, oldest first */
    size_t exec_count;
    uint32_t last_stream;
    struct record record;
    struct creation *creation; /* owned, NULL but in TASK_CREATING */
    struct guest *guest;       /* owned, NULL: no channel */
    enum domain_state domain;
    struct sleeper *sleepers; /* owned, oldest first */
    struct call *pause_call;  /* of Pause or Resume */
    struct buf stats;         /* encoded, from before the domain stood still */
    struct share share;
    bool updating;
    struct spec_hook_list poststart_hooks;
    struct spec_hook_list poststop_hooks;
    char *hook_state; /* NULL: none */
    bool oom_held;    /* OOM came before START was answered */
    int64_t oom_since;
    unsigned oom_count;
    bool ended; /* init ended, execs are waited for */
    struct loop_timer *execs_timer;
    struct loop_timer *output_timer;
    bool ending; /* the guest is gone, its console is being asked for */
    char *end_reason;
    struct loop_timer *timer; /* the grace */
    struct loop_timer *kill_timer;
    struct phases phases;
    bool phases_told;
};

/* A call that waits for one answer. */
struct simple_call {
    struct task *task;
    struct call *call;
    const char *what; /* for the error's text */
};

/* task.c */
/* Answers the call itself when it is not allowed now. */
bool task_refuses(struct task *task, enum task_call what, const char *id,
                  struct call *call);
/* The process that is meant; NULL after having answered the call. */
struct process *task_process(struct task *task, enum task_call what,
                             const char *id, const char *exec,
                             struct call *call);
/* "container c1: process e1: kill" in front of the error. */
void task_name_error(const struct process *process, const char *what,
                     struct err *e);
/* What a process that could not be started has for its exit, as a shell. */
uint32_t task_failed_status(const struct err *why);
void task_stopped(struct task *task, uint32_t status, bool tell);
/* Init is over, and is told of once every exec is: no process outlives the
 * first. Without a pid namespace the kernel does not see to that. */
void task_init_ended(struct task *task, uint32_t status);
/* Tells the end of init, once no exec is left to end before it. */
void task_check_ended(struct task *task);
void task_guest_ended(struct task *task, const char *reason);
void task_save_record(struct task *task);
void task_add_console(struct err *e, const struct packet *reply);
extern const struct guest_handler task_guest_handler;

/* task_create.c */
void task_create_channel(struct task *task, const char *channel);
void task_create_up(struct task *task);
void task_create_failed(struct task *task, const struct err *why,
                        bool with_console);

/* task_exec.c */
struct process *task_find_exec(struct task *task, const char *exec);
void task_start_exec(struct process *process, struct call *call);
void task_exec_exited(struct process *process, uint32_t status);
/* A signal for an exec that is being started waits until the guest knows it. */
void task_hold_kill(struct process *process, uint32_t signal,
                    struct call *call);
/* All that are in the guest, with SIGKILL's status; their calls too. */
void task_end_execs(struct task *task);
void task_free_exec(struct process *process);
void task_free_execs(struct task *task);

/* task_pause.c */
/* guest_request() once the domain runs; the message is not kept. */
void task_request(struct task *task, struct proto_message *message,
                  int64_t deadline_ms, guest_reply_fn *fn, void *context);
/* A request with a RESULT that answers the call. */
void task_simple_request(struct task *task, struct proto_message *message,
                         const char *what, struct call *call);
/* Those that wait for the domain; the guest is gone. */
void task_fail_sleepers(struct task *task, const struct err *why);

/* task_hooks.c */
typedef void task_hooks_fn(struct task *task, const struct err *why);
/* Has domusd run them; fn is called once, at once when there are none. */
void task_run_hooks(struct task *task, const char *kind,
                    const struct spec_hook_list *hooks, const char *state,
                    const char *status, task_hooks_fn *fn);
void task_clear_hooks(struct task *task);

/* task_delete.c */
void task_drained(struct process *process);
void task_drop_guest(struct task *task);

/* A timestamp in the form of the messages, from ns since 1970. */
#define TASK_TIMESTAMP(ns)                                                  \
    {                                                                       \
        .base = PROTOBUF_C_MESSAGE_INIT(&wellknown__timestamp__descriptor), \
        .seconds = (int64_t)((ns) / 1000000000),                            \
        .nanos = (int32_t)((ns) % 1000000000)                               \
    }

#endif
