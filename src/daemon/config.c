#include "config.h"

#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"
#include "policy.h"

#define CONFIG_BYTES_MAX (64 * 1024)
#define CONFIG_LINE_MAX  199 /* with its end: libinih's INI_MAX_LINE */
/* `nerdctl run` needs itself as a hook, its networks, and as a logger. */
#define NERDCTL "/usr/bin/nerdctl /usr/local/bin/nerdctl"

static const char *const domain_type_names[] = {
    [DOMAIN_AUTO] = "auto",
    [DOMAIN_PV] = "pv",
    [DOMAIN_PVH] = "pvh",
};

static const char *const level_names[] = {
    [LOG_DEBUG] = "debug",
    [LOG_INFO] = "info",
    [LOG_WARN] = "warning",
    [LOG_ERROR] = "error",
};

static int name_index(const char *const *names, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], text) == 0)
            return (int)i;
    return -1;
}

int domain_type_parse(const char *text)
{
    return name_index(domain_type_names, ARRAY_SIZE(domain_type_names), text);
}

const char *domain_type_name(enum domain_type type)
{
    return domain_type_names[type];
}

int parse_number(const char *text, uint64_t least, uint64_t most,
                 uint64_t *number_out, struct err *e)
{
    unsigned long long number;
    char *end = NULL;

    errno = 0;
    number = strtoull(text, &end, 10);
    /* strtoull alone takes white space and signs. */
    if (text[0] < '0' || text[0] > '9' || *end || errno || number < least ||
        number > most)
        return err_set(e, EINVAL, "'%.64s' is not a number from %llu to %llu",
                       text, (unsigned long long)least,
                       (unsigned long long)most);
    *number_out = number;
    return 0;
}

static int set_path(char **slot, const char *value, struct err *e)
{
    if (value[0] != '/')
        return err_set(e, EINVAL, "'%s' is not an absolute path", value);
    free(*slot);
    *slot = xstrdup(value);
    return 0;
}

static int set_u32(uint32_t *slot, const char *value, uint32_t least,
                   uint32_t most, struct err *e)
{
    uint64_t number;
    int r = parse_number(value, least, most, &number, e);

    if (r == 0)
        *slot = (uint32_t)number;
    return r;
}

static int set_run_dir(struct config *c, const char *value, struct err *e)
{
    return set_path(&c->run_dir, value, e);
}

static int set_image_dir(struct config *c, const char *value, struct err *e)
{
    return set_path(&c->image_dir, value, e);
}

static int set_guest_dir(struct config *c, const char *value, struct err *e)
{
    return set_path(&c->guest_dir, value, e);
}

static int set_builder(struct config *c, const char *value, struct err *e)
{
    if (value[0])
        return set_path(&c->builder, value, e);
    c->builder[0] = '\0';
    return 0;
}

static int set_workers(struct config *c, const char *value, struct err *e)
{
    return set_u32(&c->workers, value, 1, 32, e);
}

static int set_domain_type(struct config *c, const char *value, struct err *e)
{
    int type = domain_type_parse(value);

    if (type < 0)
        return err_set(e, EINVAL, "'%s' is not auto, pv or pvh", value);
    c->domain_type = (enum domain_type)type;
    return 0;
}

static int set_overhead(struct config *c, const char *value, struct err *e)
{
    return set_u32(&c->memory_overhead_mib, value, 0, CONFIG_MIB_MAX, e);
}

static int set_memory(struct config *c, const char *value, struct err *e)
{
    return set_u32(&c->default_memory_mib, value, 8, CONFIG_MIB_MAX, e);
}

static int set_vcpus(struct config *c, const char *value, struct err *e)
{
    return set_u32(&c->vcpus, value, 1, CONFIG_CPU_MAX, e);
}

static int set_timeout(struct config *c, const char *value, struct err *e)
{
    return set_u32(&c->start_timeout_s, value, 1, 3600, e);
}

static int set_cache_max(struct config *c, const char *value, struct err *e)
{
    return set_u32(&c->image_cache_max_mib, value, 0, UINT32_MAX, e);
}

static int set_build_memory(struct config *c, const char *value, struct err *e)
{
    return set_u32(&c->image_build_memory_max_mib, value, 64, CONFIG_MIB_MAX,
                   e);
}

static void set_words(struct string_list *list, const char *value)
{
    _cleanup_free_ char *copy = xstrdup(value);
    char *save = NULL;

    for (char *word = strtok_r(copy, " \t,", &save); word;
         word = strtok_r(NULL, " \t,", &save))
        string_list_add(list, word);
}

static int set_annotations(struct config *c, const char *value, struct err *e)
{
    const struct string_list *list = &c->allow_annotations;

    set_words(&c->allow_annotations, value);
    for (size_t i = 0; i < list->n; i++)
        if (!policy_knows_annotation(list->v[i]))
            return err_set(e, EINVAL, "there is no annotation '%s'",
                           list->v[i]);
    return 0;
}

static int set_programs(struct string_list *list, const char *value,
                        struct err *e)
{
    set_words(list, value);
    for (size_t i = 0; i < list->n; i++)
        if (list->v[i][0] != '/')
            return err_set(e, EINVAL, "'%s' is not an absolute path",
                           list->v[i]);
    return 0;
}

static int set_hooks(struct config *c, const char *value, struct err *e)
{
    return set_programs(&c->hooks, value, e);
}

static int set_loggers(struct config *c, const char *value, struct err *e)
{
    return set_programs(&c->loggers, value, e);
}

static int set_log_level(struct config *c, const char *value, struct err *e)
{
    int level = name_index(level_names, ARRAY_SIZE(level_names), value);

    if (level < 0)
        return err_set(e, EINVAL, "'%s' is not debug, info, warning or error",
                       value);
    c->log_level = (enum log_level)level;
    return 0;
}

/* A list goes on in further lines; anything else is set once. */
static const struct {
    const char *name;
    int (*set)(struct config *c, const char *value, struct err *e);
    size_t list; /* where in struct config, or 0 */
} keys[] = {
    {"run-dir", set_run_dir, 0},
    {"image-dir", set_image_dir, 0},
    {"guest-dir", set_guest_dir, 0},
    {"builder", set_builder, 0},
    {"workers", set_workers, 0},
    {"domain-type", set_domain_type, 0},
    {"memory-overhead", set_overhead, 0},
    {"default-memory", set_memory, 0},
    {"vcpus", set_vcpus, 0},
    {"start-timeout", set_timeout, 0},
    {"image-cache-max", set_cache_max, 0},
    {"image-build-memory-max", set_build_memory, 0},
    {"allow-annotations", set_annotations,
     offsetof(struct config, allow_annotations)},
    {"hooks", set_hooks, offsetof(struct config, hooks)},
    {"loggers", set_loggers, offsetof(struct config, loggers)},
    {"log-level", set_log_level, 0},
};

struct reading {
    struct config *config;
    struct err *e;
    bool seen[ARRAY_SIZE(keys)];
};

static int begin_key(struct reading *reading, size_t i)
{
    if (reading->seen[i] && !keys[i].list)
        return err_set(reading->e, EINVAL, "is set a second time");
    if (!reading->seen[i] && keys[i].list)
        string_list_clear((void *)((char *)reading->config + keys[i].list));
    reading->seen[i] = true;
    return 0;
}

static int on_entry(void *user, const char *section, const char *name,
                    const char *value)
{
    struct reading *reading = user;

    if (reading->e->code)
        return 0;
    if (strcmp(section, "domus") != 0) {
        (void)err_set(reading->e, EINVAL, "unknown section [%s]", section);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (strcmp(keys[i].name, name) != 0)
            continue;
        if (begin_key(reading, i) == 0 &&
            keys[i].set(reading->config, value ? value : "", reading->e) == 0)
            return 1;
        (void)err_wrap(reading->e, "%s", name);
        return 0;
    }
    (void)err_set(reading->e, EINVAL, "unknown key '%s'", name);
    return 0;
}

/* <dir of the executable>/../lib/domus */
static char *default_guest_dir(void)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *slash;

    if (n <= 0)
        return xstrdup("/usr/local/lib/domus");
    exe[n] = '\0';
    for (int i = 0; i < 2; i++) {
        slash = strrchr(exe, '/');
        if (slash)
            *slash = '\0';
    }
    return xasprintf("%s/lib/domus", exe);
}

static void set_defaults(struct config *c)
{
    *c = (struct config){
        .run_dir = xstrdup("/run/domus"),
        .image_dir = xstrdup("/var/lib/domus/images"),
        .guest_dir = default_guest_dir(),
        .builder = xstrdup(""),
        .workers = 2,
        .domain_type = DOMAIN_AUTO,
        .memory_overhead_mib = 32,
        .default_memory_mib = 128,
        .vcpus = 1,
        .start_timeout_s = 60,
        .image_cache_max_mib = 10 * 1024,
        .image_build_memory_max_mib = 2048,
        .log_level = LOG_INFO,
    };
    set_words(&c->hooks, NERDCTL);
    set_words(&c->loggers, NERDCTL);
}

/* libinih would take what is beyond for another line. */
static int check_lines(FILE *f, const char *path, struct err *e)
{
    _cleanup_free_ char *text = NULL;
    size_t room = 0;
    ssize_t n;

    for (int line = 1; (n = getline(&text, &room, f)) >= 0; line++)
        if (n > CONFIG_LINE_MAX)
            return err_set(e, EINVAL,
                           "%s: line %d is longer than %d characters; a list "
                           "may go on in an indented line",
                           path, line, CONFIG_LINE_MAX - 1);
    rewind(f);
    return 0;
}

static int load(FILE *f, const char *path, struct config *config, struct err *e)
{
    struct reading reading = {.config = config, .e = e};
    struct stat st;
    int line;

    if (fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode) ||
        st.st_size > CONFIG_BYTES_MAX)
        return err_set(e, EINVAL, "%s: not a file of at most %d bytes", path,
                       CONFIG_BYTES_MAX);
    if (check_lines(f, path, e) < 0)
        return -e->code;
    line = ini_parse_file(f, on_entry, &reading);
    if (e->code)
        return err_wrap(e, "%s", path);
    if (line != 0)
        return err_set(e, EINVAL, "%s: line %d cannot be read", path, line);
    return 0;
}

int config_load(const char *path, struct config *config_out, struct err *e)
{
    _cleanup_(config_clear) struct config config;
    _cleanup_fclose_ FILE *f = NULL;
    int r;

    set_defaults(&config);
    f = fopen(path ? path : CONFIG_FILE, "re");
    if (!f && (path || errno != ENOENT))
        return err_errno(e, "configuration file '%s'",
                         path ? path : CONFIG_FILE);
    if (f) {
        r = load(f, path ? path : CONFIG_FILE, &config, e);
        if (r < 0)
            return r;
    }
    *config_out = config;
    memset(&config, 0, sizeof(config));
    return 0;
}

void config_clear(struct config *config)
{
    free(config->run_dir);
    free(config->image_dir);
    free(config->guest_dir);
    free(config->builder);
    string_list_clear(&config->allow_annotations);
    string_list_clear(&config->hooks);
    string_list_clear(&config->loggers);
}
