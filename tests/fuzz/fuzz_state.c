/*
 * A sandbox's record, as a power failure or a full disk may leave it. What is
 * believed must be what is written for it.
 *
 * archive: daemon
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"
#include "src/daemon/record.h"
#include "tests/fuzz/fuzz.h"

#define UUID "0f8e1f7e-1c5b-4a52-9d0e-6f5f4d3c2b1a"
#define NAME UUID ".state"

static int directory = -1;

static void clean_up(void)
{
    (void)unlinkat(directory, NAME, 0);
    (void)unlinkat(directory, UUID ".state.new", 0);
}

static char path[] = "/dev/shm/domus-fuzz-XXXXXX";

static void remove_directory(void)
{
    clean_up();
    (void)rmdir(path);
}

static void open_directory(void)
{
    FUZZ_CHECK(mkdtemp(path) && atexit(remove_directory) == 0);
    directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FUZZ_CHECK(directory >= 0);
}

static void put(const uint8_t *data, size_t size)
{
    int fd =
        openat(directory, NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record first, second;
    struct err e = ERR_INIT;

    if (directory < 0)
        open_directory();
    put(data, size);
    if (record_load(directory, NAME, &first, &e) == 0) {
        FUZZ_CHECK(strcmp(first.uuid, UUID) == 0);
        FUZZ_CHECK(record_save(directory, &first, &e) == 0);
        FUZZ_CHECK(record_load(directory, NAME, &second, &e) == 0);
        FUZZ_CHECK(strcmp(first.id, second.id) == 0 &&
                   strcmp(first.namespace, second.namespace) == 0 &&
                   first.domid == second.domid && first.loop == second.loop);
        record_clear(&first);
        record_clear(&second);
    }
    clean_up();
    return 0;
}

void fuzz_seeds(fuzz_emit_fn *emit)
{
    struct record record = {
        .namespace = (char *)"default",
        .id = (char *)"web1",
        .uuid = UUID,
        .state = (char *)"running",
        .domain_type = (char *)"pvh",
        .domid = 7,
        .memory_kb = 262144,
        .vcpus = 2,
        .image = (char *)"",
        .loop = 3,
        .created_unix_ns = 1700000000000000000,
    };
    struct err e = ERR_INIT;
    char text[4096];
    ssize_t n;
    int fd;

    if (directory < 0)
        open_directory();
    FUZZ_CHECK(record_save(directory, &record, &e) == 0);
    fd = openat(directory, NAME, O_RDONLY | O_CLOEXEC);
    n = read(fd, text, sizeof(text));
    FUZZ_CHECK(n > 0);
    close(fd);
    emit("record", text, (size_t)n);
    emit("cut", text, (size_t)n / 2);
    clean_up();
}
