#include "cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "domus/mem.h"

#define DEPTH_MAX 16
/* memory.stat is the largest of the files that are read, at some 2 KB. */
#define FILE_MAX    8192
#define PIDS_SIGNAL 4096

static int read_file(int dir, const char *name, char text[FILE_MAX])
{
    _cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    size_t n = 0;

    text[0] = '\0';
    if (fd < 0)
        return -errno;
    while (n < FILE_MAX - 1) {
        ssize_t got = read(fd, text + n, FILE_MAX - 1 - n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    text[n] = '\0';
    return 0;
}

static int write_file(int dir, const char *name, const char *text)
{
    _cleanup_fd_ int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return -errno;
    return 0;
}

int cgroup_enable_controllers(int base, struct err *e)
{
    char text[FILE_MAX];
    char *rest = text, *name;
    int r = read_file(base, "cgroup.controllers", text);

    if (r < 0)
        return err_set(e, -r, "read the cgroup controllers: %s", strerror(-r));
    text[strcspn(text, "\n")] = '\0';
    while ((name = strsep(&rest, " "))) {
        _cleanup_free_ char *word = xasprintf("+%s", name);

        if (*name == '\0')
            continue;
        r = write_file(base, "cgroup.subtree_control", word);
        if (r < 0)
            return err_set(e, -r, "enable the cgroup controller %s: %s", name,
                           strerror(-r));
    }
    return 0;
}

static int set_limit(int cgroup, const char *name, uint64_t value,
                     uint64_t period, struct err *e)
{
    _cleanup_free_ char *text =
        period ? xasprintf("%llu %llu", (unsigned long long)value,
                           (unsigned long long)period)
               : xasprintf("%llu", (unsigned long long)value);
    int r;

    if (value == 0)
        return 0;
    r = write_file(cgroup, name, text);
    if (r == -ENOENT)
        return err_set(e, ENOTSUP,
                       "limit %s: the guest's kernel has no such controller",
                       name);
    if (r < 0)
        return err_set(e, -r, "set %s to %s: %s", name, text, strerror(-r));
    return 0;
}

int cgroup_make(int base, const char *name, const struct spec_resources *limits,
                int *cgroup_out, struct err *e)
{
    uint64_t period = limits->cpu_period ? limits->cpu_period : 100000;
    _cleanup_fd_ int cgroup = -1;
    int r;

    if (mkdirat(base, name, 0755) < 0)
        return err_errno(e, "make the cgroup %s", name);
    cgroup = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup < 0) {
        r = err_errno(e, "open the cgroup %s", name);
        (void)unlinkat(base, name, AT_REMOVEDIR);
        return r;
    }
    r = set_limit(cgroup, "memory.max", limits->memory_max, 0, e);
    if (r == 0)
        r = set_limit(cgroup, "pids.max", limits->pids_max, 0, e);
    if (r == 0)
        r = set_limit(cgroup, "cpu.max", limits->cpu_quota, period, e);
    if (r == 0)
        r = set_limit(cgroup, "cpu.weight", limits->cpu_weight, 0, e);
    if (r < 0) {
        (void)unlinkat(base, name, AT_REMOVEDIR);
        return r;
    }
    *cgroup_out = steal_fd(&cgroup);
    return 0;
}

int cgroup_kill(int cgroup, struct err *e)
{
    int r = write_file(cgroup, "cgroup.kill", "1");

    return r < 0 ? err_set(e, -r, "kill a cgroup: %s", strerror(-r)) : 0;
}

/* Adds the ids in one group's cgroup.procs. */
static size_t group_pids(int group, pid_t *pids, size_t max)
{
    int fd = openat(group, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    _cleanup_fclose_ FILE *file = fd < 0 ? NULL : fdopen(fd, "re");
    size_t n = 0;
    int pid;

    if (fd >= 0 && !file)
        close_fd(&fd);
    while (file && n < max && fscanf(file, "%d", &pid) == 1)
        if (pid > 0)
            pids[n++] = pid;
    return n;
}

/* Calls itself for each group beneath; a name is used once it was found to be
 * a directory. */
static size_t walk_pids(int group, pid_t *pids, size_t max, unsigned depth)
{
    size_t n = group_pids(group, pids, max);
    int fd = openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (fd >= 0 && !dir)
        close_fd(&fd);
    while (dir && depth < DEPTH_MAX && n < max && (entry = readdir(dir))) {
        _cleanup_fd_ int child = -1;

        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        child = openat(group, entry->d_name,
                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child >= 0)
            n += walk_pids(child, pids + n, max - n, depth + 1);
    }
    return n;
}

size_t cgroup_pids(int cgroup, pid_t *pids, size_t max)
{
    return walk_pids(cgroup, pids, max, 0);
}

int cgroup_signal(int cgroup, int signal, struct err *e)
{
    _cleanup_free_ pid_t *pids = NULL;
    size_t n;

    if (signal == SIGKILL)
        return cgroup_kill(cgroup, e);
    pids = xcalloc(PIDS_SIGNAL, sizeof(*pids));
    n = cgroup_pids(cgroup, pids, PIDS_SIGNAL);
    for (size_t i = 0; i < n; i++)
        if (kill(pids[i], signal) < 0 && errno != ESRCH)
            return err_errno(e, "signal process %d", (int)pids[i]);
    return 0;
}

static uint64_t parse(const char *text)
{
    if (strncmp(text, "max", 3) == 0)
        return UINT64_MAX;
    return strtoull(text, NULL, 10);
}

static uint64_t read_value(int cgroup, const char *name)
{
    char text[FILE_MAX];

    return read_file(cgroup, name, text) < 0 ? 0 : parse(text);
}

/* The value beside key in lines of "key value"; 0 when there is none. */
static uint64_t find_value(const char *text, const char *key)
{
    size_t n = strlen(key);

    for (const char *line = text; *line; line++) {
        if (strncmp(line, key, n) == 0 && line[n] == ' ')
            return parse(line + n + 1);
        line += strcspn(line, "\n");
        if (*line == '\0')
            break;
    }
    return 0;
}

void cgroup_stats(int cgroup, struct proto_stats_result *stats_out)
{
    struct proto_stats_result s = {
        .memory_usage = read_value(cgroup, "memory.current"),
        .memory_limit = read_value(cgroup, "memory.max"),
        .memory_peak = read_value(cgroup, "memory.peak"),
        .pids_current = read_value(cgroup, "pids.current"),
        .pids_limit = read_value(cgroup, "pids.max"),
    };
    char text[FILE_MAX];

    if (read_file(cgroup, "memory.stat", text) == 0) {
        s.memory_anon = find_value(text, "anon");
        s.memory_file = find_value(text, "file");
        s.memory_kernel_stack = find_value(text, "kernel_stack");
        s.memory_slab = find_value(text, "slab");
        s.memory_pgfault = find_value(text, "pgfault");
        s.memory_pgmajfault = find_value(text, "pgmajfault");
    }
    if (read_file(cgroup, "cpu.stat", text) == 0) {
        s.cpu_usage_us = find_value(text, "usage_usec");
        s.cpu_user_us = find_value(text, "user_usec");
        s.cpu_system_us = find_value(text, "system_usec");
        s.cpu_periods = find_value(text, "nr_periods");
        s.cpu_throttled = find_value(text, "nr_throttled");
        s.cpu_throttled_us = find_value(text, "throttled_usec");
    }
    *stats_out = s;
}

static int remove_tree(int base, const char *name, unsigned depth,
                       struct err *e)
{
    int fd =
        openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int r;

    if (!dir) {
        if (fd < 0 && errno == ENOENT)
            return 0;
        r = err_errno(e, "open the cgroup %s", name);
        close_fd(&fd);
        return r;
    }
    while (depth < DEPTH_MAX && (entry = readdir(dir))) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        r = remove_tree(dirfd(dir), entry->d_name, depth + 1, e);
        if (r < 0)
            return r;
    }
    if (unlinkat(base, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_errno(e, "remove the cgroup %s", name);
    return 0;
}

int cgroup_remove(int base, const char *name, struct err *e)
{
    return remove_tree(base, name, 0, e);
}
