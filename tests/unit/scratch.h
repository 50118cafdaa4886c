/* scratch.h - a directory for a test's files, and what lies in it. */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domus/mem.h"
#include "tests/unit/unit.h"

static char scratch[] = "/tmp/domus-test-XXXXXX";

static inline int scratch_make(void **state)
{
    (void)state;
    (void)memcpy(scratch + strlen(scratch) - 6, "XXXXXX", 6);
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_unlink(const char *path, const struct stat *st,
                                 int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int scratch_remove(void **state)
{
    (void)state;
    return nftw(scratch, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* Of a file in the scratch directory; the caller's. */
static inline char *scratch_path(const char *name)
{
    return xasprintf("%s/%s", scratch, name);
}

static inline void scratch_write(const char *name, const char *text)
{
    _cleanup_free_ char *path = scratch_path(name);
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_int_equal(fputs(text, f) < 0, 0);
    assert_int_equal(fclose(f), 0);
}

static inline void scratch_mkdir(const char *name)
{
    _cleanup_free_ char *path = scratch_path(name);

    assert_int_equal(mkdir(path, 0755), 0);
}

/* How many entries whose name starts so. */
static inline size_t scratch_count(const char *dir, const char *prefix)
{
    _cleanup_free_ char *path = scratch_path(dir);
    _cleanup_closedir_ DIR *d = opendir(path);
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(d);
    while ((entry = readdir(d)))
        n += strcmp(entry->d_name, ".") != 0 &&
             strcmp(entry->d_name, "..") != 0 &&
             strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    return n;
}

#endif
