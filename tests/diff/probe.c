/*
 * probe - runs as a container's process and prints all that it sees from
 * inside as sorted lines "key=value", for comparison between runtimes.
 * Numbers that differ from run to run (pids, inodes, times) are told as
 * relations to each other or not at all. Static, needs nothing of the image.
 */
#include "tests/diff/probe.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#define LINES_MAX 4096
#define TEXT_MAX  65536

extern char **environ;

static char *lines[LINES_MAX];
static size_t line_count;

void tell(const char *key, const char *format, ...)
{
    char value[8192];
    char *line, *at;
    size_t room;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    room = strlen(key) + 4 * strlen(value) + 2;
    line = malloc(room);
    if (!line || line_count == LINES_MAX)
        abort();
    at = line + snprintf(line, room, "%s=", key);
    for (const char *c = value; *c; c++)
        at += snprintf(at, room - (size_t)(at - line),
                       isprint((unsigned char)*c) ? "%c" : "\\x%02x",
                       (unsigned char)*c);
    lines[line_count++] = line;
}

const char *outcome(long result)
{
    const char *name = strerrorname_np(errno);

    if (result >= 0)
        return "ok";
    return name ? name : "unknown error";
}

ssize_t slurp(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ssize_t n = 0, got;

    if (fd < 0)
        return -1;
    while ((got = read(fd, text + n, size - 1 - (size_t)n)) > 0)
        n += got;
    text[n] = '\0';
    (void)close(fd);
    return got < 0 && n == 0 ? -1 : n;
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_lines(void)
{
    qsort(lines, line_count, sizeof(*lines), compare_lines);
    for (size_t i = 0; i < line_count; i++)
        puts(lines[i]);
    puts("zzz=end");
}

/* --- who ------------------------------------------------------------------ */

static void tell_ids(void)
{
    uid_t r, e, s;
    gid_t groups[1024];
    char text[8192] = "";
    int n = getgroups(1024, groups);

    if (getresuid(&r, &e, &s) == 0)
        tell("id.uid", "%u %u %u", r, e, s);
    if (getresgid(&r, &e, &s) == 0)
        tell("id.gid", "%u %u %u", r, e, s);
    for (int i = 0; i < n && i < 200; i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%u",
                       i ? " " : "", groups[i]);
    tell("id.groups", "%s", text);
    tell("id.groups.count", "%d", n);
}

/* Fields of /proc/self/status; the others are told elsewhere or differ. */
static void tell_status(void)
{
    static const char *const wanted[] = {
        "CapAmb",  "CapBnd",          "CapEff",     "CapInh",  "CapPrm",
        "Gid",     "Groups",          "NoNewPrivs", "Seccomp", "ShdPnd",
        "SigBlk",  "Seccomp_filters", "SigCgt",     "SigIgn",  "SigPnd",
        "Threads", "TracerPid",       "Uid",        "Umask",
    };
    char text[TEXT_MAX], key[64];
    char *rest = text, *line;

    if (slurp("/proc/self/status", text, sizeof(text)) < 0) {
        tell("status", "%s", outcome(-1));
        return;
    }
    while ((line = strsep(&rest, "\n"))) {
        char *value = strchr(line, ':');

        if (!value)
            continue;
        *value++ = '\0';
        value += strspn(value, " \t");
        for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
            if (strcmp(line, wanted[i]) != 0 || strcmp(line, "NStgid") == 0)
                continue;
            (void)snprintf(key, sizeof(key), "status.%s", line);
            tell(key, "%s", value);
        }
    }
}

static void tell_place(void)
{
    char path[4096];
    struct stat st;

    tell("process.is_pid_1", "%d", getpid() == 1);
    tell("process.parent_is_0", "%d", getppid() == 0);
    tell("process.leads_session", "%d", getsid(0) == getpid());
    tell("process.leads_group", "%d", getpgid(0) == getpid());
    tell("process.cwd", "%s", getcwd(path, sizeof(path)) ? path : outcome(-1));
    if (stat(".", &st) == 0)
        tell("process.cwd.mode", "%o %u:%u", st.st_mode, st.st_uid, st.st_gid);
}

static void tell_arguments(int argc, char **argv)
{
    char key[32];

    for (int i = 0; i < argc; i++) {
        (void)snprintf(key, sizeof(key), "arg.%03d", i);
        tell(key, "%s", argv[i]);
    }
    for (int i = 0; environ[i]; i++) {
        (void)snprintf(key, sizeof(key), "env.%03d", i);
        tell(key, "%s", environ[i]);
    }
}

static void tell_prctl(void)
{
    int number = 0;

    tell("process.no_new_privs", "%d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    tell("process.dumpable", "%d", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    tell("process.keepcaps", "%d", prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0));
    tell("process.securebits", "%#x", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    tell("process.timer_slack", "%d", prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));
    tell("process.thp_disable", "%d", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    if (prctl(PR_GET_PDEATHSIG, &number) == 0)
        tell("process.death_signal", "%d", number);
    if (prctl(PR_GET_CHILD_SUBREAPER, &number) == 0)
        tell("process.subreaper", "%d", number);
    tell("process.personality", "%#x", (unsigned)personality(0xffffffff));
}

struct scheduling { /* struct sched_attr, which glibc 2.36 lacks */
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
    uint32_t clamp_min;
    uint32_t clamp_max;
};

static void tell_scheduling(void)
{
    struct scheduling s = {0};
    char text[256];
    long r;

    if (syscall(SYS_sched_getattr, 0, &s, sizeof(s), 0) == 0)
        tell("process.scheduler",
             "policy %u flags %llu nice %d priority %u runtime %llu "
             "deadline %llu period %llu",
             s.policy, (unsigned long long)s.flags, s.nice, s.priority,
             s.policy == 6 ? (unsigned long long)s.runtime : 0,
             (unsigned long long)s.deadline, (unsigned long long)s.period);
    r = syscall(SYS_ioprio_get, 1, 0);
    tell("process.io_priority", "class %ld level %ld", r >> 13, r & 0x1fff);
    if (slurp("/proc/self/oom_score_adj", text, sizeof(text)) > 0) {
        text[strcspn(text, "\n")] = '\0';
        tell("process.oom_score_adj", "%s", text);
    }
    if (slurp("/proc/self/coredump_filter", text, sizeof(text)) > 0) {
        text[strcspn(text, "\n")] = '\0';
        tell("process.coredump_filter", "%s", text);
    }
}

static void tell_limits(void)
{
    char text[TEXT_MAX], key[64];
    char *rest = text, *line;
    struct rlimit limit;

    for (int i = 0; i < RLIM_NLIMITS; i++) {
        (void)snprintf(key, sizeof(key), "rlimit.%02d", i);
        if (getrlimit(i, &limit) == 0)
            tell(key, "%lld %lld", (long long)limit.rlim_cur,
                 (long long)limit.rlim_max);
    }
    if (slurp("/proc/self/limits", text, sizeof(text)) < 0)
        return;
    for (int i = 0; (line = strsep(&rest, "\n")); i++) {
        (void)snprintf(key, sizeof(key), "limits.%02d", i);
        tell(key, "%s", line);
    }
}

/* --- namespaces ------------------------------------------------------------
 */

/* The kernel gives the first namespace of each kind a fixed number. */
static const struct {
    const char *name;
    unsigned first;
} namespaces[] = {
    {"ipc", 0xefffffff}, {"uts", 0xeffffffe},    {"user", 0xeffffffd},
    {"pid", 0xeffffffc}, {"cgroup", 0xeffffffb}, {"time", 0xeffffffa},
};

static void tell_file(const char *key, const char *path)
{
    char text[8192];

    if (slurp(path, text, sizeof(text)) < 0)
        tell(key, "%s", outcome(-1));
    else
        tell(key, "%s", text);
}

static void tell_namespaces(void)
{
    struct utsname names;
    char key[64], path[64], target[64];

    for (size_t i = 0; i < sizeof(namespaces) / sizeof(*namespaces); i++) {
        ssize_t n;

        (void)snprintf(key, sizeof(key), "ns.%s", namespaces[i].name);
        (void)snprintf(path, sizeof(path), "/proc/self/ns/%s",
                       namespaces[i].name);
        n = readlink(path, target, sizeof(target) - 1);
        if (n < 0) {
            tell(key, "%s", outcome(-1));
            continue;
        }
        target[n] = '\0';
        tell(key, "%s",
             strtoul(strchr(target, '[') ? strchr(target, '[') + 1 : "0", NULL,
                     10) == namespaces[i].first
                 ? "the machine's"
                 : "own");
    }
    tell_file("ns.user.uid_map", "/proc/self/uid_map");
    tell_file("ns.user.gid_map", "/proc/self/gid_map");
    tell_file("ns.user.setgroups", "/proc/self/setgroups");
    tell_file("ns.time.offsets", "/proc/self/timens_offsets");
    tell_file("ns.cgroup.place", "/proc/self/cgroup");
    if (uname(&names) == 0) {
        tell("ns.uts.hostname", "%s", names.nodename);
        tell("ns.uts.domainname", "%s", names.domainname);
        tell("kernel.machine", "%s", names.machine);
    }
}

/* --- descriptors and the terminal ------------------------------------------
 */

static void tell_terminal(int fd)
{
    struct winsize size = {0};
    struct termios t;
    char key[32], name[128];

    (void)snprintf(key, sizeof(key), "fd.%d.tty", fd);
    if (!isatty(fd)) {
        tell(key, "no");
        return;
    }
    (void)ioctl(fd, TIOCGWINSZ, &size);
    (void)ttyname_r(fd, name, sizeof(name));
    tell(key, "%s columns %u rows %u", name, size.ws_col, size.ws_row);
    if (tcgetattr(fd, &t) == 0) {
        (void)snprintf(key, sizeof(key), "fd.%d.termios", fd);
        tell(key, "%#o %#o %#o %#o", t.c_iflag, t.c_oflag, t.c_cflag,
             t.c_lflag);
    }
    (void)snprintf(key, sizeof(key), "fd.%d.foreground", fd);
    tell(key, "%d", tcgetpgrp(fd) == getpgrp());
}

static void tell_descriptor(int fd)
{
    char key[32], path[64], target[256];
    struct stat st;
    ssize_t n;

    (void)snprintf(key, sizeof(key), "fd.%d", fd);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0 || fstat(fd, &st) < 0)
        return;
    target[n] = '\0';
    target[strcspn(target, "[")] = '\0'; /* pipe:[1234] */
    tell(key, "%s mode %o of %u:%u flags %#o %#o", target, st.st_mode,
         st.st_uid, st.st_gid, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    (void)snprintf(key, sizeof(key), "fd.%d.again", fd);
    n = open(path, (fd == 0 ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY |
                       O_CLOEXEC);
    tell(key, "%s", outcome(n));
    if (n >= 0)
        (void)close((int)n);
}

static void tell_descriptors(void)
{
    int open_fds[256], count = 0, fd;
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;

    while (dir && (entry = readdir(dir)) && count < 256)
        if (isdigit((unsigned char)entry->d_name[0])) {
            int number = (int)strtol(entry->d_name, NULL, 10);

            if (number != dirfd(dir))
                open_fds[count++] = number;
        }
    if (dir)
        (void)closedir(dir);
    else
        tell("fd", "%s", outcome(-1));
    for (int i = 0; i < count; i++) {
        tell_descriptor(open_fds[i]);
        tell_terminal(open_fds[i]);
    }
    fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    tell("process.controlling_tty", "%s", outcome(fd));
    if (fd >= 0)
        (void)close(fd);
}

int main(int argc, char **argv)
{
    tell_descriptors();
    tell_ids();
    tell_status();
    tell_place();
    tell_arguments(argc, argv);
    tell_prctl();
    tell_scheduling();
    tell_limits();
    tell_namespaces();
    tell_files();
    tell_settings();
    tell_calls();
    print_lines();
    return fflush(stdout) == 0 ? 0 : 1;
}
