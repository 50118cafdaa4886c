#!/usr/bin/env python3
"""The real containerd and ctr of this machine, private ones, over the shim."""
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

from harness import OUT, SLOW, eventually, main, read, test, write

IMAGE = "example.test/busybox:1"
# ctr asks for cpu shares by default. Where the machine's cgroups are still
# version 1, the guests' kernel, which is the machine's, cannot give them.
LIMITS = [] if "cpu" in read("/sys/fs/cgroup/cgroup.controllers").split() \
    else ["--cpu-shares", "0"]


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_image(host, path):
    """An OCI archive of the host's busybox layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(host.layer, arcname=".", filter=lambda t: t)
    layer = layer.getvalue()
    config = json.dumps({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}).encode()

    def entry(kind, data):
        return {"mediaType": "application/vnd.oci.image." + kind,
                "digest": digest(data), "size": len(data)}

    manifest = json.dumps({
        "schemaVersion": 2, "config": entry("config.v1+json", config),
        "layers": [entry("layer.v1.tar", layer)]}).encode()
    top = dict(entry("manifest.v1+json", manifest), annotations={
        "io.containerd.image.name": IMAGE,
        "org.opencontainers.image.ref.name": "1"})
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
             "index.json": json.dumps({"schemaVersion": 2,
                                       "manifests": [top]}).encode()}
    for blob in (layer, config, manifest):
        files["blobs/sha256/" + digest(blob)[7:]] = blob
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


class Containerd:
    def __init__(self, host):
        self.host = host
        self.dir = host.dir + "/containerd"
        self.address = host.dir + "/c.sock"
        os.makedirs(self.dir)
        write(self.dir + "/config.toml", """version = 2
root = "%s/root"
state = "%s/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "%s"
""" % (self.dir, self.dir, self.address))
        self.log = open(self.dir + "/log", "w")
        self.start()
        try:
            eventually("containerd answers", lambda: self.ctr(
                "version").returncode == 0)
            make_image(host, self.dir + "/image.tar")
            r = self.ctr("image", "import", "--snapshotter", "overlayfs",
                         self.dir + "/image.tar")
            assert r.returncode == 0, r
        except BaseException:
            self.close()
            raise

    def start(self):
        env = self.host.environment(PATH="%s/bin:%s" % (
            OUT, os.environ["PATH"]))
        for name in ("TTRPC_ADDRESS", "GRPC_ADDRESS", "NAMESPACE",
                     "MAX_SHIM_VERSION"):
            del env[name]
        self.child = subprocess.Popen(
            ["containerd", "--config", self.dir + "/config.toml"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env=env)

    def stop(self, number):
        self.child.send_signal(number)
        self.child.wait(30)

    def argv(self, *words):
        return ["ctr", "--address", self.address] + list(words)

    def ctr(self, *words, **options):
        return subprocess.run(self.argv(*words), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60 * SLOW,
                              **options)

    def run(self, name, *command, **options):
        flags = options.pop("flags", ["--rm"])
        return self.ctr("run", "--snapshotter", "overlayfs", "--runtime",
                        "io.containerd.domus.v2", *LIMITS, *flags, IMAGE, name,
                        *command, **options)

    def close(self):
        self.stop(signal.SIGTERM)
        self.log.close()
        subprocess.run("grep -o '%s[^ ]*' /proc/self/mounts | sort -r | "
                       "xargs -r umount" % self.dir, shell=True)
        subprocess.run(["rm", "-rf", self.dir, self.address,
                        self.address + ".ttrpc"])


def with_containerd(function):
    def run(host):
        containerd = Containerd(host)
        try:
            function(host, containerd)
        except BaseException:
            print("# --- containerd")
            for line in read(containerd.dir + "/log").splitlines()[-30:]:
                print("#   " + line[:300])
            raise
        finally:
            containerd.close()

    run.__name__ = function.__name__
    return test(run)


@with_containerd
def ctr_run_and_exit_codes(host, containerd):
    r = containerd.run("hello", "echo", "hello")
    assert (r.returncode, r.stdout) == (0, b"hello\n"), r
    for code in (1, 127, 255):
        r = containerd.run("code%d" % code, "sh", "-c", "exit %d" % code)
        assert r.returncode == code, r
    r = containerd.run("nothing", "/no/such/program")
    assert r.returncode != 0 and r.stderr.strip(), r
    assert containerd.ctr("task", "ls", "-q").stdout == b""
    eventually("no domain", lambda: host.domains() == [])


@with_containerd
def ctr_stdin_to_stdout(host, containerd):
    data = os.urandom(10 << 20)
    r = containerd.run("cat", "cat", input=data)
    assert r.returncode == 0 and r.stdout == data, len(r.stdout)


@with_containerd
def ctr_tasks_events_and_kill(host, containerd):
    log = open(containerd.dir + "/events", "w")
    events = subprocess.Popen(containerd.argv("events"), stdout=log)
    try:
        r = containerd.run("long", "sleep", "1000", flags=["-d"])
        assert r.returncode == 0, r
        listed = containerd.ctr("task", "ls").stdout.decode()
        assert "long" in listed and "RUNNING" in listed, listed
        r = containerd.ctr("task", "metrics", "long")
        assert r.returncode == 0 and b"memory" in r.stdout, r
        assert containerd.ctr("task", "kill", "-s", "9",
                              "long").returncode == 0
        eventually("stopped", lambda: b"STOPPED" in containerd.ctr(
            "task", "ls").stdout)
        containerd.ctr("task", "rm", "long")
        assert containerd.ctr("container", "rm", "long").returncode == 0

        def order():
            return [word for line in read(log.name).splitlines()
                    for word in line.split() if word.startswith("/tasks/")]

        eventually("events", lambda: "/tasks/delete" in order())
        assert order() == ["/tasks/create", "/tasks/start", "/tasks/exit",
                           "/tasks/delete"], order()
    finally:
        events.kill()
        events.wait()
        log.close()


@with_containerd
def containerd_cleans_up_after_a_killed_shim(host, containerd):
    r = containerd.run("victim", "sleep", "1000", flags=["-d"])
    assert r.returncode == 0, r
    line = containerd.ctr("task", "ls").stdout.decode().splitlines()[1]
    os.kill(int(line.split()[1]), signal.SIGKILL)
    eventually("no domain", lambda: host.domains() == [])
    containerd.ctr("task", "rm", "-f", "victim")
    assert containerd.ctr("container", "rm", "victim").returncode == 0


@with_containerd
def containerd_comes_back_to_a_running_task(host, containerd):
    r = containerd.run("stays", "sh", "-c", "sleep 1000", flags=["-d"])
    assert r.returncode == 0, r
    containerd.stop(signal.SIGKILL)
    containerd.start()
    eventually("the task is there again", lambda: b"RUNNING" in containerd.ctr(
        "task", "ls").stdout)
    containerd.ctr("task", "kill", "-s", "9", "stays")
    eventually("stopped", lambda: b"STOPPED" in containerd.ctr(
        "task", "ls").stdout)
    containerd.ctr("task", "rm", "stays")
    assert containerd.ctr("container", "rm", "stays").returncode == 0


@with_containerd
def ctr_execs_pauses_and_lists(host, containerd):
    r = containerd.run("many", "sleep", "1000", flags=["-d"])
    assert r.returncode == 0, r
    for code in (0, 3):
        r = containerd.ctr("task", "exec", "--exec-id", "e%d" % code, "many",
                           "sh", "-c", "echo in; exit %d" % code)
        assert (r.returncode, r.stdout) == (code, b"in\n"), r
    r = containerd.ctr("task", "exec", "--exec-id", "e", "many", "/no/such")
    assert r.returncode != 0 and b"no such file" in r.stderr.lower(), r
    data = os.urandom(1 << 20)
    r = containerd.ctr("task", "exec", "--exec-id", "cat", "many", "cat",
                       input=data)
    assert r.stdout == data, len(r.stdout)
    r = containerd.ctr("task", "exec", "-d", "--exec-id", "stays", "many",
                       "sleep", "1000")
    assert r.returncode == 0, r
    r = containerd.ctr("task", "ps", "many")
    assert r.returncode == 0 and b"stays" in r.stdout, r
    assert containerd.ctr("task", "pause", "many").returncode == 0
    assert b"PAUSED" in containerd.ctr("task", "ls").stdout
    r = containerd.ctr("task", "metrics", "many")
    assert r.returncode == 0 and b"memory.usage" in r.stdout, r
    assert containerd.ctr("task", "resume", "many").returncode == 0
    assert b"RUNNING" in containerd.ctr("task", "ls").stdout
    containerd.ctr("task", "kill", "-s", "9", "many")
    eventually("stopped", lambda: b"STOPPED" in containerd.ctr(
        "task", "ls").stdout)
    containerd.ctr("task", "rm", "many")
    assert containerd.ctr("container", "rm", "many").returncode == 0


@with_containerd
def a_task_ends_while_containerd_is_away(host, containerd):
    r = containerd.run("ends", "sh", "-c", "sleep 1; exit 5", flags=["-d"])
    assert r.returncode == 0, r
    containerd.stop(signal.SIGKILL)
    time.sleep(2)
    log = open(containerd.dir + "/events", "w")
    containerd.start()
    eventually("containerd answers", lambda: containerd.ctr(
        "version").returncode == 0)
    events = subprocess.Popen(containerd.argv("events"), stdout=log)
    try:
        eventually("stopped", lambda: b"STOPPED" in containerd.ctr(
            "task", "ls").stdout)
        time.sleep(6)  # the shim's longest pause between two tries
        r = containerd.ctr("task", "rm", "ends")
        assert r.returncode == 0 or b"exit status 5" in r.stderr or \
            r.returncode == 5, r
    finally:
        events.kill()
        events.wait()
        log.close()
    # "ctr events" may have come too late for the first; never two.
    assert read(log.name).count("/tasks/exit") <= 1, read(log.name)
    assert containerd.ctr("container", "rm", "ends").returncode == 0


if __name__ == "__main__":
    sys.exit(main())
