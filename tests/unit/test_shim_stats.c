/* A guest's cgroup files as containerd's metrics. */
#include "domus/mem.h"
#include "metrics.pb-c.h"
#include "shim/stats.h"
#include "unit.h"

typedef Io__Containerd__Cgroups__V2__Metrics metrics_t;

static Io__Containerd__Cgroups__V2__Metrics *encode(struct spec_setting *files,
                                                    size_t n)
{
    struct proto_stats_result stats = {.untrusted_files = {files, n}};
    _cleanup_buf_ struct buf out = BUF_INIT;
    Io__Containerd__Cgroups__V2__Metrics *metrics;

    stats_encode(&stats, &out);
    metrics = io__containerd__cgroups__v2__metrics__unpack(NULL, buf_len(&out),
                                                           buf_data(&out));
    assert_non_null(metrics);
    return metrics;
}

static void release(Io__Containerd__Cgroups__V2__Metrics *metrics)
{
    io__containerd__cgroups__v2__metrics__free_unpacked(metrics, NULL);
}

#define F(file, text)                  \
    {                                  \
        (char *)(file), (char *)(text) \
    }

static void test_all_files(void **state)
{
    struct spec_setting files[] = {
        F("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n"
                      "nr_periods 7\nnr_throttled 1\nthrottled_usec 9\n"),
        F("memory.current", "4096\n"),
        F("memory.max", "max\n"),
        F("memory.peak", "8192\n"),
        F("memory.swap.current", "12\n"),
        F("memory.swap.max", "13\n"),
        F("memory.stat", "anon 1\nanon_thp 10\nfile 2\nfile_mapped 7\n"
                         "workingset_refault_anon 20\n"
                         "workingset_refault_file 22\nthp_collapse_alloc 31"),
        F("memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\n"),
        F("pids.current", "3\n"),
        F("pids.max", "100\n"),
        F("io.stat", "202:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5\n"
                     "7:0 wios=8\n"),
        F("hugetlb.2MB.current", "2097152\n"),
        F("hugetlb.2MB.max", "max\n"),
    };
    metrics_t *m = encode(files, ARRAY_SIZE(files));

    (void)state;
    assert_int_equal(m->cpu->usage_usec, 5);
    assert_int_equal(m->cpu->throttled_usec, 9);
    assert_int_equal(m->memory->usage, 4096);
    assert_true(m->memory->usage_limit == UINT64_MAX);
    assert_int_equal(m->memory->max_usage, 8192);
    assert_int_equal(m->memory->swap_usage, 12);
    assert_int_equal(m->memory->swap_limit, 13);
    assert_int_equal(m->memory->anon, 1);
    assert_int_equal(m->memory->anon_thp, 10);
    assert_int_equal(m->memory->file, 2);
    assert_int_equal(m->memory->file_mapped, 7);
    assert_int_equal(m->memory->workingset_refault, 42);
    assert_int_equal(m->memory->thp_collapse_alloc, 31);
    assert_int_equal(m->memory_events->oom, 4);
    assert_int_equal(m->memory_events->oom_kill, 5);
    assert_int_equal(m->pids->current, 3);
    assert_int_equal(m->pids->limit, 100);
    assert_int_equal(m->io->n_usage, 2);
    assert_int_equal(m->io->usage[0]->major, 202);
    assert_int_equal(m->io->usage[0]->minor, 16);
    assert_int_equal(m->io->usage[0]->rbytes, 1);
    assert_int_equal(m->io->usage[0]->wios, 4);
    assert_int_equal(m->io->usage[1]->major, 7);
    assert_int_equal(m->io->usage[1]->rbytes, 0);
    assert_int_equal(m->io->usage[1]->wios, 8);
    assert_int_equal(m->n_hugetlb, 1);
    assert_string_equal(m->hugetlb[0]->pagesize, "2MB");
    assert_int_equal(m->hugetlb[0]->current, 2097152);
    release(m);
}

static void test_what_a_guest_may_lie(void **state)
{
    char many[STATS_DEVICES_MAX * 16 + 64] = "";
    struct spec_setting files[] = {
        F("cpu.stat", "usage_usec -5\nuser_usec x\nsystem_usec"),
        F("memory.current", "-1"),
        F("memory.peak", "99999999999999999999999999"),
        F("memory.stat", "\n\n anon 3\nfile  4\nslab"),
        F("io.stat", many),
        F("hugetlb..current", "1"),
        F("hugetlb.0123456789012345.current", "1"),
        F("hugetlb.2MB/../x.current", "1"),
        F("hugetlb.2MB.current", "x"),
    };
    metrics_t *m;

    (void)state;
    for (int i = 0; i < STATS_DEVICES_MAX + 3; i++)
        (void)snprintf(many + strlen(many), 16, "8:%d wios=1\n", i);
    m = encode(files, ARRAY_SIZE(files));
    assert_int_equal(m->cpu->usage_usec, 0);
    assert_int_equal(m->cpu->system_usec, 0);
    assert_int_equal(m->memory->usage, 0);
    assert_true(m->memory->max_usage == UINT64_MAX);
    assert_int_equal(m->memory->anon, 0);
    assert_int_equal(m->memory->file, 0);
    assert_int_equal(m->io->n_usage, STATS_DEVICES_MAX);
    assert_int_equal(m->n_hugetlb, 1);
    assert_int_equal(m->hugetlb[0]->current, 0);
    release(m);
}

static void test_nothing(void **state)
{
    metrics_t *m = encode(NULL, 0);

    (void)state;
    assert_int_equal(m->memory->usage, 0);
    assert_int_equal(m->io->n_usage, 0);
    assert_int_equal(m->n_hugetlb, 0);
    assert_string_equal(stats_type_url(), "io.containerd.cgroups.v2.Metrics");
    release(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_files),
        cmocka_unit_test(test_what_a_guest_may_lie),
        cmocka_unit_test(test_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
