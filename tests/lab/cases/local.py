"""This machine in place of the emulated host, with a containerd of our own in
a private directory: runc, to try the cases themselves, or domus with the fake
builder of the tests without Xen. Needs root."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import house
import tap

LOCAL = os.environ.get("DOMUS_CASES_LOCAL", "")
IMAGES = os.path.realpath(os.path.join(os.path.dirname(__file__),
                                       "../../../build/images"))
CONFIG = """version = 2
root = "%(at)s/root"
state = "%(at)s/run"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "%(at)s/containerd.sock"
[ttrpc]
  address = "%(at)s/containerd.sock.ttrpc"
"""

running = {}


def read(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.read().strip()
    except OSError:
        return ""


def ours(line):
    """Others work on this machine too; in dom0 everything is ours."""
    return not LOCAL or running.get("at", "\0") in line


def ours_process(words):
    return not LOCAL or any(running.get("at", "\0") in word for word in words)


def start():
    log = open(running["at"] + "/log", "a", encoding="utf-8")
    running["containerd"] = subprocess.Popen(
        ["containerd", "--config", running["at"] + "/config.toml"],
        stdout=log, stderr=log, env=running["environment"])
    log.close()
    deadline = time.monotonic() + 30
    while house.call("ctr", "version").status:
        if time.monotonic() > deadline:
            sys.exit("containerd does not start: %s/log" % running["at"])
        time.sleep(0.1)


def stop(number=signal.SIGTERM):
    running["containerd"].send_signal(number)
    running["containerd"].wait(30)


def restart(hard):
    """containerd, killed or asked to end, and started again."""
    if LOCAL:
        stop(signal.SIGKILL if hard else signal.SIGTERM)
        start()
        return
    if hard:
        house.must("systemctl", "kill", "--kill-whom=main", "--signal=KILL",
                   "containerd.service")
        tap.until("containerd is dead", lambda: house.call(
            "systemctl", "is-active", "containerd.service").status)
    house.must("systemctl", "restart", "containerd.service")
    tap.until("containerd answers", lambda: not house.call(
        "ctr", "version").status)


def without_xen():
    """A domusd with the fake builder; the environment for containerd."""
    import harness  # pylint: disable=import-outside-toplevel
    harness.private_mounts()
    host = running["host"] = harness.Host()
    host.configure(hooks="/bin/sh",
                   allow_annotations="io.domus.domain-type")
    host.start_domusd()
    env = host.environment(PATH="%s/bin:%s" % (harness.OUT,
                                               os.environ["PATH"]))
    for name in ("TTRPC_ADDRESS", "GRPC_ADDRESS", "NAMESPACE",
                 "MAX_SHIM_VERSION"):
        del env[name]
    return env


def enter(runtimes):
    """Before anything else is done: names, places, containerd."""
    runtime = next(name for name, short in runtimes.items()
                   if short == {"1": "runc"}.get(LOCAL, LOCAL))
    at = running["at"] = tempfile.mkdtemp(prefix="domus-cases-")
    running["environment"] = without_xen() if runtime == tap.DOMUS else None
    os.environ["CONTAINERD_ADDRESS"] = at + "/containerd.sock"
    tap.RUNTIME = house.RUNTIME = runtime
    house.OWN = at + "/names"
    house.BUNDLES = at + "/run/io.containerd.runtime.v2.task"
    from . import frame, world  # pylint: disable=import-outside-toplevel
    world.SOCKET = at + "/containerd.sock"
    world.FIFOS = frame.FIFOS = at + "/fifos"
    with open(at + "/config.toml", "w", encoding="ascii") as f:
        f.write(CONFIG % {"at": at})
    start()


def prepare():
    images = os.environ.get("DOMUS_CASES_IMAGES", IMAGES)
    for name in ("busybox", "debian"):
        house.ctr("image", "import", "%s/%s.tar" % (images, name))


def nothing_left_at_all(worlds):
    def run():
        for one in worlds.values():
            one.drop()
        tap.until("no task is left", lambda: not house.tasks())
        tap.same("the containers", house.ctr("container", "ls", "-q"), "")
        tap.same("the bundles", os.listdir(house.BUNDLES + "/default"), [])
    return run


def finish():
    if LOCAL and "containerd" in running:
        stop()
        if "host" in running:
            running["host"].close()
        subprocess.run("grep -o '%s[^ ]*' /proc/self/mounts | sort -r | "
                       "xargs -r umount" % running["at"], shell=True,
                       check=False)
        shutil.rmtree(running["at"], ignore_errors=True)
