#include "oci_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "domus/log.h"
#include "domus/mem.h"

/* With what SCMP_ACT_LOG and _KILL_PROCESS need; the guest's kernel has it,
 * and the host's is not to be asked. */
#define API_LEVEL 3

#define OPTIMIZE_TREE 2 /* a search tree instead of a chain of comparisons */

#define X32_BIT 0x40000000

int filter_init(const struct oci_path *path, struct filter *filter_out,
                uint32_t default_action, struct err *e)
{
    (void)seccomp_api_set(API_LEVEL);
    *filter_out = (struct filter){
        .ctx = seccomp_init(default_action),
        .default_action = default_action,
        .last_call = -1,
    };
    if (!filter_out->ctx)
        return oci_fail(path, e, ENOMEM, "libseccomp: out of memory");
    (void)seccomp_attr_set(filter_out->ctx, SCMP_FLTATR_CTL_OPTIMIZE,
                           OPTIMIZE_TREE);
    return 0;
}

static void remember_unknown(struct filter *filter, const char *name)
{
    if (filter->n_unknown++ < FILTER_NAMES_TOLD)
        string_list_add(&filter->unknown, name);
}

static int add(const struct oci_path *path, struct filter *filter, int number,
               uint32_t action, const struct filter_condition *conditions,
               size_t n, struct err *e)
{
    struct scmp_arg_cmp args[FILTER_ARGS_MAX];
    int r;

    if (++filter->n_rules > FILTER_RULES_MAX)
        return oci_fail(path, e, EINVAL,
                        "is a rule too many: at most %d, each name and each "
                        "alternative counted",
                        FILTER_RULES_MAX);
    for (size_t i = 0; i < n; i++)
        args[i] = (struct scmp_arg_cmp){
            .arg = conditions[i].arg,
            .op = conditions[i].op,
            .datum_a = conditions[i].datum_a,
            .datum_b = conditions[i].datum_b,
        };
    r = seccomp_rule_add_array(filter->ctx, action, number, (unsigned)n, args);
    if (r < 0 && r != -EEXIST)
        return oci_fail(path, e, EINVAL, "libseccomp refuses the rule: %s",
                        strerror(-r));
    return 0;
}

static bool has_alternatives(const struct filter_condition *conditions,
                             size_t n)
{
    uint32_t seen = 0;

    for (size_t i = 0; i < n; i++) {
        if (seen & (UINT32_C(1) << conditions[i].arg))
            return true;
        seen |= UINT32_C(1) << conditions[i].arg;
    }
    return false;
}

int filter_add(const struct oci_path *path, struct filter *filter,
               const char *name, uint32_t action,
               const struct filter_condition *conditions, size_t n,
               struct err *e)
{
    int number = seccomp_syscall_resolve_name(name);

    if (number == __NR_SCMP_ERROR) {
        remember_unknown(filter, name);
        return 0;
    }
    if (number > filter->last_call)
        filter->last_call = number;
    /* It would say nothing, and libseccomp refuses it. */
    if (action == filter->default_action)
        return 0;
    /* All conditions of a rule must hold, but libseccomp knows one for each
     * argument: of several for one, as runc has it, each is enough. */
    if (!has_alternatives(conditions, n))
        return add(path, filter, number, action, conditions, n, e);
    for (size_t i = 0; i < n; i++)
        if (add(path, filter, number, action, &conditions[i], 1, e) < 0)
            return -e->code;
    return 0;
}

/* --- calls that are newer than the profile ---------------------------------
 */

/*
 * A profile that forbids by default would answer EPERM to calls that it has
 * never heard of, and C libraries take only ENOSYS for "try the old one". So
 * what lies beyond the highest number of the profile gets ENOSYS, as with
 * runc, by a few instructions in front of libseccomp's.
 */
struct prelude {
    struct sock_filter v[6];
    size_t n;
};

#define LOAD(member) \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define COMPARE(how, number, yes, no) \
    BPF_JUMP(BPF_JMP | (how) | BPF_K, number, yes, no)

static bool forbids_by_default(uint32_t action)
{
    switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_TRACE:
        return false;
    }
    return action != SCMP_ACT_ERRNO(ENOSYS);
}

static void build_prelude(const struct filter *filter, struct prelude *prelude)
{
    /* Calls of another architecture, and x32's, are for what follows. */
    const struct prelude whole = {
        .v = {LOAD(arch), COMPARE(BPF_JEQ, AUDIT_ARCH_X86_64, 0, 4), LOAD(nr),
              COMPARE(BPF_JGE, X32_BIT, 2, 0),
              COMPARE(BPF_JGT, (uint32_t)filter->last_call, 0, 1),
              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS)},
        .n = 6,
    };

    if (forbids_by_default(filter->default_action) && filter->last_call >= 0)
        *prelude = whole;
}

/* --- the program ---------------------------------------------------------- */

static int read_program(const struct oci_path *path, int fd,
                        const struct prelude *prelude,
                        struct byte_list *program_out, struct err *e)
{
    size_t before = prelude->n * sizeof(prelude->v[0]);
    struct stat status;
    size_t n;
    uint8_t *v;

    if (fstat(fd, &status) < 0)
        return oci_fail(path, e, errno, "compiled filter: %s", strerror(errno));
    n = (size_t)status.st_size;
    if (n == 0 || before + n > SPEC_SECCOMP_MAX)
        return oci_fail(path, e, EINVAL,
                        "is too long: %zu instructions of at most %zu",
                        (before + n) / sizeof(struct sock_filter),
                        SPEC_SECCOMP_MAX / sizeof(struct sock_filter));
    v = xmalloc(before + n);
    memcpy(v, prelude->v, before);
    if (pread(fd, v + before, n, 0) != (ssize_t)n) {
        free(v);
        return oci_fail(path, e, EIO, "compiled filter: short read");
    }
    *program_out = (struct byte_list){v, before + n};
    return 0;
}

static void warn_of_unknown(const struct filter *filter)
{
    _cleanup_free_ char *names = xstrdup("");

    if (filter->n_unknown == 0)
        return;
    for (size_t i = 0; i < filter->unknown.n; i++) {
        const char *name = filter->unknown.v[i];
        char *longer = xasprintf("%s %s", names, LOG_Q(name, strlen(name)));

        free(names);
        names = longer;
    }
    log_warn("linux.seccomp: %zu names of system calls are not known here and "
             "get the default action:%s%s",
             filter->n_unknown, names,
             filter->n_unknown > filter->unknown.n ? " …" : "");
}

int filter_compile(const struct oci_path *path, struct filter *filter,
                   struct byte_list *program_out, struct err *e)
{
    struct prelude prelude = {.n = 0};
    _cleanup_fd_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
    int r;

    if (fd < 0)
        return oci_fail(path, e, errno, "memfd: %s", strerror(errno));
    r = seccomp_export_bpf(filter->ctx, fd);
    if (r < 0)
        return oci_fail(path, e, EINVAL, "libseccomp cannot compile it: %s",
                        strerror(-r));
    build_prelude(filter, &prelude);
    if (read_program(path, fd, &prelude, program_out, e) < 0)
        return -e->code;
    warn_of_unknown(filter);
    return 0;
}

void filter_clear(struct filter *filter)
{
    if (filter->ctx)
        seccomp_release(filter->ctx);
    string_list_clear(&filter->unknown);
}
