"""A container as containerd has it: bundle, FIFOs, shim, task calls."""
import hashlib
import json
import os
import select
import shutil
import subprocess
import threading
import time

import ttrpc
from common import NAMESPACE, SHIM, SLOW, eventually, write


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
