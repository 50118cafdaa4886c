#!/usr/bin/env python3
"""What cannot work gets a clear error, and nothing is left of it."""
import hashlib
import json
import os
import shutil
import sys

import house
from house import Detached, call, configured, ctr, run
from tap import DOMUS, RUNTIME, has, main, same, test

ALTERNATIVE = "/root/domus-tests/guest"
SILENT_INIT = b"""#!/bin/sh
echo this init has nothing to say to its host
exec sleep 100000
"""


def must_fail(result, *words):
    """The run failed before the container's process did anything."""
    if result.status == 0 or result.out:
        same("status and output", (result.status, result.out), (1, b""))
    has("the error", result.err, *words)


# --- the container ----------------------------------------------------------

@test("a command that does not exist")
def no_command():
    must_fail(run(["/no/such/command"]), "/no/such/command",
              "no such file")


@test("a command that is not in PATH", full=True)
def not_in_path():
    must_fail(run(["no-such-command"]), "no-such-command", "not found")


@test("a command that may not be executed", full=True)
def not_executable():
    must_fail(run(["/etc/passwd"]), "/etc/passwd", "permission denied")


@test("a working directory that is a file", full=True)
def bad_directory():
    must_fail(run(["true"], options=("--cwd", "/etc/passwd")), "/etc/passwd")


@test("the id of a container that runs")
def duplicate():
    with Detached(["sleep", "1000"]) as first:
        must_fail(call(*house.run_words(["echo", "second"], first.name)),
                  first.name, "already exists")
        same("the first one's state", house.tasks()[first.name][1],
             "RUNNING")


@test("a second task of a container that has one")
def second_task():
    with Detached(["sleep", "1000"]) as first:
        must_fail(call("ctr", "task", "start", "--null-io", first.name),
                  "already exists")


@test("ids with / and ..")
def path_ids():
    for name in ("a/b", "..", "../../etc", "a..b"):
        must_fail(call(*house.run_words(["true"], name)), "id")


@test("ids that nobody has")
def unknown_ids():
    for words in (("kill", "nobody"), ("delete", "nobody"),
                  ("metrics", "nobody"), ("ps", "nobody")):
        must_fail(call("ctr", "task", *words), "nobody", "not found")


# --- config.json ------------------------------------------------------------

@test("a file of the host as a mount", domus_only=True)
def bind_mount():
    must_fail(run(["true"], options=(
        "--mount", "type=bind,src=/etc/hostname,dst=/x,options=rbind:ro")),
        "config.json: mounts[7].source", "not supported", "/etc/hostname")


@test("a profile of AppArmor", domus_only=True)
def apparmor():
    must_fail(run(["true"], options=("--apparmor-profile", "of-the-host")),
              "config.json: process.apparmorProfile", "not supported")


@test("a namespace of the host", domus_only=True)
def host_namespace():
    must_fail(run(["true"], options=("--with-ns", "network:/proc/1/ns/net")),
              "config.json: linux.namespaces", "path", "not supported")


@test("a configuration of wrong types")
def wrong_types():
    """ctr hands on what it can read; hostname is a number to nobody."""
    path = "/root/domus-tests/config.json"
    with open(path, "w", encoding="ascii") as f:
        json.dump({"ociVersion": "1.0.2", "hostname": 7}, f)
    result = call("ctr", "run", "--runtime", RUNTIME, "--config", path,
                  house.new_name())
    must_fail(result, "hostname")


@test("a configuration without a process")
def no_process():
    path = "/root/domus-tests/config.json"
    with open(path, "w", encoding="ascii") as f:
        json.dump({"ociVersion": "1.0.2", "root": {"path": "/nowhere"},
                   "linux": {"namespaces": [{"type": "mount"}]}}, f)
    name = house.new_name()
    try:
        must_fail(call("ctr", "run", "--runtime", RUNTIME, "--config", path,
                       name), "process")
    finally:
        house.remove(name)


@test("a runtime that is not there")
def no_runtime():
    name = house.new_name()
    try:
        must_fail(call("ctr", "run", "--runtime", "io.containerd.nothing.v2",
                       house.BUSYBOX, name, "true"), "nothing")
    finally:
        house.remove(name)


@test("an annotation that the host does not allow", domus_only=True)
def annotation():
    with configured(allow_annotations=""):
        must_fail(run(["true"]), "io.domus.domain-type", "not allowed")


@test("a domain type that there is not", domus_only=True)
def domain_type():
    must_fail(run(["true"], domain=("--annotation",
                                    "io.domus.domain-type=hvm")),
              "io.domus.domain-type", "hvm")


@test("more memory than the host has", domus_only=True)
def much_memory():
    must_fail(run(["true"], options=("--memory-limit", str(1 << 40))),
              "memory")


@test("more memory than is free", domus_only=True)
def busy_memory():
    must_fail(run(["true"], options=("--annotation",
                                     "io.domus.memory=3500")), "memory")


# --- the host ---------------------------------------------------------------

def alternative(**changes):
    """A directory of guest files: copies, but for the changes. A change is
    new content, or None for no such file."""
    shutil.rmtree(ALTERNATIVE, ignore_errors=True)
    os.makedirs(ALTERNATIVE)
    for name in ("vmlinux", "initramfs.cpio", "guest.sha256"):
        key = name.replace(".", "_")
        if key not in changes:
            shutil.copy(os.path.join(house.GUEST_FILES, name), ALTERNATIVE)
        elif changes[key] is not None:
            with open(os.path.join(ALTERNATIVE, name), "wb") as f:
                f.write(changes[key])
    return configured(guest_dir=ALTERNATIVE, start_timeout=20)


def content(name):
    with open(os.path.join(house.GUEST_FILES, name), "rb") as f:
        return f.read()


def digests(**files):
    """guest.sha256 for these contents."""
    return "".join("%s  %s\n" % (hashlib.sha256(data).hexdigest(),
                                 name.replace("_", "."))
                   for name, data in files.items()).encode()


@test("an initramfs with a wrong digest", domus_only=True)
def wrong_initramfs():
    data = bytearray(content("initramfs.cpio"))
    data[len(data) // 2] ^= 1
    with alternative(initramfs_cpio=bytes(data)):
        must_fail(run(["true"]), "initramfs", "digest")


@test("a kernel with a wrong digest", domus_only=True)
def wrong_kernel():
    with alternative(vmlinux=content("vmlinux") + b"\0"):
        must_fail(run(["true"]), "vmlinux", "digest")


@test("no kernel", domus_only=True, full=True)
def no_kernel():
    with alternative(vmlinux=None):
        must_fail(run(["true"]), "vmlinux", "no such file")


@test("no initramfs", domus_only=True, full=True)
def no_initramfs():
    with alternative(initramfs_cpio=None):
        must_fail(run(["true"]), "initramfs", "no such file")


@test("no list of digests", domus_only=True, full=True)
def no_digests():
    with alternative(guest_sha256=None):
        must_fail(run(["true"]), "guest.sha256")


@test("a kernel that is none", domus_only=True, full=True)
def not_a_kernel():
    data = b"this is no kernel\n" * 1000
    with alternative(vmlinux=data, guest_sha256=digests(
            vmlinux=data, initramfs_cpio=content("initramfs.cpio"))):
        must_fail(run(["true"]), "kernel")


def archive(members):
    """A newc archive for the kernel: (name, mode, data, device)."""
    out = b""
    for number, (name, mode, data, device) in enumerate(members, 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0,
                  device[0], device[1], len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % f for f in fields)
        out += name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return out


def silent_initramfs():
    with open("/bin/busybox", "rb") as f:
        busybox = f.read()
    return archive([
        ("dev", 0o040755, b"", (0, 0)),
        ("dev/console", 0o020600, b"", (5, 1)),
        ("bin", 0o040755, b"", (0, 0)),
        ("bin/busybox", 0o100755, busybox, (0, 0)),
        ("bin/sh", 0o120777, b"busybox", (0, 0)),
        ("bin/sleep", 0o120777, b"busybox", (0, 0)),
        ("init", 0o100755, SILENT_INIT, (0, 0)),
        ("TRAILER!!!", 0, b"", (0, 0))])


@test("a guest that never says hello", domus_only=True)
def silent_guest():
    data = silent_initramfs()
    with alternative(initramfs_cpio=data, guest_sha256=digests(
            vmlinux=content("vmlinux"), initramfs_cpio=data)):
        must_fail(run(["true"]), "this init has nothing to say")


@test("a guest without an init", domus_only=True, full=True)
def no_init():
    data = archive([("dev", 0o040755, b"", (0, 0)),
                    ("TRAILER!!!", 0, b"", (0, 0))])
    with alternative(initramfs_cpio=data, guest_sha256=digests(
            vmlinux=content("vmlinux"), initramfs_cpio=data)):
        must_fail(run(["true"]), "kernel panic")


@test("xenconsoled does not run", domus_only=True)
def no_xenconsoled():
    house.must("systemctl", "stop", "xenconsoled")
    try:
        result = run(["true"])
    finally:
        house.must("systemctl", "start", "xenconsoled")
    must_fail(result, "xenconsoled")


@test("domusd's configuration is wrong", domus_only=True)
def wrong_configuration():
    with configured(workers="none"):
        must_fail(run(["true"]), "domusd")


@test("afterwards everything works", domus_only=True)
def afterwards():
    same("the output", run(["echo", "hello"]).text, "hello\n")


if __name__ == "__main__":
    sys.exit(main(__file__, house.prepare, house.nothing_left))
