/* What system calls answer, each in a child of its own, since a filter may
 * kill. Arguments are such that nothing outside the container changes. */
#include "tests/diff/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILD_SECONDS 5
#define NOWHERE       "/no/such/place"
#define SCRATCH       "/tmp/probe-scratch"

static long call_acct(void)
{
    return syscall(SYS_acct, NOWHERE);
}

static long call_add_key(void)
{
    return syscall(SYS_add_key, "user", "probe", "x", 1, -9999);
}

static long call_bind_80(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6,
                                   .sin6_port = htons(81)};
    int fd = socket(AF_INET6, SOCK_STREAM, 0), yes = 1;

    if (fd < 0)
        return fd;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    return bind(fd, (struct sockaddr *)&address, sizeof(address));
}

static long call_bpf(void)
{
    return syscall(SYS_bpf, 9999, NULL, 0);
}

static long call_chmod(void)
{
    return chmod("/etc/passwd", 0640);
}

static long call_chown(void)
{
    return chown("/data/file", 12345, 12345);
}

static long call_chroot(void)
{
    return chroot("/");
}

static long call_clock_settime(void)
{
    return syscall(SYS_clock_settime, CLOCK_REALTIME, NULL);
}

static long call_clone3(void)
{
    return syscall(SYS_clone3, NULL, 0);
}

static long call_delete_module(void)
{
    return syscall(SYS_delete_module, "no-such-module", 0);
}

static long call_epoll(void)
{
    return epoll_create1(EPOLL_CLOEXEC);
}

static long call_eventfd(void)
{
    return eventfd(0, EFD_CLOEXEC);
}

static long call_fsopen(void)
{
    return syscall(SYS_fsopen, "tmpfs", 0);
}

static long call_init_module(void)
{
    return syscall(SYS_init_module, NULL, 0, "");
}

static long call_inotify(void)
{
    return inotify_init1(IN_CLOEXEC);
}

static long call_io_uring(void)
{
    return syscall(SYS_io_uring_setup, 1, NULL);
}

static long call_ioperm(void)
{
    return syscall(SYS_ioperm, 0x80, 1, 1);
}

static long call_ioprio_set(void)
{
    return syscall(SYS_ioprio_set, 1, 0, 1 << 13);
}

static long call_kexec(void)
{
    return syscall(SYS_kexec_load, 0, 9999, NULL, 0);
}

static long call_keyctl(void)
{
    return syscall(SYS_keyctl, 9999, 0, 0, 0, 0);
}

static long call_kill_1(void)
{
    return kill(1, 0);
}

static long call_link(void)
{
    return link("/data/file", "/data/hard");
}

static long call_memfd(void)
{
    return memfd_create("probe", MFD_CLOEXEC);
}

static long call_mkdir(void)
{
    return mkdir("/data/new", 0755);
}

static long call_mlock(void)
{
    static char page[1 << 20];

    return mlock(page, sizeof(page));
}

static long call_modify_ldt(void)
{
    return syscall(SYS_modify_ldt, 9, NULL, 0);
}

static long call_mount(void)
{
    return mount("probe", "/data", "tmpfs", 0, NULL);
}

static long call_open_by_handle(void)
{
    return syscall(SYS_open_by_handle_at, -1, NULL, 0);
}

static long call_perf(void)
{
    return syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0);
}

static long call_personality(void)
{
    return personality(PER_LINUX32);
}

static long call_pivot_root(void)
{
    return syscall(SYS_pivot_root, NOWHERE, NOWHERE);
}

static long call_process_vm(void)
{
    return process_vm_readv(getpid(), NULL, 0, NULL, 0, 0);
}

static long call_ptrace(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static long call_quotactl(void)
{
    return syscall(SYS_quotactl, 0, NULL, 0, NULL);
}

static long call_reboot(void)
{
    return syscall(SYS_reboot, 0, 0, 0, NULL); /* wrong magic numbers */
}

static long call_rlimit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -1;
    limit.rlim_max++;
    return setrlimit(RLIMIT_NOFILE, &limit);
}

static long call_sched_fifo(void)
{
    struct sched_param param = {.sched_priority = 1};

    return sched_setscheduler(0, SCHED_FIFO, &param);
}

static long call_setdomainname(void)
{
    struct utsname names; /* the same name again: it may be the machine's */

    (void)uname(&names);
    return setdomainname(names.domainname, strlen(names.domainname));
}

static long call_setgid(void)
{
    return setgid(12345);
}

static long call_setgroups(void)
{
    return setgroups(0, NULL);
}

static long call_sethostname(void)
{
    struct utsname names;

    (void)uname(&names);
    return sethostname(names.nodename, strlen(names.nodename));
}

static long call_setns(void)
{
    return setns(-1, 0);
}

static long call_setpriority(void)
{
    return setpriority(PRIO_PROCESS, 0, -19);
}

static long call_setuid(void)
{
    return setuid(12345);
}

static long call_suid_file(void)
{
    int fd = open("/tmp/probe-suid", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    return fd < 0 ? fd : fchmod(fd, 06755);
}

static long call_swapon(void)
{
    return syscall(SYS_swapon, NOWHERE, 0);
}

static long call_symlink(void)
{
    return symlink("x", "/data/symlink");
}

static long call_sync_file_range(void)
{
    return syscall(SYS_sync_file_range, -1, 0, 0, 0);
}

static long call_syslog(void)
{
    return syscall(SYS_syslog, 10, NULL, 0);
}

static long call_umount(void)
{
    return umount2(NOWHERE, 0);
}

static long call_unlink(void)
{
    return unlink("/data/file");
}

static long call_userfaultfd(void)
{
    return syscall(SYS_userfaultfd, 1 /* user mode only */);
}

static long call_write_root(void)
{
    return open("/new-file", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
}

static long call_write_passwd(void)
{
    return open("/etc/passwd", O_WRONLY | O_APPEND | O_CLOEXEC);
}

static long call_umask_file(void)
{
    struct stat st;
    int fd = open("/tmp/probe-umask", O_WRONLY | O_CREAT | O_CLOEXEC, 0777);

    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    return (long)(st.st_mode & 0777);
}

static const struct {
    const char *name;
    long (*call)(void);
} calls[] = {
    {"acct", call_acct},
    {"add_key", call_add_key},
    {"bind.low_port", call_bind_80},
    {"bpf", call_bpf},
    {"chmod", call_chmod},
    {"chown", call_chown},
    {"chroot", call_chroot},
    {"clock_settime", call_clock_settime},
    {"clone3", call_clone3},
    {"delete_module", call_delete_module},
    {"epoll_create1", call_epoll},
    {"eventfd2", call_eventfd},
    {"fsopen", call_fsopen},
    {"init_module", call_init_module},
    {"inotify_init1", call_inotify},
    {"io_uring_setup", call_io_uring},
    {"ioperm", call_ioperm},
    {"ioprio_set", call_ioprio_set},
    {"kexec_load", call_kexec},
    {"keyctl", call_keyctl},
    {"kill.1", call_kill_1},
    {"link", call_link},
    {"memfd_create", call_memfd},
    {"mkdir", call_mkdir},
    {"mlock", call_mlock},
    {"modify_ldt", call_modify_ldt},
    {"mount", call_mount},
    {"open.new", call_write_root},
    {"open.passwd", call_write_passwd},
    {"open.umask", call_umask_file},
    {"open_by_handle_at", call_open_by_handle},
    {"perf_event_open", call_perf},
    {"personality", call_personality},
    {"pivot_root", call_pivot_root},
    {"process_vm_readv", call_process_vm},
    {"ptrace", call_ptrace},
    {"quotactl", call_quotactl},
    {"reboot", call_reboot},
    {"sched_setscheduler", call_sched_fifo},
    {"setdomainname", call_setdomainname},
    {"setgid", call_setgid},
    {"setgroups", call_setgroups},
    {"sethostname", call_sethostname},
    {"setns", call_setns},
    {"setpriority", call_setpriority},
    {"setrlimit.hard", call_rlimit},
    {"setuid", call_setuid},
    {"fchmod.suid", call_suid_file},
    {"swapon", call_swapon},
    {"symlink", call_symlink},
    {"sync_file_range", call_sync_file_range},
    {"syslog", call_syslog},
    {"umount2", call_umount},
    {"unlink", call_unlink},
    {"userfaultfd", call_userfaultfd},
};

static const struct {
    const char *name;
    int domain;
    int type;
    int protocol;
} sockets[] = {
    {"inet.stream", AF_INET, SOCK_STREAM, 0},
    {"inet.raw", AF_INET, SOCK_RAW, IPPROTO_ICMP},
    {"inet.ping", AF_INET, SOCK_DGRAM, IPPROTO_ICMP},
    {"inet6.dgram", AF_INET6, SOCK_DGRAM, 0},
    {"unix.seqpacket", AF_UNIX, SOCK_SEQPACKET, 0},
    {"packet.raw", AF_PACKET, SOCK_RAW, 0},
    {"netlink.route", AF_NETLINK, SOCK_RAW, 0},
    {"vsock.stream", 40, SOCK_STREAM, 0},
};

static const struct {
    const char *name;
    int flag;
} unshares[] = {
    {"cgroup", CLONE_NEWCGROUP}, {"ipc", CLONE_NEWIPC}, {"mount", CLONE_NEWNS},
    {"net", CLONE_NEWNET},       {"pid", CLONE_NEWPID}, {"user", CLONE_NEWUSER},
    {"uts", CLONE_NEWUTS},
};

/* In several groups of device rules; opened only where that does nothing. */
static const struct {
    const char *name;
    mode_t type;
    unsigned major, minor;
    bool open;
} nodes[] = {
    {"null", S_IFCHR, 1, 3, true},    {"zero", S_IFCHR, 1, 5, true},
    {"mem", S_IFCHR, 1, 1, true},     {"kmsg", S_IFCHR, 1, 11, true},
    {"fuse", S_IFCHR, 10, 229, true}, {"tun", S_IFCHR, 10, 200, true},
    {"loop0", S_IFBLK, 7, 0, false},  {"ram0", S_IFBLK, 1, 0, false},
    {"fifo", S_IFIFO, 0, 0, false},
};

/* The child's word: outcome(), a number, or the signal that ended it. */
static void in_child(const char *key, long (*call)(void), long (*with)(size_t),
                     size_t argument)
{
    int ends[2], status = 0;
    struct {
        long result;
        int error;
    } answer = {-1, 0};
    pid_t pid;

    if (pipe(ends) < 0) {
        tell(key, "pipe: %s", outcome(-1));
        return;
    }
    pid = fork();
    if (pid == 0) {
        (void)signal(SIGALRM, SIG_DFL);
        (void)alarm(CHILD_SECONDS);
        errno = 0;
        answer.result = call ? call() : with(argument);
        answer.error = errno;
        _exit(write(ends[1], &answer, sizeof(answer)) == sizeof(answer) ? 0
                                                                        : 1);
    }
    (void)close(ends[1]);
    if (pid < 0) {
        tell(key, "fork: %s", outcome(-1));
    } else if (read(ends[0], &answer, sizeof(answer)) == sizeof(answer)) {
        errno = answer.error;
        if (call == call_umask_file && answer.result >= 0)
            tell(key, "mode %lo", answer.result);
        else
            tell(key, "%s", outcome(answer.result));
    } else {
        (void)waitpid(pid, &status, 0);
        tell(key, "signal %d", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        pid = -1;
    }
    (void)close(ends[0]);
    if (pid > 0)
        (void)waitpid(pid, &status, 0);
}

static long make_socket(size_t i)
{
    return socket(sockets[i].domain, sockets[i].type, sockets[i].protocol);
}

static long do_unshare(size_t i)
{
    return unshare(unshares[i].flag);
}

static long make_node(size_t i)
{
    (void)unlink(SCRATCH);
    return mknod(SCRATCH, nodes[i].type | 0600,
                 makedev(nodes[i].major, nodes[i].minor));
}

static long open_node(size_t i)
{
    if (make_node(i) < 0)
        return -1;
    return open(SCRATCH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

#define EACH(i, table) \
    for (size_t i = 0; i < sizeof(table) / sizeof(*(table)); i++)

void tell_calls(void)
{
    char key[64];

    EACH(i, calls)
    {
        (void)snprintf(key, sizeof(key), "call.%s", calls[i].name);
        in_child(key, calls[i].call, NULL, 0);
    }
    EACH(i, sockets)
    {
        (void)snprintf(key, sizeof(key), "call.socket.%s", sockets[i].name);
        in_child(key, NULL, make_socket, i);
    }
    EACH(i, unshares)
    {
        (void)snprintf(key, sizeof(key), "call.unshare.%s", unshares[i].name);
        in_child(key, NULL, do_unshare, i);
    }
    EACH(i, nodes)
    {
        (void)snprintf(key, sizeof(key), "call.mknod.%s", nodes[i].name);
        in_child(key, NULL, make_node, i);
        (void)snprintf(key, sizeof(key), "call.mknod.%s.open", nodes[i].name);
        if (nodes[i].open)
            in_child(key, NULL, open_node, i);
    }
    (void)unlink(SCRATCH);
}
