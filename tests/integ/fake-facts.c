#include "fake.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "domus/loop.h"
#include "domus/mem.h"

#define WAIT_SECONDS 20

void fake_die(const char *what)
{
    perror(what);
    _exit(1);
}

const char *fake_directory(void)
{
    return getenv("DOMUS_FAKE_DIR");
}

char *fact_path(uint32_t domid, const char *fact)
{
    return xasprintf("%s/%u/%s", fake_directory(), domid, fact);
}

bool fact_exists(uint32_t domid, const char *fact)
{
    _cleanup_free_ char *path = fact_path(domid, fact);

    return access(path, F_OK) == 0;
}

/* Whole or not at all: others watch for the name. */
void fake_write(const char *path, const char *text)
{
    _cleanup_free_ char *part = xasprintf("%s.part", path);
    FILE *f = fopen(part, "we");

    if (!f)
        fake_die(part);
    fputs(text, f);
    if (fclose(f) != 0 || rename(part, path) < 0)
        fake_die(path);
}

void fact_write(uint32_t domid, const char *fact, const char *format, ...)
{
    _cleanup_free_ char *path = fact_path(domid, fact);
    char text[FAKE_TEXT_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fake_write(path, text);
}

/* Empty when there is none. */
char *fake_read(const char *path)
{
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    char *text = xcalloc(1, FAKE_TEXT_MAX);

    if (f)
        (void)!fread(text, 1, FAKE_TEXT_MAX - 1, f);
    return text;
}

char *fact_read(uint32_t domid, const char *fact)
{
    _cleanup_free_ char *path = fact_path(domid, fact);

    return fake_read(path);
}

unsigned int fact_count(uint32_t domid, const char *fact)
{
    _cleanup_free_ char *before = fact_read(domid, fact);
    unsigned long n = strtoul(before, NULL, 10);

    fact_write(domid, fact, "%lu", n + 1);
    return (unsigned int)n;
}

bool fact_wait(uint32_t domid, const char *fact)
{
    int64_t deadline = loop_now() + WAIT_SECONDS * 1000;

    while (!fact_exists(domid, fact)) {
        if (loop_now() > deadline)
            return false;
        usleep(FAKE_TICK_MS * 1000);
    }
    return true;
}

void fake_remove_tree(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        /* In a cgroup the files go with their directory. */
        if (entry->d_type == DT_DIR)
            fake_remove_tree(dirfd(dir), entry->d_name);
        else
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir)
        closedir(dir);
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}
