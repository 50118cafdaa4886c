/*
 * job.h - what domusd asks of its builder processes, over a socket pair on
 * their descriptor 3. docs/PROTOCOL.md lists it.
 *
 * A builder has one of two roles. A worker holds one libxl context and does
 * one job at a time; when it dies its job failed, nothing else. The watcher
 * holds the host's one xenstore watch and tells what becomes of domains. Both
 * speak this protocol, and so does the builder of the tests that has no Xen.
 */
#ifndef DOMUS_JOB_H
#define DOMUS_JOB_H

#include "domus/packet.h"

#define JOB_VERSION     4
#define JOB_FD          3
#define JOB_DOMAINS_MAX 1024
#define JOB_VBDS_MAX    16

enum job_type {
    JOB_RESULT = 1,
    /* Of a worker. */
    JOB_HOST, /* -> HOST_RESULT */
    JOB_HOST_RESULT,
    JOB_BUILD, /* build -> BUILT; the domain exists, paused */
    JOB_BUILT,
    JOB_START,   /* start -> RESULT; devices attached, unpaused */
    JOB_DESTROY, /* domain -> RESULT; when it is gone, or was not there */
    JOB_LIST,    /* -> LIST_RESULT: every domain but dom0, half built and half
                    gone ones as well: go by the uuid. Never a part of
                    them: RESULT with EMSGSIZE */
    JOB_LIST_RESULT,
    JOB_PAUSE,  /* domain -> RESULT; when it was paused before, too */
    JOB_RESUME, /* domain -> RESULT; when it was not paused, too */
    JOB_SCHED,  /* sched -> RESULT */
    /* Of the watcher. */
    JOB_WATCH,   /* domain: tell of its channel and of its end */
    JOB_UNWATCH, /* domain */
    JOB_CHANNEL, /* notice, channel */
    JOB_DIED,    /* notice, died; once for each watched domain */
    JOB_TYPE_COUNT
};

struct job_result {
    uint32_t code; /* 0 or a Linux errno value */
    char *text;
};

struct job_host_result {
    char *xen_version;
    char *command_line;
    bool has_hap; /* PVH is possible */
    uint64_t free_kb;
    uint64_t total_kb;
};

struct job_build {
    char *name;
    char *uuid;
    bool pvh;
    char *kernel;
    char *initramfs;
    char *command_line;
    uint64_t memory_kb;
    uint32_t vcpus;
    uint32_t cpu_weight; /* 0: the scheduler's default */
    uint32_t cpu_cap;    /* per cent of one processor; 0: not limited */
};

struct job_built {
    uint32_t domid;
    char *console; /* the terminal that xenconsoled opened, or empty */
};

/* A block device of dom0, offered to the guest as xvd…. */
struct job_vbd {
    char *name; /* "xvda" */
    uint32_t major;
    uint32_t minor;
    bool writable;
    char *path; /* of the device in dom0, for people and for tests */
};

struct job_vbd_list {
    struct job_vbd *v;
    size_t n;
};

struct job_start {
    uint32_t domid;
    char *uuid;
    struct job_vbd_list vbds;
};

/* A domid is used again, so the uuid must fit, else the domain is gone. */
struct job_domain {
    uint32_t domid;
    char *uuid;
};

/* Of a domain that lives. */
struct job_sched {
    uint32_t domid;
    char *uuid;
    uint32_t cpu_weight; /* 0: as it is */
    bool has_cpu_cap;
    uint32_t cpu_cap; /* 0: not limited */
};

struct job_listed {
    uint32_t domid;
    char *uuid;
    char *console;
    bool dying; /* destroyed, but its memory is not all given back */
    bool shut_down;
    bool paused;
    char *reason;
};

struct job_listed_list {
    struct job_listed *v;
    size_t n;
};

struct job_list_result {
    struct job_listed_list domains;
};

/* Of both notices: domids are given again, and a notice may come late, so that
 * only with its UUID, as JOB_WATCH had it, is a domain the one that is meant.
 */
struct job_channel {
    uint32_t domid;
    char *uuid;
    char *channel; /* as in struct ctl_sandbox */
};

struct job_died {
    uint32_t domid;
    char *uuid;
    char *reason;
};

union job_body {
    struct job_result result;
    struct job_host_result host_result;
    struct job_build build;
    struct job_built built;
    struct job_start start;
    struct job_domain domain;
    struct job_sched sched;
    struct job_list_result list_result;
    struct job_channel channel;
    struct job_died died;
};

extern const struct packet_protocol job_protocol;

#endif
