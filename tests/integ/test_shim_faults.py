#!/usr/bin/env python3
"""Every allocation and every system call of the shim fails once, in each of
its processes: no call hangs, a client gets an error or a result, an exit that
was told is not forgotten, and `delete` leaves nothing behind.

With words on the command line: "fault ROLE NAME:N:ERRNO" plays one fault.
"""
import errno
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time

import harness
import ttrpc
from common import OUT, REPO, SANITIZED, SLOW, alive, eventually, read
from harness import main, test

LIBRARY = OUT + "/tests/integ/fault.so"
NAMES = re.findall(r"^    X\((\w+)\)", read(REPO + "/tests/integ/fault.c"),
                   re.M)
FULL = bool(os.environ.get("DOMUS_FULL"))
SEED = os.environ.get("DOMUS_SEED", "1")
DEADLINE = 15
# Of all faults of a role, in make check; one takes some 0.4 s.
SAMPLE = {"start": 25, "server": 100, "delete": 25}
BATCH = 200 if FULL else 25
EXIT, KILLED = 7, 137

# What each can meet with; ENOMEM for the rest. Not a broken connection for
# sendmsg: the descriptor would tell of that, too, and here it stays well.
ERRNOS = {
    "open": "EMFILE", "fopen": "EMFILE", "read": "EIO", "pread": "EIO",
    "write": "ENOSPC", "send": "ECONNRESET", "sendmsg": "ENOBUFS",
    "recv": "ECONNRESET", "recvmsg": "ECONNRESET", "socket": "EMFILE",
    "connect": "ECONNREFUSED", "accept4": "EMFILE", "bind": "EADDRINUSE",
    "listen": "ENOBUFS", "fcntl": "EMFILE", "fstat": "EIO", "lstat": "EIO",
    "fsync": "EIO", "rename": "ENOSPC", "unlink": "EIO", "mkdir": "ENOSPC",
    "readlink": "EIO", "flock": "ENOLCK", "memfd_create": "EMFILE",
    "signalfd": "EMFILE", "pipe2": "EMFILE", "socketpair": "EMFILE",
    "posix_spawnp": "EAGAIN", "waitpid": "ECHILD", "umount2": "EINVAL",
    "syscall": "EMFILE"}


class Trouble(AssertionError):
    """What a fault brought about and must not."""


class Scenario:
    """One container's life, as containerd leads it, with a fault in it."""

    def __init__(self, host, role, fault=""):
        self.host = host
        self.role = role
        self.counts_file = host.dir + "/counts"
        self.env = {"LD_PRELOAD": LIBRARY, "DOMUS_FAULT_ROLE": role,
                    "DOMUS_FAULT_COUNTS": self.counts_file,
                    "DOMUS_FAULT": fault}
        if os.path.exists(self.counts_file):
            os.unlink(self.counts_file)
        self.told = None   # exit status that Wait gave
        self.log = []

    def note(self, what, error):
        self.log.append("%s: %s" % (what, error))

    def call(self, c, method, **values):
        """None when it failed in a way that a client can tell."""
        try:
            return c.call(method, timeout=DEADLINE, **values)
        except TimeoutError as e:
            raise Trouble("%s hangs: %s" % (method, e)) from None
        except (ttrpc.Error, EOFError, OSError) as e:
            self.note(method, e)
            return None

    def begin(self, c):
        """The shim's server, or None when `start` failed and said why."""
        try:
            c.start_shim()
            return True
        except (AssertionError, ValueError) as e:
            if self.role == "delete":
                raise
            self.note("start", e)
        except OSError as e:
            self.note("dial", e)
        except subprocess.TimeoutExpired:
            raise Trouble("start hangs") from None
        return False

    def lead(self, c):
        if self.call(c, "Create", bundle=c.bundle, rootfs=c.rootfs,
                     stdin="", stdout=c.stdout, stderr=c.stderr) is None:
            return
        if self.call(c, "Start") is None:
            return
        answer = self.call(c, "Wait")
        if answer is None:
            return
        self.told = answer["exit_status"]
        answer = self.call(c, "Delete")
        if answer is not None and answer["exit_status"] != self.told:
            raise Trouble("Delete says %d, Wait said %d" % (
                answer["exit_status"], self.told))

    def end(self, c):
        """As containerd does when the connection closed, or after errors."""
        if c.client:
            pid = None
            try:
                pid = c.call("Connect", timeout=DEADLINE)["shim_pid"]
            except TimeoutError:
                raise Trouble("Connect hangs") from None
            except (ttrpc.Error, EOFError, OSError):
                pass
            self.call(c, "Shutdown")
            deadline = time.monotonic() + 2 * SLOW
            while not c.client.closed and time.monotonic() < deadline:
                time.sleep(0.01)
            if not c.client.closed and pid and alive(pid):
                os.kill(pid, signal.SIGKILL)
            c.client.close()
            c.client = None

    def delete(self, c):
        """`delete` may fail by its fault, once."""
        for last in (False, True):
            if last:
                c.env = {}
            try:
                r = c.shim("delete", "-bundle", c.bundle, timeout=DEADLINE)
            except subprocess.TimeoutExpired:
                raise Trouble("delete hangs") from None
            if r.returncode == 0:
                break
            self.note("delete", r.stderr[-300:])
            if self.role != "delete" or last:
                raise Trouble("delete ended with %d: %s" % (
                    r.returncode, r.stderr[-300:]))
            if not r.stderr and r.returncode > 0:
                raise Trouble("delete failed and did not say why")
        answer = ttrpc.decode(ttrpc.DELETE_RESPONSE, r.stdout)
        if self.told is not None and answer["exit_status"] != self.told:
            raise Trouble("delete says %d, Wait said %d" % (
                answer["exit_status"], self.told))

    def play(self):
        c = self.host.container("sh", "-c", "echo out; exit %d" % EXIT,
                                env=self.env)
        c.out = harness.Reader(c.stdout)
        c.err = harness.Reader(c.stderr)
        if self.begin(c):
            self.lead(c)
            if self.role == "delete":
                self.kill(c)
        self.end(c)
        self.delete(c)
        # A guest whose channel failed is ended.
        if self.told not in (None, EXIT, KILLED):
            raise Trouble("Wait said %d" % self.told)
        c.drop()
        self.host.containers.remove(c)
        self.host.assert_clean()

    def kill(self, c):
        """So that `delete` has all of the work."""
        os.kill(c.pid(), signal.SIGKILL)
        eventually("the connection ends", lambda: c.client.closed)
        c.client.close()
        c.client = None

    def counts(self):
        """(fired, calls by name)"""
        try:
            with open(self.counts_file, "rb") as f:
                data = f.read()
            numbers = struct.unpack("=%dI" % (len(NAMES) + 1), data)
        except (OSError, struct.error):
            return 0, {}
        return numbers[0], dict(zip(NAMES, numbers[1:]))


class DeleteScenario(Scenario):
    """The shim is killed when the task runs, or after its exit was told."""

    def lead(self, c):
        if self.call(c, "Create", bundle=c.bundle, rootfs=c.rootfs,
                     stdin="", stdout=c.stdout, stderr=c.stderr) is None:
            raise Trouble("create failed: %s" % self.log)
        self.call(c, "Start")
        self.told = self.call(c, "Wait")["exit_status"]


def scenario(host, role, fault=""):
    kind = DeleteScenario if role == "delete" else Scenario
    return kind(host, role, fault)


def faults_of(host, role):
    """Every call that was seen in a run without a fault."""
    plain = scenario(host, role)
    plain.play()
    if plain.log:
        raise Trouble("without a fault: %s" % plain.log)
    _, calls = plain.counts()
    out = []
    for name in NAMES:
        code = getattr(errno, ERRNOS.get(name, "ENOMEM"))
        out += ["%s:%d:%d" % (name, n, code)
                for n in range(1, calls.get(name, 0) + 1)]
    if len(out) < 20:
        raise Trouble("counted only %s" % out)
    return out


ALL = {}


def chosen(host, role):
    if role not in ALL:
        found = faults_of(host, role)
        if not FULL and len(found) > SAMPLE[role]:
            # Of each function some; the first calls count as any.
            found = random.Random(SEED).sample(found, SAMPLE[role])
        ALL[role] = found
    return ALL[role]


def play_all(host, role, faults):
    bad = []
    fired = 0
    for fault in faults:
        s = scenario(host, role, fault)
        try:
            s.play()
        except AssertionError as e:
            bad.append("%s %s: %s (%s)" % (role, fault, e, "; ".join(s.log)))
            end_all(host)
        fired += s.counts()[0]
    print("# %s: %d faults, %d met" % (role, len(faults), fired), flush=True)
    if bad:
        raise AssertionError("\n".join(bad))
    if fired < len(faults) * 0.7:
        raise AssertionError("of %d faults only %d were met" % (len(faults),
                                                               fired))


def end_all(host):
    """After a failure, so that the next fault finds a clean host."""
    for c in host.containers:
        c.env = {}
    host.end_containers()
    for pid, words in host.processes().items():
        if "containerd-shim" in words:
            os.kill(pid, signal.SIGKILL)
    for path in host.files():
        if path.startswith("/run/containerd/s/"):
            os.unlink(path)


def batches(role, most):
    for first in range(0, most, BATCH):
        def faults_once(host, first=first):
            play_all(host, role, chosen(host, role)[first:first + BATCH])
        faults_once.__name__ = "faults_of_%s_%d" % (role, first)
        test(faults_once)


# Batches that turn out to be beyond the last fault are empty.
if not SANITIZED:
    for each, most in (("start", 400), ("server", 3000), ("delete", 400)):
        batches(each, most if FULL else SAMPLE[each])


def show():
    harness.private_mounts()
    host = harness.Host()
    try:
        host.start_domusd()
        if len(sys.argv) < 4:
            print(" ".join(faults_of(host, sys.argv[2])))
            return 0
        s = scenario(host, sys.argv[2], sys.argv[3])
        try:
            s.play()
            print("passed")
        finally:
            print("fired %d\n%s" % (s.counts()[0], "\n".join(s.log)))
        return 0
    finally:
        host.close()


if __name__ == "__main__":
    sys.exit(show() if sys.argv[1:2] == ["fault"] else
             main(limit=1100 if FULL else 240))
