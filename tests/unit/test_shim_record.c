/* What the shim leaves for `delete`, its streams, and the form of metrics. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"
#include "metrics.pb-c.h"
#include "shim/record.h"
#include "shim/stats.h"
#include "shim/streams.h"
#include "shim/ttrpc.h"
#include "unit.h"

static char directory[64];

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof(directory), "/tmp/domus-unit-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static const char *in_directory(const char *name)
{
    static char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static int tear_down(void **state)
{
    static const char *const names[] = {RECORD_FILE, "fifo", "file", "link",
                                        "target"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        (void)unlink(in_directory(names[i]));
    return rmdir(directory);
}

static void test_record(void **state)
{
    struct record record = {.shim = 77,
                            .sandbox = true,
                            .exited = true,
                            .status = 255,
                            .exited_ns = 1795487143734208925};
    struct record read = {.shim = 1};
    struct err e = ERR_INIT;

    (void)state;
    assert_ok(record_read(directory, &read, &e), e);
    assert_int_equal(read.shim, 0);
    assert_false(read.sandbox);
    assert_ok(record_write(directory, &record, &e), e);
    assert_ok(record_read(directory, &read, &e), e);
    assert_int_equal(read.shim, 77);
    assert_true(read.sandbox);
    assert_true(read.exited);
    assert_int_equal(read.status, 255);
    assert_true(read.exited_ns == record.exited_ns);
}

/* Neither a record that is none nor a link to some other file is taken. */
static void test_bad_record(void **state)
{
    struct record record = {0};
    struct err e = ERR_INIT;
    FILE *f;

    (void)state;
    f = fopen(in_directory(RECORD_FILE), "w");
    assert_non_null(f);
    (void)fprintf(f, "shim=many\n");
    (void)fclose(f);
    assert_int_equal(record_read(directory, &record, &e), -EINVAL);
    assert_said(e, EINVAL, "not a record");
    assert_int_equal(unlink(in_directory(RECORD_FILE)), 0);
    assert_int_equal(symlink("target", in_directory(RECORD_FILE)), 0);
    assert_int_equal(record_read(directory, &record, &e), -ELOOP);
    assert_ok(record_write(directory, &record, &e), e);
    assert_int_equal(access(in_directory("target"), F_OK), -1);
}

static int open_out(const char *uri, struct stdio *stdio, struct err *e)
{
    struct stdio_paths paths = {
        .in = (char *)"", .out = (char *)uri, .err = (char *)""};

    return stdio_open(&paths, stdio, e);
}

static void refuse(const char *uri, int code, const char *words)
{
    struct stdio stdio = STDIO_INIT;
    struct err e = ERR_INIT;

    assert_int_equal(open_out(uri, &stdio, &e), -code);
    assert_said(e, code, words);
    assert_said(e, code, "standard output");
    assert_int_equal(stdio.out.fd, -1);
}

static void test_streams_refused(void **state)
{
    int fd = open(in_directory("file"), O_CREAT | O_WRONLY, 0600);

    (void)state;
    assert_true(fd >= 0);
    (void)close(fd);
    refuse("gopher:///bin/true", EINVAL, "gopher:///bin/true");
    refuse("relative", EINVAL, "neither an absolute path nor a URI");
    refuse(in_directory("missing"), EINVAL, "does not exist");
    refuse(in_directory("file"), EINVAL, "not a FIFO");
    refuse(directory, EINVAL, "not a FIFO");
    refuse("/dev/null", EINVAL, "not a FIFO");
    assert_int_equal(mkfifo(in_directory("target"), 0600), 0);
    assert_int_equal(symlink("target", in_directory("link")), 0);
    refuse(in_directory("link"), EINVAL, "not a FIFO");
}

/* Bytes written with no reader about are found by one that comes later, also
 * after the writer's end was closed. */
static void test_output_waits_for_reader(void **state)
{
    struct stdio stdio = STDIO_INIT;
    struct err e = ERR_INIT;
    char uri[160], bytes[8];
    int reader;

    (void)state;
    assert_int_equal(mkfifo(in_directory("fifo"), 0600), 0);
    (void)snprintf(uri, sizeof(uri), "fifo://%s", in_directory("fifo"));
    assert_ok(open_out(uri, &stdio, &e), e);
    assert_int_equal(write(stdio.out.fd, "bytes", 5), 5);
    close_fd(&stdio.out.fd);
    reader = open(in_directory("fifo"), O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(read(reader, bytes, sizeof(bytes)), 5);
    assert_int_equal(read(reader, bytes, sizeof(bytes)), 0);
    (void)close(reader);
    stdio_close(&stdio);
}

static short ready(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    assert_in_range(poll(&p, 1, 0), 0, 1);
    return p.revents;
}

/* Standard input does not end because nobody has opened it yet, but when the
 * last client goes. */
static void test_input_ends(void **state)
{
    struct stdio_paths paths = {.out = (char *)"", .err = (char *)""};
    struct stdio stdio = STDIO_INIT;
    struct err e = ERR_INIT;
    char bytes[8], path[128];
    int first, second;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s", in_directory("fifo"));
    assert_int_equal(mkfifo(path, 0600), 0);
    paths.in = path;
    assert_ok(stdio_open(&paths, &stdio, &e), e);
    assert_int_equal(ready(stdio.in.fd), 0);
    first = open(path, O_WRONLY | O_NONBLOCK);
    second = open(path, O_WRONLY | O_NONBLOCK);
    assert_int_equal(write(first, "abc", 3), 3);
    (void)close(first);
    assert_int_equal(read(stdio.in.fd, bytes, sizeof(bytes)), 3);
    assert_int_equal(ready(stdio.in.fd), 0);
    (void)close(second);
    assert_int_equal(ready(stdio.in.fd), POLLHUP);
    assert_int_equal(read(stdio.in.fd, bytes, sizeof(bytes)), 0);
    stdio_close(&stdio);
}

static void test_metrics(void **state)
{
    struct proto_stats_result stats = {.untrusted_files = {NULL, 0}};
    struct spec_setting_list *files = &stats.untrusted_files;
    struct buf bytes = BUF_INIT;
    Io__Containerd__Cgroups__V2__Metrics *metrics;

    (void)state;
    spec_setting_add(files, "memory.current", "1\n");
    spec_setting_add(files, "memory.max", "2\n");
    spec_setting_add(files, "memory.peak", "3\n");
    spec_setting_add(files, "memory.stat", "anon_thp 9\nanon 4\n");
    spec_setting_add(files, "cpu.stat", "usage_usec 5\nthrottled_usec 6\n");
    spec_setting_add(files, "pids.current", "7\n");
    spec_setting_add(files, "pids.max", "max\n");
    assert_string_equal(stats_type_url(), "io.containerd.cgroups.v2.Metrics");
    stats_encode(&stats, &bytes);
    metrics = (Io__Containerd__Cgroups__V2__Metrics *)ttrpc_unpack(
        &io__containerd__cgroups__v2__metrics__descriptor, buf_data(&bytes),
        buf_len(&bytes));
    assert_non_null(metrics);
    assert_int_equal(metrics->memory->usage, 1);
    assert_int_equal(metrics->memory->usage_limit, 2);
    assert_int_equal(metrics->memory->max_usage, 3);
    assert_int_equal(metrics->memory->anon, 4);
    assert_int_equal(metrics->cpu->usage_usec, 5);
    assert_int_equal(metrics->cpu->throttled_usec, 6);
    assert_int_equal(metrics->pids->current, 7);
    assert_true(metrics->pids->limit == UINT64_MAX);
    protobuf_c_message_free_unpacked(&metrics->base, NULL);
    buf_clear(&bytes);
    wire_clear(proto_desc(PROTO_STATS_RESULT), &stats);
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_record),          TEST(test_bad_record),
        TEST(test_streams_refused), TEST(test_output_waits_for_reader),
        TEST(test_input_ends),      TEST(test_metrics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
