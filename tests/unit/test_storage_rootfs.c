/* What containerd's rootfs mounts mean, and what is refused. */
#include "tests/unit/scratch.h"

#include "src/storage/rootfs.h"

static int parse_one(const char *type, const char *source, const char *options,
                     struct rootfs *rootfs, struct err *e)
{
    struct ctl_mount mount = {.type = (char *)type, .source = (char *)source};
    struct ctl_mount_list list = {.v = &mount, .n = 1};
    _cleanup_free_ char *copy = xstrdup(options);
    char *save = NULL;
    int r;

    for (char *o = strtok_r(copy, " ", &save); o;
         o = strtok_r(NULL, " ", &save))
        string_list_add(&mount.options, o);
    r = rootfs_parse(&list, "", rootfs, e);
    string_list_clear(&mount.options);
    return r;
}

static void overlay(void **state)
{
    struct rootfs rootfs;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(parse_one("overlay", "overlay",
                        "index=off workdir=/s/3/work upperdir=/s/3/fs "
                        "lowerdir=/s/2/fs:/s/1/fs",
                        &rootfs, &e),
              e);
    assert_true(rootfs.overlay);
    assert_false(rootfs.immutable);
    assert_int_equal(rootfs.layers.n, 3);
    assert_string_equal(rootfs.layers.v[0], "/s/3/fs");
    assert_string_equal(rootfs.layers.v[1], "/s/2/fs");
    assert_string_equal(rootfs.layers.v[2], "/s/1/fs");
    rootfs_clear(&rootfs);
    assert_ok(parse_one("overlay", "overlay", "lowerdir=/a userxattr ro",
                        &rootfs, &e),
              e);
    assert_true(rootfs.immutable);
    assert_true(rootfs.userxattr);
    rootfs_clear(&rootfs);
}

static void bind(void **state)
{
    struct rootfs rootfs;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(parse_one("bind", "/s/1/fs", "rbind ro", &rootfs, &e), e);
    assert_true(rootfs.immutable);
    assert_false(rootfs.overlay);
    rootfs_clear(&rootfs);
    assert_ok(parse_one("bind", "/s/1/fs", "rbind rw", &rootfs, &e), e);
    assert_false(rootfs.immutable);
    rootfs_clear(&rootfs);
}

static void refused(void **state)
{
    static const struct {
        const char *type, *source, *options;
        int code;
        const char *words;
    } rows[] = {
        {"ext4", "/dev/sda1", "rw", ENOTSUP, "type 'ext4'"},
        {"", "/a", "", ENOTSUP, "type ''"},
        {"bind", "relative", "ro", EINVAL, "not an absolute path"},
        {"bind", "", "ro", EINVAL, "not an absolute path"},
        {"overlay", "overlay", "upperdir=/u", EINVAL, "without a lowerdir"},
        {"overlay", "overlay", "lowerdir=", EINVAL, "not an absolute path"},
        {"overlay", "overlay", "lowerdir=/a::/b", EINVAL, "not an absolute"},
        {"overlay", "overlay", "lowerdir=/a:b", EINVAL, "'b' is not"},
        {"overlay", "overlay", "lowerdir=/a\\:b", ENOTSUP, "backslash"},
        {"overlay", "overlay", "lowerdir=/a metacopy=on", ENOTSUP,
         "'metacopy=on'"},
        {"overlay", "overlay", "lowerdir=/a redirect_dir=on", ENOTSUP,
         "'redirect_dir=on'"},
        {"overlay", "overlay", "lowerdir=/a upperdir=../u", EINVAL,
         "not an absolute path"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct rootfs rootfs;
        struct err e = ERR_INIT;

        assert_int_equal(parse_one(rows[i].type, rows[i].source,
                                   rows[i].options, &rootfs, &e),
                         -rows[i].code);
        assert_said(e, rows[i].code, rows[i].words);
    }
}

static void no_mounts(void **state)
{
    struct ctl_mount two[2] = {{0}};
    struct ctl_mount_list none = {.n = 0}, more = {.v = two, .n = 2};
    struct rootfs rootfs;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(rootfs_parse(&none, "", &rootfs, &e), -EINVAL);
    assert_said(e, EINVAL, "the rootfs is empty");
    assert_int_equal(rootfs_parse(&none, "//", &rootfs, &e), -EINVAL);
    assert_said(e, EINVAL, "the host's own root");
    assert_int_equal(rootfs_parse(&more, "/a", &rootfs, &e), -ENOTSUP);
    assert_ok(rootfs_parse(&none, "/b/rootfs", &rootfs, &e), e);
    assert_string_equal(rootfs.layers.v[0], "/b/rootfs");
    assert_false(rootfs.immutable);
    rootfs_clear(&rootfs);
}

static void too_many_layers(void **state)
{
    _cleanup_free_ char *options = xmalloc(16 + 3 * 400);
    struct rootfs rootfs;
    struct err e = ERR_INIT;
    size_t n = 0;

    (void)state;
    n += (size_t)snprintf(options, 16, "lowerdir=/a");
    for (int i = 1; i < ROOTFS_LAYERS_MAX; i++)
        n += (size_t)snprintf(options + n, 4, ":/a");
    assert_ok(parse_one("overlay", "overlay", options, &rootfs, &e), e);
    assert_int_equal(rootfs.layers.n, ROOTFS_LAYERS_MAX);
    rootfs_clear(&rootfs);
    (void)snprintf(options + n, 4, ":/a");
    assert_int_equal(parse_one("overlay", "overlay", options, &rootfs, &e),
                     -EINVAL);
}

static int parse_dirs(struct rootfs *rootfs, struct err *e)
{
    _cleanup_free_ char *options = xasprintf("upperdir=%s/u lowerdir=%s/b:%s/a",
                                             scratch, scratch, scratch);

    return parse_one("overlay", "overlay", options, rootfs, e);
}

static void upper_directory(void **state)
{
    _cleanup_free_ char *upper = scratch_path("u");
    struct rootfs rootfs;
    struct digest first, second;
    struct err e = ERR_INIT;

    (void)state;
    scratch_mkdir("a");
    scratch_mkdir("b");
    scratch_mkdir("u");
    assert_ok(parse_dirs(&rootfs, &e), e);
    assert_ok(rootfs_check(&rootfs, &e), e);
    assert_true(rootfs.immutable);
    assert_int_equal(rootfs.layers.n, 2);
    assert_ok(rootfs_identity(&rootfs, &first, &e), e);
    assert_ok(rootfs_identity(&rootfs, &second, &e), e);
    assert_string_equal(first.hex, second.hex);
    /* Something else in the place of a layer is another image. */
    scratch_write("b/file", "x");
    assert_ok(rootfs_identity(&rootfs, &second, &e), e);
    assert_string_not_equal(first.hex, second.hex);
    /* So is another root, which is the upper directory's. */
    assert_ok(rootfs_identity(&rootfs, &first, &e), e);
    assert_int_equal(chmod(upper, 0700), 0);
    rootfs_clear(&rootfs);
    assert_ok(parse_dirs(&rootfs, &e), e);
    assert_ok(rootfs_check(&rootfs, &e), e);
    assert_ok(rootfs_identity(&rootfs, &second, &e), e);
    assert_string_not_equal(first.hex, second.hex);
    rootfs_clear(&rootfs);
    scratch_write("u/file", "x");
    assert_ok(parse_dirs(&rootfs, &e), e);
    assert_ok(rootfs_check(&rootfs, &e), e);
    assert_false(rootfs.immutable);
    assert_int_equal(rootfs.layers.n, 3);
    rootfs_clear(&rootfs);
}

static void only_directories(void **state)
{
    static const char *const paths[] = {"/dev/null", "/dev/loop0",
                                        "/etc/passwd"};
    struct rootfs rootfs;
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        assert_ok(parse_one("bind", paths[i], "ro", &rootfs, &e), e);
        assert_int_equal(rootfs_check(&rootfs, &e), -EINVAL);
        assert_said(e, EINVAL, "never given to a guest");
        rootfs_clear(&rootfs);
    }
    assert_ok(parse_one("bind", "/nonexistent", "ro", &rootfs, &e), e);
    assert_int_equal(rootfs_check(&rootfs, &e), -ENOENT);
    rootfs_clear(&rootfs);
    assert_ok(parse_one("bind", scratch, "ro", &rootfs, &e), e);
    assert_int_equal(rootfs_check(&rootfs, &e), -EINVAL);
    assert_said(e, EINVAL, "is an empty directory");
    rootfs_clear(&rootfs);
}

#define TEST(fn) \
    cmocka_unit_test_setup_teardown(fn, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlay),
        cmocka_unit_test(bind),
        cmocka_unit_test(refused),
        cmocka_unit_test(no_mounts),
        cmocka_unit_test(too_many_layers),
        TEST(upper_directory),
        TEST(only_directories),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
