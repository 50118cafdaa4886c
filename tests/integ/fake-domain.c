/* One domain: a process that plays hypervisor for it. */
#include "fake.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "domus/job.h"
#include "domus/mem.h"

struct domain {
    uint32_t id;
    int console; /* the master's side of a terminal */
    int slave;   /* kept open, or the master would say EIO */
    int log;
    char *group; /* cgroup of the domain, beneath /cgroup */
};

static void console_write(struct domain *d, const void *bytes, size_t n)
{
    /* What nobody reads is lost, as with a real console. */
    (void)!write(d->console, bytes, n);
    (void)!write(d->log, bytes, n);
}

static void console_open(struct domain *d)
{
    _cleanup_free_ char *path = fact_path(d->id, "console.log");
    struct termios raw;

    d->console = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (d->console < 0 || grantpt(d->console) < 0 || unlockpt(d->console) < 0)
        fake_die("console");
    d->slave = open(ptsname(d->console), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (d->slave < 0 || tcgetattr(d->slave, &raw) < 0)
        fake_die("console");
    cfmakeraw(&raw);
    (void)tcsetattr(d->slave, TCSANOW, &raw);
    d->log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    fact_write(d->id, "console", "%s", ptsname(d->console));
}

static void must_mount(const char *source, const char *target, const char *type,
                       unsigned long flags)
{
    if (mount(source, target, type, flags, NULL) < 0)
        fake_die(target);
}

/* The same file, directory or symbolic link in the new root. */
static void mirror(const char *root, const char *path)
{
    _cleanup_free_ char *target = xasprintf("%s%s", root, path);
    char link[256];
    ssize_t n = readlink(path, link, sizeof(link) - 1);

    if (n > 0) {
        link[n] = '\0';
        if (symlink(link, target) < 0)
            fake_die(target);
    } else if (access(path, F_OK) == 0) {
        (void)mkdir(target, 0755);
        must_mount(path, target, NULL, MS_BIND);
    }
}

/*
 * A root as a guest has it: its own, with nothing of the host's but programs
 * to run (the sanitizers' build is not static) and /dev. Nothing of the old
 * root stays, so that no mount of the tests is held.
 */
static void make_root(uint32_t domid)
{
    static const char *const directories[] = {
        "/dev",   "/proc",  "/sys",    "/run", "/tmp",
        "/state", "/agent", "/cgroup", "/old",
    };
    static const char *const mirrored[] = {"/usr", "/lib", "/lib64"};
    _cleanup_free_ char *root = fact_path(domid, "root");
    _cleanup_free_ char *state = xasprintf("%s/%u", fake_directory(), domid);
    _cleanup_free_ char *agent = xstrdup(getenv("DOMUS_FAKE_AGENT"));
    char path[FAKE_TEXT_MAX];

    if (unshare(CLONE_NEWNS) < 0)
        fake_die("mount namespace");
    must_mount("none", "/", NULL, MS_REC | MS_PRIVATE);
    if (mkdir(root, 0755) < 0)
        fake_die(root);
    must_mount("guest", root, "tmpfs", 0);
    for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", root, directories[i]);
        if (mkdir(path, 0755) < 0)
            fake_die(path);
    }
    for (size_t i = 0; i < ARRAY_SIZE(mirrored); i++)
        mirror(root, mirrored[i]);
    (void)snprintf(path, sizeof(path), "%s/state", root);
    must_mount(state, path, NULL, MS_BIND);
    (void)snprintf(path, sizeof(path), "%s/cgroup", root);
    must_mount("cgroup2", path, "cgroup2", 0);
    (void)snprintf(path, sizeof(path), "%s/agent", root);
    *strrchr(agent, '/') = '\0';
    must_mount(agent, path, NULL, MS_BIND | MS_REC);
    (void)snprintf(path, sizeof(path), "%s/old", root);
    if (syscall(SYS_pivot_root, root, path) < 0 || chdir("/") < 0 ||
        umount2("/old", MNT_DETACH) < 0)
        fake_die("pivot_root");
}

static void join_group(const char *group, const char *name)
{
    _cleanup_free_ char *path =
        xasprintf("/cgroup/%s/%s/cgroup.procs", group, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "0", 1) != 1)
        fake_die(path);
    close(fd);
}

/* The tests know theirs by this name. */
static char *group_of(uint32_t domid)
{
    char *group = xasprintf("fake%s-%u", fake_directory(), domid);

    for (char *c = group; *c; c++)
        if (*c == '/')
            *c = '-';
    return group;
}

/* The agent is a member of a leaf, so that the root of its cgroup namespace
 * has no process and may share its controllers out. */
static void make_group(struct domain *d)
{
    _cleanup_free_ char *path = NULL;

    d->group = group_of(d->id);
    path = xasprintf("/cgroup/%s/init", d->group);
    *strrchr(path, '/') = '\0';
    (void)mkdir(path, 0755);
    path[strlen(path)] = '/';
    if (mkdir(path, 0755) < 0)
        fake_die(path);
}

/* In the hierarchy of the machine or of a mixed one. */
void fake_domain_freeze(uint32_t domid, bool frozen)
{
    _cleanup_free_ char *group = group_of(domid);
    static const char *const roots[] = {"/sys/fs/cgroup",
                                        "/sys/fs/cgroup/unified"};

    for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
        _cleanup_free_ char *path =
            xasprintf("%s/%s/cgroup.freeze", roots[i], group);

        _cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        if (fd >= 0 && write(fd, frozen ? "1" : "0", 1) != 1)
            fake_die(path);
    }
}

/* In the new namespaces. vbds: "xvda=/dev/loop0" lines. */
static void become_agent(struct domain *d, char *vbds)
{
    _cleanup_free_ char *uuid = fake_read("/state/uuid");
    _cleanup_free_ char *channel = xasprintf("unix:/state/%s", uuid);
    char *argv[4 + 2 * JOB_VBDS_MAX] = {(char *)"domus-init",
                                        (char *)"--channel", channel};
    size_t n = 3;
    char *vbd;

    join_group(d->group, ".");
    if (unshare(CLONE_NEWCGROUP) < 0)
        fake_die("cgroup namespace");
    join_group(d->group, "init");
    if (umount2("/cgroup", MNT_DETACH) < 0)
        fake_die("/cgroup");
    /* The agent mounts its own; this is for the sanitizers before. */
    must_mount("proc", "/proc", "proc", 0);
    (void)umask(022); /* as the kernel has it for its first process */
    /* A guest sets its clock; here it would be the host's. */
    (void)prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0);
    while ((vbd = strsep(&vbds, "\n")) && n + 3 < ARRAY_SIZE(argv)) {
        if (!vbd[0])
            continue;
        argv[n++] = (char *)"--device";
        argv[n++] = vbd;
    }
    (void)execv("/agent/domus-init", argv);
    fake_die("/agent/domus-init");
}

/* What Xen calls the end of a domain. */
static const char *reason_of(int status)
{
    /* reboot(2) in a pid namespace kills its first process like this. */
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT)
        return "poweroff";
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP)
        return "reboot";
    return "crash";
}

static int run_agent(struct domain *d)
{
    _cleanup_free_ char *vbds = fake_read("/state/vbds");
    int out[2], status = 0;
    char bytes[FAKE_TEXT_MAX];
    ssize_t n;
    pid_t pid;

    make_group(d);
    if (pipe2(out, O_CLOEXEC) < 0)
        fake_die("pipe");
    pid = (pid_t)syscall(SYS_clone,
                         CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC |
                             CLONE_NEWUTS | CLONE_NEWNET | SIGCHLD,
                         NULL, NULL, NULL, NULL);
    if (pid < 0)
        fake_die("clone");
    if (pid == 0) {
        if (dup2(out[1], 1) < 0 || dup2(out[1], 2) < 0)
            fake_die("dup2");
        become_agent(d, vbds);
    }
    (void)snprintf(bytes, sizeof(bytes), "%d", (int)pid);
    fake_write("/state/pid", bytes);
    close(out[1]);
    while ((n = read(out[0], bytes, sizeof(bytes))) > 0)
        console_write(d, bytes, (size_t)n);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(out[0]);
    return status;
}

/* A guest that opens its channel and then says what the fault wants. */
static void play_bad_guest(const char *greeting, size_t n)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_free_ char *uuid = fake_read("/state/uuid");
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd;

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/state/%s",
                   uuid);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1) < 0)
        fake_die("channel");
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    (void)!write(fd, greeting, n);
    for (;;)
        pause();
}

static void bad_guest(struct domain *d, const char *greeting, size_t n)
{
    static const char panic[] =
        "Kernel panic - not syncing: no guest today\r\n";
    pid_t pid;
    int status;

    console_write(d, panic, sizeof(panic) - 1);
    pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (greeting)
            play_bad_guest(greeting, n);
        for (;;)
            pause();
    }
    {
        char text[32];

        (void)snprintf(text, sizeof(text), "%d", (int)pid);
        fake_write("/state/pid", text);
    }
    (void)waitpid(pid, &status, 0);
}

static void play_domain(uint32_t domid)
{
    static const char garbage[] = "SSH-2.0-this is not the guest protocol\r\n";
    struct domain d = {.id = domid};
    const char *reason = "crash";

    console_open(&d);
    make_root(domid);
    while (access("/state/start", F_OK) < 0 &&
           access("/state/destroy", F_OK) < 0)
        usleep(FAKE_TICK_MS * 1000);
    if (access("/state/start", F_OK) == 0) {
        _cleanup_free_ char *how = fake_read("/state/start");

        if (strcmp(how, "never-hello") == 0)
            bad_guest(&d, NULL, 0);
        else if (strcmp(how, "silent-channel") == 0)
            bad_guest(&d, "", 0);
        else if (strcmp(how, "garbage") == 0)
            bad_guest(&d, garbage, sizeof(garbage) - 1);
        else if (strcmp(how, "die-early") != 0)
            reason = reason_of(run_agent(&d));
    }
    if (d.group) {
        int root = open("/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        fake_remove_tree(root, d.group);
        close(root);
        free(d.group);
    }
    fake_write("/state/reason", reason);
    fake_write("/state/dead", "");
    _exit(0);
}

/* Nobody's child, so that it lives on like a domain. */
void fake_domain_start(uint32_t domid)
{
    pid_t pid = fork();

    if (pid < 0)
        fake_die("fork");
    if (pid == 0) {
        _cleanup_free_ char *log = fact_path(domid, "hypervisor.log");
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        (void)setsid();
        if (fork() != 0)
            _exit(0);
        (void)dup2(null, 0);
        (void)dup2(null, 1);
        (void)dup2(fd, 2);
        (void)syscall(SYS_close_range, 3, ~0U, 0);
        play_domain(domid);
    }
    (void)waitpid(pid, NULL, 0);
}
