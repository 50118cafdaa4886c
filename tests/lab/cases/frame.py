"""Cases: their declarations, and how a program of them runs.

A program declares with @case and ends in main(__file__). Words of the
environment: RUNTIME is the runtime that is tried, DOMUS_FULL adds the long
cases, DOMUS_CASES_RUNTIME=both tries runc as well, with the same
expectations, and DOMUS_CASES_LOCAL=runc or =domus tries one of them on this
machine, without the emulated host and without Xen.
"""
import contextlib
import difflib
import glob
import os
import sys
import time
import traceback

import house
import tap
from tap import DOMUS, Failure

from . import grpc, local
from .world import FIFOS, World

RUNC = "io.containerd.runc.v2"
HERE = os.path.dirname(os.path.realpath(__file__))
SHARED_FILES = (HERE, os.path.realpath(os.path.join(
    HERE, "../../integ/protobuf.py")))
RUNTIMES = {DOMUS: "domus", RUNC: "runc"}
BOTH = "--both"

UNIFIED = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
# ctr asks for shares of processors, which no guest has where the machine's
# cgroups are of version 1 and the guest's kernel is the machine's.
NO_SHARES = () if UNIFIED else ("--cpu-shares", "0")

CASES = []
worlds = {}


class Case:
    """What a line of docs/TEST-CASES.md says, and its function."""

    def __init__(self, function, origin, holds, full, only, as_runc,
                 cgroup2):
        self.name = function.__name__
        self.program = os.path.basename(
            sys.modules[function.__module__].__file__)
        self.function = function
        self.origin = origin
        self.holds = holds
        self.full = full
        self.only = only
        self.as_runc = as_runc
        self.cgroup2 = cgroup2


def case(origin, holds, full=False, only=None, as_runc=False, cgroup2=False):
    """only: the one runtime that the case is about. as_runc: the function's
    result is to be what it is on runc in the same boot. cgroup2: a host
    without the unified hierarchy cannot try it."""
    def add(function):
        CASES.append(Case(function, origin, holds, full, only, as_runc,
                          cgroup2))
        return function
    return add


def world(runtime):
    if runtime not in worlds:
        worlds[runtime] = World(runtime)
    return worlds[runtime]


def compare(seen, on_runc):
    def lines(value):
        return value.splitlines() if isinstance(value, str) else \
            [repr(one) for one in value]
    found = [line for line in difflib.unified_diff(
        lines(on_runc), lines(seen), "runc", "domus", lineterm="", n=0)]
    if found:
        raise Failure("\n".join(found))


def trial(each, runtime):
    def run():
        try:
            seen = each.function(world(runtime))
            if each.as_runc and runtime == DOMUS:
                compare(seen, each.function(world(RUNC)))
        except grpc.Error as error:
            line = [frame.lineno for frame in
                    traceback.extract_tb(error.__traceback__)
                    if frame.name == each.name][-1]
            raise Failure("%s (called in line %d)" % (error, line)) from error
    return run


def picture():
    """What a case could leave, as far as a look costs nothing."""
    client = world(tap.RUNTIME).client
    with open("/proc/self/mounts", encoding="utf-8") as f:
        mounts = {line.split()[1] for line in f if local.ours(line)}
    return {
        "container": {each["id"] for each in
                      client.call("containers.List")["containers"]},
        "task": {each["id"] for each in client.call("tasks.List")["tasks"]},
        "mount": mounts,
        "loop": {local.read(path) for path in
                 glob.glob("/sys/block/loop*/loop/backing_file")
                 if local.ours(local.read(path))},
        "fifos": set(os.listdir(FIFOS)),
        "shim": {" ".join(words) for words in house.processes().values()
                 if os.path.basename(words[0]).startswith("containerd-shim")
                 and local.ours_process(words)},
    }


def left_behind(before):
    """Lines; what a container that stays has is no leak."""
    kept = {each.name for one in worlds.values()
            for each in one.kept.values()}
    now = picture()
    new = ["%s left behind: %s" % (kind, each) for kind in sorted(now)
           for each in sorted(now[kind] - before[kind])]
    return [line for line in new if not any(name in line for name in kept)
            and not (line.startswith("loop") and kept)]


@contextlib.contextmanager
def nothing_left():
    before = picture()
    try:
        yield
    except BaseException:
        house.remove_ours({each.name for one in worlds.values()
                               for each in one.kept.values()})
        raise
    deadline = time.monotonic() + house.SETTLE_SECONDS
    while True:
        leaks = left_behind(before)
        if not leaks:
            return
        if time.monotonic() > deadline:
            raise Failure("\n".join(leaks[:house.LEAKS_SHOWN]))
        time.sleep(0.2)


def chosen(words):
    both = BOTH in words
    for each in CASES:
        if each.full and not tap.FULL or each.cgroup2 and not UNIFIED:
            continue
        for runtime in dict.fromkeys((tap.RUNTIME,) + (RUNC,) * both):
            if each.only in (None, RUNTIMES[runtime]):
                yield each, runtime


def nothing_left_at_all(before):
    """The last test of a program: the whole host, as it was at first."""
    def run():
        for one in worlds.values():
            one.drop()
        deadline = time.monotonic() + house.SETTLE_SECONDS
        leaks = house.left_behind(before, house.picture())
        while leaks and time.monotonic() < deadline:
            time.sleep(0.5)
            leaks = house.left_behind(before, house.picture())
        if leaks:
            raise Failure("\n".join(leaks[:house.LEAKS_SHOWN]))
    return run


def program():
    words = sys.argv[1:]
    for each, runtime in chosen(words):
        beside = " (runc)" if runtime != tap.RUNTIME else ""
        tap.test(each.name + beside)(trial(each, runtime))
    sys.argv[1:] = [word for word in words if word != BOTH]
    if local.LOCAL:
        local.prepare()
        last = "nothing is left behind"
        tap.test(last)(local.nothing_left_at_all(worlds))
    else:
        house.prepare()
        last = "nothing is left on the host"
        tap.test(last)(nothing_left_at_all(house.picture()))
    if sys.argv[1:]:
        sys.argv.append(last)
    try:
        return tap.run_here(nothing_left)
    finally:
        for one in worlds.values():
            one.drop()
        local.finish()


def main(path):
    if os.environ.get("DOMUS_CASES_RUNTIME") == "both":
        sys.argv.append(BOTH)
    if local.LOCAL:
        local.enter(RUNTIMES)
    elif not os.environ.get("DOMUS_IN_LAB"):
        tap.MODULES += SHARED_FILES
        return tap.run_there(path)
    return program()
