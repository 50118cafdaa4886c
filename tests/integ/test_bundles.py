#!/usr/bin/env python3
"""Bundles, specs and root file systems that cannot be run."""
import json
import os
import shutil
import sys

import ttrpc
from harness import failing, main, spec, test, write

INVALID = 3


def refused(host, words, code=None, values=None, **options):
    c = host.container("true", **options).start_shim()
    try:
        c.create(**(values or {}))
        raise AssertionError("created")
    except ttrpc.Error as e:
        assert words.lower() in e.message.lower(), e
        assert code is None or e.code == code, e
    c.shutdown()
    assert host.domains() == []


def changed(**more):
    out = spec(["true"])
    for path, value in more.items():
        at = out
        keys = path.split("__")
        for key in keys[:-1]:
            at = at.setdefault(key, {})
        at[keys[-1]] = value
    return out


@test
def config_json_is_absent(host):
    c = host.container("true").start_shim()
    os.unlink(c.bundle + "/config.json")
    with failing(INVALID, "config.json"):
        c.create()
    c.shutdown()


@test
def config_json_is_a_directory_or_a_fifo(host):
    for make in (os.mkdir, os.mkfifo):
        c = host.container("true").start_shim()
        os.unlink(c.bundle + "/config.json")
        make(c.bundle + "/config.json")
        try:
            c.create()
            raise AssertionError("created")
        except ttrpc.Error as e:
            assert "config.json" in e.message, e
        c.shutdown()


@test
def config_json_is_cut_at_many_places(host):
    whole = json.dumps(spec(["true"]))
    for n in (0, 1, 7, len(whole) // 2, len(whole) - 1):
        refused(host, "config.json", INVALID, config=whole[:n])


@test
def config_json_of_100_megabytes(host):
    refused(host, "config.json", INVALID,
            config=json.dumps(spec(["true"]))[:-1] + " " * (100 << 20) + "}")


@test
def config_json_nested_ten_thousand_deep(host):
    refused(host, "config.json", INVALID, config="[" * 10000 + "]" * 10000)
    refused(host, "config.json", INVALID,
            config='{"process":' * 10000 + "1" + "}" * 10000)


@test
def config_json_of_wrong_types(host):
    for config in ("null", "7", '"text"', "[]", "{}", "true"):
        refused(host, "", INVALID, config=config)
    for path, value in (
            ("process", []), ("process", None), ("process__args", "true"),
            ("process__args", []), ("process__args", [1]),
            ("process__env", {"A": "b"}), ("process__cwd", 7),
            ("process__cwd", "relative"), ("process__user", "root"),
            ("process__user__uid", "0"), ("process__user__uid", -1),
            ("process__user__uid", 1 << 40), ("mounts", {}),
            ("mounts", [7]), ("mounts", [{"type": "proc"}]),
            ("hostname", 5), ("hostname", "h" * 300), ("root", "rootfs"),
            ("linux", 3), ("linux__namespaces", [{"type": "moon"}])):
        refused(host, path.split("__")[-1] if value is not None else "",
                INVALID, config=changed(**{path: value}))


@test
def fields_that_are_not_supported_are_named(host):
    for path, value, words in (
            ("linux__intelRdt", {"closID": "x"}, "intelRdt"),
            ("process__apparmorProfile", "docker-default", "apparmor"),
            ("process__selinuxLabel", "system_u:x:y:s0", "selinux"),
            ("linux__mountLabel", "system_u:x", "mountLabel")):
        refused(host, words, INVALID, config=changed(**{path: value}))


@test
def the_bundle_is_missing(host):
    refused(host, "", values={"bundle": "/no/such/bundle"})
    refused(host, "", INVALID, values={"bundle": "relative"})
    refused(host, "", INVALID, values={"bundle": ""})


@test
def no_rootfs_and_none_in_the_bundle(host):
    # The bundle's own rootfs/ is empty: no program can be in it.
    c = host.container("true", rootfs=[]).start_shim()
    try:
        c.create()
        c.call("Start")
        raise AssertionError("started")
    except ttrpc.Error as e:
        assert e.message, e
    try:
        c.call("Delete")
    except ttrpc.Error as e:
        assert e.code == 5, e
    c.shutdown()


@test
def rootfs_in_the_bundle(host):
    c = host.container("echo", "own root", rootfs=[])
    shutil.rmtree(c.bundle + "/rootfs")
    shutil.copytree(host.layer, c.bundle + "/rootfs", symlinks=True)
    assert c.run() == (0, b"own root\n")


@test
def rootfs_mounts_that_cannot_be(host):
    layer = host.layer
    device = next(p for p in ("/dev/vda", "/dev/sda", "/dev/loop0",
                              "/dev/nvme0n1") if os.path.exists(p))
    for mount in (
            {"type": "bind", "source": "/no/such/place"},
            {"type": "bind", "source": ""},
            {"type": "bind", "source": "relative"},
            {"type": "bind", "source": device},
            {"type": "bind", "source": "/etc/passwd"},
            {"type": "bind", "source": "/dev/null"},
            {"type": "ext4", "source": device, "options": ["ro"]},
            {"type": "", "source": layer},
            {"type": "nfs", "source": "host:/x"},
            {"type": "overlay", "source": "overlay", "options": []},
            {"type": "overlay", "source": "overlay",
             "options": ["lowerdir=/no/such/layer"]},
            {"type": "overlay", "source": "overlay",
             "options": ["lowerdir=" + ":".join([layer] * 2000)]}):
        refused(host, "", rootfs=[mount])


@test
def fifos_that_are_missing_or_something_else(host):
    refused(host, "/no/such/fifo", values={"stdout": "/no/such/fifo"})
    c = host.container("true").start_shim()
    path = c.fifos + "/plain"
    write(path, "keep me")
    with failing(INVALID):
        c.create(stdin=path)
    with open(path) as f:
        assert f.read() == "keep me"
    c.shutdown()


@test
def stdio_of_an_unknown_kind(host):
    for uri in ("http://example.com/x", "binary-v2:///bin/sh?-c=id",
                "gopher:x"):
        refused(host, "", values={"stdout": uri})


@test
def a_terminal_or_checkpoint_that_is_not_supported(host):
    refused(host, "checkpoint", values={"checkpoint": "/somewhere"})


@test
def arguments_near_the_limit(host):
    big = "x" * 100000
    status, output = host.container("sh", "-c", "echo ${#0}", big).run()
    assert (status, output) == (0, b"100000\n"), (status, output)
    refused(host, "", config=spec(["true", "x" * 140000]))


@test
def a_working_directory_that_is_missing(host):
    c = host.container(config=changed(process__cwd="/made/for/it")).start_shim()
    try:
        c.create()
        c.call("Start")
        c.wait()
        c.call("Delete")
    except ttrpc.Error as e:
        assert "/made/for/it" in e.message, e
    c.shutdown()


if __name__ == "__main__":
    sys.exit(main())
