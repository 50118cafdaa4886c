/*
 * What a guest says its cgroup's files contain, made into containerd's
 * metrics. What comes out must be a message, of bounded size.
 *
 * archive: shim
 */
#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"
#include "metrics.pb-c.h"
#include "shim/stats.h"
#include "tests/fuzz/fuzz.h"

#define FILES_MAX   PROTO_STATS_FILES_MAX
#define METRICS_MAX 16384

/* The input is names and contents, each ended by a NUL. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spec_setting files[FILES_MAX];
    struct proto_stats_result stats = {.untrusted_files = {files, 0}};
    _cleanup_free_ char *text = xstrndup("", 0);
    _cleanup_buf_ struct buf out = BUF_INIT;
    Io__Containerd__Cgroups__V2__Metrics *metrics;
    char *at, *end;

    free(text);
    text = xcalloc(1, size + 2);
    memcpy(text, data, size);
    end = text + size;
    for (at = text; at < end && stats.untrusted_files.n < FILES_MAX;) {
        struct spec_setting *file = &files[stats.untrusted_files.n++];

        file->name = at;
        at += strlen(at) + 1;
        file->value = at <= end ? at : end;
        if (at <= end)
            at += strlen(at) + 1;
    }
    stats_encode(&stats, &out);
    FUZZ_CHECK(buf_len(&out) <= METRICS_MAX);
    metrics = io__containerd__cgroups__v2__metrics__unpack(NULL, buf_len(&out),
                                                           buf_data(&out));
    FUZZ_CHECK(metrics && metrics->memory && metrics->cpu && metrics->pids);
    FUZZ_CHECK(metrics->io->n_usage <= STATS_DEVICES_MAX);
    FUZZ_CHECK(metrics->n_hugetlb <= STATS_PAGE_SIZES_MAX);
    io__containerd__cgroups__v2__metrics__free_unpacked(metrics, NULL);
    return 0;
}

void fuzz_seeds(fuzz_emit_fn *emit)
{
    static const char all[] =
        "cpu.stat\0usage_usec 123\nuser_usec 100\nsystem_usec 23\0"
        "memory.current\0"
        "4096\n\0memory.max\0max\n\0"
        "memory.stat\0anon 1\nfile 2\nworkingset_refault_anon 3\n\0"
        "memory.events\0low 0\nhigh 0\nmax 1\noom 2\noom_kill 3\n\0"
        "io.stat\0"
        "202:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n\0"
        "hugetlb.2MB.current\0"
        "2097152\n\0hugetlb.2MB.max\0max\n";

    emit("all", all, sizeof(all));
    emit("cut", all, sizeof(all) / 2);
    emit("empty", "", 0);
}
