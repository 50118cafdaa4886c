"""A host without Xen: a private domusd whose builder is fake-builder, and
containers that real shims run, as containerd would ask them to.

Everything is below one temporary directory and in a mount namespace of its
own. After every test the host must be as it was before.
"""
import atexit
import ctypes
import glob
import hashlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import ttrpc

REPO = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
OUT = os.path.join(REPO, os.environ.get("DOMUS_OUT", "build/rel"))
SHIM = OUT + "/bin/containerd-shim-domus-v2"
DOMUSD = OUT + "/bin/domusd"
AGENT = OUT + "/guest/domus-init"
FAKE = OUT + "/tests/integ/fake-builder"
NAMESPACE = "test"
CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 0x4000 | 0x40000
SANITIZED = "build/san" in OUT
SLOW = 4 if SANITIZED else 1

libc = ctypes.CDLL(None, use_errno=True)


def private_mounts():
    if libc.unshare(CLONE_NEWNS) or \
            libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None):
        sys.exit("cannot have a mount namespace: are you root?")
    os.makedirs("/run/containerd", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "shims", "/run/containerd"],
                   check=True)


def die_with_parent():
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def read(path, default=""):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return default


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def eventually(what, test, timeout=20):
    """Waits until test() is true; returns what it returned."""
    deadline = time.monotonic() + timeout * SLOW
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not within %d s: %s" % (timeout, what))
        time.sleep(0.02)


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Host:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="domus-", dir="/tmp")
        self.run = self.dir + "/run"
        self.images = self.dir + "/images"
        self.guest = self.dir + "/guest"
        self.fake = self.dir + "/fake"
        self.bundles = self.dir + "/bundles"
        self.socket = self.run + "/domusd.sock"
        for path in (self.images, self.guest, self.fake, self.bundles):
            os.makedirs(path)
        self.layer = self.make_layer()
        self.make_guest()
        self.configure()
        self.events = ttrpc.EventsServer(self.dir + "/events.sock")
        self.domusd = None
        self.containers = []
        self.addresses = set()
        self.started = 0

    # --- what a host has ---

    def make_layer(self):
        layer = self.dir + "/layers/1/fs"
        for path in ("bin", "etc", "tmp", "proc", "sys", "dev", "root"):
            os.makedirs("%s/%s" % (layer, path))
        shutil.copy("/bin/busybox", layer + "/bin/busybox")
        applets = subprocess.run(["/bin/busybox", "--list"], text=True,
                                 stdout=subprocess.PIPE, check=True).stdout
        for applet in applets.split():
            if applet != "busybox":
                os.symlink("busybox", "%s/bin/%s" % (layer, applet))
        write(layer + "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
              "user:x:1000:1000:user:/tmp:/bin/sh\n")
        write(layer + "/etc/group", "root:x:0:\n")
        return layer

    def make_guest(self):
        digests = ""
        for name in ("vmlinux", "initramfs.cpio"):
            write("%s/%s" % (self.guest, name), "%s of the tests\n" % name)
            with open("%s/%s" % (self.guest, name), "rb") as f:
                digests += "%s  %s\n" % (
                    hashlib.sha256(f.read()).hexdigest(), name)
        write(self.guest + "/guest.sha256", digests)

    def configure(self, **keys):
        values = {
            "run-dir": self.run, "image-dir": self.images,
            "guest-dir": self.guest, "builder": FAKE,
            "start-timeout": 20 * SLOW, "log-level": "debug"}
        values.update({k.replace("_", "-"): v for k, v in keys.items()})
        write(self.dir + "/domus.conf", "[domus]\n" + "".join(
            "%s = %s\n" % item for item in values.items()))

    def environment(self, **more):
        env = dict(os.environ, DOMUS_SOCKET=self.socket,
                   DOMUS_FAKE_DIR=self.fake, DOMUS_FAKE_AGENT=AGENT,
                   TTRPC_ADDRESS=self.dir + "/events.sock",
                   GRPC_ADDRESS=self.dir + "/containerd.sock",
                   NAMESPACE=NAMESPACE, MAX_SHIM_VERSION="2", GOMAXPROCS="2",
                   # A shim that misses domusd would start one of its own.
                   DOMUS_DOMUSD="/bin/false")
        if SANITIZED:
            env["ASAN_OPTIONS"] = "detect_leaks=1:log_path=%s/san" % self.dir
            env["UBSAN_OPTIONS"] = "print_stacktrace=1:log_path=%s/ubsan" % \
                self.dir
        env.update(more)
        return env

    def start_domusd(self):
        log = open(self.dir + "/domusd.log", "a")
        self.domusd = subprocess.Popen(
            [DOMUSD, "--config", self.dir + "/domus.conf"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=self.environment(), start_new_session=True,
            preexec_fn=die_with_parent)
        log.close()
        eventually("domusd listens", self.listening)

    def listening(self):
        if self.domusd and self.domusd.poll() is not None:
            raise AssertionError("domusd ended with %d:\n%s" % (
                self.domusd.returncode, read(self.dir + "/domusd.log")[-2000:]))
        # One that was killed leaves its socket's name behind.
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            return probe.connect_ex(self.socket) == 0

    def stop_domusd(self, number=signal.SIGTERM):
        if self.domusd:
            self.domusd.send_signal(number)
            status = self.domusd.wait(20 * SLOW)
            self.domusd = None
            if number == signal.SIGTERM and status:
                raise AssertionError("domusd ended with %d" % status)

    def fault(self, *words):
        write(self.fake + "/fault", " ".join(words))

    def domains(self):
        return sorted(int(os.path.basename(d))
                      for d in glob.glob(self.fake + "/[0-9]*"))

    def container(self, *args, **options):
        self.started += 1
        options.setdefault("id", "c%d" % self.started)
        c = Container(self, args or ("true",), **options)
        self.containers.append(c)
        return c

    # --- what it must not be left with ---

    def mounts(self):
        return [line.split()[1] for line in
                read("/proc/self/mounts").splitlines() if self.dir in line]

    def loops(self):
        return [path.split("/")[3] for path in
                glob.glob("/sys/block/loop*/loop/backing_file")
                if self.dir in read(path)]

    def processes(self):
        """Of this host, by a variable in their environment; not domusd and
        the builders it keeps."""
        found = {}
        mark = ("DOMUS_FAKE_DIR=%s\0" % self.fake).encode()
        for path in glob.glob("/proc/[0-9]*"):
            pid = int(path[6:])
            try:
                with open(path + "/environ", "rb") as f:
                    if mark not in f.read() or not alive(pid):
                        continue
                with open(path + "/cmdline", "rb") as f:
                    words = f.read().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if not words.startswith(("domus-builder w", DOMUSD)) \
                    or "fake-builder" in words:
                found[pid] = words
            elif words.startswith("domus-builder") and \
                    os.getsid(pid) == pid:
                found[pid] = "hypervisor: " + words
        return found

    def sockets(self):
        return sorted({line.split()[-1] for line in
                       read("/proc/net/unix").splitlines()
                       if self.dir in line or line.split()[-1] in
                       self.addresses}
                      - {self.socket, self.socket + ".new",
                         self.events.path})

    def files(self):
        """What is below the run directory and where sandboxes leave files;
        cached images stay on purpose."""
        out = []
        for top in (self.run, self.fake, "/run/containerd"):
            for path, _, names in os.walk(top):
                out += ["%s/%s" % (path, n) for n in names]
        return sorted(p for p in out if not p.endswith(
            ("/fault", "domusd.log", "domusd.sock", "domusd.sock.log",
             "domusd.lock")))

    def groups(self):
        return [p for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
                for p in glob.glob("%s/fake%s*" % (
                    mount, self.fake.replace("/", "-")))]

    def descriptors(self):
        """Of domusd: a count that must not grow."""
        if not self.domusd:
            return 0
        return len(os.listdir("/proc/%d/fd" % self.domusd.pid))

    def left(self):
        out = []
        for what in ("mounts", "loops", "processes", "sockets", "files",
                     "groups"):
            found = getattr(self, what)()
            if found:
                out.append("%s: %s" % (what, found))
        return out

    def assert_clean(self):
        left = []

        def clean():
            left[:] = self.left()
            return not left

        try:
            eventually("nothing left", clean, 10)
        except AssertionError:
            raise AssertionError("left behind: " + "; ".join(left)) from None

    def reports(self):
        """Of the sanitizers."""
        text = "".join(read(p) for pattern in ("san.*", "ubsan.*")
                       for p in glob.glob("%s/%s" % (self.dir, pattern)))
        for path in glob.glob(self.dir + "/consoles/*"):
            console = read(path)
            if "Sanitizer" in console or "runtime error:" in console:
                text += console
        return text

    def end_containers(self):
        for c in self.containers:
            c.destroy()
        self.containers = []

    def close(self):
        self.fault()
        self.end_containers()
        try:
            self.stop_domusd()
        except (AssertionError, subprocess.TimeoutExpired):
            if self.domusd:
                self.domusd.kill()
        self.events.close()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)


class Reader(threading.Thread):
    """Reads a FIFO to its end; rate: bytes per second, 0 for no limit."""

    def __init__(self, path, keep=True, rate=0):
        super().__init__(daemon=True)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.data = bytearray()
        self.digest = hashlib.sha256()
        self.size = 0
        self.keep = keep
        self.rate = rate
        self.stopped = False
        self.start()

    def run(self):
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while not self.stopped:
            if not poll.poll(100):
                continue
            try:
                piece = os.read(self.fd, 65536)
            except BlockingIOError:
                continue
            if not piece:
                break
            self.size += len(piece)
            self.digest.update(piece)
            if self.keep:
                self.data += piece
            if self.rate:
                time.sleep(len(piece) / self.rate)
        os.close(self.fd)

    def end(self, timeout=60):
        self.join(timeout * SLOW)
        if self.is_alive():
            raise AssertionError("output did not end; %d bytes so far: %r" % (
                self.size, bytes(self.data[-200:])))
        return bytes(self.data)

    def stop(self):
        self.stopped = True
        self.join(5)


def spec(args, **more):
    process = {
        "user": {"uid": 0, "gid": 0}, "args": list(args), "cwd": "/",
        "env": ["PATH=/bin:/usr/bin", "TERM=xterm"], "terminal": False,
        "noNewPrivileges": True}
    process.update(more.pop("process", {}))
    out = {
        "ociVersion": "1.0.2", "process": process,
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "guest-of-tests",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]}],
        "linux": {"namespaces": [{"type": t} for t in (
            "pid", "ipc", "uts", "mount")],
            "resources": {}}}
    out.update(more)
    return out


class Container:
    def __init__(self, host, args, id, config=None, rootfs="overlay",
                 stdin=False, keep=True, rate=0, stderr=True, env=None):
        self.host = host
        self.id = id
        self.bundle = "%s/%s" % (host.bundles, hashlib.sha256(
            id.encode()).hexdigest()[:12])
        self.env = env or {}
        os.makedirs(self.bundle + "/rootfs")
        if config is not None:
            write(self.bundle + "/config.json", config if isinstance(
                config, str) else json.dumps(config))
        else:
            write(self.bundle + "/config.json", json.dumps(spec(args)))
        self.client = self.out = self.err = None
        self.stdin = ""
        self.fifos = self.bundle + "-io"
        os.mkdir(self.fifos)
        for name in ("stdin", "stdout", "stderr"):
            os.mkfifo("%s/%s" % (self.fifos, name))
        if stdin:
            self.stdin = self.fifos + "/stdin"
        self.stdout = self.fifos + "/stdout"
        self.stderr = self.fifos + "/stderr" if stderr else ""
        self.keep, self.rate = keep, rate
        self.rootfs = self.mounts(rootfs)
        os.mkfifo(self.bundle + "/log")
        self.log_fd = os.open(self.bundle + "/log", os.O_RDWR | os.O_NONBLOCK)
        self.deleted = False

    def mounts(self, kind):
        layer = self.host.layer
        if kind == "bind":
            return [{"type": "bind", "source": layer,
                     "options": ["ro", "rbind"]}]
        if kind == "overlay":
            for name in ("upper", "work"):
                os.makedirs("%s/%s" % (self.fifos, name))
            return [{"type": "overlay", "source": "overlay", "options": [
                "index=off", "workdir=%s/work" % self.fifos,
                "upperdir=%s/upper" % self.fifos, "lowerdir=" + layer]}]
        return kind

    def log(self):
        text = b""
        try:
            while True:
                text += os.read(self.log_fd, 65536)
        except OSError:
            return text.decode(errors="replace")

    # --- the shim's binary ---

    def shim(self, action, *more, timeout=60, stdin=b"", env=None):
        argv = [SHIM, "-namespace", NAMESPACE, "-address",
                self.host.dir + "/containerd.sock", "-publish-binary",
                "/usr/bin/containerd", "-id", self.id]
        return subprocess.run(
            argv + list(more) + [action], cwd=self.bundle, input=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            if action == "start" else subprocess.PIPE,
            timeout=timeout * SLOW,
            env=self.host.environment(**dict(self.env, **(env or {}))),
            start_new_session=True)

    def start_shim(self):
        r = self.shim("start")
        assert r.returncode == 0, r
        answer = json.loads(r.stdout)
        assert answer["version"] == 2 and answer["protocol"] == "ttrpc", answer
        self.address = answer["address"]
        self.host.addresses.add(self.address[len("unix://"):])
        assert len(self.address) < 107 + len("unix://"), self.address
        self.client = ttrpc.Client(self.address)
        return self

    def run_delete(self):
        r = self.shim("delete", "-bundle", self.bundle)
        assert r.returncode == 0, r
        return ttrpc.decode(ttrpc.DELETE_RESPONSE, r.stdout)

    # --- the task service ---

    def call(self, method, timeout=60, **values):
        values.setdefault("id", self.id)
        return self.client.call(method, timeout * SLOW, **values)

    def begin(self, method, **values):
        return self.client.begin(method, id=self.id, **values)

    def end(self, begun, timeout=60):
        return self.client.end(begun, timeout * SLOW)

    def create(self, **values):
        if self.out is None:
            self.out = Reader(self.stdout, self.keep, self.rate)
            if self.stderr:
                self.err = Reader(self.stderr)
        return self.call("Create", **dict({
            "bundle": self.bundle, "rootfs": self.rootfs, "stdin": self.stdin,
            "stdout": self.stdout, "stderr": self.stderr}, **values))

    def up(self):
        self.start_shim()
        self.create()
        self.call("Start")
        return self

    def status(self):
        return self.call("State")["status"]

    def wait(self, timeout=60):
        return self.call("Wait", timeout)["exit_status"]

    def finish(self):
        """What containerd does when a task has ended."""
        answer = self.call("Delete")
        self.shutdown()
        return answer["exit_status"]

    def shutdown(self):
        try:
            self.call("Shutdown", 10)
        except EOFError:
            pass
        # On the end of the connection containerd runs this, clean or not.
        eventually("the shim closes", lambda: self.client.closed)
        self.client.close()
        self.client = None
        self.run_delete()
        self.drop()

    def run(self):
        """From nothing to nothing: exit status and output."""
        self.up()
        status = self.wait()
        output = self.out.end()
        assert self.finish() == status
        return status, output

    def pid(self):
        return self.call("Connect")["shim_pid"]

    def drop(self):
        """The bundle, as containerd removes it."""
        self.deleted = True
        for reader in (self.out, self.err):
            if reader:
                reader.stop()
        os.makedirs(self.host.dir + "/logs", exist_ok=True)
        with open("%s/logs/%s" % (self.host.dir, self.id.replace("/", "_")),
                  "a") as f:
            f.write(self.log())
        os.close(self.log_fd)
        subprocess.run(["umount", "-R", "-q", self.bundle + "/rootfs"])
        shutil.rmtree(self.bundle)
        shutil.rmtree(self.fifos)

    def destroy(self):
        """For tests that failed half-way."""
        if self.deleted:
            return
        if self.client:
            self.client.close()
        try:
            self.shim("delete", "-bundle", self.bundle)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.drop()


def failing(code, words=""):
    """with failing(5): the call inside ends with that ttrpc code."""
    class Failing:
        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            if kind is None:
                raise AssertionError("did not fail")
            if not issubclass(kind, ttrpc.Error):
                return False
            assert error.code == code, error
            assert words in error.message, \
                "%r lacks %r" % (error.message, words)
            self.message = error.message
            return True

    return Failing()


TESTS = []


def test(function):
    TESTS.append(function)
    return function


def explain(host):
    for path in [host.dir + "/domusd.log"] + sorted(
            glob.glob(host.dir + "/logs/*") +
            glob.glob(host.fake + "/*/hypervisor.log") +
            glob.glob(host.fake + "/*/console.log")):
        lines = read(path).splitlines()[-25:]
        if lines:
            print("# --- %s" % os.path.basename(path))
        for line in lines:
            print("#   " + line[:400])


class Deadline(Exception):
    pass


def ring(*_):
    raise Deadline("the test took too long")


def run_one(host, function, limit):
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(limit * SLOW)
    try:
        try:
            function(host)
            signal.alarm(0)
            host.assert_clean()
        finally:
            signal.alarm(0)
    except Exception:  # whatever it was, the next test wants to run
        for line in traceback.format_exc().splitlines():
            print("#   " + line[:600])
        for c in host.containers:
            if not c.deleted:
                print("# --- log of %s" % c.id)
                for line in c.log().splitlines()[-25:]:
                    print("#   " + line[:400])
        explain(host)
        return False
    report = host.reports()
    for line in report.splitlines()[:80]:
        print("#   " + line)
    return not report


def main(limit=90):
    """Runs the tests of the calling file; names on the command line choose."""
    private_mounts()
    for path in (SHIM, DOMUSD, AGENT, FAKE):
        if not os.access(path, os.X_OK):
            print("1..0\n# %s is missing" % path)
            return 1
    chosen = [t for t in TESTS
              if len(sys.argv) < 2 or t.__name__ in sys.argv[1:]]
    print("1..%d" % len(chosen), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    failed = 0
    host = None
    atexit.register(lambda: host and host.close())
    for n, function in enumerate(chosen, 1):
        if host is None:
            host = Host()
            host.start_domusd()
        passed = run_one(host, function, limit)
        failed += not passed
        print("%sok %d - %s" % ("" if passed else "not ", n,
                                function.__name__), flush=True)
        if passed and host.domusd:
            host.containers = []
            host.fault()
        else:
            host.close()
            host = None
    return 1 if failed else 0
