"""The emulated host: a QEMU process, and an SSH connection into its dom0.

One host runs on a machine at a time: QEMU inherits a lock on MACHINE_LOCK and
holds it as long as it lives. What it is, is written to build/lab/host.json;
which Debian it is made of, the environment says (rows.py).
"""
import fcntl
import hashlib
import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import time

from . import dom0, rows
from .step import LabError, Step, end_process, tail

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
LAB = os.path.join(ROOT, "build/lab")
SHARE = os.path.join(LAB, "share")
CONSOLE = os.path.join(LAB, "console.log")
QEMU_LOG = os.path.join(LAB, "qemu.log")
IMAGE_LOG = os.path.join(LAB, "dom0-image.log")
STATE = os.path.join(LAB, "host.json")
MACHINE_LOCK = "/tmp/lab.lock"
READY = "lab: the host is ready"

MEMORY_MB = 4096
DOM0_MEMORY_MB = 1536
CPUS = 2
BOOT_SECONDS = 600
STOP_SECONDS = 20
RUN_SECONDS = 600

# qemu64 with what Xen and libxl want. SMAP, which `max` has, makes QEMU 7.2
# fault in the dom0 kernel; without rdrand libxl waits for entropy.
TCG_CPU = "qemu64,+svm,+npt,+rdrand,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16"


def run_directory():
    """Sockets live here: their paths may only have 100 characters."""
    name = hashlib.sha256(ROOT.encode()).hexdigest()[:12]
    path = "/tmp/domus-lab-" + name
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    st = os.lstat(path)
    if not stat.S_ISDIR(st.st_mode) or st.st_uid != os.getuid():
        raise LabError("%s is not a directory of ours" % path)
    return path


def process_start(pid):
    """The start time of a process, so that its number cannot mislead."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rpartition(")")[2].split()
        # A zombie does not run.
        return None if fields[0] == "Z" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def hardware_virtualisation():
    """A /dev/kvm that opens proves nothing: Xen needs svm or vmx."""
    try:
        with open("/proc/cpuinfo") as f:
            flags = re.search(r"^flags\s*:(.*)$", f.read(), re.M)
    except OSError:
        return False
    words = flags.group(1).split() if flags else []
    return ("svm" in words or "vmx" in words) and \
        os.access("/dev/kvm", os.R_OK | os.W_OK)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def lock_file(path, seconds):
    """An exclusive lock as an open descriptor, or None when it stays busy."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                 0o644)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(0.2)


class Host:
    def __init__(self):
        self.wanted = rows.wanted()
        os.makedirs(SHARE, exist_ok=True)
        self.run_directory = run_directory()
        self.monitor = os.path.join(self.run_directory, "monitor")
        self.control = os.path.join(self.run_directory, "ssh")
        self.state = self.load_state()

    # --- what runs --------------------------------------------------------

    def load_state(self):
        try:
            with open(STATE) as f:
                state = json.load(f)
        except (OSError, ValueError):
            return None
        return state if process_start(state["pid"]) == state["start"] \
            else None

    def save_state(self, state):
        with open(STATE + ".new", "w") as f:
            json.dump(state, f, indent=1)
        os.rename(STATE + ".new", STATE)
        self.state = state

    def alive(self):
        return self.state is not None and \
            process_start(self.state["pid"]) == self.state["start"]

    def require(self):
        if not self.alive():
            raise LabError("the emulated host does not run: "
                           "`tests/lab/lab boot` starts it")
        if not self.state["ready"]:
            raise LabError("the emulated host is still booting; console: %s" %
                           CONSOLE)

    def row(self):
        """What the host that runs is made of."""
        return rows.of_name(self.state["row"])

    def lock(self):
        fd = lock_file(os.path.join(LAB, "lock"), 0)
        if fd is None:
            with Step("wait for another lab command") as step:
                while fd is None:
                    fd = lock_file(os.path.join(LAB, "lock"), 1)
                    if step.elapsed() > 2400:
                        raise LabError("%s/lock stays locked" % LAB)
        return fd

    # --- boot -------------------------------------------------------------

    def prepare(self):
        """What boot() boots from; builds it when it is not there."""
        lock = self.lock()
        try:
            self.state = self.load_state()
            keep = self.state["image"] if self.alive() else None
            dom0.ensure(self.wanted, LAB, IMAGE_LOG, keep)
        finally:
            os.close(lock)

    def boot(self, accel="auto", wait=0):
        lock = self.lock()
        try:
            self.state = self.load_state()
            if self.alive():
                running = self.state["image"]
                image = dom0.ensure(self.wanted, LAB, IMAGE_LOG,
                                    keep=running)
                if self.state["ready"] and running == os.path.basename(image):
                    self.connect()
                    return False
                self.stop_locked()
                # QEMU's last thread may hold the lock a little longer.
                wait = max(wait, STOP_SECONDS)
            machine = self.lock_machine(wait)
            try:
                image = dom0.ensure(self.wanted, LAB, IMAGE_LOG)
                self.boot_image(image, machine, accel)
            finally:
                os.close(machine)
            return True
        finally:
            os.close(lock)

    def lock_machine(self, wait):
        fd = lock_file(MACHINE_LOCK, min(wait, 2))
        if fd is None and wait > 0:
            with Step("wait for the host of another checkout") as step:
                while fd is None and step.elapsed() < wait:
                    fd = lock_file(MACHINE_LOCK, 1)
        if fd is None:
            with open(MACHINE_LOCK) as f:
                owner = f.read().strip() or "somebody"
            raise LabError("another emulated host runs on this machine: %s "
                           "holds %s; stop that one first" %
                           (owner, MACHINE_LOCK))
        os.ftruncate(fd, 0)
        os.pwrite(fd, ("%s\n" % ROOT).encode(), 0)
        return fd

    def boot_image(self, image, machine, accel):
        kvm = accel == "kvm" or (accel == "auto" and
                                 hardware_virtualisation())
        if kvm:
            try:
                self.start(image, machine, "kvm")
                return
            except LabError as e:
                if accel == "kvm":
                    raise
                print("  with KVM it does not boot (%s); emulating instead" %
                      str(e).splitlines()[0], flush=True)
        self.start(image, machine, "tcg")

    def command_line(self, accel, port):
        cpu = ["-accel", "kvm", "-cpu", "host"] if accel == "kvm" else \
            ["-accel", "tcg,thread=multi", "-cpu", TCG_CPU]
        dom0_options = ("console=hvc0 root=/dev/vda rw net.ifnames=0 quiet "
                        "loglevel=4 systemd.machine_id="
                        "0123456789abcdef0123456789abcdef")
        return ["qemu-system-x86_64", "-name", "domus-lab",
                "-machine", "q35"] + cpu + [
            "-m", str(MEMORY_MB), "-smp", str(CPUS), "-display", "none",
            "-no-reboot", "-nodefaults", "-no-user-config",
            "-serial", "file:" + CONSOLE.replace(",", ",,"),
            "-monitor", "unix:%s,server=on,wait=off" % self.monitor,
            # Relative names: a path with a space or a comma would be cut.
            "-kernel", "xen",
            "-append", "console=com1 com1=115200,8n1 loglvl=info "
            "guest_loglvl=info dom0_mem=%dM,max:%dM" %
            (DOM0_MEMORY_MB, DOM0_MEMORY_MB),
            "-initrd", "vmlinux %s,initramfs" % dom0_options,
            # Every boot starts from the same disk; what is written to it
            # goes to a nameless file.
            "-drive",
            "file=dom0.img,if=virtio,format=raw,snapshot=on,cache=unsafe",
            "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:%d-:22" % port,
            "-device", "virtio-net-pci,netdev=net,romfile=",
            "-fsdev", "local,id=lab,path=%s,security_model=none" %
            SHARE.replace(",", ",,"),
            "-device", "virtio-9p-pci,fsdev=lab,mount_tag=lab"]

    def warn_about_version(self):
        try:
            text = subprocess.run(["qemu-system-x86_64", "--version"],
                                  capture_output=True, text=True,
                                  timeout=30).stdout
        except FileNotFoundError:
            raise LabError("there is no qemu-system-x86_64: `make deps` "
                           "installs it") from None
        found = re.search(r"version (\d+)\.(\d+)", text)
        if found and int(found.group(1)) >= 8:
            print("  warning: QEMU %s.%s was seen to kill PVH domains at "
                  "once under emulation; Debian 12's 7.2 works" %
                  found.groups(), flush=True)

    def start(self, image, machine, accel):
        self.warn_about_version()
        port = free_port()
        open(CONSOLE, "w").close()
        for path in (self.monitor, self.control):
            if os.path.exists(path):
                os.unlink(path)
        with Step("emulated host: boot (%s, %s; console: %s)" %
                  (self.wanted.name, accel, os.path.relpath(CONSOLE))) as step:
            with open(QEMU_LOG, "wb") as log:
                child = subprocess.Popen(
                    self.command_line(accel, port), cwd=image,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=[machine], start_new_session=True)
            state = {"pid": child.pid, "start": process_start(child.pid),
                     "port": port, "accel": accel,
                     "image": os.path.basename(image), "ready": False,
                     "row": self.wanted.name,
                     "key": os.path.join(image, "key")}
            self.save_state(state)
            try:
                self.wait_ready(child, step)
                self.save_state(dict(state, ready=True,
                                     boot_seconds=round(step.elapsed(), 1)))
                self.connect()
            except BaseException:
                if child.poll() is None:
                    end_process(child)
                os.unlink(STATE)
                raise

    def wait_ready(self, child, step):
        while True:
            with open(CONSOLE, "rb") as f:
                if READY.encode() in f.read():
                    return
            if child.poll() is not None:
                raise LabError(
                    "QEMU ended with %d while booting; logs: %s, %s\n%s\n%s" %
                    (child.returncode, QEMU_LOG, CONSOLE, tail(QEMU_LOG),
                     tail(CONSOLE)))
            if step.elapsed() > BOOT_SECONDS:
                raise LabError("not up after %d s; console: %s\n%s" %
                               (BOOT_SECONDS, CONSOLE, tail(CONSOLE)))
            time.sleep(0.1)

    # --- ssh --------------------------------------------------------------

    def ssh(self, *options):
        return ["ssh", "-F", "none", "-i", self.state["key"],
                "-p", str(self.state["port"]), "-o", "IdentitiesOnly=yes",
                "-o", "StrictHostKeyChecking=no",
                "-o", "UserKnownHostsFile=/dev/null",
                "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=30",
                "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8",
                "-o", "ControlPath=" + self.control] + list(options) + \
            ["root@127.0.0.1"]

    def connect(self):
        """One connection that later commands share."""
        check = subprocess.run(self.ssh("-O", "check"),
                               stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, timeout=30)
        if check.returncode == 0:
            return
        log = os.path.join(LAB, "ssh.log")
        with open(log, "wb") as out:
            try:
                made = subprocess.run(
                    self.ssh("-M", "-N", "-f", "-o", "ControlPersist=yes"),
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    start_new_session=True, timeout=120)
            except subprocess.TimeoutExpired:
                raise LabError("no SSH connection to the emulated host after "
                               "120 s; console: %s\n%s" %
                               (CONSOLE, tail(CONSOLE))) from None
        if made.returncode != 0:
            raise LabError("no SSH connection to the emulated host; log: "
                           "%s\n%s" % (log, tail(log)))

    def remote(self, command, seconds):
        """The local command that runs a shell command in dom0."""
        return self.ssh("-T") + [
            # The shell that waits makes 128+n of a death by signal n.
            "timeout -k 5 %d sh -c %s; exit $?" %
            (seconds, shlex.quote(command))]

    def run(self, command, seconds=RUN_SECONDS, **options):
        """Runs a shell command in dom0; a CompletedProcess."""
        self.require()
        self.connect()
        child = subprocess.Popen(self.remote(command, seconds), **options)
        try:
            out, err = child.communicate(timeout=seconds + 30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise LabError("the emulated host does not answer; console: "
                           "%s\n%s" % (CONSOLE, tail(CONSOLE))) from None
        except BaseException:
            child.kill()
            child.wait()
            raise
        return subprocess.CompletedProcess(command, child.returncode, out,
                                           err)

    def output(self, command, seconds=RUN_SECONDS):
        """What a shell command prints; LabError when it fails."""
        done = self.run(command, seconds, stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise LabError("in the emulated host `%s` ended with %d:\n%s" %
                           (command, done.returncode,
                            done.stdout.decode(errors="replace")))
        return done.stdout.decode(errors="replace")

    # --- stop -------------------------------------------------------------

    def stop(self):
        lock = self.lock()
        try:
            self.state = self.load_state()
            if not self.alive():
                return False
            self.stop_locked()
            return True
        finally:
            os.close(lock)

    def stop_locked(self):
        """Its disk forgets everything, so QEMU is simply ended."""
        subprocess.run(self.ssh("-O", "exit"), stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=30)
        pid = self.state["pid"]
        with Step("emulated host: stop") as step:
            os.kill(pid, signal.SIGTERM)
            while self.alive():
                if step.elapsed() > STOP_SECONDS:
                    os.kill(pid, signal.SIGKILL)
                if step.elapsed() > 2 * STOP_SECONDS:
                    raise LabError("QEMU, process %d, cannot be ended" % pid)
                try:
                    # Ours when we booted it.
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass
                time.sleep(0.1)
        os.unlink(STATE)
        self.state = None
