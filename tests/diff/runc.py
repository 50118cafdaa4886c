"""Runs a config by runc as containerd's shim does: detached, pipes or a
console socket, and waits for the process as its subreaper."""
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time

from compare import Outcome

DEADLINE = 60
PR_SET_CHILD_SUBREAPER = 36
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)


def read_all(fd, deadline):
    """To the end, which for a terminal is an error."""
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise TimeoutError("runc's container: no end of its output: %r" %
                               data[-200:])
        try:
            piece = os.read(fd, 65536)
        except OSError:
            return data
        if not piece:
            return data
        data += piece


class Runc:
    def __init__(self, directory, layer):
        self.dir = directory
        self.layer = layer
        self.count = 0
        os.makedirs(directory)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def mount(self, bundle):
        paths = {}
        for name in ("rootfs", "upper", "work"):
            paths[name] = "%s/%s" % (bundle, name)
            os.makedirs(paths[name])
        options = "index=off,lowerdir=%s,upperdir=%s,workdir=%s" % (
            self.layer, paths["upper"], paths["work"])
        if libc.mount(b"overlay", paths["rootfs"].encode(), b"overlay", 0,
                      options.encode()):
            raise OSError(ctypes.get_errno(), "overlay")
        return paths["rootfs"]

    def runc(self, *words, **options):
        return subprocess.run(
            ["runc", "--root", self.dir + "/state", *words],
            timeout=DEADLINE, check=False, **options)

    def run(self, config):
        self.count += 1
        name = "diff-%d-%d" % (os.getpid(), self.count)
        bundle = "%s/%s" % (self.dir, name)
        os.makedirs(bundle)
        rootfs = self.mount(bundle)
        try:
            with open(bundle + "/config.json", "w", encoding="utf-8") as f:
                json.dump(config, f)
            return self.start(name, bundle, config)
        finally:
            self.runc("delete", "--force", name, stdout=subprocess.DEVNULL,
                      stderr=subprocess.DEVNULL)
            libc.umount2(rootfs.encode(), MNT_DETACH)
            shutil.rmtree(bundle, ignore_errors=True)

    def start(self, name, bundle, config):
        words = ["--log", bundle + "/runc.log", "run", "--detach", "--bundle", bundle, "--pid-file",
                 bundle + "/pid"]
        console = listener = None
        ends = os.pipe()
        try:
            if config["process"].get("terminal"):
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(bundle + "/console")
                listener.listen(1)
                listener.settimeout(DEADLINE)
                words += ["--console-socket", bundle + "/console"]
            done = self.runc(*words, name, stdin=subprocess.DEVNULL,
                             stdout=ends[1], stderr=ends[1])
            os.close(ends[1])
            deadline = time.monotonic() + DEADLINE
            if done.returncode:
                text = read_all(ends[0], deadline)
                return Outcome(refusal=text.decode(errors="replace")
                               .strip().replace("\n", "; "))
            if listener:
                connection, _ = listener.accept()
                with connection:
                    _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
                console = fds[0]
            text = read_all(console if listener else ends[0], deadline)
            status = self.wait(bundle, deadline)
            return Outcome(text.decode(errors="replace"), status=status)
        finally:
            os.close(ends[0])
            if console is not None:
                os.close(console)
            if listener:
                listener.close()

    def wait(self, bundle, deadline):
        with open(bundle + "/pid", encoding="ascii") as f:
            pid = int(f.read())
        while time.monotonic() < deadline:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) \
                    else os.WEXITSTATUS(status)
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        raise TimeoutError("runc's container does not end")
