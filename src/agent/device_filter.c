#include "device_filter.h"

#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "domus/mem.h"

#define ACCESS_ALL \
    (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)

/* What the program keeps in its registers. The kernel gives it the address of
 * a struct bpf_cgroup_dev_ctx in the first. */
enum {
    REG_RESULT = BPF_REG_0,
    REG_CONTEXT = BPF_REG_1, /* later for what is only in use at one place */
    REG_TYPE = BPF_REG_2,
    REG_WANTED = BPF_REG_3, /* accesses that no rule has allowed yet */
    REG_MAJOR = BPF_REG_4,
    REG_MINOR = BPF_REG_5,
};

struct program {
    struct bpf_insn *insns; /* borrowed */
    size_t n;
};

static void add(struct program *p, uint8_t code, uint8_t dst, uint8_t src,
                int16_t off, uint32_t imm)
{
    p->insns[p->n++] = (struct bpf_insn){.code = code,
                                         .dst_reg = dst & 0xf,
                                         .src_reg = src & 0xf,
                                         .off = off,
                                         .imm = (int32_t)imm};
}

static void load(struct program *p, uint8_t reg, size_t offset)
{
    add(p, BPF_LDX | BPF_MEM | BPF_W, reg, REG_CONTEXT, (int16_t)offset, 0);
}

static void answer(struct program *p, bool allow)
{
    add(p, BPF_ALU64 | BPF_MOV | BPF_K, REG_RESULT, 0, 0, allow);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* access_type has the type in its lower half and the accesses in the upper. */
static void begin(struct program *p)
{
    load(p, REG_TYPE, offsetof(struct bpf_cgroup_dev_ctx, access_type));
    add(p, BPF_ALU | BPF_MOV | BPF_X, REG_WANTED, REG_TYPE, 0, 0);
    add(p, BPF_ALU | BPF_RSH | BPF_K, REG_WANTED, 0, 0, 16);
    add(p, BPF_ALU | BPF_AND | BPF_K, REG_TYPE, 0, 0, 0xffff);
    load(p, REG_MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
    load(p, REG_MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
}

/* Jumps to the next rule when the register is something else; the distance is
 * filled in by land(). */
static void unless_equal(struct program *p, uint8_t reg, uint32_t value)
{
    add(p, BPF_JMP32 | BPF_JNE | BPF_K, reg, 0, -1, value);
}

static void land(struct program *p, size_t first)
{
    for (size_t i = first; i < p->n; i++)
        if (p->insns[i].off == -1)
            p->insns[i].off = (int16_t)(p->n - i - 1);
}

static void add_rule(struct program *p, const struct spec_device_rule *rule,
                     uint32_t type)
{
    size_t first = p->n;

    if (type)
        unless_equal(p, REG_TYPE, type);
    if (rule->major != SPEC_DEVICE_ANY)
        unless_equal(p, REG_MAJOR, (uint32_t)rule->major);
    if (rule->minor != SPEC_DEVICE_ANY)
        unless_equal(p, REG_MINOR, (uint32_t)rule->minor);
    if (rule->allow) {
        add(p, BPF_ALU | BPF_AND | BPF_K, REG_WANTED, 0, 0, ~rule->access);
        unless_equal(p, REG_WANTED, 0);
    } else {
        add(p, BPF_ALU | BPF_MOV | BPF_X, REG_CONTEXT, REG_WANTED, 0, 0);
        add(p, BPF_ALU | BPF_AND | BPF_K, REG_CONTEXT, 0, 0, rule->access);
        add(p, BPF_JMP32 | BPF_JEQ | BPF_K, REG_CONTEXT, 0, -1, 0);
    }
    answer(p, rule->allow);
    land(p, first);
}

static bool is_number(int64_t n)
{
    return n == SPEC_DEVICE_ANY || (n >= 0 && n <= UINT32_MAX);
}

static int check_rule(const struct spec_device_rule *rule, uint32_t *type_out,
                      struct err *e)
{
    static const struct {
        uint32_t name;
        uint32_t type;
    } types[] = {
        {'a', 0}, {'b', BPF_DEVCG_DEV_BLOCK}, {'c', BPF_DEVCG_DEV_CHAR}};

    if (!is_number(rule->major) || !is_number(rule->minor))
        return err_set(e, EINVAL, "there is no device %lld:%lld",
                       (long long)rule->major, (long long)rule->minor);
    if (rule->access & ~(uint32_t)ACCESS_ALL)
        return err_set(e, EINVAL, "there is no access 0x%x", rule->access);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (types[i].name == rule->type) {
            *type_out = types[i].type;
            return 0;
        }
    return err_set(e, EINVAL, "there is no device type %u", rule->type);
}

int device_filter_compile(const struct spec_device_rule_list *rules,
                          struct bpf_insn insns[DEVICE_FILTER_INSNS_MAX],
                          size_t *n_out, struct err *e)
{
    struct program p = {.insns = insns};

    if (rules->n > SPEC_DEVICES_MAX)
        return err_set(e, EINVAL, "%zu device rules are more than %d", rules->n,
                       SPEC_DEVICES_MAX);
    begin(&p);
    /* The last one that matches decides, so it is asked first. */
    for (size_t i = rules->n; i-- > 0;) {
        uint32_t type = 0;

        if (check_rule(&rules->v[i], &type, e) < 0)
            return err_wrap(e, "device rule %zu", i);
        add_rule(&p, &rules->v[i], type);
    }
    answer(&p, false);
    *n_out = p.n;
    return 0;
}

static int call_bpf(int command, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int attach(int cgroup, const struct bpf_insn *insns, size_t n,
                  struct err *e)
{
    _cleanup_fd_ int fd = -1;
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (uintptr_t)insns;
    attr.insn_cnt = (uint32_t)n;
    attr.license = (uintptr_t) "Apache-2.0";
    fd = call_bpf(BPF_PROG_LOAD, &attr);
    if (fd < 0 && (errno == ENOSYS || errno == EINVAL))
        return err_set(e, ENOTSUP,
                       "device rules: the guest's kernel has no filters of "
                       "devices (%s)",
                       strerror(errno));
    if (fd < 0)
        return err_errno(e, "device rules: load the filter");
    memset(&attr, 0, sizeof(attr));
    attr.target_fd = (uint32_t)cgroup;
    attr.attach_bpf_fd = (uint32_t)fd;
    attr.attach_type = BPF_CGROUP_DEVICE;
    /* Groups beneath, of a container in the container, may add theirs. */
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    if (call_bpf(BPF_PROG_ATTACH, &attr) < 0)
        return err_errno(e, "device rules: attach the filter to the cgroup");
    return 0;
}

int device_filter_attach(int cgroup, const struct spec_device_rule_list *rules,
                         struct err *e)
{
    _cleanup_free_ struct bpf_insn *insns = NULL;
    size_t n;
    int r;

    if (rules->n == 0)
        return 0;
    insns = xcalloc(DEVICE_FILTER_INSNS_MAX, sizeof(*insns));
    r = device_filter_compile(rules, insns, &n, e);
    return r < 0 ? r : attach(cgroup, insns, n, e);
}
