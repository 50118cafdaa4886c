"""What the generator may do to a config: features, each with some values.

A value is a name and a function that changes a config. A feature says where
it can be compared: "integ" is the build machine, whose runc has cgroup v1 and
whose guest has no cgroup controllers, "lab" is the emulated host.
"""
from seccomp import PROFILES

ALL_CAPS = ["CAP_" + name for name in (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID "
    "SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW "
    "IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD "
    "LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ").split()]
EVERYWHERE = ("integ", "lab")


class Feature:
    def __init__(self, name, values, where=EVERYWHERE):
        self.name = name
        self.values = values
        self.where = where


def assign(path, value):
    """A change that sets one member; None removes it."""
    def change(config):
        *parents, last = path.split(".")
        for name in parents:
            config = config.setdefault(name, {})
        if value is None:
            config.pop(last, None)
        else:
            config[last] = value
    return change


def each(path, *values):
    return [(str(v).replace(" ", "")[:40], assign(path, v)) for v in values]


def capabilities(**sets):
    return assign("process.capabilities", sets)


def unknown_capability(config):
    sets = dict(config["process"].get("capabilities", {}))
    sets["bounding"] = sets.get("bounding", []) + ["CAP_NO_SUCH"]
    config["process"]["capabilities"] = sets


def mount(destination, kind, *options, source=None):
    def change(config):
        config["mounts"].append({
            "destination": destination, "type": kind,
            "source": source or kind, "options": list(options)})
    return change


def remount(destination, before, after):
    def change(config):
        if before is not None:
            mount(destination, "tmpfs", *before)(config)
        mount(destination, "tmpfs", "remount", *after)(config)
    return change


def options_of(destination, *options):
    def change(config):
        for m in config["mounts"]:
            if m["destination"] == destination:
                m["options"] = list(options)
    return change


def without_mount(destination):
    def change(config):
        config["mounts"] = [m for m in config["mounts"]
                            if m["destination"] != destination]
    return change


def namespaces(remove=(), add=(), **members):
    def change(config):
        config["linux"]["namespaces"] = [
            n for n in config["linux"]["namespaces"]
            if n["type"] not in remove] + [{"type": t} for t in add]
        if "uts" in remove:
            config.pop("hostname", None)
        for name, value in members.items():
            config["linux"][name] = value
    return change


def rlimits(*limits):
    return assign("process.rlimits", [
        {"type": "RLIMIT_" + t, "soft": s, "hard": h} for t, s, h in limits])


def device(path, kind, major, minor, **more):
    d = {"path": path, "type": kind, "major": major, "minor": minor}
    if kind == "p":
        d = {"path": path, "type": kind}
    d.update(more)
    return d


def devices(*list_of):
    return assign("linux.devices", list(list_of))


def rules(*list_of):
    return assign("linux.resources.devices", list(list_of))


DENY = {"allow": False, "access": "rwm"}
UNLIMITED = 2 ** 64 - 1


def terminal(width=None, height=None):
    def change(config):
        config["process"]["terminal"] = True
        if width is not None:
            config["process"]["consoleSize"] = {"width": width,
                                                "height": height}
    return change


def sysctl(**values):
    return assign("linux.sysctl", {k.replace("__", "."): v
                                   for k, v in values.items()})


def id_maps(uids, gids):
    def maps(list_of):
        return [{"containerID": c, "hostID": h, "size": s}
                for c, h, s in list_of]
    return namespaces(add=["user"], uidMappings=maps(uids),
                      gidMappings=maps(gids))


FEATURES = [
    Feature("user", each(
        "process.user", {"uid": 1000, "gid": 1000}, {"uid": 65534, "gid": 65534},
        {"uid": 1, "gid": 0}, {"uid": 0, "gid": 7},
        {"uid": 2147483648, "gid": 2147483649})),
    Feature("groups", each(
        "process.user.additionalGids", [0], [1, 2, 3], [5, 5, 4294967294],
        list(range(100, 140)))),
    Feature("umask", each("process.user.umask", 0, 0o27, 0o77, 0o777)),
    Feature("caps", [
        ("absent", assign("process.capabilities", None)),
        ("none", capabilities()),
        ("empty", capabilities(bounding=[], effective=[], permitted=[])),
        ("all", capabilities(bounding=ALL_CAPS, effective=ALL_CAPS,
                             permitted=ALL_CAPS)),
        ("bounding", capabilities(bounding=ALL_CAPS)),
        ("raw", capabilities(bounding=["CAP_NET_RAW"],
                             effective=["CAP_NET_RAW"],
                             permitted=["CAP_NET_RAW"])),
        ("inheritable", capabilities(
            bounding=["CAP_CHOWN", "CAP_KILL"], effective=["CAP_CHOWN"],
            permitted=["CAP_CHOWN", "CAP_KILL"],
            inheritable=["CAP_CHOWN"])),
        ("ambient", capabilities(
            bounding=["CAP_CHOWN", "CAP_SYS_NICE"],
            effective=["CAP_CHOWN", "CAP_SYS_NICE"],
            permitted=["CAP_CHOWN", "CAP_SYS_NICE"],
            inheritable=["CAP_CHOWN", "CAP_SYS_NICE"],
            ambient=["CAP_CHOWN", "CAP_SYS_NICE"])),
        ("ambient-alone", capabilities(
            bounding=["CAP_CHOWN"], effective=["CAP_CHOWN"],
            permitted=["CAP_CHOWN"], ambient=["CAP_CHOWN"])),
        ("admin", capabilities(
            bounding=["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_MKNOD"],
            effective=["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_MKNOD"],
            permitted=["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_MKNOD"]))]),
    Feature("seccomp", [(name, assign("linux.seccomp", profile))
                        for name, profile in PROFILES]),
    Feature("no_new_privs", each("process.noNewPrivileges", False, None)),
    Feature("rlimits", [
        ("none", assign("process.rlimits", None)),
        ("few", rlimits(("NOFILE", 100, 200), ("CORE", 0, 0),
                        ("NPROC", 500, 1000))),
        ("unlimited", rlimits(("STACK", UNLIMITED, UNLIMITED),
                              ("MEMLOCK", UNLIMITED, UNLIMITED),
                              ("CPU", UNLIMITED, UNLIMITED))),
        ("all", rlimits(
            ("AS", 1 << 40, 1 << 41), ("CORE", 1, 2), ("CPU", 1000, 2000),
            ("DATA", 1 << 40, 1 << 40), ("FSIZE", 1 << 30, 1 << 31),
            ("LOCKS", 10, 20), ("MEMLOCK", 65536, 131072),
            ("MSGQUEUE", 1000, 2000), ("NICE", 5, 10), ("NOFILE", 64, 65),
            ("NPROC", 300, 400), ("RSS", 1 << 33, 1 << 34),
            ("RTPRIO", 1, 2), ("RTTIME", 1 << 30, 1 << 31),
            ("SIGPENDING", 100, 200), ("STACK", 1 << 20, 1 << 23)))]),
    Feature("oom_score_adj", each("process.oomScoreAdj", 0, 1, 500, 1000,
                                  -999)),
    Feature("cwd", each("process.cwd", "/data", "/made/for/it", "/proc",
                        "/tmp/../data/./sub", "/datalink", "/etc/link-dir")),
    Feature("args", each(
        "process.args", ["probe"], ["/bin/probe", "a b", "", "$HOME"],
        ["/bin/probe"] + ["x" * 500] * 4, ["/bin/probelink", "-x"])),
    Feature("env", each(
        "process.env", [], ["PATH=/bin", "HOME=/somewhere"],
        ["PATH=/bin", "A=1", "A=2", "EMPTY=", "SPACES=  a  b "],
        ["HOME=", "TERM=dumb", "U=\u00fc\u4e2d"],
        ["PATH=/bin", "EQUALS=a=b=c", "LONG=" + "y" * 2000],
        ["PATH=/no/such", "A=1", "PATH=/bin"])),
    Feature("terminal", [
        ("plain", terminal()), ("80x25", terminal(80, 25)),
        ("1x1", terminal(1, 1)), ("wide", terminal(500, 2)),
        ("zero", terminal(0, 0))]),
    Feature("hostname", each("hostname", None, "h", "with.dots.example",
                             "x" * 63)),
    Feature("readonly_root", each("root.readonly", True)),
    Feature("namespaces", [
        ("no-ipc", namespaces(remove=["ipc"])),
        ("no-uts", namespaces(remove=["uts"])),
        ("no-pid", namespaces(remove=["pid"])),
        ("no-ipc-uts", namespaces(remove=["ipc", "uts"])),
        ("cgroup", namespaces(add=["cgroup"]))]),
    Feature("user_namespace", [
        ("whole", id_maps([(0, 100000, 65536)], [(0, 100000, 65536)])),
        ("same", id_maps([(0, 0, 4294967295)], [(0, 0, 4294967295)])),
        ("pieces", id_maps([(0, 5000, 1000), (1000, 9000, 100000)],
                           [(0, 7000, 2000), (2000, 20000, 100000)]))]),
    Feature("tmpfs", [
        ("plain", mount("/data", "tmpfs")),
        ("new", mount("/new/deep/place", "tmpfs", "size=1m", "mode=1777")),
        ("new-plain", mount("/new/place", "tmpfs")),
        ("ro-over", mount("/data", "tmpfs", "ro", "tmpcopyup")),
        ("old-flags", mount("/mnt", "tmpfs", "iversion", "acl")),
        ("both-times", mount("/mnt", "tmpfs", "strictatime", "noatime")),
        ("owned", mount("/mnt", "tmpfs", "uid=1000", "gid=7", "mode=0750")),
        ("ro", mount("/mnt", "tmpfs", "ro", "nosuid", "nodev", "noexec")),
        ("times", mount("/mnt", "tmpfs", "noatime", "nodiratime")),
        ("strict", mount("/mnt", "tmpfs", "strictatime", "sync")),
        ("inodes", mount("/mnt", "tmpfs", "nr_inodes=500", "size=10%")),
        ("copyup", mount("/etc", "tmpfs", "tmpcopyup")),
        ("copyup-new", mount("/data", "tmpfs", "tmpcopyup", "mode=01755",
                             "size=2m")),
        ("rw-over", mount("/mnt", "tmpfs", "ro", "rw", "suid", "exec")),
        ("over-link", mount("/datalink", "tmpfs")),
        ("private", mount("/mnt", "tmpfs", "private")),
        ("slave", mount("/mnt", "tmpfs", "rslave")),
        ("shared", mount("/mnt", "tmpfs", "shared")),
        ("unbindable", mount("/mnt", "tmpfs", "unbindable"))]),
    Feature("proc_mount", [
        ("rw", options_of("/proc")),
        ("second", mount("/mnt/proc", "proc", "nosuid")),
        ("hidepid", options_of("/proc", "nosuid", "hidepid=2")),
        ("ro", options_of("/proc", "ro", "nosuid", "noexec", "nodev"))]),
    Feature("sys_mount", [
        ("rw", options_of("/sys", "nosuid", "noexec", "nodev")),
        ("none", without_mount("/sys"))]),
    Feature("dev_mount", [
        ("ro", options_of("/dev", "nosuid", "ro", "mode=755")),
        ("mode", options_of("/dev", "mode=0775", "size=1m")),
        ("noexec", options_of("/dev", "nosuid", "noexec", "mode=755"))]),
    Feature("pts_mount", [
        ("mode", options_of("/dev/pts", "newinstance", "ptmxmode=0600",
                            "mode=0600")),
        ("gid", options_of("/dev/pts", "nosuid", "noexec", "newinstance",
                           "gid=7", "ptmxmode=0666", "max=20"))]),
    Feature("shm_mount", [
        ("none", without_mount("/dev/shm")),
        ("small", options_of("/dev/shm", "nosuid", "size=64k", "mode=1777")),
        ("mqueue", without_mount("/dev/mqueue"))]),
    Feature("masked", [
        ("none", assign("linux.maskedPaths", None)),
        ("files", assign("linux.maskedPaths", [
            "/data/secret", "/etc/shadow", "/not/there", "/proc/kcore"])),
        ("trees", assign("linux.maskedPaths", ["/data", "/proc/sys"])),
        ("link", assign("linux.maskedPaths", ["/etc/link", "/datalink"]))]),
    Feature("readonly_paths", [
        ("none", assign("linux.readonlyPaths", None)),
        ("files", assign("linux.readonlyPaths", [
            "/etc/passwd", "/data/sub", "/not/there", "/proc/sys"])),
        ("trees", assign("linux.readonlyPaths", ["/data", "/etc", "/tmp"])),
        ("link", assign("linux.readonlyPaths", ["/etc/link"]))]),
    Feature("propagation", each("linux.rootfsPropagation", "private",
                                "rprivate", "slave", "rslave", "shared",
                                "rshared", "unbindable")),
    Feature("sysctl", [
        ("shm", sysctl(kernel__shmmax="1000000", kernel__shmall="2000",
                       kernel__shmmni="17")),
        ("msg", sysctl(kernel__msgmax="9000", kernel__msgmnb="18000",
                       kernel__msgmni="99")),
        ("sem", sysctl(kernel__sem="100 200 30 40")),
        ("mqueue", sysctl(fs__mqueue__msg_max="12",
                          fs__mqueue__msgsize_max="9000")),
        ("net", sysctl(net__ipv4__ip_forward="1",
                       net__core__somaxconn="321")),
        ("ping", sysctl(net__ipv4__ping_group_range="0 2147483647",
                        net__ipv4__ip_unprivileged_port_start="0"))]),
    Feature("devices", [
        ("null", devices(device("/dev/made", "c", 1, 3, fileMode=0o640,
                                uid=1000, gid=7))),
        ("block", devices(device("/dev/made-b", "b", 7, 0,
                                 fileMode=0o600))),
        ("deep", devices(device("/dev/sub/n", "c", 1, 5))),
        ("unbuffered", devices(device("/dev/made", "u", 1, 8,
                                      fileMode=0o666))),
        ("fifo", devices(device("/dev/made", "p", 0, 0, fileMode=0o622))),
        ("ptmx", devices(device("/dev/ptmx", "c", 5, 2, fileMode=0o666))),
        ("console", devices(device("/dev/console", "c", 5, 1,
                                   fileMode=0o600))),
        ("default", devices(device("/dev/zero", "c", 1, 5,
                                   fileMode=0o600))),
        ("elsewhere", devices(device("/data/zero", "c", 1, 5,
                                     fileMode=0o604)))]),
    Feature("device_rules", [
        ("none", rules()),
        ("fuse", rules(DENY, {"allow": True, "type": "c", "major": 10,
                              "minor": 229, "access": "rwm"})),
        ("read", rules(DENY, {"allow": True, "type": "c", "major": 10,
                              "access": "r"})),
        ("all", rules({"allow": True, "access": "rwm"})),
        ("but", rules({"allow": True, "access": "rwm"},
                      {"allow": False, "type": "c", "major": 1, "minor": 11,
                       "access": "rwm"})),
        ("blocks", rules(DENY, {"allow": True, "type": "b",
                                "access": "m"}))]),
    Feature("cgroup_mount", [
        ("plain", mount("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec",
                        "nodev", "relatime")),
        ("rw", mount("/sys/fs/cgroup", "cgroup"))], where=("lab",)),
    Feature("memory", each(
        "linux.resources.memory", {"limit": 64 << 20},
        {"limit": 128 << 20, "reservation": 32 << 20},
        {"limit": 64 << 20, "swap": 64 << 20},
        {"reservation": 16 << 20}), where=("lab",)),
    Feature("cpu", each(
        "linux.resources.cpu", {"shares": 512}, {"shares": 2},
        {"quota": 50000, "period": 100000}, {"quota": -1},
        {"shares": 262144, "quota": 20000, "period": 50000}),
        where=("lab",)),
    Feature("pids", each("linux.resources.pids", {"limit": 100},
                         {"limit": -1}, {"limit": 4000}), where=("lab",)),
    Feature("unified", each(
        "linux.resources.unified", {"memory.high": "70000000"},
        {"pids.max": "77"}, {"cpu.weight": "55"}), where=("lab",)),
    Feature("remount", [
        ("options", remount("/mnt", ("size=4m", "noexec", "nosuid"),
                            ("size=1m",))),
        ("ro", remount("/mnt", (), ("ro", "nodev"))),
        ("rw", remount("/mnt", ("ro", "nosuid"), ("rw", "size=2m"))),
        ("mode", remount("/mnt", ("mode=0750", "sync"), ("mode=0700",))),
        ("times", remount("/mnt", ("noatime", "nodiratime"),
                          ("strictatime",))),
        ("same-times", remount("/mnt", ("noatime",), ("nosuid",))),
        ("usual", remount("/dev/shm", None, ("size=128k", "noexec"))),
        ("propagation", remount("/mnt", (), ("shared",))),
        ("nothing", remount("/tmp", None, ("ro",))),
        ("unknown", remount("/mnt", (), ("nosuchoption",)))]),
    Feature("propagations", [
        ("slave-shared", mount("/mnt", "tmpfs", "rslave", "rshared")),
        ("private-slave", mount("/mnt", "tmpfs", "rprivate", "rslave")),
        ("shared-private", mount("/mnt", "tmpfs", "shared", "private")),
        ("unbindable-shared", mount("/mnt", "tmpfs", "unbindable",
                                    "shared"))]),
    Feature("unclean_paths", [
        ("null", devices(device("/dev//null", "c", 1, 3, fileMode=0o666))),
        ("zero", devices(device("/dev/./zero", "c", 1, 5, fileMode=0o666))),
        ("ptmx", devices(device("//dev/ptmx", "c", 5, 2, fileMode=0o666))),
        ("mount", mount("//mnt/./sub/", "tmpfs", "size=1m"))]),
    Feature("unknown_capability", [("bounding", unknown_capability)]),
    Feature("small_limits", [
        ("files", rlimits(("NOFILE", 16, 16))),
        ("size", rlimits(("FSIZE", 0, 0)))]),
    Feature("cpu_period", each(
        "linux.resources.cpu", {"period": 50000},
        {"period": 20000, "quota": -1}), where=("lab",)),
]

# What runc refuses; domus has to refuse it as well.
REFUSALS = Feature("refusal", [
    ("no-args", assign("process.args", [])),
    ("no-program", assign("process.args", ["/no/such/program"])),
    ("not-in-path", assign("process.args", ["no-such-program"])),
    ("directory", assign("process.args", ["/data"])),
    ("not-executable", assign("process.args", ["/data/file"])),
    ("cwd-empty", assign("process.cwd", "")),
    ("cwd-relative", assign("process.cwd", "data")),
    ("cwd-file", assign("process.cwd", "/data/file")),
    ("rlimit-name", rlimits(("NOSUCH", 1, 1))),
    ("rlimit-order", rlimits(("NOFILE", 200, 100))),
    ("namespace-name", namespaces(add=["nosuch"])),
    ("namespace-twice", namespaces(add=["pid"])),
    ("namespace-path", lambda config: config["linux"]["namespaces"].append(
        {"type": "cgroup", "path": "/no/such/namespace"})),
    ("no-mount-namespace", namespaces(remove=["mount"])),
    ("hostname-without-uts", lambda config: (
        namespaces(remove=["uts"])(config),
        config.update(hostname="somewhere"))),
    ("sysctl-unknown", sysctl(kernel__no_such="1")),
    ("sysctl-machine", sysctl(kernel__panic="1")),
    ("sysctl-value", sysctl(kernel__shmmax="many")),
    ("sysctl-net", lambda config: (
        namespaces(remove=["network"])(config),
        sysctl(net__ipv4__ip_forward="1")(config))),
    ("mount-type", mount("/mnt", "nosuchfs")),
    ("mount-option", mount("/mnt", "tmpfs", "nosuchoption")),
    ("mount-size", mount("/mnt", "tmpfs", "size=many")),
    ("mount-over-file", mount("/data/file", "tmpfs")),
    ("mount-under-file", mount("/data/file/x", "tmpfs")),
    ("uid", assign("process.user.uid", -1)),
    ("uid-large", assign("process.user.uid", 2 ** 32)),
    ("oom-score", assign("process.oomScoreAdj", 1001)),
    ("version", assign("ociVersion", "9.9.9")),
    ("device-type", devices(device("/dev/made", "x", 1, 3))),
    ("propagation", assign("linux.rootfsPropagation", "nosuch")),
    ("masked-relative", assign("linux.maskedPaths", ["data"])),
    ("selinux", assign("process.selinuxLabel", "system_u:object_r:x:s0")),
    ("seccomp-action", assign("linux.seccomp", {
        "defaultAction": "SCMP_ACT_NOSUCH"})),
    ("seccomp-operator", assign("linux.seccomp", {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["personality"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NOSUCH"}]}]})),
    ("seccomp-index", assign("linux.seccomp", {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["personality"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]})),
    ("seccomp-arch", assign("linux.seccomp", {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_NOSUCH"], "syscalls": [{
            "names": ["personality"], "action": "SCMP_ACT_ERRNO"}]})),
    ("seccomp-write", assign("linux.seccomp", {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["write"], "action": "SCMP_ACT_NOTIFY"}]})),
])
