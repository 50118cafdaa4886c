/* What a compiled profile answers, by running it as the kernel would. */
#include "tests/unit/shim_oci.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domus/log.h"

#define PROFILE       "linux/seccomp"
#define X32_BIT       0x40000000
#define FAILS(number) (SECCOMP_RET_ERRNO | (number))

static bool compare(const struct sock_filter *at, uint32_t a)
{
    switch (BPF_OP(at->code)) {
    case BPF_JEQ:
        return a == at->k;
    case BPF_JGT:
        return a > at->k;
    case BPF_JGE:
        return a >= at->k;
    case BPF_JSET:
        return a & at->k;
    }
    fail_msg("jump %x", at->code);
    return false;
}

/* The part of classic BPF that seccomp filters are of. */
static uint32_t run(const struct byte_list *program,
                    const struct seccomp_data *data)
{
    const struct sock_filter *v = (const void *)program->v;
    size_t n = program->n / sizeof(*v);
    uint32_t scratch[BPF_MEMWORDS] = {0};
    uint32_t a = 0, x = 0;

    for (size_t i = 0; i < n; i++) {
        const struct sock_filter *at = &v[i];

        switch (BPF_CLASS(at->code)) {
        case BPF_LD:
            if (BPF_MODE(at->code) == BPF_MEM) {
                a = scratch[at->k];
            } else {
                assert_true(at->k <= sizeof(*data) - 4 && at->k % 4 == 0);
                memcpy(&a, (const char *)data + at->k, sizeof(a));
            }
            break;
        case BPF_ST:
            scratch[at->k] = a;
            break;
        case BPF_ALU:
            assert_int_equal(BPF_OP(at->code), BPF_AND);
            a &= BPF_SRC(at->code) == BPF_X ? x : at->k;
            break;
        case BPF_JMP:
            i += BPF_OP(at->code) == BPF_JA ? at->k
                 : compare(at, a)           ? at->jt
                                            : at->jf;
            break;
        case BPF_RET:
            return at->k;
        default:
            fail_msg("instruction %zu: code %x", i, at->code);
        }
    }
    fail_msg("ran off the end");
    return 0;
}

struct call {
    int number;
    uint64_t args[6];
    uint32_t answer;
};

static void answers(const struct byte_list *program, const struct call *calls,
                    size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct seccomp_data data = {.nr = calls[i].number,
                                    .arch = AUDIT_ARCH_X86_64};
        uint32_t answer;

        memcpy(data.args, calls[i].args, sizeof(data.args));
        answer = run(program, &data);
        if (answer != calls[i].answer)
            fail_msg("call %zu, of %d: %x instead of %x", i, data.nr, answer,
                     calls[i].answer);
    }
}

/* Puts a profile into full.json and compares its answers. */
static void profile_answers(const char *profile, const struct call *calls,
                            size_t n)
{
    struct json_object *tree = changed(PROFILE, profile);
    struct oci_config c;
    struct err e = ERR_INIT;

    assert_ok(parse_tree(tree, &c, &e), e);
    json_object_put(tree);
    answers(&c.container.seccomp, calls, n);
    oci_config_clear(&c);
}

#define ANSWERS(profile, ...)                                   \
    do {                                                        \
        static const struct call calls_[] = {__VA_ARGS__};      \
        profile_answers((profile), calls_, ARRAY_SIZE(calls_)); \
    } while (0)

static void compiles_containerds_default(void **state)
{
    static const struct call calls[] = {
        {__NR_read, {0}, SECCOMP_RET_ALLOW},
        {__NR_execve, {0}, SECCOMP_RET_ALLOW},
        {__NR_personality, {0}, SECCOMP_RET_ALLOW},
        {__NR_personality, {8}, SECCOMP_RET_ALLOW},
        {__NR_personality, {0xffffffff}, SECCOMP_RET_ALLOW},
        {__NR_personality, {1}, FAILS(EPERM)},
        {__NR_clone, {0x11}, SECCOMP_RET_ALLOW},
        {__NR_clone, {CLONE_NEWUSER}, FAILS(EPERM)},
        {__NR_clone3, {0}, FAILS(ENOSYS)},
        {__NR_mount, {0}, FAILS(EPERM)},
        {__NR_bpf, {0}, FAILS(EPERM)},
        {__NR_reboot, {0}, FAILS(EPERM)},
        /* Newer than the profile. */
        {600, {0}, FAILS(ENOSYS)},
        {0x3fffffff, {0}, FAILS(ENOSYS)},
    };
    struct seccomp_data other = {.nr = 1, .arch = AUDIT_ARCH_I386};
    struct oci_config c;
    struct err e = ERR_INIT;
    const struct byte_list *program = &c.container.seccomp;

    (void)state;
    assert_ok(parse_file(CORPUS "ctr-seccomp.json", &c, &e), e);
    assert_true(program->n <= SPEC_SECCOMP_MAX);
    print_message("containerd's default profile: %zu instructions\n",
                  program->n / sizeof(struct sock_filter));
    answers(program, calls, ARRAY_SIZE(calls));
    /* 32-bit calls, and x32's: their thread dies. */
    assert_int_equal(run(program, &other), SECCOMP_RET_KILL_THREAD);
    other.arch = AUDIT_ARCH_X86_64;
    other.nr = X32_BIT | 1;
    assert_int_equal(run(program, &other), SECCOMP_RET_KILL_THREAD);
    oci_config_clear(&c);
}

/* In a child of its own; ends with 0, or with the number of what was wrong. */
static void be_filtered(const struct byte_list *program)
{
    struct sock_fprog filter = {
        .len = (unsigned short)(program->n / sizeof(struct sock_filter)),
        .filter = (void *)program->v,
    };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        _exit(1);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
        _exit(2);
    if (syscall(__NR_getppid) < 0)
        _exit(3);
    if (syscall(__NR_bpf, 0, NULL, 0) != -1 || errno != EPERM)
        _exit(4);
    if (syscall(__NR_clone3, NULL, 0) != -1 || errno != ENOSYS)
        _exit(5);
    if (syscall(600) != -1 || errno != ENOSYS)
        _exit(6);
    _exit(0);
}

/* This machine's kernel agrees with the interpreter above. */
static void is_taken_by_the_kernel(void **state)
{
    struct oci_config c;
    struct err e = ERR_INIT;
    int status = 0;
    pid_t child;

    (void)state;
    assert_ok(parse_file(CORPUS "ctr-seccomp.json", &c, &e), e);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        be_filtered(&c.container.seccomp);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    oci_config_clear(&c);
}

static void takes_every_action(void **state)
{
    static const struct {
        const char *action;
        uint32_t answer;
    } cases[] = {
        {"\"SCMP_ACT_KILL\"", SECCOMP_RET_KILL_THREAD},
        {"\"SCMP_ACT_KILL_THREAD\"", SECCOMP_RET_KILL_THREAD},
        {"\"SCMP_ACT_KILL_PROCESS\"", SECCOMP_RET_KILL_PROCESS},
        {"\"SCMP_ACT_TRAP\"", SECCOMP_RET_TRAP},
        {"\"SCMP_ACT_LOG\"", SECCOMP_RET_LOG},
        {"\"SCMP_ACT_ERRNO\"", FAILS(EPERM)},
        {"\"SCMP_ACT_ERRNO\",\"errnoRet\":4094", FAILS(4094)},
        {"\"SCMP_ACT_ERRNO\",\"errnoRet\":0", FAILS(0)},
        {"\"SCMP_ACT_TRACE\",\"errnoRet\":65535", SECCOMP_RET_TRACE | 65535},
        /* The default once more: nothing to be done. */
        {"\"SCMP_ACT_ALLOW\"", SECCOMP_RET_ALLOW},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *profile = xasprintf(
            "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":"
            "[\"mount\",\"no_such_call\"],\"action\":%s}]}",
            cases[i].action);
        struct call calls[] = {
            {__NR_mount, {0}, cases[i].answer},
            {__NR_read, {0}, SECCOMP_RET_ALLOW},
            {600, {0}, SECCOMP_RET_ALLOW},
        };

        profile_answers(profile, calls, ARRAY_SIZE(calls));
    }
}

#define RULE(args)                                                 \
    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":7," \
    "\"syscalls\":[{\"names\":[\"ioctl\"],\"action\":"             \
    "\"SCMP_ACT_ALLOW\",\"args\":[" args "]}]}"
#define ARG_(index, op, value) \
    "{\"index\":" #index ",\"op\":\"SCMP_CMP_" #op "\",\"value\":" value "}"
#define YES SECCOMP_RET_ALLOW
#define NO  FAILS(7)

static void compares_arguments(void **state)
{
    (void)state;
    ANSWERS(RULE(ARG_(1, EQ, "5")), {__NR_ioctl, {9, 5}, YES},
            {__NR_ioctl, {5, 6}, NO}, {__NR_read, {0}, NO});
    ANSWERS(RULE(ARG_(1, NE, "5")), {__NR_ioctl, {9, 5}, NO},
            {__NR_ioctl, {5, 6}, YES});
    ANSWERS(RULE(ARG_(1, LT, "5")), {__NR_ioctl, {0, 4}, YES},
            {__NR_ioctl, {0, 5}, NO});
    ANSWERS(RULE(ARG_(1, LE, "5")), {__NR_ioctl, {0, 5}, YES},
            {__NR_ioctl, {0, 6}, NO});
    ANSWERS(RULE(ARG_(1, GE, "5")), {__NR_ioctl, {0, 5}, YES},
            {__NR_ioctl, {0, 4}, NO});
    ANSWERS(RULE(ARG_(1, GT, "5")), {__NR_ioctl, {0, 6}, YES},
            {__NR_ioctl, {0, 5}, NO});
    /* All 64 bits of it. */
    ANSWERS(RULE(ARG_(5, EQ, "18446744073709551615")),
            {__NR_ioctl, {0, 0, 0, 0, 0, UINT64_MAX}, YES},
            {__NR_ioctl, {0, 0, 0, 0, 0, UINT32_MAX}, NO});
    ANSWERS(RULE("{\"index\":0,\"op\":\"SCMP_CMP_MASKED_EQ\",\"value\":12,"
                 "\"valueTwo\":4}"),
            {__NR_ioctl, {0x75}, YES}, {__NR_ioctl, {0x7d}, NO},
            {__NR_ioctl, {0}, NO});
    /* Of two arguments, both; of one twice, either. */
    ANSWERS(RULE(ARG_(0, EQ, "1") "," ARG_(1, EQ, "2")),
            {__NR_ioctl, {1, 2}, YES}, {__NR_ioctl, {1, 3}, NO},
            {__NR_ioctl, {3, 2}, NO});
    ANSWERS(RULE(ARG_(0, EQ, "1") "," ARG_(0, EQ, "2")), {__NR_ioctl, {1}, YES},
            {__NR_ioctl, {2}, YES}, {__NR_ioctl, {3}, NO});
}

/* Nothing is added in front where it would change what was asked for. */
static void answers_enosys_to_newer_calls_only(void **state)
{
    (void)state;
    ANSWERS(RULE(ARG_(1, EQ, "5")), {__NR_ioctl + 1, {0}, FAILS(ENOSYS)},
            {__NR_ioctl - 1, {0}, NO});
    ANSWERS("{\"defaultAction\":\"SCMP_ACT_KILL\"}",
            {__NR_read, {0}, SECCOMP_RET_KILL_THREAD},
            {600, {0}, SECCOMP_RET_KILL_THREAD});
    ANSWERS("{\"defaultAction\":\"SCMP_ACT_LOG\",\"syscalls\":[{\"names\":"
            "[\"read\"],\"action\":\"SCMP_ACT_ERRNO\"}]}",
            {__NR_read, {0}, FAILS(EPERM)}, {600, {0}, SECCOMP_RET_LOG});
    /* Who traces decides about all of them. */
    ANSWERS("{\"defaultAction\":\"SCMP_ACT_TRACE\",\"syscalls\":[{\"names\":"
            "[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}]}",
            {__NR_read, {0}, SECCOMP_RET_ALLOW},
            {600, {0}, SECCOMP_RET_TRACE | EPERM});
}

#define SYSCALLS(rule) \
    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[" rule "]}"

static void names_what_is_wrong(void **state)
{
    static const struct {
        const char *profile;
        int code;
        const char *words;
    } cases[] = {
        {"{\"syscalls\":[]}", EINVAL, "defaultAction: is missing"},
        {"{\"defaultAction\":\"\"}", EINVAL, "defaultAction: must be the name"},
        {"{\"defaultAction\":\"ALLOW\"}", EINVAL, "defaultAction: must be"},
        {"{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", ENOTSUP,
         "linux.seccomp.defaultAction: is not supported"},
        {"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultErrnoRet\":1}", EINVAL,
         "defaultErrnoRet: must not be 1 with SCMP_ACT_ALLOW"},
        {"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":4095}",
         EINVAL, "defaultErrnoRet: must not be 4095"},
        {"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":-1}",
         EINVAL, "defaultErrnoRet: must be an integer"},
        {"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":"
         "[\"SCMP_ARCH_X86_64\",\"x86\"]}",
         EINVAL, "architectures[1]: must be the name"},
        {"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"LOG\"]}", EINVAL,
         "flags[0]: must be the name"},
        {"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":"
         "[\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"]}",
         ENOTSUP, "flags[0]: is not supported"},
        {SYSCALLS("{\"names\":[],\"action\":\"SCMP_ACT_ALLOW\"}"), EINVAL,
         "syscalls[0].names: must not be empty"},
        {SYSCALLS("{\"action\":\"SCMP_ACT_ALLOW\"}"), EINVAL,
         "syscalls[0].names: is missing"},
        {SYSCALLS("{\"names\":[\"read\"]}"), EINVAL,
         "syscalls[0].action: is missing"},
        {SYSCALLS("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_NOTIFY\"}"),
         ENOTSUP, "syscalls[0].action: is not supported"},
        {SYSCALLS("{\"names\":[\"read\\u0000\"],\"action\":"
                  "\"SCMP_ACT_ALLOW\"}"),
         EINVAL, "syscalls[0].names[0]: must not contain"},
        {SYSCALLS("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\","
                  "\"errnoRet\":1}"),
         EINVAL, "syscalls[0].errnoRet: must not be 1 with SCMP_ACT_TRAP"},
        {SYSCALLS("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\","
                  "\"args\":[{\"index\":6,\"value\":0,\"op\":"
                  "\"SCMP_CMP_EQ\"}]}"),
         EINVAL, "syscalls[0].args[0].index: must be an integer from 0 to 5"},
        {SYSCALLS("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\","
                  "\"args\":[{\"index\":0,\"value\":-1,\"op\":"
                  "\"SCMP_CMP_EQ\"}]}"),
         EINVAL, "args[0].value: must be an integer"},
        {SYSCALLS("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\","
                  "\"args\":[{\"index\":0,\"value\":1,\"op\":\"==\"}]}"),
         EINVAL, "args[0].op: must be the name of an operator"},
        {SYSCALLS("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\","
                  "\"args\":[{},{},{},{},{},{},{}]}"),
         EINVAL, "args: must have at most 6 entries"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        must_refuse_change(PROFILE, cases[i].profile, cases[i].code,
                           cases[i].words);
}

/* 4000 rules for each of the names, that have no half of a value in common. */
static char *long_profile(const char *names)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    fprintf(out, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[");
    for (int i = 0; i < 4000; i++)
        fprintf(out,
                "%s{\"names\":[%s],\"action\":\"SCMP_ACT_ALLOW\",\"args\":"
                "[{\"index\":1,\"value\":%llu,\"op\":\"SCMP_CMP_EQ\"}]}",
                i ? "," : "", names, i * 0x100000001ULL);
    fprintf(out, "]}");
    fclose(out);
    return text;
}

/* Rules that are each in order, and too many for a program. */
static void refuses_a_profile_that_is_too_long(void **state)
{
    _cleanup_free_ char *one = long_profile("\"ioctl\"");
    _cleanup_free_ char *three = long_profile("\"ioctl\",\"fcntl\",\"prctl\"");

    (void)state;
    must_refuse_change(PROFILE, one, EINVAL, "linux.seccomp: is too long");
    must_refuse_change(PROFILE, three, EINVAL,
                       "linux.seccomp.syscalls[1365].names[1]: is a rule too "
                       "many");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compiles_containerds_default),
        cmocka_unit_test(is_taken_by_the_kernel),
        cmocka_unit_test(takes_every_action),
        cmocka_unit_test(compares_arguments),
        cmocka_unit_test(answers_enosys_to_newer_calls_only),
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(refuses_a_profile_that_is_too_long),
    };

    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
