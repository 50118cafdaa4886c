#!/usr/bin/env python3
"""The order of events and calls, whatever domusd and the guest say."""
import json
import sys
import time

import ttrpc
from harness import Reader, eventually, failing, main, spec, test
from puppet import Puppet, text, u32

PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
RUNNING, STOPPED, PAUSED = 2, 3, 4


def with_puppet(function):
    def run(host):
        puppet = Puppet(host.dir)
        try:
            c = host.container("sh", rootfs=[],
                               env={"DOMUS_SOCKET": puppet.socket})
            c.start_shim()
            function(host, puppet, c)
            if not c.deleted:
                if c.status() != STOPPED:
                    puppet.exited(c.id, "", 9)
                    c.wait()
                c.call("Delete")
                c.shutdown()
        finally:
            host.end_containers()
            puppet.close()

    run.__name__ = function.__name__
    return test(run)


def up(c):
    # No streams: nobody would end them.
    c.call("Create", bundle=c.bundle)
    c.call("Start")


def add(c, id, **more):
    c.call("Exec", exec_id=id, spec={
        "type_url": PROCESS,
        "value": json.dumps(spec(["x"])["process"]).encode()}, **more)


def start(c, *ids):
    for id in ids:
        add(c, id)
        c.call("Start", exec_id=id)


def events(host, c):
    """Without the delete, which comes at the end of each."""
    return [(t[7:], v.get("exec_id") or v.get("id") or "")
            for t, v in host.events.of(c.id)]


def exits(host, c, *wanted):
    wanted = [("exit", id) for id in wanted]
    eventually("exits %s" % wanted, lambda: [
        e for e in events(host, c) if e[0] == "exit"] == wanted)


def told(host, c, *wanted):
    wanted = list(wanted)
    eventually("events %s" % wanted, lambda: events(host, c)[2:] == wanted)


@with_puppet
def init_is_last_although_the_guest_tells_it_first(host, puppet, c):
    up(c)
    start(c, "a", "b")
    puppet.exited(c.id, "", 4)
    puppet.exited(c.id, "b", 2)
    puppet.exited(c.id, "a", 1)
    assert c.wait() == 4
    assert c.call("Wait", exec_id="a")["exit_status"] == 1
    assert c.call("Wait", exec_id="b")["exit_status"] == 2
    told(host, c, ("exec-added", "a"), ("exec-started", "a"),
         ("exec-added", "b"), ("exec-started", "b"), ("exit", "b"),
         ("exit", "a"), ("exit", c.id))


@with_puppet
def execs_that_the_guest_forgets(host, puppet, c):
    up(c)
    start(c, "a")
    puppet.exited(c.id, "", 4)
    assert c.wait(20) == 4
    assert c.call("Wait", exec_id="a")["exit_status"] == 137
    exits(host, c, "a", c.id)
    assert "guest SIGNAL" in puppet.seen
    # Too late to count.
    puppet.exited(c.id, "a", 5)
    puppet.exited(c.id, "", 5)
    c.call("State")
    exits(host, c, "a", c.id)


@with_puppet
def an_exec_ends_inside_its_start(host, puppet, c):
    up(c)
    puppet.before["guest EXEC"] = lambda: puppet.exited(c.id, "a", 3)
    start(c, "a")
    assert c.call("Wait", exec_id="a")["exit_status"] == 3
    told(host, c, ("exec-added", "a"), ("exec-started", "a"), ("exit", "a"))


@with_puppet
def init_ends_inside_its_start(host, puppet, c):
    puppet.before["guest START"] = lambda: puppet.exited(c.id, "", 3)
    up(c)
    assert c.wait() == 3
    told(host, c, ("exit", c.id))
    assert events(host, c)[1] == ("start", "")


@with_puppet
def oom_inside_start(host, puppet, c):
    def both():
        puppet.oom(c.id)
        puppet.exited(c.id, "", 137)

    puppet.before["guest START"] = both
    up(c)
    assert c.wait() == 137
    told(host, c, ("oom", ""), ("exit", c.id))


@with_puppet
def oom_before_the_exit(host, puppet, c):
    up(c)
    puppet.oom(c.id)
    puppet.oom("other")
    puppet.exited(c.id, "", 137)
    puppet.oom(c.id)
    told(host, c, ("oom", ""), ("exit", c.id))


@with_puppet
def a_flood_of_oom(host, puppet, c):
    up(c)
    for _ in range(2000):
        puppet.oom(c.id)
    puppet.exited(c.id, "", 1)
    assert c.wait() == 1
    eventually("the exit", lambda: ("exit", c.id) in events(host, c))
    assert 1 <= events(host, c).count(("oom", "")) <= 40


@with_puppet
def ends_that_make_no_sense(host, puppet, c):
    up(c)
    add(c, "added")
    for _ in range(3):
        puppet.exited("other", "", 1)
        puppet.exited(c.id, "nothing", 1)
        puppet.exited(c.id, "added", 1)
    start(c, "a")
    puppet.exited(c.id, "a", 1)
    puppet.exited(c.id, "a", 2)
    assert c.call("Wait", exec_id="a")["exit_status"] == 1
    assert c.status() == RUNNING
    exits(host, c, "a")


@with_puppet
def the_guest_goes_while_an_exec_starts(host, puppet, c):
    up(c)
    add(c, "a")
    puppet.answers["guest EXEC"] = None
    begun = c.begin("Start", exec_id="a")
    waiting = c.begin("Wait", exec_id="a")
    eventually("EXEC", lambda: "guest EXEC" in puppet.seen)
    puppet.guest.shutdown(2)
    with failing(14, "guest is gone"):
        c.end(begun)
    assert c.end(waiting)["exit_status"] == 137
    assert c.wait() == 137
    exits(host, c, c.id)


@with_puppet
def an_answer_that_nobody_asked_for(host, puppet, c):
    up(c)
    start(c, "a")
    puppet.result(4000)
    assert c.wait() == 137
    assert c.call("Wait", exec_id="a")["exit_status"] == 137
    exits(host, c, "a", c.id)


@with_puppet
def pids_that_the_guest_invents(host, puppet, c):
    up(c)
    start(c, "a")
    puppet.pids = [(i, "nothing%d" % i) for i in range(100)] + [
        (200, "a"), (201, "a"), (202, "")]
    listed = c.call("Pids")["processes"]
    assert {p["pid"] for p in listed} == {c.pid()}
    details = [ttrpc.decode(ttrpc.DETAILS, p["info"]["value"])
               for p in listed[1:]]
    assert details == [{"exec_id": "a", "pid": 200},
                       {"exec_id": "a", "pid": 201},
                       {"exec_id": "", "pid": 202}], details
    puppet.answers["guest PIDS"] = 5
    assert len(c.call("Pids")["processes"]) == 1


@with_puppet
def pausing_fails_in_the_guest(host, puppet, c):
    up(c)
    puppet.answers["guest PAUSE"] = 5
    with failing(2, "pause"):
        c.call("Pause")
    assert c.status() == RUNNING and "ctl PAUSE" not in puppet.seen
    puppet.answers.clear()
    c.call("Pause")
    puppet.answers["guest RESUME"] = 5
    with failing(2, "resume"):
        c.call("Resume")
    assert c.status() == PAUSED
    puppet.answers.clear()
    c.call("Resume")
    assert c.status() == RUNNING
    told(host, c, ("paused", ""), ("resumed", ""))


@with_puppet
def freezing_takes_long(host, puppet, c):
    up(c)
    for call, state in (("Pause", PAUSED), ("Resume", RUNNING)):
        puppet.before["guest " + call.upper()] = lambda: time.sleep(7)
        c.call(call)
        puppet.before.clear()
        assert c.status() == state
    told(host, c, ("paused", ""), ("resumed", ""))


@with_puppet
def a_domain_is_woken_before_its_guest_is_asked(host, puppet, c):
    up(c)
    c.call("Pause")
    assert puppet.seen[-3:] == ["guest PAUSE", "guest STATS", "ctl PAUSE"]
    assert c.call("Stats")["stats"]
    assert puppet.seen[-1] == "ctl PAUSE", puppet.seen
    c.call("Kill", signal=15)
    assert puppet.seen[-2:] == ["ctl RESUME", "guest SIGNAL"], puppet.seen
    c.call("Resume")
    assert puppet.seen[-1] == "guest RESUME" and \
        puppet.seen.count("ctl RESUME") == 1, puppet.seen


def while_it_falls_asleep(c, puppet, then=lambda: None):
    """Pauses; Pids is asked for between the last figures and CTL_PAUSE."""
    asked = []

    def ask():
        asked.append(c.begin("Pids"))
        c.call("State")  # so that the shim has read it
        then()
    puppet.before["guest STATS"] = ask
    pause = c.begin("Pause")
    eventually("Pids is asked", lambda: asked)
    return pause, asked[0]


@with_puppet
def what_is_asked_while_it_falls_asleep(host, puppet, c):
    up(c)
    pause, pids = while_it_falls_asleep(c, puppet)
    c.end(pause)
    assert c.end(pids)["processes"]
    assert puppet.seen[-4:] == ["guest STATS", "ctl PAUSE", "ctl RESUME",
                                "guest PIDS"], puppet.seen


@with_puppet
def it_ends_while_it_falls_asleep(host, puppet, c):
    up(c)
    pause, pids = while_it_falls_asleep(
        c, puppet, lambda: puppet.exited(c.id, "", 3))
    with failing(9, "has ended"):
        c.end(pause)
    assert c.end(pids)["processes"]
    assert "ctl PAUSE" not in puppet.seen, puppet.seen
    assert c.wait() == 3


@with_puppet
def a_domain_that_does_not_wake(host, puppet, c):
    up(c)
    c.call("Pause")
    puppet.answers["ctl RESUME"] = 5
    with failing(2, "resuming the domain"):
        c.call("Kill", signal=15)
    with failing(2, "resuming the domain"):
        c.call("Resume")
    assert c.status() == PAUSED
    puppet.answers.clear()
    c.call("Resume")
    assert c.status() == RUNNING


@with_puppet
def an_update_is_undone(host, puppet, c):
    up(c)
    puppet.answers["guest UPDATE"] = 22

    def update(resources):
        c.call("Update", resources={"type_url": RESOURCES, "value": json.dumps(
            resources).encode()})

    with failing(3, "update"):
        update({"cpu": {"shares": 4096}})
    eventually("undone", lambda: puppet.seen.count("ctl UPDATE") == 2)
    first, undo = [b for what, b in puppet.bodies if what == "ctl UPDATE"]
    head = len(text("test") + text(c.id)) + 8
    assert first[head:head + 4] != undo[head:head + 4]
    assert undo[head:head + 4] == u32(256), undo
    puppet.answers = {"ctl UPDATE": 12}
    before = puppet.seen.count("guest UPDATE")
    with failing(8, "domain"):
        update({"cpu": {"shares": 4096}})
    assert puppet.seen.count("guest UPDATE") == before
    puppet.answers.clear()
    update({"cpu": {"shares": 4096}})


@with_puppet
def an_update_of_the_guest_only(host, puppet, c):
    up(c)
    c.call("Update", resources={"type_url": RESOURCES,
                                "value": b'{"pids": {"limit": 5}}'})
    assert puppet.seen[-1] == "guest UPDATE", puppet.seen
    assert "ctl UPDATE" not in puppet.seen
    body = puppet.bodies[-1][1]
    assert text("pids.max") + text("5") in body, body


@with_puppet
def an_update_goes_on_from_the_last(host, puppet, c):
    def update(**cpu):
        c.call("Update", resources={
            "type_url": RESOURCES,
            "value": json.dumps({"cpu": cpu}).encode()})
        return puppet.bodies[-1][1]
    up(c)
    assert text("20000 50000") in update(quota=20000, period=50000)
    assert text("40000 50000") in update(quota=40000)
    puppet.answers = {"guest UPDATE": 12}
    with failing(8, "update"):
        update(quota=1000)
    puppet.answers.clear()
    assert text("40000 10000") in update(period=10000)


@with_puppet
def a_domain_that_dies_after_the_exit_ends_its_output(host, puppet, c):
    """Who reads it waits for the end before Delete."""
    c.out = Reader(c.stdout)
    c.err = False
    c.call("Create", bundle=c.bundle, stdout=c.stdout)
    c.call("Start")
    puppet.exited(c.id, "", 3)
    assert c.wait() == 3
    assert c.out.is_alive()
    puppet.died(c.id)
    assert c.out.end() == b""
    assert c.call("Delete")["exit_status"] == 3
    c.shutdown()


@with_puppet
def a_create_is_answered_when_it_was_given_up(host, puppet, c):
    puppet.before["ctl CREATE"] = lambda: puppet.died(c.id)
    puppet.after["CREATE"] = "DESTROY"
    with failing(14, "crashed"):
        c.call("Create", bundle=c.bundle)
    assert "ctl DESTROY" in puppet.seen
    with failing(5):
        c.call("State")
    puppet.before.clear()
    puppet.after.clear()
    up(c)


@with_puppet
def a_domain_dies_while_a_logger_is_started(host, puppet, c):
    puppet.before["ctl LOGGER"] = lambda: puppet.died(c.id)
    puppet.after["LOGGER"] = "CONSOLE"
    with failing(14, "crashed"):
        c.call("Create", bundle=c.bundle, stdout="binary:///x")
    with failing(5):
        c.call("State")
    del puppet.after["LOGGER"]
    puppet.before["ctl CONSOLE"] = lambda: time.sleep(0.5)
    with failing(14, "crashed"):
        c.call("Create", bundle=c.bundle, stdout="binary:///x")
    assert "ctl CREATE" not in puppet.seen, puppet.seen
    puppet.before.clear()
    up(c)


@with_puppet
def a_guest_that_never_ends_its_output(host, puppet, c):
    c.out = Reader(c.stdout)
    c.err = False
    c.call("Create", bundle=c.bundle, stdout=c.stdout)
    c.call("Start")
    exec_out = Reader(c.stderr)
    add(c, "a", stdout=c.stderr)
    c.call("Start", exec_id="a")
    add(c, "never-started")
    puppet.exited(c.id, "", 3)
    assert c.wait() == 3
    assert c.out.end() == b""
    assert exec_out.end() == b""
    # One that is merely late may go on.
    for _ in range(3):
        puppet.send("DATA", b"late", 2)
        time.sleep(0.1)
    puppet.send("END", b"", 2)
    assert c.status() == STOPPED
    assert c.call("Delete")["exit_status"] == 3
    c.shutdown()


@with_puppet
def one_status_of_a_created_task_that_is_killed(host, puppet, c):
    c.call("Create", bundle=c.bundle)
    add(c, "a")
    c.call("Start", exec_id="a")
    c.call("Kill", signal=15)
    waiting = c.begin("Wait")
    assert c.call("Delete")["exit_status"] == 143
    assert c.end(waiting)["exit_status"] == 143
    eventually("both events", lambda: [
        v["exit_status"] for t, v in host.events.of(c.id)
        if t in ("/tasks/exit", "/tasks/delete")
        and v.get("id", c.id) != "a"] == [143, 143])
    c.shutdown()


@with_puppet
def an_exec_that_is_being_started_is_killed(host, puppet, c):
    up(c)
    add(c, "a")
    puppet.before["guest EXEC"] = lambda: time.sleep(1)
    start = c.begin("Start", exec_id="a")
    eventually("EXEC", lambda: puppet.seen.count("guest START") == 1)
    time.sleep(0.2)
    kill = c.begin("Kill", exec_id="a", signal=9)
    with failing(9, "waits for its start"):
        c.call("Kill", exec_id="a", signal=9)
    c.end(start)
    c.end(kill)
    assert puppet.seen[-2:] == ["guest EXEC", "guest SIGNAL"], puppet.seen
    puppet.exited(c.id, "a", 137)
    assert c.call("Wait", exec_id="a")["exit_status"] == 137
    # One that cannot be started has ended.
    puppet.answers["guest EXEC"] = 5
    add(c, "b")
    start = c.begin("Start", exec_id="b")
    time.sleep(0.2)
    kill = c.begin("Kill", exec_id="b", signal=9)
    with failing(5, "has ended"):
        c.end(kill)
    with failing(2, "start"):
        c.end(start)


@with_puppet
def one_update_at_a_time(host, puppet, c):
    up(c)
    puppet.answers["guest UPDATE"] = None
    value = {"type_url": RESOURCES, "value": b'{"pids": {"limit": 5}}'}
    first = c.begin("Update", resources=value)
    eventually("UPDATE", lambda: "guest UPDATE" in puppet.seen)
    with failing(9, "another update"):
        c.call("Update", resources=value)
    with failing(4, "UPDATE"):
        c.end(first)
    puppet.answers.clear()
    c.call("Update", resources=value)


@with_puppet
def a_guest_that_does_not_answer(host, puppet, c):
    up(c)
    for name in ("SIGNAL", "STATS", "PIDS"):
        puppet.answers["guest " + name] = None
    begun = [c.begin("Kill", signal=15), c.begin("Stats")]
    pids = c.begin("Pids")
    began = time.monotonic()
    for b in begun:
        with failing(4, "did not answer"):
            c.end(b)
    assert len(c.end(pids)["processes"]) == 1
    assert time.monotonic() - began < 20
    assert c.status() == RUNNING


if __name__ == "__main__":
    sys.exit(main())
