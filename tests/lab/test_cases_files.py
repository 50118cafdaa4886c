#!/usr/bin/env python3
"""Named cases: what a container sees of files: its root, mounts, masked and
read-only paths, devices, and images that mean harm."""
import os
import sys

from cases.frame import case, main
from cases.grpc import Error
from cases.roots import Root, empty_directory
from cases.spec import CGROUP, mount
from cases.world import error_of
from tap import Failure, has, same

HOST_MARK = "/run/domus-cases-host"


def mounted(world):
    """A container with mounts of every sort, for cases to look at."""
    def change(config):
        config["mounts"] += [
            mount("/small", "tmpfs", "tmpfs", "size=1m", "mode=1711",
                  "nosuid", "nodev", "noexec"),
            mount("/still", "tmpfs", "tmpfs", "ro"),
            mount("/made/deep/down", "tmpfs", "tmpfs"),
            mount("/made/deep/down/below", "tmpfs", "tmpfs", "mode=700",
                  "uid=12", "gid=34"),
            mount("/inodes", "tmpfs", "tmpfs", "nr_inodes=10",
                  "noatime"),
            dict(CGROUP)]
        linux = config["linux"]
        linux["maskedPaths"] += ["/etc/group", "/usr", "/not/there"]
        linux["readonlyPaths"] += ["/etc/passwd", "/var", "/neither/there"]
        linux["devices"] = [
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5,
             "fileMode": 0o640, "uid": 7, "gid": 8},
            {"path": "/dev/sub/forbidden", "type": "c", "major": 1,
             "minor": 11, "fileMode": 0o666},
            {"path": "/dev/block", "type": "b", "major": 7, "minor": 0,
             "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622}]
        linux["resources"]["devices"] += [
            {"allow": True, "type": "c", "major": 1, "minor": 5,
             "access": "rwm"}]
        linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0",
                           "kernel.shm_rmid_forced": "1",
                           "kernel.msgmax": "4321"}
        config["hostname"] = "mounted"
    return world.shared("mounted", change=change)


def mount_lines(container, *targets):
    """Of /proc/self/mounts: (target, type, options) without what depends on
    the host. domus makes every tmpfs nodev: only the runtime's own nodes are
    devices."""
    found = []
    for line in container.sh("cat /proc/self/mounts").splitlines():
        _, target, kind, options = line.split()[:4]
        if target in targets:
            found.append((target, kind, sorted(
                word for word in options.split(",")
                if not word.startswith(("lowerdir", "upperdir", "workdir",
                                        "seclabel", "inode", "uuid"))
                and not (kind == "tmpfs" and word == "nodev"))))
    return found


def fails(container, script, **process):
    result = container.exec(["sh", "-c", script], **process)
    if result.status == 0:
        raise Failure("%r did not fail: %s" % (script, result.text))
    return result.err


@case("crun test_mounts", "the mounts of the default config are as on runc",
      as_runc=True)
def default_mounts(world):
    return mount_lines(mounted(world), "/proc", "/dev", "/dev/pts",
                       "/dev/shm", "/dev/mqueue", "/sys", "/run")


@case("crun test_mounts tmpfs", "options of a tmpfs are as on runc",
      as_runc=True)
def tmpfs_options(world):
    return mount_lines(mounted(world), "/small", "/still", "/inodes",
                       "/made/deep/down", "/made/deep/down/below")


@case("runc mounts.bats: tmpfs size", "a tmpfs is full at its size")
def tmpfs_size(world):
    has("the error", fails(mounted(world),
                           "dd if=/dev/zero of=/small/x bs=1k count=2000"),
        "no space left")
    mounted(world).sh("rm /small/x")


@case("crun test_mounts noexec", "noexec holds")
def tmpfs_noexec(world):
    has("the error", fails(mounted(world), "cp /bin/busybox /small/echo; "
                           "/small/echo x; r=$?; rm /small/echo; exit $r"),
        "permission denied")


@case("crun test_mounts ro", "a read-only tmpfs is read-only")
def tmpfs_read_only(world):
    has("the error", fails(mounted(world), "echo > /still/x"), "read-only")


@case("runc mounts.bats: order", "mounts are made in their order, "
      "and missing mount points too")
def mount_order(world):
    same("the modes", mounted(world).sh(
        "stat -c '%a %u %g' /made/deep/down/below /small"),
         "700 12 34\n1711 0 0")


@case("crun mount_no_leak_to_host", "no mount of it is seen in dom0")
def mount_no_leak_to_host(world):
    mounted(world)
    with open("/proc/self/mounts", encoding="utf-8") as f:
        for line in f:
            if line.split()[1].endswith("/made/deep/down"):
                raise Failure(line)


@case("runc mounts.bats: cgroup", "the cgroup file system is read-only",
      cgroup2=True)
def cgroup_read_only(world):
    has("the error", fails(mounted(world), "mkdir /sys/fs/cgroup/mine"),
        "read-only")


@case("runc mask.bats: file", "a masked file is empty, and stays so")
def masked_file(world):
    container = mounted(world)
    same("it", container.sh("cat /etc/group"), "")
    container.exec(["sh", "-c", "echo x > /etc/group; umount /etc/group"])
    same("it", container.sh("cat /etc/group"), "")


@case("runc mask.bats: directory",
      "a masked directory is empty, and nothing can be made in it")
def masked_directory(world):
    container = mounted(world)
    same("it", container.sh("ls -A /usr"), "")
    has("the error", fails(container, "touch /usr/x"), "read-only")
    fails(container, "umount /usr")


@case("crun test_paths readonly_paths file", "a read-only file is so")
def readonly_file(world):
    container = mounted(world)
    has("the error", fails(container, "echo x >> /etc/passwd"), "read-only")
    has("it", container.sh("cat /etc/passwd"), "root")


@case("crun test_paths readonly_paths directory",
      "a read-only directory is so, the one beside it is not")
def readonly_directory(world):
    container = mounted(world)
    has("the error", fails(container, "touch /var/x"), "read-only")
    container.sh("touch /tmp/x && rm /tmp/x")


@case("critest MaskedPaths and ReadonlyPaths of /proc",
      "what is masked in /proc cannot be read, nor can /proc/sys be written",
      full=True)
def proc_paths(world):
    container = world.shared()
    for path in ("/proc/timer_list", "/proc/kcore", "/proc/keys"):
        same(path, container.exec(["sh", "-c", "cat %s 2>/dev/null | wc -c" %
                                   path]).text.strip(), "0")
    has("the error", fails(container, "echo x > /proc/sys/kernel/hostname"),
        "read-only")


@case("critest ReadonlyRootfs", "the root is read-only, mounts in it are not",
      full=True)
def readonly_rootfs(world):
    def change(config):
        config["root"]["readonly"] = True
    container = world.shared("still root", change=change)
    for directory in ("/", "/etc", "/tmp"):
        has("the error", fails(container, "touch %s/x" % directory),
            "read-only")
    container.sh("touch /run/x /dev/shm/x")


@case("crun test_devices", "the default nodes are as on runc", as_runc=True)
def default_devices(world):
    # core is a link only where the kernel has a /proc/kcore.
    return mounted(world).sh(
        "cd /dev; stat -c '%n %F %t:%T %a %u %g' null zero full random "
        "urandom tty; ls -d * | grep -vx core; for i in fd stdin stdout stderr ptmx; do "
        "readlink $i; done")


@case("crun test_create_or_bind_mount_device",
      "a node of the config has its numbers, mode and owner")
def device_nodes(world):
    same("them", mounted(world).sh(
        "stat -c '%n %F %t:%T %a %u %g' /dev/mine /dev/sub/forbidden "
        "/dev/block /dev/pipe").splitlines(), [
            "/dev/mine character special file 1:5 640 7 8",
            "/dev/sub/forbidden character special file 1:b 666 0 0",
            "/dev/block block special file 7:0 600 0 0",
            "/dev/pipe fifo 0:0 622 0 0"])
    same("the mode of a directory that was made for one",
         mounted(world).sh("stat -c %a /dev/sub"), "755")


@case("crun test_allow_device", "a device that is allowed can be read")
def allow_device(world):
    same("it", mounted(world).sh("head -c 4 /dev/mine | wc -c"), "4")


@case("crun test_deny_device",
      "a device that is not allowed cannot be opened")
def deny_device(world):
    has("the error", fails(mounted(world), "head -c 1 /dev/sub/forbidden"),
        "not permitted")


@case("crun test_mknod_device",
      "a node that a container makes itself opens no other device")
def mknod_device(world):
    fails(mounted(world), "rm -f /tmp/node; mknod /tmp/node c 1 11 && "
          "head -c 1 /tmp/node")


@case("runc dev.bats", "what is allowed by default works")
def default_devices_work(world):
    same("it", world.shared().sh(
        "echo x > /dev/null; head -c 3 /dev/zero | wc -c; "
        "head -c 3 /dev/urandom | wc -c; echo x > /dev/full 2>/dev/null || "
        "echo full").split(), ["3", "3", "full"])


@case("Kata k8s-sysctls", "sysctls of the namespaces are set")
def sysctls(world):
    same("them", mounted(world).sh(
        "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/kernel/msgmax "
        "/proc/sys/net/ipv4/ip_unprivileged_port_start").split(),
         ["1", "4321", "0"])


@case("containerd TestBindLowPortNonRoot",
      "a user that is not root listens on port 80 where a sysctl allows it")
def bind_low_port_non_root(world):
    added = mounted(world).exec_start(
        ["nc", "-l", "-p", "80"], user={"uid": 1000, "gid": 1000},
        capabilities={}, stdin=True)
    try:
        mounted(world).sh("for i in 1 2 3 4 5 6 7 8 9 10; do "
                          "netstat -ltn | grep -q ':80 ' && exit 0; "
                          "sleep 0.5; done; exit 1")
    finally:
        if added.state() == "RUNNING":
            added.kill(9)
        added.result()


@case("crun test_sysctl, unknown", "a sysctl that there is not is refused")
def sysctl_unknown(world):
    def change(config):
        config["linux"]["sysctl"] = {"kernel.no_such_thing": "1"}
    has("the error", world.refused(["true"], change=change).message,
        "no_such_thing")


@case("runc rootfsPropagation", "it is as on runc", as_runc=True, full=True)
def rootfs_propagation(world):
    """A slave has no master in a domain: nothing is mounted from outside."""
    seen = []
    for value in ("rprivate", "rslave"):
        def change(config, value=value):
            config["linux"]["rootfsPropagation"] = value
        result = world.run(["sh", "-c", "grep ' / / ' /proc/self/mountinfo | "
                            "grep -c shared:"], change=change)
        seen.append(result.text.strip())
    return seen


@case("Kata k8s-privileged",
      "every capability, no mask: it may mount, and write to /proc/sys",
      full=True)
def privileged(world):
    def change(config):
        linux = config["linux"]
        linux["maskedPaths"] = linux["readonlyPaths"] = []
        linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
        for each in config["mounts"]:
            each["options"] = [word for word in each["options"]
                               if word != "ro"]
    names = every_capability()
    sets = {name: names for name in ("bounding", "effective", "permitted")}
    with world.container(["sleep", "1000"], change=change, capabilities=sets,
                         noNewPrivileges=False) as container:
        container.start(null=True)
        same("it", container.sh(
            "mount -t tmpfs t /tmp && echo x > /tmp/y && umount /tmp && "
            "echo changed > /proc/sys/kernel/hostname && hostname && "
            "head -c 0 /dev/null", capabilities=sets), "changed")


def every_capability():
    """That this process could give: in dom0 all of them."""
    with open("/proc/self/status", encoding="ascii") as f:
        ours = int(next(line for line in f
                        if line.startswith("CapBnd")).split()[1], 16)
    return ["CAP_" + word for bit, word in enumerate((
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID "
        "SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN "
        "NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
        "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE "
        "SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL "
        "SETFCAP").split()) if ours >> bit & 1]


# --- roots ------------------------------------------------------------------

@case("Kata k8s-empty-image", "a root with nothing in it does not start")
def empty_image(world):
    with empty_directory() as root:
        world.refused(["/bin/sh"], root=root)


@case("crun test_missing_rootfs", "a root that is not there: an error")
def missing_rootfs(world):
    world.refused(["/bin/sh"], root="/not/there/at/all")


@case("crun rootfs is a file", "a root that is no directory: an error")
def rootfs_is_file(world):
    world.refused(["/bin/sh"], root="/etc/hosts")


def refused_with_link(world, name):
    with Root(links={name: "/tmp"}) as root:
        error = world.refused(["/bin/sh", "-c", "true"], root=root.path)
        has("the error", error.message, name)


@case("runc mask.bats: prohibit symlink /proc",
      "an image whose /proc is a symbolic link is refused")
def prohibit_symlink_proc(world):
    refused_with_link(world, "proc")


@case("runc mask.bats: prohibit symlink /sys",
      "an image whose /sys is a symbolic link is refused", full=True)
def prohibit_symlink_sys(world):
    refused_with_link(world, "sys")


def through(world, target, links, directories=(), expect=None):
    """Mounts a tmpfs at target in an image with links; what it is on."""
    def change(config):
        config["mounts"].append(mount(target, "tmpfs", "tmpfs", "mode=701"))
    with Root(links=links, directories=directories) as root:
        result = world.run(["/bin/sh", "-c", "grep mode=701 "
                            "/proc/self/mounts | cut -d' ' -f2"],
                           root=root.path, change=change)
        same("the mount's place", (result.status, result.text.strip(),
                                   result.err), (0, expect, ""))
    if os.path.exists(HOST_MARK):
        raise Failure("%s was made in dom0" % HOST_MARK)


@case("crun mount_symlink", "a mount point that is a link is resolved in "
      "the root", full=True)
def mount_symlink(world):
    through(world, "/link", {"link": "/real"}, ("real",), expect="/real")


@case("runc mounts.bats: tmpfs mount with absolute symlink",
      "an absolute link in the middle is resolved in the root", full=True)
def tmpfs_absolute_symlink(world):
    through(world, "/link/below", {"link": "/real"}, ("real",),
            expect="/real/below")


@case("crun mount_symlink_not_existing",
      "a link to what is not there: made within the root, not in dom0")
def mount_symlink_not_existing(world):
    through(world, "/link", {"link": HOST_MARK}, expect=HOST_MARK)


@case("runc mounts.bats: through a dangling symlink component",
      "made within the root, not in dom0", full=True)
def mount_dangling_component(world):
    through(world, "/link/below", {"link": HOST_MARK},
            expect=HOST_MARK + "/below")


@case("runc mounts.bats: a link that climbs",
      "../../.. ends at the container's root", full=True)
def mount_symlink_climbing(world):
    through(world, "/link/below", {"link": "../../../../real"}, ("real",),
            expect="/real/below")


@case("crun bind_mount_symlink_nofollow_procfs",
      "a bind mount over a part of /proc is refused")
def mount_over_procfs(world):
    def change(config):
        config["mounts"].append(mount("/proc/self/attr", "bind", "/etc",
                                      "rbind", "ro"))
    world.refused(["/bin/sh", "-c", "true"], change=change)


@case("crun masked_symlink",
      "a masked path that is a link masks its target in the container")
def masked_symlink(world):
    def change(config):
        config["linux"]["maskedPaths"].append("/link")
    with Root(links={"link": "/etc/secret"},
              files={"etc/secret": "hidden\n"}) as root:
        result = world.run(["/bin/sh", "-c", "cat /etc/secret"],
                           root=root.path, change=change)
        same("the output", (result.status, result.out), (0, b""))


@case("crun working directory is a link in the image",
      "it is followed inside the root")
def cwd_symlink_in_image(world):
    with Root(links={"link": "/etc"}) as root:
        result = world.run(["/bin/sh", "-c", "/bin/busybox readlink "
                            "/proc/self/cwd"], root=root.path, cwd="/link")
        same("the output", result.text, "/etc\n")


@case("H1: an image full of links",
      "every usual directory a link to /: refused or run, nothing in dom0")
def image_of_links(world):
    names = ("etc", "tmp", "run", "var", "dev")
    with Root(links={name: "/" for name in names}) as root:
        try:
            world.run(["/bin/sh", "-c", "true"], root=root.path)
        except Error:
            pass
        same("what is there", sorted(
            name for name in names
            if os.path.islink(os.path.join(root.path, name))),
             sorted(names))


# --- what makes no sense ----------------------------------------------------

def refused_mount(world, each, *words):
    def change(config):
        config["mounts"].append(each)
    has("the error", world.refused(["true"], change=change).message, *words)


@case("crun test_mounts, unknown type", "an unknown file system is refused")
def mount_unknown_type(world):
    refused_mount(world, mount("/x", "no-such-fs", "none"))


@case("crun test_mounts, unknown option", "an unknown option is refused",
      full=True)
def mount_unknown_option(world):
    refused_mount(world, mount("/x", "tmpfs", "tmpfs", "no-such-option=1"))


@case("crun test_mounts, missing source",
      "a bind mount of what is not there is refused")
def bind_missing_source(world):
    refused_mount(world, mount("/x", "bind", "/not/there/at/all", "bind"),
                  "/not/there/at/all")


@case("crun test_mounts, no destination", "it is refused")
def mount_no_destination(world):
    error = error_of(world.shared().exec_start, [""], cwd="/")
    has("the error", error.message)
    refused_mount(world, {"type": "tmpfs", "source": "tmpfs"})


@case("bad input: 10^5 mounts",
      "refused within seconds, and the host goes on", only="domus", full=True)
def mounts_100000(world):
    def change(config):
        config["mounts"] += [mount("/m/%d" % n, "tmpfs", "t")
                             for n in range(100000)]
    has("the error", world.refused(["true"], change=change).message)
    same("another's output", world.shared().sh("echo fine"), "fine")


if __name__ == "__main__":
    sys.exit(main(__file__))
