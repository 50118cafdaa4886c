/*
 * ctl.h - the control protocol: what shims and the command line ask of
 * domusd, over a SOCK_SEQPACKET socket. docs/PROTOCOL.md lists it.
 *
 * domusd answers every request with the named reply or with RESULT. Notices
 * go to the connection that created or attached to the sandbox last.
 */
#ifndef DOMUS_CTL_H
#define DOMUS_CTL_H

#include "domus/packet.h"
#include "domus/spec.h"

#define CTL_VERSION         3
#define CTL_SOCKET          "/run/domus/domusd.sock"
#define CTL_NAMESPACE_MAX   76
#define CTL_MOUNTS_MAX      16
#define CTL_OPTIONS_MAX     64
#define CTL_OPTION_MAX      32768 /* lowerdir= of many layers */
#define CTL_ANNOTATIONS_MAX 64
#define CTL_CONSOLE_MAX     4096
#define CTL_LIST_MAX        512
#define CTL_STATE_MAX       32768 /* a packet carries the hooks as well */
#define CTL_LOGGER_ARGS_MAX 64

enum ctl_type {
    CTL_RESULT = 1,
    CTL_CREATE,         /* create -> SANDBOX, once its domain runs */
    CTL_SANDBOX,        /* sandbox */
    CTL_ATTACH,         /* name -> SANDBOX; a shim after domusd's restart */
    CTL_DESTROY,        /* name -> RESULT, once nothing is left, or early
                           and with a text while domusd goes on; no sandbox
                           of that name is success too */
    CTL_CONSOLE,        /* name -> CONSOLE_RESULT */
    CTL_CONSOLE_RESULT, /* console_result */
    CTL_LIST,           /* -> LIST_RESULT */
    CTL_LIST_RESULT,    /* list_result */
    CTL_CHANNEL_READY,  /* notice, channel: the guest offers its channel */
    CTL_DOMAIN_DIED,    /* notice, died */
    CTL_PAUSE,          /* name -> RESULT; the whole domain stands still */
    CTL_RESUME,         /* name -> RESULT */
    CTL_UPDATE,         /* update -> RESULT */
    CTL_HOOKS,          /* hooks -> RESULT, when all have run */
    CTL_LOGGER,         /* logger, four descriptors -> RESULT, when it runs */
    CTL_TYPE_COUNT
};

struct ctl_result {
    uint32_t code; /* 0 or a Linux errno value */
    char *text;
};

/* A sandbox is known by containerd's namespace and its first container. */
struct ctl_name {
    char *namespace;
    char *id;
};

/* As containerd's Create gives it. */
struct ctl_mount {
    char *type;
    char *source;
    struct string_list options;
};

struct ctl_mount_list {
    struct ctl_mount *v;
    size_t n;
};

struct ctl_create {
    char *namespace;
    char *id;
    char *bundle; /* absolute path */
    /* "io.domus.…=value" from the spec; domusd's policy decides on each. */
    struct string_list annotations;
    uint64_t memory_max; /* bytes the container may use, 0: not limited */
    uint32_t vcpus;      /* 0: domusd's default */
    uint32_t cpu_weight; /* of credit2, 1 to 65535; 0: its default, 256 */
    uint32_t cpu_cap;    /* per cent of one processor, 0: not limited */
    struct ctl_mount_list rootfs;
    char *rootfs_path; /* the tree itself when rootfs is empty */
};

struct ctl_sandbox {
    uint32_t domid;
    char *uuid;
    char *domain_type; /* "pv", "pvh" */
    char *channel;     /* as in CHANNEL_READY; empty until the guest is up */
    char *root_device; /* name in the guest: "xvda" */
    uint32_t start_timeout_s; /* of domus.conf: how long its guest may take */
    /* CLOCK_MONOTONIC of dom0 in ns, for "where does the time go". */
    uint64_t received_ns;
    uint64_t image_ns;
    uint64_t built_ns;
    uint64_t unpaused_ns;
};

struct ctl_channel {
    char *namespace;
    char *id;
    /* "vchan:DOMID:PATH", or "unix:PATH" from the builder of the tests. */
    char *channel;
};

/* The last bytes of the guest's console; untrusted. */
struct ctl_console_result {
    struct byte_list untrusted_text;
};

struct ctl_died {
    char *namespace;
    char *id;
    char *reason; /* "poweroff", "crash", …: Xen's shutdown reason */
};

struct ctl_listed {
    char *namespace;
    char *id;
    char *uuid;
    char *domain_type;
    char *state;
    uint32_t domid;
    uint64_t memory_kb;
    uint32_t vcpus;
    uint64_t created_unix_ns;
};

struct ctl_listed_list {
    struct ctl_listed *v;
    size_t n;
};

struct ctl_list_result {
    struct ctl_listed_list sandboxes;
};

/* What the domain gets, beside the same limits inside of it. 0: as it is. Fails
 * with ENOMEM when memory_max does not fit into the domain. */
struct ctl_update {
    char *namespace;
    char *id;
    uint64_t memory_max;
    uint32_t cpu_weight;
    bool has_cpu_cap;
    uint32_t cpu_cap; /* 0: not limited */
};

/* Of OCI, those that run in dom0. domusd checks each against domus.conf before
 * it runs the first. */
struct ctl_hooks {
    char *namespace;
    char *id;
    char *kind; /* "prestart", "createRuntime", "poststart", "poststop" */
    struct spec_hook_list hooks;
    char *state; /* for their standard input: OCI's state, as JSON */
    char *bundle;
};

/* The program of a binary:// URI, with descriptors 3, 4 and 5: what it reads
 * stdout and stderr from, and what it closes when it is ready. */
struct ctl_logger {
    char *namespace;
    char *id;
    char *path;
    struct string_list args; /* without args[0] */
};

union ctl_body {
    struct ctl_result result;
    struct ctl_create create;
    struct ctl_sandbox sandbox;
    struct ctl_name name;
    struct ctl_channel channel;
    struct ctl_console_result console_result;
    struct ctl_list_result list_result;
    struct ctl_died died;
    struct ctl_update update;
    struct ctl_hooks hooks;
    struct ctl_logger logger;
};

extern const struct packet_protocol ctl_protocol;

#endif
