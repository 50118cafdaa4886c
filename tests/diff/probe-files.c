/* What the probe sees of files: mounts, devices, protected paths, the tree,
 * sysctls and the cgroup's files. */
#include "tests/diff/probe.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define TEXT_MAX  65536
#define DEPTH_MAX 3

/* --- mounts -----------------------------------------------------------------
 */

/* mountinfo: id parent dev root point options optional... - type source super;
 * ids and device numbers differ from run to run, so do peer groups. */
static void tell_mount(char *line, unsigned at)
{
    char *field[6], *rest = line, *word, *type, *source, *super;
    char key[4200], shared[256] = "";

    for (size_t i = 0; i < 6; i++) {
        field[i] = strsep(&rest, " ");
        if (!field[i])
            return;
    }
    while ((word = strsep(&rest, " ")) && strcmp(word, "-") != 0) {
        word[strcspn(word, ":")] = '\0';
        (void)snprintf(shared + strlen(shared), sizeof(shared) - strlen(shared),
                       " %s", word);
    }
    type = strsep(&rest, " ");
    source = strsep(&rest, " ");
    super = strsep(&rest, " ");
    (void)snprintf(key, sizeof(key), "mount.%s.%u", field[4], at);
    tell(key, "%s", type ? type : "");
    (void)snprintf(key, sizeof(key), "mount.%s.%u.root", field[4], at);
    tell(key, "%s", field[3]);
    (void)snprintf(key, sizeof(key), "mount.%s.%u.source", field[4], at);
    tell(key, "%s", source ? source : "");
    (void)snprintf(key, sizeof(key), "mount.%s.%u.options", field[4], at);
    tell(key, "%s", field[5]);
    (void)snprintf(key, sizeof(key), "mount.%s.%u.shared", field[4], at);
    tell(key, "%s", shared);
    (void)snprintf(key, sizeof(key), "mount.%s.%u.super", field[4], at);
    tell(key, "%s", super ? super : "");
}

static const char *mount_point(const char *line, size_t *n)
{
    for (int i = 0; i < 4 && line; i++) {
        line = strchr(line, ' ');
        line = line ? line + 1 : NULL;
    }
    *n = line ? strcspn(line, " ") : 0;
    return line;
}

/* Several mounts at one point are numbered from below. */
static void tell_mounts(void)
{
    static char text[4 * TEXT_MAX];
    char *list[512], *rest = text, *line;
    unsigned order[512];
    size_t count = 0;

    if (slurp("/proc/self/mountinfo", text, sizeof(text)) < 0) {
        tell("mount", "%s", outcome(-1));
        return;
    }
    while ((line = strsep(&rest, "\n")) && count < 512)
        if (*line)
            list[count++] = line;
    for (size_t i = 0; i < count; i++) {
        size_t n, m;
        const char *mine = mount_point(list[i], &n);

        order[i] = 0;
        for (size_t j = 0; j < i; j++) {
            const char *other = mount_point(list[j], &m);

            if (mine && other && n == m && strncmp(mine, other, n) == 0)
                order[i]++;
        }
    }
    for (size_t i = 0; i < count; i++)
        tell_mount(list[i], order[i]);
}

/* --- single paths ------------------------------------------------------------
 */

static const char *kind(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "link";
    case S_IFCHR:
        return "char";
    case S_IFBLK:
        return "block";
    case S_IFIFO:
        return "fifo";
    default:
        return "other";
    }
}

static void tell_inode(const char *what, const char *path)
{
    char key[4200], target[512];
    struct stat st;
    ssize_t n;

    (void)snprintf(key, sizeof(key), "%s.%s", what, path);
    if (lstat(path, &st) < 0) {
        tell(key, "%s", outcome(-1));
        return;
    }
    if (S_ISLNK(st.st_mode)) {
        n = readlink(path, target, sizeof(target) - 1);
        target[n < 0 ? 0 : n] = '\0';
        tell(key, "link to %s", target);
    } else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
        tell(key, "%s %u:%u mode %o of %u:%u", kind(st.st_mode),
             major(st.st_rdev), minor(st.st_rdev), st.st_mode & 07777,
             st.st_uid, st.st_gid);
    } else {
        tell(key, "%s mode %o of %u:%u", kind(st.st_mode), st.st_mode & 07777,
             st.st_uid, st.st_gid);
    }
}

static size_t entries(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    size_t n = 0;

    while (dir && (entry = readdir(dir)))
        n += entry->d_name[0] != '.';
    if (dir)
        (void)closedir(dir);
    return n;
}

/* Nothing is written: that would be the machine's own /proc for one of two. */
static void tell_access(const char *path)
{
    char key[4200], byte;
    struct stat st;
    ssize_t n;
    int fd;

    if (stat(path, &st) < 0) {
        (void)snprintf(key, sizeof(key), "access.%s", path);
        tell(key, "%s", outcome(-1));
        return;
    }
    (void)snprintf(key, sizeof(key), "access.%s.kind", path);
    tell(key, "%s", kind(st.st_mode));
    (void)snprintf(key, sizeof(key), "access.%s.mode", path);
    tell(key, "%o of %u:%u", st.st_mode & 07777, st.st_uid, st.st_gid);
    (void)snprintf(key, sizeof(key), "access.%s.w_ok", path);
    tell(key, "%s", outcome(access(path, W_OK)));
    (void)snprintf(key, sizeof(key), "access.%s.read", path);
    if (S_ISDIR(st.st_mode)) {
        tell(key, "%s", entries(path) ? "entries" : "empty");
        return;
    }
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        tell(key, "%s", outcome(fd));
    } else {
        n = read(fd, &byte, 1);
        tell(key, "%s", n < 0 ? outcome(n) : n ? "bytes" : "empty");
        (void)close(fd);
    }
    (void)snprintf(key, sizeof(key), "access.%s.write", path);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    tell(key, "%s", outcome(fd));
    if (fd >= 0)
        (void)close(fd);
}

/* What runtimes hide or protect, and what the generator adds to that. */
static const char *const protected_paths[] = {
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/self/oom_score_adj",
    "/proc/self/uid_map",
    "/proc/sys",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/sys/firmware",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/kernel/uevent_helper",
    "/data",
    "/data/file",
    "/data/secret",
    "/data/sub/file",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/link",
    "/tmp",
};

/* --- trees -------------------------------------------------------------------
 */

static bool skipped(const char *what, const char *path)
{
    static const char *const apart[] = {"/proc", "/sys", "/dev", "/bin"};

    if (strcmp(what, "tree") != 0)
        return false;
    for (size_t i = 0; i < sizeof(apart) / sizeof(*apart); i++)
        if (strcmp(path, apart[i]) == 0)
            return true;
    return false;
}

/* How many processes there are is the machine's affair where the container has
 * no namespace of its own for them; the first stands for all. */
static bool is_other_process(const char *top, const char *name)
{
    return strcmp(top, "/mnt/proc") == 0 && isdigit((unsigned char)*name) &&
           strcmp(name, "1") != 0;
}

static void walk(const char *what, const char *top, unsigned depth)
{
    DIR *dir = opendir(*top ? top : "/");
    struct dirent *entry;
    char path[4096];

    while (dir && (entry = readdir(dir))) {
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0 ||
            is_other_process(top, entry->d_name))
            continue;
        if (snprintf(path, sizeof(path), "%s/%s", top, entry->d_name) >=
            (int)sizeof(path))
            continue;
        tell_inode(what, path);
        if (depth < DEPTH_MAX && !skipped(what, path) &&
            lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            walk(what, path, depth + 1);
    }
    if (dir)
        (void)closedir(dir);
}

static const char *const devices[] = {
    "/dev/console", "/dev/full", "/dev/fuse",   "/dev/kmsg",  "/dev/mem",
    "/dev/null",    "/dev/ptmx", "/dev/random", "/dev/tty",   "/dev/urandom",
    "/dev/zero",    "/dev/made", "/dev/made-b", "/dev/sub/n",
};

static void tell_devices(void)
{
    char key[64];

    walk("dev", "/dev", 0);
    for (size_t i = 0; i < sizeof(devices) / sizeof(*devices); i++) {
        int fd = open(devices[i], O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        (void)snprintf(key, sizeof(key), "open.%s.read", devices[i]);
        tell(key, "%s", outcome(fd));
        if (fd >= 0)
            (void)close(fd);
        fd = open(devices[i], O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        (void)snprintf(key, sizeof(key), "open.%s.write", devices[i]);
        tell(key, "%s", outcome(fd));
        if (fd >= 0)
            (void)close(fd);
    }
}

void tell_files(void)
{
    tell_mounts();
    tell_devices();
    tell_inode("tree", "/");
    walk("tree", "", 0);
    for (size_t i = 0; i < sizeof(protected_paths) / sizeof(*protected_paths);
         i++)
        tell_access(protected_paths[i]);
}

/* --- settings
 * ----------------------------------------------------------------- */

static const char *const settings[] = {
    "/proc/sys/fs/mqueue/msg_default",
    "/proc/sys/fs/mqueue/msg_max",
    "/proc/sys/fs/mqueue/msgsize_max",
    "/proc/sys/fs/mqueue/queues_max",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/kernel/msgmnb",
    "/proc/sys/kernel/msgmni",
    "/proc/sys/kernel/sem",
    "/proc/sys/kernel/shm_rmid_forced",
    "/proc/sys/kernel/shmall",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/shmmni",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    "/proc/sys/net/ipv4/ping_group_range",
    "/proc/sys/net/ipv4/tcp_keepalive_time",
    "/proc/sys/net/ipv4/tcp_syncookies",
    "/sys/fs/cgroup/cgroup.type",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/cpu.max.burst",
    "/sys/fs/cgroup/cpu.idle",
    "/sys/fs/cgroup/cpu.weight",
    "/sys/fs/cgroup/cpuset.cpus",
    "/sys/fs/cgroup/cpuset.mems",
    "/sys/fs/cgroup/io.max",
    "/sys/fs/cgroup/io.weight",
    "/sys/fs/cgroup/memory.high",
    "/sys/fs/cgroup/memory.low",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory.min",
    "/sys/fs/cgroup/memory.oom.group",
    "/sys/fs/cgroup/memory.swap.max",
    "/sys/fs/cgroup/pids.max",
};

void tell_settings(void)
{
    char key[128], text[4096];

    for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
        (void)snprintf(key, sizeof(key), "setting.%s", settings[i]);
        if (slurp(settings[i], text, sizeof(text)) < 0)
            tell(key, "%s", outcome(-1));
        else
            tell(key, "%s", text);
    }
}
