"""What the harness and its containers share: places and small helpers."""
import ctypes
import os
import signal
import subprocess
import sys
import time

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
