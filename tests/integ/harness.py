"""A host without Xen: a private domusd whose builder is fake-builder, and
containers that real shims run, as containerd would ask them to.

Everything is below one temporary directory and in a mount namespace of its
own. After every test the host must be as it was before.
"""
import atexit
import glob
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

import control
import ttrpc
from common import (  # noqa: F401: the tests import from here
    AGENT, DOMUSD, FAKE, NAMESPACE, OUT, SANITIZED, SHIM, SLOW, alive,
    die_with_parent, eventually, private_mounts, read, write)
from container import Container, Reader, spec  # noqa: F401


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
            "hooks": "%s/hook %s/other-hook" % (self.dir, self.dir),
            "loggers": "%s/logger %s/other-logger" % (self.dir, self.dir),
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
        # One that was killed leaves its socket's name behind, and a child
        # of it may still hold the socket: only an answer says who is there.
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.settimeout(1)
            try:
                probe.connect(self.socket)
                probe.send(struct.pack("<HHI", control.VERSION, control.LIST, 1))
                return len(probe.recv(65536)) > 8
            except OSError:
                return False

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

    def kill_guests(self):
        for domid in self.domains():
            os.kill(int(read("%s/%d/pid" % (self.fake, domid))),
                    signal.SIGKILL)

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
        # A ctr that detaches leaves its FIFOs to containerd's client library.
        return sorted(p for p in out if "/containerd/fifo/" not in p
                      and "/.unborn-" not in p
                      and not p.endswith(
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
        # Of a process that was killed while it looked for its leaks.
        return re.sub(r"==\d+==Unable to get registers from thread \d+\.\n",
                      "", text)

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
        trace = traceback.format_exc()
        for c in host.containers:
            if not c.deleted:
                print("# --- log of %s" % c.id)
                for line in c.log().splitlines()[-25:]:
                    print("#   " + line[:400])
        explain(host)
        # Last, where people look.
        for line in trace.splitlines():
            print("#   " + line[:600])
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
