#!/usr/bin/env python3
"""Named cases: load. Very many, very much or for very long: no byte is lost,
nothing leaks or grows, and other calls are answered all the while."""
import contextlib
import os
import random
import sys
import time

from cases import local
from cases.frame import case, main
from tap import Failure, allow, same, until

# An emulated guest starts three in a second.
EXECS = 10000 if local.LOCAL else 2000
AT_ONCE = 64
# Odd and prime, so that a lost page or message cannot fit again.
PIECE = 1048573
PIECES = 1025  # just over 1 GiB
STOP_EACH = 64 << 20
STOP_SECONDS = 3
RESIZES = 5000
ANSWER_SECONDS = 20
# What a program's allocator may keep after the first rush.
SHIM_KIB = 512
GUEST_KIB = 6144


def pss(pid):
    """KiB."""
    with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f
                    if line.startswith("Pss:"))


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def guest_free(container):
    """KiB."""
    return int(container.sh("awk '/MemAvailable/ {print $2}' /proc/meminfo"))


@contextlib.contextmanager
def steady(container):
    """After the load shim and guest are as they were before."""
    pid = container.init.pid  # of domus the shim's own
    opened, size, free = descriptors(pid), pss(pid), guest_free(container)
    yield
    until("the shim has %d descriptors open again, not %d" %
          (opened, descriptors(pid)), lambda: descriptors(pid) <= opened, 20)
    bound("the shim's memory grew", pss(pid) - size, SHIM_KIB)
    if not local.LOCAL:  # where the guest's memory is the machine's
        bound("the guest's free memory fell", free - guest_free(container),
              GUEST_KIB)


def bound(what, grown, most):
    if grown > most:
        raise Failure("%s by %d KiB" % (what, grown))


def answered(container):
    """Other calls are, soon, whatever else goes on."""
    begin = time.monotonic()
    same("the state", container.state(), "RUNNING")
    container.figures()
    took = time.monotonic() - begin
    if took > ANSWER_SECONDS:
        raise Failure("State and Stats took %d s" % took)


def burst(container, numbers):
    """So many processes, started, running and ended at once; each gives back
    what it was given, and a status of its own."""
    client = container.world.client
    added = [container.exec_prepared(["sh", "-c", "cat; exit %d" % (n % 251)],
                                     stdin=True) for n in numbers]
    starts = []
    for each in added:
        name = {"container_id": container.name, "exec_id": each.exec_id}
        each.waiting = client.begin("tasks.Wait", **name)
        starts.append(client.begin("tasks.Start", **name))
    for each in starts:
        client.end(each)
    answered(container)
    found = client.call("tasks.ListPids", container_id=container.name)
    if len(found["processes"]) < len(added):
        raise Failure("%d processes, not %d" % (len(found["processes"]),
                                                len(added)))
    for n, each in zip(numbers, added):
        each.streams.write(b"%d\n" % n)
        each.close_io()
    for n, each in zip(numbers, added):
        result = each.result()
        same("what exec %d gave" % n, (result.status, result.out, result.err),
             (n % 251, b"%d\n" % n, ""))
    container.processes.clear()


@case("load: 64 execs at once",
      "each has its own bytes and status; the list of processes has them all",
      only="domus", full=True)
def execs_at_once(world):
    burst(world.shared(), range(AT_ONCE))


@case("load: 10,000 execs in one container, 64 at once",
      "none is lost, shim and guest end as small as they began (2,000 on the "
      "emulated host, all of them without Xen)", only="domus", full=True)
def execs_ten_thousand(world):
    allow(2400)
    container = world.shared()
    burst(container, range(AT_ONCE))
    with steady(container):
        for first in range(0, EXECS, AT_ONCE):
            burst(container, range(first, min(first + AT_ONCE, EXECS)))


def take(reader):
    """What has come, at least a byte of it; empty at the end."""
    with reader.lock:
        while not reader.data and not reader.ended:
            if not reader.lock.wait(120):
                raise Failure("nothing came for two minutes")
        data = bytes(reader.data)
        reader.data.clear()
    return data


def compare(reader, piece, total, stop):
    """Reads it all; stop() is called after each STOP_EACH bytes."""
    endless, seen, due = piece + piece, 0, STOP_EACH
    while True:
        data = memoryview(take(reader))
        if not data:
            break
        while data:
            at = seen % len(piece)
            n = min(len(data), len(piece))
            if data[:n] != endless[at:at + n]:
                raise Failure("other bytes after %d" % seen)
            seen += n
            data = data[n:]
        if seen >= due:
            due += STOP_EACH
            stop()
    same("the number of bytes", seen, total)


@case("load: 1 GiB to a reader that stops and resumes",
      "no byte is lost or changed; the shim holds no more than a window",
      only="domus", full=True)
def output_to_a_slow_reader(world):
    allow(1800)
    container = world.shared()
    container.sh("head -c %d /dev/urandom > /tmp/piece" % PIECE)
    piece = container.exec(["cat", "/tmp/piece"]).out
    same("the piece's length", len(piece), PIECE)
    with steady(container):
        base = pss(container.init.pid)
        added = container.exec_start(["sh", "-c", (
            "i=0; while [ $i -lt %d ]; do cat /tmp/piece; i=$((i+1)); done; "
            "rm /tmp/piece" % PIECES)])
        reader = added.streams.readers["stdout"]

        def stop():
            reader.held = True
            time.sleep(STOP_SECONDS)
            answered(container)
            bound("the shim's memory grew while its reader stood still",
                  pss(container.init.pid) - base, SHIM_KIB)
            reader.held = False

        compare(reader, piece, PIECE * PIECES, stop)
        same("the status", added.result().status, 0)


@case("load: a storm of 5,000 resizes",
      "each is answered, the last one holds, and the terminal still works",
      only="domus", full=True)
def resize_storm(world):
    allow(900)
    container = world.shared()
    client = world.client
    numbers = random.Random("resize")
    with steady(container):
        added = container.exec_start(
            ["sh", "-c", "while read line; do echo got $line; done; "
             "stty size"], terminal=True, stdin=True)
        begun = []
        for n in range(RESIZES):
            begun.append(client.begin(
                "tasks.ResizePty", container_id=container.name,
                exec_id=added.exec_id, width=numbers.randint(0, 65535),
                height=numbers.randint(0, 65535)))
            if len(begun) == AT_ONCE or n + 1 == RESIZES:
                for each in begun:
                    client.end(each)
                begun = []
            if n % 1000 == 0:
                added.streams.write(b"%d\n" % n)
                added.out_until("got %d" % n)
                answered(container)
        added.resize(123, 45)
        added.streams.write(b"\4")
        same("the status", added.wait(), 0)
        if not added.result().text.endswith("45 123\r\n"):
            raise Failure("the last size does not hold")


if __name__ == "__main__":
    sys.exit(main(__file__))
