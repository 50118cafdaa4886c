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
#define SPEC_SETTINGS_MAX  256  /* cgroup files, and sysctls */
#define SPEC_NAME_MAX      255  /* of a cgroup file or a sysctl */
#define SPEC_VALUE_MAX     4096 /* what is written to one */
#define SPEC_DEVICES_MAX   256  /* nodes, and rules */
#define SPEC_ID_MAPS_MAX   340  /* the kernel takes no more */
#define SPEC_HOOKS_MAX     64
#define SPEC_SECCOMP_MAX   32768 /* BPF_MAXINSNS of struct sock_filter */
#define SPEC_STATE_MAX     131072

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

/* As struct sched_attr has them. */
struct spec_scheduler {
    uint32_t policy;
    int64_t nice;
    uint32_t priority;
    uint64_t flags;
    uint64_t runtime_ns;
    uint64_t deadline_ns;
    uint64_t period_ns;
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
    bool has_io_priority;
    uint32_t io_class;    /* IOPRIO_CLASS_ */
    uint32_t io_priority; /* 0 to 7 within the class */
    bool has_scheduler;
    struct spec_scheduler scheduler;
};

/*
 * A mount inside the guest. flags are Linux's MS_ bits, propagation the
 * MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE (and MS_REC) bits to set
 * afterwards; all_set and all_clear are MOUNT_ATTR_ bits for the mount and
 * all beneath it ("rro"); data is what is left of the options,
 * comma-separated.
 */
struct spec_mount {
    char *destination; /* absolute, inside the container's root */
    char *type;
    char *source;
    uint64_t flags;
    uint64_t propagation;
    uint64_t all_set;
    uint64_t all_clear;
    bool copy_up; /* a tmpfs starts with what the image has there */
    char *data;
};

struct spec_mount_list {
    struct spec_mount *v;
    size_t n;
};

/* What is to be written to a file of the container's cgroup (version 2), by
 * its name there; or to a sysctl, by its name with dots. The shim translates
 * OCI's resources, so that both start and update are such a list. */
struct spec_setting {
    char *name;
    char *value;
};

struct spec_setting_list {
    struct spec_setting *v;
    size_t n;
};

/* A device node; type is 'b', 'c' (which includes OCI's 'u') or 'p'. */
struct spec_device {
    char *path; /* absolute, inside the container's root */
    uint32_t type;
    uint32_t major;
    uint32_t minor;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
};

struct spec_device_list {
    struct spec_device *v;
    size_t n;
};

#define SPEC_DEVICE_ANY (-1)

/* type is 'a', 'b' or 'c', access the BPF_DEVCG_ACC_ bits; later rules win. */
struct spec_device_rule {
    bool allow;
    uint32_t type;
    int64_t major; /* or SPEC_DEVICE_ANY */
    int64_t minor;
    uint32_t access;
};

struct spec_device_rule_list {
    struct spec_device_rule *v;
    size_t n;
};

/* A line of uid_map or gid_map; outside is a number of the guest. */
struct spec_id_map {
    uint32_t inside;
    uint32_t outside;
    uint32_t size;
};

struct spec_id_map_list {
    struct spec_id_map *v;
    size_t n;
};

/* Of a time namespace, added to the guest's clocks. */
struct spec_time_offset {
    int64_t seconds;
    uint32_t nanoseconds;
};

struct spec_hook {
    char *path;
    struct string_list args; /* with args[0]; empty: path alone */
    struct string_list env;
    uint32_t timeout_s; /* 0: as long as CREATE or START may take */
};

struct spec_hook_list {
    struct spec_hook *v;
    size_t n;
};

struct spec_container {
    char *id;
    char *hostname;
    char *domainname;
    bool root_readonly;
    uint64_t root_propagation; /* MS_ bits, 0: private */
    uint64_t namespaces;       /* CLONE_NEW bits of the namespaces to create */
    struct spec_id_map_list uid_maps; /* of CLONE_NEWUSER */
    struct spec_id_map_list gid_maps;
    struct spec_time_offset monotonic; /* of CLONE_NEWTIME */
    struct spec_time_offset boottime;
    struct spec_mount_list mounts;
    struct string_list masked_paths;
    struct string_list readonly_paths;
    struct spec_setting_list cgroup;
    struct spec_setting_list sysctls;
    struct spec_device_list devices;
    struct spec_device_rule_list device_rules;
    bool has_personality;
    uint32_t personality;   /* as for personality(2) */
    uint64_t seccomp_flags; /* SECCOMP_FILTER_FLAG_ */
    /* struct sock_filter, compiled by the shim for the guest's processor; for
     * each process of the container. Empty: none. */
    struct byte_list seccomp;
    /* Run in the guest, in the container's mount namespace: the first before
     * the change of root, the second just before the program. Both find their
     * programs beneath the container's root; a guest has no others. */
    struct spec_hook_list create_container_hooks;
    struct spec_hook_list start_container_hooks;
    /* For the hooks' standard input: the members of OCI's state but status and
     * pid, as JSON without the outer braces. Empty when there are no hooks. */
    char *hook_state;
    struct spec_process process;
};

extern const struct wire_desc spec_process_desc;
extern const struct wire_desc spec_setting_desc;
extern const struct wire_desc spec_hook_desc;
extern const struct wire_desc spec_container_desc;

/* Copies both strings to the end of the list. */
void spec_setting_add(struct spec_setting_list *list, const char *name,
                      const char *value);

/* containerd's rule for ids; nothing else becomes part of a path or a name. */
bool spec_id_valid(const char *id);

#endif
