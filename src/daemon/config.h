/*
 * config.h - domus.conf: INI, section [domus]. Every key has a default, and
 * the file may be missing; a key that is unknown or wrong is an error.
 */
#ifndef DOMUS_CONFIG_H
#define DOMUS_CONFIG_H

#include <stdint.h>

#include "domus/log.h"
#include "domus/wire.h"

#define CONFIG_FILE    "/etc/domus/domus.conf"
#define CONFIG_MIB_MAX (1024 * 1024) /* a terabyte */
#define CONFIG_CPU_MAX 128

enum domain_type { DOMAIN_AUTO, DOMAIN_PV, DOMAIN_PVH };

struct config {
    char *run_dir;
    char *image_dir;
    char *guest_dir; /* kernel, initramfs and their digests */
    char *builder;   /* empty: this program itself */
    uint32_t workers;
    enum domain_type domain_type;
    uint32_t memory_overhead_mib; /* on top of the container's limit */
    uint32_t default_memory_mib;  /* and the least a domain gets */
    uint32_t vcpus;
    uint32_t start_timeout_s;
    uint32_t image_cache_max_mib;
    uint32_t image_build_memory_max_mib; /* of each mkfs.erofs */
    struct string_list allow_annotations;
    struct string_list hooks;   /* programs that may run as such; */
    struct string_list loggers; /* absolute paths */
    enum log_level log_level;
};

/* path NULL: the default, which may be missing. */
int config_load(const char *path, struct config *config_out, struct err *e);
void config_clear(struct config *config);

/* "auto", "pv", "pvh"; -1 for anything else. */
int domain_type_parse(const char *text);
const char *domain_type_name(enum domain_type type);

/* A decimal number within bounds; for values from configuration. */
int parse_number(const char *text, uint64_t least, uint64_t most,
                 uint64_t *number_out, struct err *e);

#endif
