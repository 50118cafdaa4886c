/*
 * spec.h - what a container is, in plain C: the structs at which all modules
 * meet. The shim makes them from config.json (OCI runtime spec 1.0.2), the
 * guest protocol carries them, domus-init acts on them.
 *
 * Members are named after the specification's fields. What is not here is
 * refused by the shim, by its name.
 */
#ifndef DOMUS_SPEC_H
#define DOMUS_SPEC_H

#include "domus/wire.h"

/* containerd's identifiers: letters, digits, and single . _ - between them. */
#define SPEC_ID_MAX        76
#define SPEC_PATH_MAX      4095
#define SPEC_ARGS_MAX      65536  /* entries of args, and of env */
#define SPEC_ARG_BYTES_MAX 131071 /* the kernel's MAX_ARG_STRLEN, less NUL */
#define SPEC_MOUNTS_MAX    1024
#define SPEC_PATHS_MAX     1024 /* masked and read-only paths */
#define SPEC_GROUPS_MAX    65536
#define SPEC_HOSTNAME_MAX  64
#define SPEC_RLIMITS_MAX   16

/* resource is Linux's RLIMIT_ number, values as in struct rlimit64. */
struct spec_rlimit {
    uint32_t resource;
    uint64_t soft;
    uint64_t hard;
};

struct spec_rlimit_list {
    struct spec_rlimit *v;
    size_t n;
};

/* Sets of capabilities: bit n is capability number n. */
struct spec_capabilities {
    uint64_t bounding;
    uint64_t effective;
    uint64_t inheritable;
    uint64_t permitted;
    uint64_t ambient;
};

struct spec_process {
    struct string_list args; /* at least one */
    struct string_list env;
    char *cwd;
    uint32_t uid;
    uint32_t gid;
    struct u32_list additional_gids;
    bool has_umask;
    uint32_t umask;
    bool terminal;
    uint32_t console_width;  /* columns */
    uint32_t console_height; /* rows */
    bool no_new_privileges;
    bool has_capabilities; /* false: keep all of them */
    struct spec_capabilities capabilities;
    struct spec_rlimit_list rlimits;
    bool has_oom_score_adj;
    int64_t oom_score_adj;
};

/*
 * A mount inside the guest. flags are Linux's MS_ bits, propagation the
 * MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE (and MS_REC) bits to set
 * afterwards; data is what is left of the options, comma-separated.
 */
struct spec_mount {
    char *destination; /* absolute, inside the container's root */
    char *type;
    char *source;
    uint64_t flags;
    uint64_t propagation;
    char *data;
};

struct spec_mount_list {
    struct spec_mount *v;
    size_t n;
};

/* cgroup v2 limits of the container in its guest; 0 is "no limit". */
struct spec_resources {
    uint64_t memory_max; /* bytes */
    uint64_t pids_max;
    uint64_t cpu_quota;  /* microseconds in each period */
    uint64_t cpu_period; /* microseconds */
    uint64_t cpu_weight; /* 1 to 10000 */
};

struct spec_container {
    char *id;
    char *hostname;
    char *domainname;
    bool root_readonly;
    uint64_t namespaces; /* CLONE_NEW bits of the namespaces to create */
    struct spec_mount_list mounts;
    struct string_list masked_paths;
    struct string_list readonly_paths;
    struct spec_resources resources;
    struct spec_process process;
};

extern const struct wire_desc spec_process_desc;
extern const struct wire_desc spec_container_desc;

/* containerd's rule for ids; nothing else becomes part of a path or a name. */
bool spec_id_valid(const char *id);

#endif
