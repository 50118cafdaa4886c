#include "tests/unit/shim_oci.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/log.h"

/* --- what is accepted ----------------------------------------------------- */

static void takes_what_ctr_writes(void **state)
{
    struct oci_config c;
    struct err e = ERR_INIT;
    const struct spec_container *s = &c.container;
    const struct spec_process *p = &s->process;

    (void)state;
    assert_ok(parse_file(CORPUS "ctr-default.json", &c, &e), e);
    assert_string_equal(c.root_path, "/bundle/rootfs");
    assert_int_equal(c.vcpus, 0);
    assert_int_equal(c.annotations.n, 0);
    assert_string_equal(s->id, "house");
    assert_string_equal(s->hostname, "");
    assert_false(s->root_readonly);
    assert_int_equal(s->namespaces, CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
                                        CLONE_NEWNS | CLONE_NEWNET);
    assert_int_equal(p->args.n, 3);
    assert_string_equal(p->args.v[2], "300");
    assert_int_equal(p->env.n, 1);
    assert_string_equal(p->cwd, "/");
    assert_int_equal(p->additional_gids.n, 1);
    assert_true(p->no_new_privileges);
    assert_false(p->terminal);
    assert_true(p->has_capabilities);
    /* containerd's fourteen, by their numbers in capability.h */
    assert_int_equal(p->capabilities.bounding, 0xa80425fb);
    assert_int_equal(p->capabilities.effective, 0xa80425fb);
    assert_int_equal(p->capabilities.permitted, 0xa80425fb);
    assert_int_equal(p->capabilities.inheritable, 0);
    assert_int_equal(p->capabilities.ambient, 0);
    assert_int_equal(p->rlimits.n, 1);
    assert_int_equal(p->rlimits.v[0].resource, RLIMIT_NOFILE);
    assert_int_equal(p->rlimits.v[0].soft, 1024);
    assert_int_equal(s->mounts.n, 7);
    assert_string_equal(s->mounts.v[1].destination, "/dev");
    assert_string_equal(s->mounts.v[1].type, "tmpfs");
    assert_int_equal(s->mounts.v[1].flags, MS_NOSUID | MS_STRICTATIME);
    assert_string_equal(s->mounts.v[1].data, "mode=755,size=65536k");
    assert_string_equal(s->mounts.v[2].data,
                        "newinstance,ptmxmode=0666,mode=0620,gid=5");
    assert_int_equal(s->mounts.v[5].flags,
                     MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY);
    assert_int_equal(s->masked_paths.n, 10);
    assert_int_equal(s->readonly_paths.n, 5);
    assert_string_equal(setting_of(&s->cgroup, "cpu.weight"), "39");
    assert_string_equal(setting_of(&s->cgroup, "memory.max"), "");
    oci_config_clear(&c);
}

static void takes_every_field_it_knows(void **state)
{
    struct oci_config c;
    struct err e = ERR_INIT;
    const struct spec_container *s = &c.container;
    const struct spec_process *p = &s->process;

    (void)state;
    assert_ok(parse_file(CORPUS "full.json", &c, &e), e);
    assert_string_equal(c.root_path, "/srv/root");
    assert_int_equal(c.vcpus, 2);
    assert_int_equal(c.annotations.n, 2);
    assert_string_equal(c.annotations.v[0], "io.domus.domain-type=pv");
    assert_string_equal(c.annotations.v[1], "io.domus.empty=");
    assert_string_equal(s->hostname, "house");
    assert_string_equal(s->domainname, "example");
    assert_true(s->root_readonly);
    assert_int_equal(s->namespaces, CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
                                        CLONE_NEWNS | CLONE_NEWNET |
                                        CLONE_NEWCGROUP | CLONE_NEWUSER |
                                        0x80 /* time */);
    assert_true(p->terminal);
    assert_int_equal(p->console_width, 80);
    assert_int_equal(p->console_height, 25);
    assert_int_equal(p->uid, 1000);
    assert_int_equal(p->gid, 100);
    assert_true(p->has_umask);
    assert_int_equal(p->umask, 022);
    assert_int_equal(p->additional_gids.n, 2);
    assert_int_equal(p->additional_gids.v[1], 4294967294U);
    assert_string_equal(p->args.v[2], "echo \"\xc3\xa4\"");
    assert_string_equal(p->env.v[1], "EMPTY=");
    assert_string_equal(p->cwd, "/tmp");
    assert_int_equal(p->capabilities.bounding, 1 | UINT64_C(1) << 40);
    assert_int_equal(p->capabilities.effective, 1);
    assert_int_equal(p->capabilities.permitted, 1 | 1 << 5);
    assert_int_equal(p->capabilities.inheritable, 1 << 5);
    assert_int_equal(p->capabilities.ambient, 1 << 21);
    assert_int_equal(p->rlimits.n, 2);
    assert_int_equal(p->rlimits.v[0].hard, 4096);
    assert_int_equal(p->rlimits.v[1].resource, RLIMIT_CORE);
    assert_int_equal(p->rlimits.v[1].hard, RLIM_INFINITY);
    assert_true(p->has_oom_score_adj);
    assert_int_equal(p->oom_score_adj, -500);
    assert_int_equal(s->mounts.v[1].flags, MS_STRICTATIME);
    assert_int_equal(s->mounts.v[1].propagation, MS_PRIVATE | MS_REC);
    assert_string_equal(s->mounts.v[1].data, "mode=755,size=65536k");
    assert_string_equal(s->mounts.v[1].source, "tmpfs");
    assert_string_equal(s->mounts.v[2].type, "cgroup2");
    assert_int_equal(c.memory_max, 268435456);
    assert_string_equal(setting_of(&s->cgroup, "memory.max"), "268435456");
    assert_string_equal(setting_of(&s->cgroup, "pids.max"), "100");
    assert_string_equal(setting_of(&s->cgroup, "cpu.max"), "150000 100000");
    assert_string_equal(s->masked_paths.v[1], "/proc/keys");
    assert_string_equal(s->readonly_paths.v[0], "/proc/sys");
    oci_config_clear(&c);
}

static void tells_what_ctr_may_ask_in_vain(void **state)
{
    static const struct {
        const char *file;
        const char *field; /* NULL: accepted */
    } cases[] = {
        {CORPUS "ctr-tty.json", NULL},
        {CORPUS "ctr-readonly.json", NULL},
        {CORPUS "ctr-privileged.json", NULL},
        {CORPUS "ctr-bind.json", "mounts[7].source: "},
        {CORPUS "ctr-net-host.json", "mounts[7].source: "},
        {CORPUS "ctr-seccomp.json", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct oci_config c;
        struct err e = ERR_INIT;

        if (!cases[i].field) {
            assert_ok(parse_file(cases[i].file, &c, &e), e);
            oci_config_clear(&c);
        } else {
            assert_int_equal(parse_file(cases[i].file, &c, &e), -ENOTSUP);
            assert_said(e, ENOTSUP, cases[i].field);
        }
    }
}

/* --- hostile documents ---------------------------------------------------- */

static void refuses_a_document_cut_anywhere(void **state)
{
    size_t n;
    _cleanup_free_ char *text = file_text(CORPUS "ctr-default.json", &n);

    (void)state;
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;
    for (size_t cut = 0; cut < n; cut++) {
        /* Exactly as long as it is, so that a sanitizer sees over-reads. */
        char *exact = xmalloc(cut);
        struct oci_config c;
        struct err e = ERR_INIT;

        memcpy(exact, text, cut);
        assert_int_equal(oci_parse(exact, cut, "/bundle", "house", &c, &e),
                         -EINVAL);
        assert_said(e, EINVAL, "config.json: ");
        free(exact);
    }
}

static void refuses_what_is_not_json(void **state)
{
    struct oci_config c;
    struct err e = ERR_INIT;

    (void)state;
    must_refuse("", EINVAL, "ends too early");
    must_refuse("   ", EINVAL, "ends too early");
    must_refuse("null", EINVAL, "must be an object");
    must_refuse("[]", EINVAL, "must be an object");
    must_refuse("7", EINVAL, "must be an object");
    must_refuse("{}{}", EINVAL, "is not JSON");
    must_refuse("{\"a\":1,}", EINVAL, "is not JSON");
    must_refuse("\xef\xbb\xbf{}", EINVAL, "is not JSON");
    must_refuse("{\"a\":\"\xff\"}", EINVAL, "is not JSON");
    must_refuse("{\"a\":18446744073709551616}", EINVAL, "64 bits");
    must_refuse("{\"a\":-99999999999999999999}", EINVAL, "64 bits");
    must_refuse("{\"a\":1e999}", EINVAL, "is missing");
    must_refuse("{\"\\u0000\":1}", EINVAL, "a NUL in a name");
    must_refuse("{\"b\":\"\\u0000\", \"linux\\u0000x\" :{}}", EINVAL,
                "a NUL in a name, at byte 30");
    /* No escape, since its backslash is escaped; and no name. */
    must_refuse("{\"\\\\u0000\":1,\"b\":[\"\\u0000\"],\"c\":1}", EINVAL,
                "is missing");
    assert_int_equal(oci_parse("{}\0", 3, "/b", "house", &c, &e), -EINVAL);
    assert_said(e, EINVAL, "NUL");
    assert_int_equal(oci_parse("{\"\\\0\"}", 6, "/b", "house", &c, &e),
                     -EINVAL);
    assert_said(e, EINVAL, "NUL");
}

static void refuses_deep_nesting(void **state)
{
    static const struct {
        const char *open;
        const char *middle;
        const char *close;
    } shapes[] = {{"[", "", "]"}, {"{\"a\":", "1", "}"}};

    (void)state;
    for (size_t s = 0; s < ARRAY_SIZE(shapes); s++) {
        char *text = NULL;
        size_t n;
        FILE *out = open_memstream(&text, &n);

        for (int i = 0; i < 10000; i++)
            fputs(shapes[s].open, out);
        fputs(shapes[s].middle, out);
        for (int i = 0; i < 10000; i++)
            fputs(shapes[s].close, out);
        assert_int_equal(fclose(out), 0);
        must_refuse(text, EINVAL, "is nested more than 32 deep");
        free(text);
    }
}

static void refuses_too_many_values(void **state)
{
    size_t n = OCI_CONFIG_MAX;
    _cleanup_free_ char *text = xmalloc(n + 1);
    struct oci_config c;
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < n; i++)
        text[i] = "[],"[i % 3];
    text[0] = '[';
    text[n] = '\0';
    must_refuse(text, EFBIG, "values");
    assert_int_equal(oci_parse(text, n + 1, "/bundle", "house", &c, &e),
                     -EFBIG);
    assert_said(e, EFBIG, "is larger than");
}

/* --- the file ------------------------------------------------------------- */

static char bundle[] = "/tmp/test_shim_oci.XXXXXX";
static char config_path[sizeof(bundle) + sizeof("/config.json")];

static int make_bundle(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    if (!mkdtemp(bundle))
        return -1;
    (void)snprintf(config_path, sizeof(config_path), "%s/config.json", bundle);
    return 0;
}

static int remove_bundle(void **state)
{
    (void)state;
    (void)remove(config_path);
    return rmdir(bundle);
}

static void must_not_load(int code, const char *words)
{
    struct oci_config c;
    struct err e = ERR_INIT;

    assert_int_equal(oci_load(bundle, "house", &c, &e), -code);
    assert_said(e, code, words);
    (void)remove(config_path);
}

static void loads_a_bundle(void **state)
{
    size_t n;
    _cleanup_free_ char *text = file_text(CORPUS "ctr-default.json", &n);
    _cleanup_free_ char *root = xasprintf("%s/rootfs", bundle);
    FILE *f = fopen(config_path, "we");
    struct oci_config c;
    struct err e = ERR_INIT;

    (void)state;
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_ok(oci_load(bundle, "house", &c, &e), e);
    assert_string_equal(c.root_path, root);
    oci_config_clear(&c);
    (void)remove(config_path);
}

static void refuses_a_file_that_is_none(void **state)
{
    struct oci_config c;
    struct err e = ERR_INIT;

    (void)state;
    must_not_load(ENOENT, "/config.json: No such file");
    assert_int_equal(mkfifo(config_path, 0600), 0);
    must_not_load(EINVAL, "is not a regular file");
    assert_int_equal(mkdir(config_path, 0700), 0);
    must_not_load(EINVAL, "is not a regular file");
    assert_int_equal(symlink("/etc/passwd", config_path), 0);
    must_not_load(ELOOP, "/config.json: ");
    assert_int_equal(oci_load("/nowhere", "house", &c, &e), -ENOENT);
    assert_said(e, ENOENT, "/nowhere/config.json: ");
}

static void refuses_a_huge_file(void **state)
{
    int fd = open(config_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 100 * 1024 * 1024), 0);
    close(fd);
    must_not_load(EFBIG, "is larger than 4194304 bytes");
}

static void refuses_an_empty_file(void **state)
{
    int fd = open(config_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    must_not_load(EINVAL, "ends too early");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_ctr_writes),
        cmocka_unit_test(takes_every_field_it_knows),
        cmocka_unit_test(tells_what_ctr_may_ask_in_vain),
        cmocka_unit_test(refuses_a_document_cut_anywhere),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(refuses_deep_nesting),
        cmocka_unit_test(refuses_too_many_values),
        cmocka_unit_test(loads_a_bundle),
        cmocka_unit_test(refuses_a_file_that_is_none),
        cmocka_unit_test(refuses_a_huge_file),
        cmocka_unit_test(refuses_an_empty_file),
    };

    return cmocka_run_group_tests(tests, make_bundle, remove_bundle);
}
