#!/usr/bin/env python3
"""Layers on a file system that does not answer: a FUSE file system whose
process takes the requests and says nothing, which also keeps the kernel from
ending who waits."""
import contextlib
import ctypes
import os
import select
import struct
import sys
import threading
import time

import control
from control import Control, refuses
from harness import eventually, main, test

LIBC = ctypes.CDLL(None, use_errno=True)
FUSE_INIT = 26
MNT_DETACH = 2


def answer_init(fd):
    """linux/fuse.h: the one request that is answered."""
    _, opcode, unique = struct.unpack_from("<IIQ", os.read(fd, 65536))
    assert opcode == FUSE_INIT
    body = struct.pack("<IIIIHHII", 7, 31, 0, 0, 8, 6, 4096, 1) + bytes(32)
    os.write(fd, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)


def take_requests(fd, over):
    while not over.is_set():
        if select.select([fd], [], [], 0.1)[0]:
            os.read(fd, 65536)


@contextlib.contextmanager
def silent_layer(host):
    place = host.dir + "/silent"
    os.makedirs(place, exist_ok=True)
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = "fd=%d,rootmode=40000,user_id=0,group_id=0" % fd
    if LIBC.mount(b"silent", place.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), "mount of a FUSE file system")
    answer_init(fd)
    over = threading.Event()
    thread = threading.Thread(target=take_requests, args=(fd, over))
    thread.start()
    try:
        yield place
    finally:
        over.set()
        thread.join()
        os.close(fd)  # which answers all who wait with an error
        LIBC.umount2(place.encode(), MNT_DETACH)


def ask(c, id, path):
    return c.send(control.CREATE, id=id, bundle="/", annotations=[],
                  memory_max=0, vcpus=0, cpu_weight=0, cpu_cap=0, rootfs=[],
                  rootfs_path=path)


@test
def a_layer_that_does_not_answer(host):
    """Its container is told; nobody else hears of it."""
    first, second = Control(host.socket), Control(host.socket, timeout=10)
    with silent_layer(host) as place:
        number = ask(first, "s1", place)
        time.sleep(0.5)
        assert "s1" in second.states()
        second.create("s2", rootfs_path=host.layer)
        second.do(control.DESTROY, id="s2")
        began = time.monotonic()
        refuses(110, (place, "20 s"), first.wait, number)
        assert time.monotonic() - began < 30
        eventually("it is taken down", lambda: second.states() == {})
        assert host.domains() == []
    first.close()
    second.close()


@test
def destroyed_while_its_layer_is_looked_at(host):
    c = Control(host.socket, timeout=10)
    with silent_layer(host) as place:
        ask(c, "s1", place)
        time.sleep(0.5)
        assert c.do(control.DESTROY, id="s1")["text"] == ""
        assert host.domains() == [] and c.states() == {}
    c.close()


if __name__ == "__main__":
    sys.exit(main())
