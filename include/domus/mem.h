/*
 * mem.h - heap helpers that cannot fail, and clean-up attributes.
 *
 * Out of memory on the host ends the process: half of the libraries below us
 * do so anyway, and the clean-up after a dead process is a tested path.
 * Sizes that come from outside are checked against a limit before they get
 * here.
 */
#ifndef DOMUS_MEM_H
#define DOMUS_MEM_H

#include <dirent.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xreallocarray(void *old, size_t count, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t max);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Hand over ownership out of a variable with a clean-up attribute. */
static inline int steal_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

static inline void *steal_pointer(void *where)
{
    void **slot = where;
    void *taken = *slot;

    *slot = NULL;
    return taken;
}
#define steal_ptr(where) ((__typeof__(*(where)))steal_pointer(where))

static inline void cleanup_freep(void *where)
{
    free(*(void **)where);
}

/* Closes and disarms; errno survives, so that callers may report it. */
void close_fd(int *fd);

static inline void cleanup_fclosep(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

static inline void cleanup_closedirp(DIR **d)
{
    if (*d)
        (void)closedir(*d);
}

#define _cleanup_(fn)      __attribute__((cleanup(fn)))
#define _cleanup_free_     _cleanup_(cleanup_freep)
#define _cleanup_fd_       _cleanup_(close_fd)
#define _cleanup_fclose_   _cleanup_(cleanup_fclosep)
#define _cleanup_closedir_ _cleanup_(cleanup_closedirp)

#endif
