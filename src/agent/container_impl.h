/*
 * container_impl.h - a container's members, for the files that together are
 * the container: its table of states, its creation, pausing, its execs.
 */
#ifndef AGENT_CONTAINER_IMPL_H
#define AGENT_CONTAINER_IMPL_H

#include <sched.h>

#include "cgroup.h"
#include "container.h"
#include "domus/spec.h"

struct container {
    struct container *next;
    struct agent *agent; /* borrowed */
    enum container_state state;
    char *id;
    /* With a prefix: an id may be "cgroup.procs". */
    char *cgroup_name;
    int cgroup;
    bool pid_namespace;
    pid_t pid;     /* of the first process, 0 once it was reaped */
    int pidfd;     /* of it, by which later processes join its namespaces */
    int status;    /* of it, once reaped */
    bool exit_due; /* which is not told yet */
    int sync;
    struct loop_fd *sync_source;
    /* Deadline of CREATE, PAUSE and RESUME, next try of DELETE, deadline of
     * the execs when the first process has ended. */
    struct loop_timer *timer;
    int64_t delete_until;
    uint32_t request; /* the one that waits for its answer, see the state */
    uint32_t stdin_stream;
    int terminal;       /* owned; its pty's master, or -1 */
    struct err failure; /* of CREATE or START, told by the first process */
    /* What later processes have in common with the first: namespaces, maps of
     * ids, seccomp, personality. The rest of it is empty. */
    struct spec_container kept;
    struct exec *execs; /* owned, a list */
    size_t exec_count;
    int events; /* owned; cgroup.events while it is watched for frozen */
    struct loop_fd *events_source;
    int memory_events; /* owned; -1 where there is no such controller */
    struct loop_fd *memory_source;
    uint64_t oom_kills; /* as last read */
};

/* CLONE_NEW bits that a container may ask for. The domain is its network
 * namespace: the network belongs to the sandbox, and pods share it. The first
 * process makes those that are not made with it. */
#define CONTAINER_NAMESPACES_CLONE (CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)
#define CONTAINER_NAMESPACES_KNOWN                                \
    (CONTAINER_NAMESPACES_CLONE | CLONE_NEWNS | CLONE_NEWCGROUP | \
     CLONE_NEWNET | CLONE_NEWUSER | CLONE_NEWTIME)

extern const char *const container_state_names[CONTAINER_STATE_COUNT];

/* Ends up on no list. */
void container_free(struct container *c);
void container_unlink(struct container *c);

/* Answers the request that waits. */
void container_answer(struct container *c, const struct err *e, pid_t pid);

/* The number outside of a user namespace, for what the agent itself makes. */
uint32_t container_outside_id(const struct spec_id_map_list *maps, uint32_t id);

/* 0 to 255, or 128 + signal. */
uint32_t container_exit_code(int status);

/* What a process of it says, until there is no more. */
void container_sync_ready(void *context, short revents);

/* --- container_freeze.c --- */
int container_pause(struct container *c, const struct container_event *event,
                    struct err *e);
int container_resume(struct container *c, const struct container_event *event,
                     struct err *e);
/* Tells whoever asked for it that it will not be. */
void container_freeze_give_up(struct container *c, const char *why);

/* --- container_oom.c --- */
/* Where the memory controller is not there, nothing is watched. */
void container_watch_memory(struct container *c);
/* Sends OOM when there was a kill since; before any EXITED. */
void container_check_memory(struct container *c);
void container_unwatch_memory(struct container *c);

#endif
