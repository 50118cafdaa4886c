/*
 * Runs a target over the files of a corpus, where libFuzzer is not linked;
 * with --write DIR, writes the target's seeds there.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domus/mem.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX (8 * 1024 * 1024)

static const char *directory;

static void write_seed(const char *name, const void *bytes, size_t n)
{
    _cleanup_free_ char *path = xasprintf("%s/%s", directory, name);
    _cleanup_fclose_ FILE *f = fopen(path, "we");

    if (!f || fwrite(bytes, 1, n, f) != n) {
        perror(path);
        exit(1);
    }
}

static int replay_file(const char *path)
{
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    _cleanup_free_ uint8_t *room = xmalloc(INPUT_MAX);
    _cleanup_free_ uint8_t *bytes = NULL;
    size_t n;

    if (!f) {
        perror(path);
        return -1;
    }
    n = fread(room, 1, INPUT_MAX, f);
    /* Of that size exactly, so that the sanitizer sees a byte too far. */
    bytes = xmalloc(n);
    memcpy(bytes, room, n);
    (void)LLVMFuzzerTestOneInput(bytes, n);
    return 0;
}

static int replay_directory(const char *path)
{
    _cleanup_closedir_ DIR *dir = opendir(path);
    struct dirent *entry;
    int n = 0;

    if (!dir) {
        perror(path);
        return -1;
    }
    while ((entry = readdir(dir))) {
        _cleanup_free_ char *file = xasprintf("%s/%s", path, entry->d_name);

        if (entry->d_name[0] == '.')
            continue;
        /* Named before it runs: the last one is the one that crashed. */
        fprintf(stderr, "# %s\n", file);
        if (replay_file(file) < 0)
            return -1;
        n++;
    }
    return n;
}

int main(int argc, char **argv)
{
    int n;

    if (argc == 3 && strcmp(argv[1], "--write") == 0 && fuzz_seeds) {
        directory = argv[2];
        fuzz_seeds(write_seed);
        return 0;
    }
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS | --write DIR\n", argv[0]);
        return 2;
    }
    printf("1..1\n");
    n = replay_directory(argv[1]);
    printf("%sok 1 - %d inputs of %s\n", n > 0 ? "" : "not ", n, argv[1]);
    return n > 0 ? 0 : 1;
}
