"""System call filters for the differential. Each lets the probe work: it
needs fork, pipes, reads and writes."""


def rule(action, *names, args=None, errno=None):
    out = {"names": list(names), "action": "SCMP_ACT_" + action}
    if args:
        out["args"] = args
    if errno is not None:
        out["errnoRet"] = errno
    return out


def arg(index, value, op, two=None):
    out = {"index": index, "value": value, "op": "SCMP_CMP_" + op}
    if two is not None:
        out["valueTwo"] = two
    return out


def allow_but(*rules, **more):
    return dict({"defaultAction": "SCMP_ACT_ALLOW",
                 "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86",
                                   "SCMP_ARCH_X32"],
                 "syscalls": list(rules)}, **more)


# As container engines list them: what an ordinary program calls.
ORDINARY = (
    "access arch_prctl bind brk capget capset chdir chmod chown clock_getres "
    "clock_gettime clock_nanosleep clone close close_range connect "
    "copy_file_range dup dup2 dup3 epoll_create1 epoll_ctl epoll_wait "
    "epoll_pwait eventfd2 execve execveat exit exit_group faccessat "
    "faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchown fchownat "
    "fcntl fdatasync fgetxattr flock fork fstat fstatfs fsync ftruncate futex "
    "getcwd getdents getdents64 getegid geteuid getgid getgroups getpgid "
    "getpgrp getpid getppid getpriority getrandom getresgid getresuid "
    "getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday "
    "getuid inotify_init1 ioctl ioprio_get ioprio_set kill lchown link linkat "
    "listen lseek lstat madvise memfd_create mkdir mkdirat mknod mknodat "
    "mlock mmap mprotect mremap munmap nanosleep newfstatat open openat "
    "openat2 pause personality pipe pipe2 poll ppoll prctl pread64 prlimit64 "
    "pselect6 pwrite64 read readlink readlinkat readv recvfrom recvmsg rename "
    "renameat renameat2 restart_syscall rmdir rseq rt_sigaction "
    "rt_sigprocmask rt_sigreturn rt_sigsuspend sched_getaffinity "
    "sched_getattr sched_getparam sched_getscheduler sched_setscheduler "
    "sched_yield select sendfile sendmsg sendto setgid setgroups setitimer "
    "setpgid setpriority setresgid setresuid setrlimit set_robust_list setsid "
    "setsockopt set_tid_address setuid sigaltstack socket socketpair stat "
    "statfs statx symlink symlinkat sysinfo tgkill time times truncate umask "
    "uname unlink unlinkat utimensat vfork wait4 waitid write writev alarm "
    "futex_waitv a_call_that_no_kernel_has").split()

ORDINARY_ONLY = {
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86",
                      "SCMP_ARCH_X32"],
    "syscalls": [
        rule("ALLOW", *ORDINARY),
        rule("ALLOW", "ptrace", args=[arg(0, 0, "NE")]),
        rule("ERRNO", "clone3", errno=38)]}

PROFILES = [
    ("ordinary", ORDINARY_ONLY),
    ("errno", allow_but(rule("ERRNO", "mkdir", "add_key", "mount"),
                        rule("ERRNO", "keyctl", errno=42),
                        rule("ERRNO", "chmod", errno=0))),
    ("kill", allow_but(rule("KILL_PROCESS", "acct", "bpf"),
                       rule("KILL", "symlink"),
                       rule("KILL_THREAD", "link"))),
    ("trap", allow_but(rule("TRAP", "swapon", "unlink"),
                       rule("TRACE", "syslog"),
                       rule("LOG", "eventfd2"))),
    ("compare", allow_but(
        rule("ERRNO", "personality", args=[arg(0, 8, "EQ")], errno=11),
        rule("ERRNO", "socket", args=[arg(0, 17, "EQ")], errno=97),
        rule("ERRNO", "unshare",
             args=[arg(0, 0x10000000, "MASKED_EQ", 0x10000000)], errno=13),
        rule("ERRNO", "setpriority", args=[arg(1, 0, "GT")], errno=14),
        rule("ERRNO", "kill", args=[arg(1, 1, "LT"), arg(0, 1, "EQ")],
             errno=15),
        rule("ERRNO", "setgid", args=[arg(0, 12000, "GE")], errno=16),
        rule("ERRNO", "setuid", args=[arg(0, 12345, "LE")], errno=17),
        rule("ERRNO", "chroot", args=[arg(0, 0, "NE")], errno=18))),
    ("flags", allow_but(rule("ERRNO", "mkdir", errno=20),
                        flags=["SECCOMP_FILTER_FLAG_LOG"])),
    ("one-arch", {"defaultAction": "SCMP_ACT_ALLOW",
                  "architectures": ["SCMP_ARCH_X86_64"],
                  "syscalls": [rule("ERRNO", "inotify_init1", errno=24)]}),
    ("no-arch", {"defaultAction": "SCMP_ACT_ALLOW",
                 "syscalls": [rule("ERRNO", "memfd_create", errno=25)]}),
    # What a runtime itself calls on the way to exec.
    ("runtime", allow_but(rule("ERRNO", "mount", "umount2", "setns", "unshare",
                               "pivot_root", "openat2", "seccomp", "setgroups",
                               "setresuid", "setresgid", "capset", "sethostname",
                               "close_range", "fchown", "setsid"))),
    ("empty", {"defaultAction": "SCMP_ACT_ALLOW"}),
]
