#!/usr/bin/env python3
"""Configs run by containerd on runc and on domus, in one boot: a probe inside
must see the same, but for what tests/diff/known-differences explains.

Without words a sample runs; DOMUS_FULL=1 runs all of them.
"""
import fcntl
import glob
import json
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
IN_LAB = bool(os.environ.get("DOMUS_IN_LAB"))
DIFF = os.path.join(HERE, "../diff")
sys.path.insert(0, HERE if IN_LAB else DIFF)

import generator  # noqa: E402
import house  # noqa: E402
import tap  # noqa: E402
from compare import Known, Outcome, unexplained  # noqa: E402
from tap import DOMUS, Failure, test  # noqa: E402

RUNC = "io.containerd.runc.v2"
SEED = "lab"
SAMPLE = 10
ALL = 300
BATCH = 25
SECONDS_EACH = 40  # some 10 on a machine that does nothing else
PLACE = "/root/domus-tests/differential"
LAYER = PLACE + "/layer"
RUN_SECONDS = 120
SHOWN = 400
ANNOTATION = {"io.domus.domain-type": "pv"}


def fill_layer():
    """As tests/integ/test_differential.py has it."""
    shutil.rmtree(PLACE, ignore_errors=True)
    for path in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "run",
                 "data/sub", "mnt", "usr/bin"):
        os.makedirs("%s/%s" % (LAYER, path))
    shutil.copy(HERE + "/probe", LAYER + "/bin/probe")
    for path, text in (
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
             "user:x:1000:1000:user:/tmp:/bin/sh\n"),
            ("etc/group", "root:x:0:\n"), ("data/file", "text\n"),
            ("data/secret", "secret\n"), ("data/sub/file", "more\n"),
            ("etc/shadow", "root\n"), ("etc/inner", "inner\n")):
        with open("%s/%s" % (LAYER, path), "w", encoding="ascii") as f:
            f.write(text)
    for path, target in (("datalink", "data"), ("etc/link", "shadow"),
                         ("etc/link-dir", "/data/sub"),
                         ("bin/probelink", "probe")):
        os.symlink(target, "%s/%s" % (LAYER, path))
    os.chmod(LAYER + "/etc/shadow", 0o640)
    os.chmod(LAYER + "/data/secret", 0o600)
    os.chmod(LAYER + "/tmp", 0o1777)
    # The root of a user namespace has to come through.
    for path in ("/root", "/root/domus-tests", PLACE):
        os.chmod(path, os.stat(path).st_mode | 0o011)


def prepare():
    house.prepare()
    fill_layer()


def terminal_of(config):
    """A terminal of the size that the config asks for: ctr passes its own
    on."""
    size = config["process"].get("consoleSize", {})
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack(
        "HHHH", size.get("height", 0), size.get("width", 0), 0, 0))
    return leader, follower


def read_terminal(fd):
    data = b""
    deadline = time.monotonic() + RUN_SECONDS
    while select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        data += piece
    return data


def outcome(status, out, err):
    # Two terminals, one behind the other, each add a return.
    text = out.decode(errors="replace").replace("\r\r\n", "\n")
    if "zzz=end" not in text and status and "ctr: " in text + err:
        words = (text + err).strip().split("ctr: ")[-1]
        return Outcome(refusal=words.replace("\n", "; "))
    return Outcome(text, status=status)


def run(runtime, config, root):
    name = house.new_name()
    path = "%s/%s.json" % (PLACE, name)
    config = dict(config, root=dict(config["root"], path=root))
    if runtime == DOMUS:
        config["annotations"] = ANNOTATION
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)
    words = ["ctr", "run", "--rm", "--runtime", runtime, "--config", path]
    try:
        if not config["process"].get("terminal"):
            done = house.call(*words, name, seconds=RUN_SECONDS)
            return outcome(done.status, done.out, done.err)
        leader, follower = terminal_of(config)
        child = subprocess.Popen([*words, "--tty", name], stdin=follower,
                                 stdout=follower, stderr=follower)
        os.close(follower)
        out = read_terminal(leader)
        status = child.wait(RUN_SECONDS)
        os.close(leader)
        return outcome(status, out, "")
    finally:
        os.unlink(path)


def run_runc(config):
    """In a writable layer of its own, as containerd's snapshotter makes."""
    top = "%s/runc-%d" % (PLACE, time.monotonic_ns())
    for name in ("root", "upper", "work"):
        os.makedirs("%s/%s" % (top, name))
    house.must("mount", "-t", "overlay", "-o",
               "lowerdir=%s,upperdir=%s/upper,workdir=%s/work" % (
                   LAYER, top, top), "overlay", top + "/root")
    try:
        return run(RUNC, config, top + "/root")
    finally:
        house.must("umount", "-l", top + "/root")
        shutil.rmtree(top, ignore_errors=True)


def pair(config):
    """Both at once, since most of a start is waiting."""
    found = {}

    def domus():
        try:
            found["domus"] = run(DOMUS, config, LAYER)
        except BaseException as e:  # told by the thread that waits
            found["error"] = e

    thread = threading.Thread(target=domus)
    thread.start()
    try:
        runc = run_runc(config)
    finally:
        thread.join()
    if "error" in found:
        raise found["error"]
    return runc, found["domus"]


def without():
    """runc 1.3 leaves all capabilities to a process whose config says nothing
    of them; before, and with domus, that is none. So little of what the probe
    sees is the same then that there is nothing to compare."""
    version = house.must("runc", "--version")
    return () if "version 1.1." in version else ("caps=absent",)


def check(numbers):
    tap.allow(SECONDS_EACH * len(numbers))
    known = Known("lab", HERE + "/known-differences")
    left_out = without()
    bad = []
    for number in numbers:
        config, applied = generator.generate(SEED, number, "lab",
                                              left_out)
        found = unexplained(*pair(config), known)
        if found:
            bad.append("config %d (%s)" % (number, " ".join(applied)))
            bad += ["  " + each[:300] for each in found]
    if bad:
        more = len(bad) - SHOWN
        raise Failure("\n".join(bad[:SHOWN]) + (
            "\nand %d more lines" % more if more > 0 else ""))


def batch(first, last):
    test("configs %d to %d" % (first, last - 1), domus_only=True,
         full=first >= SAMPLE)(lambda: check(range(first, last)))


batch(0, SAMPLE)
for begin in range(SAMPLE, ALL, BATCH):
    batch(begin, min(begin + BATCH, ALL))


def copy_there():
    """What tap.py does not know of."""
    probe = os.path.join(HERE, "../../build/rel/tests/diff/probe")
    for path in glob.glob(DIFF + "/*.py") + [DIFF + "/known-differences",
                                             probe]:
        subprocess.run([tap.LAB, "put", path, tap.WHERE + "/"], check=True)


if __name__ == "__main__":
    if not IN_LAB:
        copy_there()
    sys.exit(tap.main(__file__, prepare, house.nothing_left))
