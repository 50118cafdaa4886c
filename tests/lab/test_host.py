#!/usr/bin/env python3
"""The emulated host itself, without domus: what the other tests build on."""
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

from lablib import images                                  # noqa: E402
from lablib.host import Host                               # noqa: E402

LAB = os.path.join(HERE, "lab")
count = 0
failed = 0


def result(name, ok, why=""):
    global count, failed
    count += 1
    failed += not ok
    print("%s %d - %s" % ("ok" if ok else "not ok", count, name))
    if not ok and why:
        print("\n".join("# " + line for line in str(why).splitlines()))
    sys.stdout.flush()


def is_equal(name, got, expected):
    result(name, got == expected, "got %r, expected %r" % (got, expected))


def lab(*words, data=b""):
    return subprocess.run([LAB] + list(words), input=data,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=900)


def said(*words):
    return lab("run", "-n", *words).stdout.decode().strip()


def test_commands(work):
    for code in (0, 1, 124, 255):
        is_equal("exit code %d comes back" % code,
                 lab("run", "exit %d" % code).returncode, code)
    is_equal("death by a signal is 128+n",
             lab("run", "kill -TERM $$").returncode, 143)
    is_equal("a command that takes too long is ended",
             lab("run", "--timeout", "2", "sleep", "60").returncode, 124)
    is_equal("and does not live on", said("pgrep -x sleep || echo none"),
             "none")
    is_equal("words stay words", lab("run", "printf", "%s|", "a b", "$HOME",
                                     "'").stdout, b"a b|$HOME|'|")
    data = os.urandom(3000000)
    is_equal("streams pass every byte",
             hashlib.sha256(lab("run", "cat", data=data).stdout).digest(),
             hashlib.sha256(data).digest())
    done = lab("run", "echo out; echo err >&2")
    is_equal("standard error apart", (done.stdout, done.stderr),
             (b"out\n", b"err\n"))
    there = "/tmp/test-host/a file"
    here = os.path.join(work, "file")
    with open(here, "wb") as f:
        f.write(data)
    os.chmod(here, 0o750)
    lab("put", here, there)
    lab("get", there, here + ".back")
    with open(here + ".back", "rb") as f:
        result("a file there and back", f.read() == data)
    is_equal("with its mode", said("stat", "-c", "%a", there), "750")
    lab("put", os.path.join(HERE, "dom0"), "/tmp/test-host/dir")
    lab("get", "/tmp/test-host/dir", os.path.join(work, "dir"))
    is_equal("a directory there and back", subprocess.run(
        ["diff", "-r", os.path.join(HERE, "dom0"),
         os.path.join(work, "dir")]).returncode, 0)
    said("rm", "-r", "/tmp/test-host")


def test_xen():
    is_equal("this is dom0", said("cat /proc/xen/capabilities"), "control_d")
    caps = said("xl info virt_caps").split()
    result("PV and PVH domains can be", {"pv", "hvm", "hap"} <= set(caps),
           caps)
    is_equal("xenstored is the C one",
             said("readlink /proc/$(cat /run/xenstore.pid)/exe | "
                  "sed 's,.*/,,'"), "xenstored")
    for unit in ("xenconsoled", "containerd", "lab-share", "systemd-udevd"):
        is_equal("%s runs" % unit, said("systemctl", "is-active", unit),
                 "active")
    is_equal("nothing failed at boot",
             said("systemctl --failed --plain --no-legend | "
                  "grep -v domusd"), "")
    is_equal("cgroup v2", said("stat -f -c %T /sys/fs/cgroup"), "cgroup2fs")
    modules = "xen_gntdev xen_gntalloc xen_evtchn xen_blkback loop erofs"
    is_equal("modules", said("for m in %s; do test -d /sys/module/$m || "
                             "echo $m; done" % modules), "")
    result("containerd's PATH has /usr/local/bin", "/usr/local/bin" in said(
        "tr '\\0' '\\n' < /proc/$(pidof containerd)/environ | "
        "sed -n 's/^PATH=//p'").split(":"))


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def oci_to_docker(source, target, tag):
    """The busybox archive as `docker save` would write it."""
    with tarfile.open(source) as tar, tarfile.open(target, "w") as out:
        def blob(descriptor):
            path = "blobs/sha256/" + descriptor["digest"].split(":")[1]
            return tar.extractfile(path).read()
        index = json.load(tar.extractfile("index.json"))
        manifest = json.loads(blob(index["manifests"][0]))
        add(out, "config.json", blob(manifest["config"]))
        add(out, "layer.tar", blob(manifest["layers"][0]))
        add(out, "manifest.json", json.dumps([{
            "Config": "config.json", "RepoTags": [tag],
            "Layers": ["layer.tar"]}]).encode())


def without_name(source, target):
    with tarfile.open(source) as tar, tarfile.open(target, "w") as out:
        for member in tar:
            data = tar.extractfile(member).read()
            if member.name == "index.json":
                index = json.loads(data)
                del index["manifests"][0]["annotations"]
                data = json.dumps(index).encode()
            add(out, member.name, data)


def test_images(work):
    busybox, debian = images.ensure_all()
    host = Host()
    is_equal("bundled images", images.load(host, busybox) +
             images.load(host, debian), [images.BUSYBOX, images.DEBIAN])
    docker = os.path.join(work, "docker.tar")
    oci_to_docker(busybox, docker, "lab-test:1")
    nameless = os.path.join(work, "nameless.tar")
    without_name(busybox, nameless)
    for what, path in (("docker archive", docker),
                       ("archive without a name", nameless)):
        names = images.load(host, path)
        is_equal("a container from a %s" % what,
                 said("ctr run --rm %s t-archive echo hello" % names[0]),
                 "hello")
        said("ctr image rm " + names[0])
    result("a broken archive is an error", lab(
        "load", os.path.join(HERE, "packages")).returncode == 1)
    is_equal("busybox in runc", said(
        "ctr run --rm %s t-busybox uname -r" % images.BUSYBOX),
        said("uname -r"))
    done = lab("run", "-n", "ctr run --rm %s t-debian /userland-test.sh" %
               images.DEBIAN)
    result("the Debian userland in runc", done.returncode == 0,
           done.stdout.decode() + done.stderr.decode())


def main():
    if lab("boot").returncode != 0:
        print("Bail out! the emulated host does not boot")
        return 1
    with tempfile.TemporaryDirectory() as work:
        test_commands(work)
        test_xen()
        test_images(work)
    print("1..%d" % count)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
