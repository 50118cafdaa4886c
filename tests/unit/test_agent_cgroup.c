/* Files of a control group, where the kernel is played by a directory; and
 * UPDATE and OOM, which come down to them. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"
#include "src/agent/container_impl.h"

struct group {
    char path[64];
    int fd;
};

static void put(struct group *g, const char *name, const char *text)
{
    int fd =
        openat(g->fd, name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

/* Unlike a cgroup's, a file keeps what is behind the text that was written. */
static void assert_file(struct group *g, const char *name, const char *text)
{
    char found[256] = "";
    int fd = openat(g->fd, name, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_true(read(fd, found, sizeof(found) - 1) >= 0);
    (void)close(fd);
    if (strncmp(found, text, strlen(text)) != 0)
        fail_msg("%s is \"%s\", not \"%s\"", name, found, text);
}

static int setup(void **state)
{
    struct group *g = xcalloc(1, sizeof(*g));

    (void)snprintf(g->path, sizeof(g->path), "/tmp/domus-cgroup-XXXXXX");
    assert_non_null(mkdtemp(g->path));
    g->fd = open(g->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(g->fd >= 0);
    put(g, "memory.max", "900000\n");
    put(g, "memory.current", "500000\n");
    put(g, "pids.max", "max\n");
    put(g, "cpu.max", "max 100000\n");
    /* Writing to it fails. */
    assert_int_equal(mkdirat(g->fd, "cpu.weight", 0755), 0);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"memory.max", "memory.current",
                                        "pids.max", "cpu.max", "memory.events"};
    struct group *g = *state;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        (void)unlinkat(g->fd, names[i], 0);
    (void)unlinkat(g->fd, "cpu.weight", AT_REMOVEDIR);
    (void)close(g->fd);
    assert_int_equal(rmdir(g->path), 0);
    free(g);
    return 0;
}

static int update(struct group *g, bool check, struct err *e,
                  const char *const pairs[])
{
    struct spec_setting_list list = {NULL, 0};
    int r;

    for (size_t i = 0; pairs[i]; i += 2)
        spec_setting_add(&list, pairs[i], pairs[i + 1]);
    r = cgroup_update(g->fd, &list, check, e);
    for (size_t i = 0; i < list.n; i++)
        wire_clear(&spec_setting_desc, &list.v[i]);
    free(list.v);
    return r;
}

#define update(g, check, e, ...) \
    update(g, check, e, (const char *const[]){__VA_ARGS__, NULL})

static void test_update(void **state)
{
    struct group *g = *state;
    struct err e = ERR_INIT;

    assert_ok(update(g, true, &e, "memory.max", "600000", "pids.max", "17",
                     "cpu.max", "5000 100000"),
              e);
    assert_file(g, "memory.max", "600000");
    assert_file(g, "pids.max", "17");
    assert_file(g, "cpu.max", "5000 100000");
    assert_ok(update(g, true, &e, "memory.max", "max"), e);
}

/* What was set before the failure is as it was. */
static void test_update_put_back(void **state)
{
    struct group *g = *state;
    struct err e = ERR_INIT;

    assert_true(update(g, false, &e, "memory.max", "600000", "cpu.max", "1 2",
                       "cpu.weight", "1", "pids.max", "17") < 0);
    assert_non_null(strstr(e.text, "set cpu.weight to 1"));
    assert_file(g, "memory.max", "900000\n");
    assert_file(g, "cpu.max", "max 100000\n");
    assert_file(g, "pids.max", "max\n");

    e.code = 0;
    assert_int_equal(
        update(g, false, &e, "pids.max", "17", "hugetlb.1GB.max", "1"),
        -ENOTSUP);
    assert_said(e, ENOTSUP, "hugetlb.1GB.max");
    assert_file(g, "pids.max", "max\n");
    e.code = 0;
    assert_int_equal(
        update(g, false, &e, "pids.max", "17", "cgroup.freeze", "1"), -EINVAL);
    assert_file(g, "pids.max", "max\n");
    e.code = 0;
    assert_int_equal(update(g, false, &e, "pids.max", "17", "../x", "1"),
                     -EINVAL);
    assert_file(g, "pids.max", "max\n");
}

static void test_update_checks_memory(void **state)
{
    struct group *g = *state;
    struct err e = ERR_INIT;

    assert_int_equal(
        update(g, true, &e, "pids.max", "17", "memory.max", "499999"), -EBUSY);
    assert_said(e, EBUSY, "500000");
    assert_file(g, "memory.max", "900000\n");
    assert_file(g, "pids.max", "max\n");
    e.code = 0;
    assert_ok(update(g, true, &e, "memory.max", "500000"), e);
    assert_ok(update(g, false, &e, "memory.max", "499999"), e);
    assert_file(g, "memory.max", "499999");
}

static void test_counter(void **state)
{
    struct group *g = *state;
    uint64_t n = 7;
    int fd = cgroup_open_events(g->fd, "memory.events");

    assert_int_equal(fd, -ENOENT);
    put(g, "memory.events", "low 0\noom 5\noom_kill 3\noom_group_kill 9\n");
    fd = cgroup_open_events(g->fd, "memory.events");
    assert_true(fd >= 0);
    assert_int_equal(cgroup_counter(fd, "oom_kill", &n), 0);
    assert_int_equal(n, 3);
    put(g, "memory.events", "low 0\noom 6\noom_kill 4\n");
    assert_int_equal(cgroup_counter(fd, "oom_kill", &n), 0);
    assert_int_equal(n, 4);
    assert_int_equal(cgroup_counter(fd, "oom_ki", &n), -ENOENT);
    assert_int_equal(n, 4);
    (void)close(fd);
}

static int no_message(void *context, struct proto_message *message,
                      struct err *e)
{
    (void)context;
    return err_set(e, EBADMSG, "%s came", proto_type_name(message->type));
}

static void no_close(void *context, const struct err *why)
{
    (void)context;
    fail_msg("closed: %s", why->text);
}

/* How many OOM came, and nothing else. */
static unsigned count_oom(int fd)
{
    uint8_t bytes[256];
    unsigned n = 0;
    ssize_t got;

    while ((got = recv(fd, bytes, PROTO_HEADER_SIZE, MSG_DONTWAIT)) > 0) {
        struct proto_header header;
        struct err e = ERR_INIT;

        assert_int_equal(got, PROTO_HEADER_SIZE);
        assert_ok(proto_header_decode(bytes, PROTO_FROM_GUEST, &header, &e), e);
        assert_int_equal(header.type, PROTO_OOM);
        assert_int_equal(recv(fd, bytes, header.length, MSG_DONTWAIT),
                         header.length);
        n++;
    }
    return n;
}

/* One notice for each increase, and none when the file is gone. */
static void test_oom(void **state)
{
    static const struct link_handler handler = {.message = no_message,
                                                .closed = no_close};
    struct group *g = *state;
    struct agent agent = {.loop = loop_new()};
    char id[] = "web1";
    struct container c = {
        .agent = &agent, .cgroup = g->fd, .id = id, .memory_events = -1};
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends),
                     0);
    agent.link = link_new(agent.loop, chan_from_socket(ends[0]), PROTO_TO_GUEST,
                          &handler, NULL);
    container_watch_memory(&c);
    assert_int_equal(c.memory_events, -1);
    container_check_memory(&c);

    put(g, "memory.events", "oom 0\noom_kill 0\n");
    container_watch_memory(&c);
    assert_true(c.memory_events >= 0);
    assert_int_equal(count_oom(ends[1]), 0);
    put(g, "memory.events", "oom 1\noom_kill 0\n");
    container_check_memory(&c);
    assert_int_equal(count_oom(ends[1]), 0);
    put(g, "memory.events", "oom 1\noom_kill 1\n");
    container_check_memory(&c);
    container_check_memory(&c);
    assert_int_equal(count_oom(ends[1]), 1);
    put(g, "memory.events", "oom 2\noom_kill 4\n");
    container_check_memory(&c);
    assert_int_equal(count_oom(ends[1]), 1);
    put(g, "memory.events", "");
    container_check_memory(&c);
    assert_int_equal(count_oom(ends[1]), 0);
    assert_int_equal(c.memory_events, -1);
    link_free(&agent.link);
    loop_free(agent.loop);
    (void)close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_update, setup, teardown),
        cmocka_unit_test_setup_teardown(test_update_put_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_update_checks_memory, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_counter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_oom, setup, teardown),
    };

    return cmocka_run_group_tests_name("agent cgroup", tests, NULL, NULL);
}
