#!/usr/bin/env python3
"""What a domusd that is started again makes of what it finds, and what becomes
of images that nobody waits for any more."""
import os
import signal
import socket
import struct
import sys
import threading
import time

import control
from control import Control, ControlError, refuses
from harness import eventually, main, read, test, write


def ask(c, host, id, **more):
    """CREATE's number; control.create() waits for the answer."""
    body = dict(id=id, bundle="/", annotations=[], memory_max=0, vcpus=0,
                cpu_weight=0, cpu_cap=0, rootfs=[], rootfs_path=host.layer)
    body.update(more)
    return c.send(control.CREATE, **body)


def again(host):
    host.stop_domusd(signal.SIGKILL)
    host.start_domusd()
    return Control(host.socket)


def recorded(host):
    top = host.run + "/sandboxes"
    return sorted(line.split(" = ")[1] for name in os.listdir(top)
                  for line in read("%s/%s" % (top, name)).splitlines()
                  if line.startswith("state = "))


def end(host, *clients):
    host.fault()
    for c in clients:
        for name in c.states():
            c.do(control.DESTROY, id=name)
        c.close()
    eventually("nothing is left", lambda: host.domains() == [], 40)


def its_successor_is_its_own(host, c):
    """A namesake that is being taken down is not taken for it."""
    host.fault("destroy-fail")
    domid = c.create("s1", rootfs_path=host.layer)["domid"]
    c.close()
    for _ in range(3):
        c = again(host)
        assert c.do(control.ATTACH, id="s1")["domid"] == domid
        c.close()
    end(host, Control(host.socket))


@test
def a_create_that_failed_leaves_its_name(host):
    c = Control(host.socket)
    host.fault("start-fail destroy-fail")
    try:
        c.create("s1", rootfs_path=host.layer)
        raise AssertionError("created")
    except ControlError:
        pass
    eventually("it is written", lambda: recorded(host) == ["dying"])
    its_successor_is_its_own(host, c)


@test
def destroyed_while_it_starts(host):
    c = Control(host.socket)
    host.fault("start-slow destroy-fail")
    ask(c, host, "s1")
    eventually("it is built", host.domains)
    time.sleep(0.5)
    assert "goes on to take down" in c.do(control.DESTROY, id="s1")["text"]
    eventually("it is written", lambda: recorded(host) == ["dying"])
    its_successor_is_its_own(host, c)


def slow_mkfs(host, seconds, **configuration):
    place = host.dir + "/slow"
    os.makedirs(place, exist_ok=True)
    write(place + "/mkfs.erofs", "#!/bin/sh\nsleep %d\n"
          "exec /usr/bin/mkfs.erofs \"$@\"\n" % seconds)
    os.chmod(place + "/mkfs.erofs", 0o755)
    path = os.environ["PATH"]
    host.stop_domusd()
    host.configure(**configuration)
    os.environ["PATH"] = place + ":" + path
    host.start_domusd()
    os.environ["PATH"] = path


def usual_mkfs(host):
    host.stop_domusd()
    host.configure()
    host.start_domusd()


@test
def destroyed_while_its_image_is_built(host):
    """Nothing waits for the image; the next create does not begin anew."""
    slow_mkfs(host, 6)
    c = Control(host.socket)
    rootfs = [{"type": "bind", "source": host.layer,
               "options": ["rbind", "ro"]}]
    for name in ("s0", "s1"):
        ask(c, host, name, rootfs=rootfs, rootfs_path="")
    ask(c, host, "s2")
    eventually("the domains are built", lambda: len(host.domains()) == 3)
    began = time.monotonic()
    for name in ("s0", "s1", "s2"):
        assert c.do(control.DESTROY, id=name)["text"] == ""
    assert time.monotonic() - began < 3
    assert host.domains() == [] and c.states() == {}
    c.create("s0", rootfs=rootfs, rootfs_path="")
    assert time.monotonic() - began < 10
    end(host, c)
    usual_mkfs(host)


@test
def a_domain_that_fails_does_not_wait_for_its_image(host):
    slow_mkfs(host, 20)
    c = Control(host.socket)
    host.fault("build-enomem")
    began = time.monotonic()
    refuses(12, "memory", c.create, "s1", rootfs_path=host.layer)
    assert time.monotonic() - began < 10
    end(host, c)
    usual_mkfs(host)


@test
def one_of_two_who_share_an_image_fails(host):
    """The other's is not removed for want of room meanwhile."""
    slow_mkfs(host, 3, image_cache_max=0)
    c = Control(host.socket)
    rootfs = [{"type": "bind", "source": host.layer,
               "options": ["rbind", "ro"]}]
    first = ask(c, host, "a", rootfs=rootfs, rootfs_path="")
    eventually("a is built", lambda: len(host.domains()) == 1)
    host.fault("no-xen")
    refuses(19, "Xen", c.create, "b", rootfs=rootfs, rootfs_path="")
    host.fault()
    assert c.wait(first)["domid"]
    end(host, c)
    usual_mkfs(host)


@test
def a_shim_of_another_version_keeps_its_container(host):
    c = Control(host.socket)
    domid = c.create("s1", rootfs_path=host.layer)["domid"]
    host.stop_domusd()
    c.close()
    host.start_domusd()
    over = threading.Event()

    def shim():
        while not over.wait(1):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
                s.connect(host.socket)
                s.send(struct.pack("<HHI", 1, control.LIST, 1))
                assert s.recv(4096) == b""

    thread = threading.Thread(target=shim)
    thread.start()
    try:
        time.sleep(33)
        assert host.domains() == [domid]
        assert read(host.dir + "/domusd.log").count("another version") == 1
    finally:
        over.set()
        thread.join()
    end(host, Control(host.socket))


if __name__ == "__main__":
    sys.exit(main())
