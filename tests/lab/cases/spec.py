"""The OCI config that `ctr run` writes, as a dictionary to change."""
import copy
import json

CAPABILITIES = ["CAP_" + word for word in (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP "
    "SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE").split()]
MASKED = ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
          "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
          "/proc/sched_debug", "/sys/firmware", "/proc/scsi"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
            "/proc/sysrq-trigger"]
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def mount(target, kind, source, *options):
    return {"destination": target, "type": kind, "source": source,
            "options": list(options)}


MOUNTS = [
    mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
    mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755",
          "size=65536k"),
    mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance",
          "ptmxmode=0666", "mode=0620", "gid=5"),
    mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev",
          "mode=1777", "size=65536k"),
    mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    mount("/run", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755",
          "size=65536k"),
]
CGROUP = mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec",
               "nodev", "ro")


def process(args, **changes):
    """For init and for exec alike."""
    found = {
        "user": {"uid": 0, "gid": 0}, "args": list(args),
        "env": [PATH], "cwd": "/", "noNewPrivileges": True,
        "capabilities": {name: list(CAPABILITIES) for name in (
            "bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]}
    found.update(copy.deepcopy(changes))
    if found.get("terminal"):
        found["env"] = found["env"] + ["TERM=xterm"]
    return found


def spec(name, args, **changes):
    """changes: of the process, by the names of its fields."""
    return {
        "ociVersion": "1.0.2-dev",
        "process": process(args, **changes),
        "root": {"path": "rootfs"},
        "mounts": copy.deepcopy(MOUNTS),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "cgroupsPath": "/default/" + name,
            "namespaces": [{"type": kind} for kind in (
                "pid", "ipc", "uts", "mount", "network", "cgroup")],
            "maskedPaths": list(MASKED), "readonlyPaths": list(READONLY)}}


def dump(value):
    return json.dumps(value).encode()
