/*
 * proto.h - the guest protocol: what a shim and domus-init say to each other
 * over the sandbox's vchan. docs/PROTOCOL.md has it byte by byte.
 *
 * A frame is a 12-byte header (little-endian: u32 length of the payload, u16
 * type, u16 flags that are 0, u32 id) and the payload. id is the stream of
 * DATA, CREDIT and END, and for all else the number of the request, which the
 * reply repeats; notices carry 0.
 */
#ifndef DOMUS_PROTO_H
#define DOMUS_PROTO_H

#include "domus/spec.h"

#define PROTO_VERSION     2
#define PROTO_HEADER_SIZE 12
/* A CREATE or EXEC carries args and env, to which the kernel allows 2 MiB, or
 * as many short ones with their lengths; the guest answers in small frames, so
 * the shim allows it no more. */
#define PROTO_TO_GUEST_MAX   (4 * 1024 * 1024)
#define PROTO_FROM_GUEST_MAX (64 * 1024)
#define PROTO_DATA_MAX       (32 * 1024)
/* What may be under way on a stream without a CREDIT in return. */
#define PROTO_WINDOW (128 * 1024)
/* All files of a STATS_RESULT fit into one frame. */
#define PROTO_STATS_FILE_MAX  8192
#define PROTO_STATS_FILES_MAX 24
/* Relative to the guest's own directory of xenstore. */
#define PROTO_VCHAN_PATH "data/vchan"
#define PROTO_VCHAN_RING (64 * 1024)

enum proto_type {
    PROTO_HELLO = 1,
    PROTO_WELCOME,
    PROTO_RESULT,
    PROTO_CREATE,
    PROTO_START,
    PROTO_SIGNAL,
    PROTO_EXITED,
    PROTO_PIDS,
    PROTO_PIDS_RESULT,
    PROTO_STATS,
    PROTO_STATS_RESULT,
    PROTO_DELETE,
    PROTO_POWEROFF,
    PROTO_LOG,
    PROTO_DATA,   /* payload: bytes of the stream */
    PROTO_CREDIT, /* the receiver took so many bytes */
    PROTO_END,    /* no payload: the sender has no more bytes */
    PROTO_EXEC,   /* makes and starts one more process -> RESULT with its pid */
    PROTO_RESIZE, /* of a terminal -> RESULT */
    PROTO_PAUSE,  /* freezes all processes of a container -> RESULT */
    PROTO_RESUME, /* -> RESULT */
    PROTO_UPDATE, /* of a container's limits -> RESULT */
    PROTO_OOM,    /* notice: the kernel killed a process for want of memory */
    PROTO_TYPE_COUNT
};

/* First frame of the guest. */
struct proto_hello {
    uint32_t version;
    char *agent;  /* version of domus-init */
    char *kernel; /* release, as uname -r prints it */
    uint64_t uptime_ns;
};

/* First frame of the host. */
struct proto_welcome {
    uint32_t version;
    uint64_t wall_clock_ns; /* since 1970; the guest sets its clock to it */
};

/* Ends every request that has no reply of its own. */
struct proto_result {
    uint32_t code; /* 0 or a Linux errno value */
    char *text;    /* what failed */
    uint32_t pid;  /* START: in the guest's root pid namespace */
};

/* Stream ids are chosen by the host; 0 means that there is no such stream. */
struct proto_create {
    struct spec_container container;
    char *root_device; /* "xvda"; an EROFS file system, read-only */
    uint32_t stdin_stream;
    uint32_t stdout_stream;
    uint32_t stderr_stream;
};

/* exec is empty for the container's first process. */
struct proto_process {
    char *container;
    char *exec;
};

struct proto_signal {
    char *container;
    char *exec;
    uint32_t signal;
    bool all;
};

/* Sent once for each process, as soon as it was reaped; its last output may
 * follow, up to END of its streams. */
struct proto_exited {
    char *container;
    char *exec;
    uint32_t status; /* 0 to 255: exit code, or 128 + signal */
    uint64_t wall_clock_ns;
};

struct proto_pid {
    uint32_t pid;
    char *exec;
};

struct proto_pid_list {
    struct proto_pid *v;
    size_t n;
};

struct proto_pids_result {
    struct proto_pid_list pids;
};

/* Files of the container's cgroup as the kernel gives them, by name; those
 * that it does not have are left out. */
struct proto_stats_result {
    struct spec_setting_list untrusted_files;
};

/* The process is the container's in all but what is here. exec is its name. */
struct proto_exec {
    char *container;
    char *exec;
    struct spec_process process;
    uint32_t stdin_stream;
    uint32_t stdout_stream;
    uint32_t stderr_stream;
};

struct proto_resize {
    char *container;
    char *exec;
    uint32_t width; /* columns */
    uint32_t height;
};

struct proto_update {
    char *container;
    struct spec_setting_list cgroup;
    /* Fail when a new memory.max is less than what is used now. */
    bool check_memory;
};

struct proto_container {
    char *container;
};

struct proto_log {
    uint32_t level; /* enum log_level */
    char *text;
};

struct proto_credit {
    uint32_t bytes;
};

struct proto_empty {
    bool unused;
};

union proto_body {
    struct proto_hello hello;
    struct proto_welcome welcome;
    struct proto_result result;
    struct proto_create create;
    struct proto_process process; /* START, PIDS, STATS, DELETE */
    struct proto_exec exec;
    struct proto_resize resize;
    struct proto_update update;
    struct proto_container container; /* PAUSE, RESUME, OOM */
    struct proto_signal signal;
    struct proto_exited exited;
    struct proto_pids_result pids_result;
    struct proto_stats_result stats_result;
    struct proto_log log;
    struct proto_credit credit;
};

struct proto_message {
    enum proto_type type;
    uint32_t id;
    union proto_body body; /* of every type but DATA */
};

struct proto_header {
    uint32_t length;
    uint16_t type;
    uint16_t flags;
    uint32_t id;
};

enum proto_direction { PROTO_TO_GUEST, PROTO_FROM_GUEST };

/* "CREATE"; "?" for a number that has no name. */
const char *proto_type_name(uint32_t type);

/* NULL for DATA and END, whose payload is not a struct. */
const struct wire_desc *proto_desc(enum proto_type type);

/*
 * Checks what an untrusted header claims before anything is read or
 * allocated: type known and allowed in that direction, flags 0, length within
 * the limit for the type. Fails with EBADMSG.
 */
int proto_header_decode(const uint8_t untrusted_bytes[PROTO_HEADER_SIZE],
                        enum proto_direction direction,
                        struct proto_header *header_out, struct err *e);

/* Appends header and payload; fails with EMSGSIZE beyond a limit. */
int proto_encode(const struct proto_message *message, struct buf *out,
                 struct err *e);

/* Appends a DATA frame of n bytes, at most PROTO_DATA_MAX. */
void proto_encode_data(uint32_t stream, const void *bytes, size_t n,
                       struct buf *out);

/* The payload of a frame whose header was accepted; not for DATA. */
int proto_decode(const struct proto_header *header,
                 const uint8_t *untrusted_payload,
                 struct proto_message *message_out, struct err *e);

void proto_clear(struct proto_message *message);

#endif
