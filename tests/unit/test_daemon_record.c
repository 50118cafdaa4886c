/* Records of sandboxes: what was written comes back, or nothing does. */
#include "tests/unit/scratch.h"

#include "src/daemon/record.h"

#define UUID      "0f9d3ed0-2b17-4a43-b1cd-ffba6dd04b11"
#define FILE_NAME UUID ".state"
#define DIGEST \
    "5f5e21688cb33eccf8226c588be5e2cc89cc9e78c7baba6b7724e024be965a3c"

static int dir_fd;

static int setup(void **state)
{
    if (scratch_make(state) < 0)
        return -1;
    dir_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir_fd < 0;
}

static int teardown(void **state)
{
    (void)close(dir_fd);
    return scratch_remove(state);
}

static struct record sample(void)
{
    return (struct record){
        .namespace = (char *)"k8s.io",
        .id = (char *)"web-1",
        .uuid = UUID,
        .state = (char *)"running",
        .domain_type = (char *)"pvh",
        .domid = 17,
        .memory_kb = 131072,
        .vcpus = 2,
        .cpu_weight = 512,
        .cpu_cap = 150,
        .image = (char *)DIGEST,
        .loop = 3,
        .created_unix_ns = 1764000000123456789,
    };
}

static void round_trip(void **state)
{
    struct record record = sample(), back;
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(record_save(dir_fd, &record, &e), e);
    record.domid = 18;
    assert_ok(record_save(dir_fd, &record, &e), e);
    assert_ok(record_load(dir_fd, FILE_NAME, &back, &e), e);
    assert_string_equal(back.namespace, "k8s.io");
    assert_string_equal(back.id, "web-1");
    assert_string_equal(back.uuid, UUID);
    assert_string_equal(back.state, "running");
    assert_string_equal(back.domain_type, "pvh");
    assert_int_equal(back.domid, 18);
    assert_int_equal(back.memory_kb, 131072);
    assert_int_equal(back.vcpus, 2);
    assert_int_equal(back.cpu_weight, 512);
    assert_int_equal(back.cpu_cap, 150);
    assert_string_equal(back.image, DIGEST);
    assert_int_equal(back.loop, 3);
    assert_true(back.created_unix_ns == 1764000000123456789);
    record_clear(&back);
    assert_int_equal(scratch_count(".", ""), 1);
    assert_ok(record_remove(dir_fd, UUID, &e), e);
    assert_ok(record_remove(dir_fd, UUID, &e), e);
    assert_int_equal(record_load(dir_fd, FILE_NAME, &back, &e), -ENOENT);
}

static char *saved_text(void)
{
    struct record record = sample();
    struct err e = ERR_INIT;
    _cleanup_free_ char *path = scratch_path(FILE_NAME);
    char *text = xcalloc(1, 4096);
    _cleanup_fd_ int fd = -1;

    assert_ok(record_save(dir_fd, &record, &e), e);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, text, 4095) > 0);
    return text;
}

static void cut_short_anywhere(void **state)
{
    _cleanup_free_ char *text = saved_text();
    size_t n = strlen(text);

    (void)state;
    for (size_t keep = 0; keep < n; keep++) {
        _cleanup_free_ char *cut = xstrndup(text, keep);
        struct record back;
        struct err e = ERR_INIT;

        scratch_write(FILE_NAME, cut);
        assert_true(record_load(dir_fd, FILE_NAME, &back, &e) < 0);
    }
}

static void replace(const char *text, const char *old, const char *new)
{
    const char *at = strstr(text, old);
    _cleanup_free_ char *changed = NULL;

    assert_non_null(at);
    changed =
        xasprintf("%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
    scratch_write(FILE_NAME, changed);
}

static void garbled(void **state)
{
    static const struct {
        const char *old, *new, *words;
    } rows[] = {
        {"version = 2", "version = 0", "version 0"},
        {"version = 2\n", "", "'version' is missing"},
        {"cpu-cap = 150\n", "", "'cpu-cap' is missing"},
        {"cpu-weight = 512", "cpu-weight = 5e2", "cpu-weight"},
        {"id = web-1", "id = ../x", "invalid namespace or id"},
        {"namespace = k8s.io", "namespace = a/b", "invalid namespace"},
        {UUID, "0f9d3ed0-2b17-4a43-b1cd-ffba6dd04b12", "the uuid is not"},
        {"domid = 17", "domid = seventeen", "domid"},
        {"domid = 17", "domid = 70000", "domid"},
        {"loop = 3", "loop = -3", "loop"},
        {"image = 5f", "image = ..", "invalid image digest"},
        {"vcpus = 2\n", "", "'vcpus' is missing"},
        {"vcpus = 2", "vcpus = 2\nvcpus = 2", "not a record"},
        {"vcpus = 2", "more = 2\nvcpus = 2", "not a record"},
        {"[sandbox]", "[other]", "not a record"},
    };
    _cleanup_free_ char *text = saved_text();

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct record back;
        struct err e = ERR_INIT;

        replace(text, rows[i].old, rows[i].new);
        assert_int_equal(record_load(dir_fd, FILE_NAME, &back, &e), -EINVAL);
        assert_said(e, EINVAL, rows[i].words);
        assert_said(e, EINVAL, FILE_NAME);
    }
}

/* An upgraded domusd adopts what the one before it built. */
static void reads_version_1(void **state)
{
    _cleanup_free_ char *text = saved_text();
    char *weight = strstr(text, "cpu-weight"), *after = strstr(text, "image");
    struct record back;
    struct err e = ERR_INIT;

    (void)state;
    memmove(weight, after, strlen(after) + 1);
    replace(text, "version = 2", "version = 1");
    assert_ok(record_load(dir_fd, FILE_NAME, &back, &e), e);
    assert_int_equal(back.vcpus, 2);
    assert_int_equal(back.cpu_weight, 0);
    assert_int_equal(back.cpu_cap, 0);
    record_clear(&back);
}

/* Whatever else it says: it is not to be taken for a broken one. */
static void tells_a_newer_one(void **state)
{
    _cleanup_free_ char *text = saved_text();
    struct record back;
    struct err e = ERR_INIT;

    (void)state;
    replace(text, "version = 2", "version = 3\nvfb = none");
    assert_int_equal(record_load(dir_fd, FILE_NAME, &back, &e),
                     -EPROTONOSUPPORT);
    assert_said(e, EPROTONOSUPPORT, "version 3");
    assert_said(e, EPROTONOSUPPORT, FILE_NAME);
}

static void links_are_not_followed(void **state)
{
    _cleanup_free_ char *text = saved_text();
    _cleanup_free_ char *path = scratch_path(FILE_NAME);
    struct record record = sample(), back;
    struct err e = ERR_INIT;

    (void)state;
    scratch_write("elsewhere", text);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(record_load(dir_fd, FILE_NAME, &back, &e), -ELOOP);
    /* Saving replaces the link, not what it leads to. */
    record.domid = 99;
    assert_ok(record_save(dir_fd, &record, &e), e);
    assert_ok(record_load(dir_fd, "elsewhere", &back, &e) < 0 ? 0 : -1, e);
    assert_ok(record_load(dir_fd, FILE_NAME, &back, &e), e);
    assert_int_equal(back.domid, 99);
    record_clear(&back);
}

static void count_one(void *context, const char *file_name)
{
    size_t *n = context;

    assert_string_equal(file_name, FILE_NAME);
    ++*n;
}

static void only_records_are_found(void **state)
{
    _cleanup_free_ char *text = saved_text();
    struct err e = ERR_INIT;
    size_t n = 0;

    (void)state;
    scratch_write("README", "x");
    scratch_write(".new-" UUID, "half");
    scratch_write("0F9D3ED0-2B17-4A43-B1CD-FFBA6DD04B11.state", "x");
    assert_ok(record_each(dir_fd, count_one, &n, &e), e);
    assert_int_equal(n, 1);
    assert_int_equal(scratch_count(".", ".new-"), 0);
}

static void uuids(void **state)
{
    char a[UUID_LENGTH + 1], b[UUID_LENGTH + 1];

    (void)state;
    uuid_make(a);
    uuid_make(b);
    assert_int_equal(strlen(a), UUID_LENGTH);
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
    assert_string_not_equal(a, b);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(round_trip),
        TEST(cut_short_anywhere),
        TEST(garbled),
        TEST(reads_version_1),
        TEST(tells_a_newer_one),
        TEST(links_are_not_followed),
        TEST(only_records_are_found),
        TEST(uuids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
