#include "cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "domus/mem.h"

#define DEPTH_MAX 16
/* memory.stat is the largest of the files that are read, at some 2 KB. */
#define FILE_MAX 8192
/* Room for the ids to signal: at first, and as many as a kernel can have. */
#define PIDS_SIGNAL     4096
#define FIND_PIDS_MAX   4096
#define PIDS_SIGNAL_MAX (4 * 1024 * 1024)

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

/* What the agent itself relies on is not for settings, and no name may leave
 * the group. */
static bool may_set(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/') &&
           strncmp(name, "cgroup.", strlen("cgroup.")) != 0;
}

static int set_one(int cgroup, const struct spec_setting *s, struct err *e)
{
    int r = may_set(s->name) ? write_file(cgroup, s->name, s->value) : -EINVAL;

    if (r == -ENOENT)
        return err_set(e, ENOTSUP,
                       "limit %s: the guest's kernel has no such controller",
                       s->name);
    if (r < 0)
        return err_set(e, -r, "set %s to %s: %s", s->name, s->value,
                       strerror(-r));
    return 0;
}

int cgroup_set(int cgroup, const struct spec_setting_list *settings,
               struct err *e)
{
    int r = 0;

    for (size_t i = 0; i < settings->n && r == 0; i++)
        r = set_one(cgroup, &settings->v[i], e);
    return r;
}

/* Of a number in a file or setting; "max" and what is no number is no bound. */
static uint64_t bound_of(const char *text)
{
    char *end;
    unsigned long long n;

    errno = 0;
    n = strtoull(text, &end, 10);
    return end == text || errno || *text == '-' ? UINT64_MAX : n;
}

static int check_memory_max(int cgroup, const struct spec_setting_list *l,
                            struct err *e)
{
    char text[FILE_MAX];

    for (size_t i = 0; i < l->n; i++) {
        uint64_t used;

        if (strcmp(l->v[i].name, "memory.max") != 0 ||
            read_file(cgroup, "memory.current", text) < 0)
            continue;
        used = bound_of(text);
        if (used != UINT64_MAX && used > bound_of(l->v[i].value))
            return err_set(e, EBUSY,
                           "a memory limit of %s bytes is less than the %llu "
                           "in use",
                           l->v[i].value, (unsigned long long)used);
    }
    return 0;
}

/* A file with a line for each device takes them one by one. */
static int restore(int cgroup, const struct spec_setting *old)
{
    _cleanup_free_ char *copy = xstrdup(old->value);
    char *rest = copy, *line;
    int r = 0;

    if (strncmp(old->name, "io.", 3) != 0)
        return write_file(cgroup, old->name, old->value);
    while (r == 0 && (line = strsep(&rest, "\n")))
        if (*line)
            r = write_file(cgroup, old->name, line);
    return r;
}

int cgroup_update(int cgroup, const struct spec_setting_list *settings,
                  bool check_memory, struct err *e)
{
    struct spec_setting_list old = {NULL, 0};
    char text[FILE_MAX];
    size_t done = 0;
    int r = check_memory ? check_memory_max(cgroup, settings, e) : 0;

    if (r < 0)
        return r;
    for (size_t i = 0; i < settings->n; i++) {
        const char *name = settings->v[i].name;

        if (!may_set(name) || read_file(cgroup, name, text) < 0)
            text[0] = '\0';
        spec_setting_add(&old, name, text);
    }
    while (done < settings->n && r == 0) {
        r = set_one(cgroup, &settings->v[done], e);
        done += r == 0;
    }
    while (r < 0 && done-- > 0)
        if (restore(cgroup, &old.v[done]) < 0) {
            (void)err_wrap(e, "%s could not be put back", old.v[done].name);
            r = -e->code;
        }
    for (size_t i = 0; i < old.n; i++)
        wire_clear(&spec_setting_desc, &old.v[i]);
    free(old.v);
    return r;
}

int cgroup_make(int base, const char *name,
                const struct spec_setting_list *settings, int *cgroup_out,
                struct err *e)
{
    _cleanup_fd_ int cgroup = -1;
    int r;

    if (mkdirat(base, name, 0755) < 0)
        return err_errno(e, "make the cgroup %s", name);
    cgroup = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup < 0)
        r = err_errno(e, "open the cgroup %s", name);
    else
        r = cgroup_set(cgroup, settings, e);
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

static DIR *open_groups(int group)
{
    int fd = openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (fd >= 0 && !dir)
        close_fd(&fd);
    return dir;
}

/* The next group beneath, or -1; a name is used once it was found to be a
 * directory. */
static int next_group(DIR *dir)
{
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        int group;

        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        group = openat(dirfd(dir), entry->d_name,
                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (group >= 0)
            return group;
    }
    return -1;
}

/* Calls itself for each group beneath. */
static size_t walk_pids(int group, pid_t *pids, size_t max, unsigned depth)
{
    _cleanup_closedir_ DIR *dir = open_groups(group);
    size_t n = group_pids(group, pids, max);
    int inner;

    while (depth < DEPTH_MAX && n < max && (inner = next_group(dir)) >= 0) {
        n += walk_pids(inner, pids + n, max - n, depth + 1);
        close_fd(&inner);
    }
    return n;
}

size_t cgroup_pids(int cgroup, pid_t *pids, size_t max)
{
    return walk_pids(cgroup, pids, max, 0);
}

static bool holds(int group, pid_t pid)
{
    _cleanup_free_ pid_t *pids = xcalloc(FIND_PIDS_MAX, sizeof(*pids));
    size_t n = group_pids(group, pids, FIND_PIDS_MAX);

    while (n > 0)
        if (pids[--n] == pid)
            return true;
    return false;
}

/* Takes over group, and calls itself for each beneath. */
static int find(int group, pid_t pid, unsigned depth)
{
    _cleanup_closedir_ DIR *dir = NULL;
    int inner, found = -1;

    if (group < 0 || holds(group, pid))
        return group;
    dir = open_groups(group);
    close_fd(&group);
    while (depth < DEPTH_MAX && found < 0 && (inner = next_group(dir)) >= 0)
        found = find(inner, pid, depth + 1);
    return found;
}

int cgroup_find(int cgroup, pid_t pid, int *group_out, struct err *e)
{
    int group = find(fcntl(cgroup, F_DUPFD_CLOEXEC, 3), pid, 0);

    if (group < 0)
        return err_set(e, ESRCH, "process %d is in no group of the container",
                       (int)pid);
    *group_out = group;
    return 0;
}

int cgroup_freeze(int cgroup, bool freeze, struct err *e)
{
    int r = write_file(cgroup, "cgroup.freeze", freeze ? "1" : "0");

    return r < 0 ? err_set(e, -r, "%s a cgroup: %s", freeze ? "freeze" : "thaw",
                           strerror(-r))
                 : 0;
}

int cgroup_open_events(int cgroup, const char *name)
{
    int fd = openat(cgroup, name, O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int cgroup_counter(int events, const char *name, uint64_t *value_out)
{
    char text[FILE_MAX];
    char *rest = text, *line;
    size_t n = strlen(name);
    ssize_t got = pread(events, text, sizeof(text) - 1, 0);

    if (got < 0)
        return -errno;
    text[got] = '\0';
    while ((line = strsep(&rest, "\n")))
        if (strncmp(line, name, n) == 0 && line[n] == ' ') {
            *value_out = strtoull(line + n + 1, NULL, 10);
            return 0;
        }
    return -ENOENT;
}

int cgroup_signal(int cgroup, int signal, struct err *e)
{
    _cleanup_free_ pid_t *pids = NULL;
    size_t max = PIDS_SIGNAL / 2, n;

    if (signal == SIGKILL)
        return cgroup_kill(cgroup, e);
    do {
        max *= 2;
        pids = xreallocarray(pids, max, sizeof(*pids));
        n = cgroup_pids(cgroup, pids, max);
    } while (n == max && max < PIDS_SIGNAL_MAX);
    for (size_t i = 0; i < n; i++)
        if (kill(pids[i], signal) < 0 && errno != ESRCH)
            return err_errno(e, "signal process %d", (int)pids[i]);
    return 0;
}

static const char *const stats_files[] = {
    "cpu.stat",
    "io.stat",
    "memory.current",
    "memory.events",
    "memory.max",
    "memory.peak",
    "memory.stat",
    "pids.current",
    "pids.max",
    "memory.swap.max",
    "memory.swap.current",
    "hugetlb.2MB.current",
    "hugetlb.2MB.max",
    "hugetlb.2MB.events",
};
_Static_assert(ARRAY_SIZE(stats_files) <= PROTO_STATS_FILES_MAX,
               "more files than a message carries");

void cgroup_stats(int cgroup, struct spec_setting_list *files_out)
{
    char text[FILE_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(stats_files); i++)
        if (read_file(cgroup, stats_files[i], text) == 0)
            spec_setting_add(files_out, stats_files[i], text);
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
