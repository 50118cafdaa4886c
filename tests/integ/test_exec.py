#!/usr/bin/env python3
"""More processes in a container: Exec and all that goes with it."""
import json
import os
import sys
import threading
import time

import ttrpc
from execs import TYPE, Exec, end, sh, sleeper
from harness import NAMESPACE, SLOW, eventually, failing, main, spec, test

CREATED, RUNNING, STOPPED = 1, 2, 3


def events(host, c):
    return [(t[7:], v.get("exec_id") or v.get("id") or "")
            for t, v in host.events.of(c.id)]


@test
def an_exec_and_its_events(host):
    c = sleeper(host)
    e = sh(c, "e1", "echo out; echo err >&2; exit 3")
    assert e.status() == CREATED
    assert e.run() == (3, b"out\n")
    assert e.err.end() == b"err\n"
    with failing(5):
        e.call("State")
    end(c)
    assert events(host, c) == [
        ("create", ""), ("start", ""), ("exec-added", "e1"),
        ("exec-started", "e1"), ("exit", "e1"), ("exit", c.id),
        ("delete", "")], events(host, c)
    exits = [v for t, v in host.events.of(c.id) if t == "/tasks/exit"]
    assert [v["exit_status"] for v in exits] == [3, 137], exits


@test
def an_exec_is_in_the_container(host):
    c = host.container("sh", "-c", "echo mark > /tmp/mark; sleep 1000").up()
    eventually("the mark", lambda: sh(c, "look", "cat /tmp/mark").run()
               == (0, b"mark\n"))
    status, out = sh(c, "e", "hostname; cat /proc/1/cmdline | head -c 5; "
                     "pwd; echo $WORD", cwd="/tmp",
                     env=["PATH=/bin", "WORD=w"]).run()
    assert out == b"guest-of-tests\nsh\0-c/tmp\nw\n" or \
        out.startswith(b"guest-of-tests\n"), out
    assert b"/tmp\nw\n" in out and status == 0, out
    end(c)


@test
def exit_codes_of_execs(host):
    c = sleeper(host)
    for code in (0, 1, 126, 255):
        assert sh(c, "e%d" % code, "exit %d" % code).run()[0] == code
    assert sh(c, "killed", "kill -9 $$").run()[0] == 137
    end(c)


@test
def standard_input_of_an_exec(host):
    c = sleeper(host)
    data = os.urandom(3 << 20)
    e = Exec(c, "cat", ["cat"], stdin=True).up()
    with open(e.stdin, "wb") as f:
        f.write(data)
    assert e.wait() == 0
    e.call("Delete")
    assert e.out.end() == data
    end(c)


@test
def close_io_of_an_exec(host):
    c = sleeper(host)
    e = Exec(c, "cat", ["cat"], stdin=True).up()
    fd = os.open(e.stdin, os.O_WRONLY)
    os.write(fd, b"last words")
    time.sleep(0.2)
    e.call("CloseIO", stdin=True)
    assert e.wait() == 0
    e.call("Delete")
    assert e.out.end() == b"last words"
    os.close(fd)
    end(c)


@test
def close_io_before_the_start(host):
    c = sleeper(host)
    e = Exec(c, "cat", ["cat"], stdin=True)
    fd = os.open(e.stdin, os.O_RDWR)
    e.call("CloseIO", stdin=True)
    e.up()
    assert e.wait() == 0
    e.call("Delete")
    os.close(fd)
    end(c)


@test
def wait_before_start_and_many_times(host):
    c = sleeper(host)
    e = sh(c, "e", "sleep 0.3; exit 9")
    waits = [e.begin("Wait") for _ in range(20)]
    e.up()
    for w in waits:
        assert c.end(w)["exit_status"] == 9
    assert e.wait() == 9
    e.call("Delete")
    end(c)


@test
def kill_of_an_exec(host):
    c = sleeper(host)
    e = Exec(c, "e", ["sleep", "1000"]).up()
    other = Exec(c, "other", ["sleep", "1000"]).up()
    e.call("Kill", signal=15)
    assert e.wait() == 143
    with failing(5):
        e.call("Kill", signal=9)
    assert other.status() == RUNNING and c.status() == RUNNING
    other.call("Kill", signal=9)
    assert other.wait() == 137
    end(c)


@test
def signals_that_do_not_exist(host):
    c = sleeper(host)
    e = Exec(c, "e", ["sleep", "1000"]).up()
    for number in (0, 65, 255, 256, (1 << 32) - 1):
        with failing(3, "signal"):
            e.call("Kill", signal=number)
        with failing(3, "signal"):
            c.call("Kill", signal=number)
    assert e.status() == RUNNING
    end(c)


@test
def ids_that_are_refused(host):
    c = sleeper(host)
    for id in ("-1", "a/b", "..", "a b", "a\n", "x" * 77, ".", "-", "é",
               "a..b"):
        with failing(3, "not a valid process id"):
            Exec(c, id, ["true"])
    with failing(6):
        Exec(c, c.id, ["true"])
    with failing(3):
        c.call("Exec", exec_id="")
    for id in ("4294967296", "0x0", "a" * 76):
        assert Exec(c, id, ["true"]).run()[0] == 0
    end(c)


@test
def an_exec_twice(host):
    c = sleeper(host)
    e = Exec(c, "e", ["sleep", "1000"])
    with failing(6, "exists already"):
        Exec(c, "e", ["true"])
    e.up()
    with failing(6):
        Exec(c, "e", ["true"])
    with failing(9):
        e.call("Start")
    e.call("Kill", signal=9)
    assert e.wait() == 137
    with failing(9):
        e.call("Start")
    e.call("Delete")
    assert Exec(c, "e", ["true"]).run()[0] == 0
    end(c)


@test
def an_exec_that_is_not_known(host):
    c = sleeper(host)
    for method, more in (("Start", {}), ("State", {}), ("Wait", {}),
                         ("Delete", {}), ("Kill", {"signal": 9}),
                         ("CloseIO", {}), ("ResizePty", {})):
        with failing(5):
            c.call(method, exec_id="nothing", **more)
    end(c)


@test
def exec_where_it_makes_no_sense(host):
    c = host.container("sleep", "1000").start_shim()
    with failing(5):
        Exec(c, "e", ["true"])
    c.create()
    c.call("Start")
    late = Exec(c, "late", ["true"])
    c.call("Kill", signal=9)
    c.wait()
    with failing(9, "has ended"):
        Exec(c, "e", ["true"])
    with failing(9):
        late.call("Start")
    late.stop()
    c.finish()


@test
def exec_before_the_start(host):
    """As with runc: the namespaces are there, the first process waits."""
    c = host.container("sh", "-c", "echo first; sleep 1000").start_shim()
    c.create()
    status, out = sh(c, "early", "echo $$ early; kill -9 1; exit 4").run()
    assert status == 4 and out.endswith(b" early\n"), (status, out)
    stays = Exec(c, "stays", ["sleep", "1000"]).up()
    c.call("Start")
    eventually("it starts", lambda: c.out.data == b"first\n")
    assert stays.status() == RUNNING
    assert sh(c, "usual", "exit 0").run()[0] == 0
    c.call("Kill", signal=9)
    assert stays.wait() == 137
    assert c.wait() == 137
    c.finish()
    stays.stop()


@test
def a_created_task_is_killed_with_its_execs(host):
    c = host.container("sleep", "1000").start_shim()
    c.create()
    running = Exec(c, "running", ["sleep", "1000"]).up()
    c.call("Kill", signal=15)
    assert c.wait() == 143
    assert running.wait() == 137
    begin = time.monotonic()
    c.finish()
    assert time.monotonic() - begin < 5, "its output has no end"
    running.stop()
    assert events(host, c) == [
        ("create", ""), ("exec-added", "running"),
        ("exec-started", "running"), ("exit", "running"),
        ("exit", c.id), ("delete", "")], events(host, c)


@test
def a_created_task_is_deleted_with_its_execs(host):
    c = host.container("sleep", "1000").start_shim()
    c.create()
    running = Exec(c, "running", ["sleep", "1000"]).up()
    added = Exec(c, "added", ["true"])
    waits = running.begin("Wait")
    assert c.call("Delete")["exit_status"] == 137
    assert c.end(waits)["exit_status"] == 137
    c.shutdown()
    running.stop()
    added.stop()
    assert events(host, c) == [
        ("create", ""), ("exec-added", "running"),
        ("exec-started", "running"), ("exec-added", "added"),
        ("exit", "running"), ("delete", "")], events(host, c)


@test
def processes_that_are_refused(host):
    c = sleeper(host)
    good = json.dumps(spec(["true"])["process"])
    for text in (good[:-1], good[:10], "", "[]", "null", "{}", "7",
                 "[" * 100000, '{"a":' * 50000, "\0", "{" * 4000000,
                 json.dumps({"args": []}), json.dumps({"args": ["x"]}),
                 json.dumps({"args": [7], "cwd": "/"}),
                 json.dumps(dict(json.loads(good), args=["x" * 140000])),
                 json.dumps(dict(json.loads(good), rlimits=[
                     {"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1}]))):
        try:
            Exec(c, "e", [], text=text)
            raise AssertionError("taken: %r" % text[:100])
        except ttrpc.Error as e:
            assert e.code in (3, 8), (text[:100], e)
    with failing(3, "LinuxResources"):
        Exec(c, "e", ["true"], type_url="x/LinuxResources")
    assert Exec(c, "e", ["true"]).run()[0] == 0
    end(c)


@test
def a_program_that_does_not_exist(host):
    c = sleeper(host)
    e = Exec(c, "e", ["/no/such/program"])
    waiting = e.begin("Wait")
    with failing(3) as f:
        e.call("Start")
    assert "no such file" in f.message.lower(), f.message
    assert c.end(waiting)["exit_status"] == 127
    assert e.status() == STOPPED
    assert e.call("Delete")["exit_status"] == 127
    e.stop()
    end(c)
    assert not [x for x in events(host, c) if x in (
        ("exit", "e"), ("exec-started", "e"))], events(host, c)


@test
def a_fifo_that_is_missing(host):
    c = sleeper(host)
    c.call("Exec", exec_id="e", stdout="/no/such/fifo", spec={
        "type_url": TYPE,
        "value": json.dumps(spec(["true"])["process"]).encode()})
    with failing(3, "/no/such/fifo"):
        c.call("Start", exec_id="e")
    c.call("Delete", exec_id="e")
    end(c)


@test
def an_exec_that_was_not_started(host):
    c = sleeper(host)
    e = Exec(c, "e", ["true"])
    with failing(9):
        e.call("Kill", signal=9)
    waiting = e.begin("Wait")
    e.call("Delete")
    with failing(5):
        c.end(waiting)
    e.stop()
    left = Exec(c, "left", ["true"])
    waiting = left.begin("Wait")
    c.call("Kill", signal=9)
    c.wait()
    c.call("Delete")
    with failing(5):
        c.end(waiting)
    left.stop()
    c.shutdown()


@test
def delete_of_a_running_exec(host):
    c = sleeper(host)
    e = Exec(c, "e", ["sleep", "1000"]).up()
    with failing(9):
        e.call("Delete")
    end(c)


@test
def init_ends_before_its_execs(host):
    c = host.container("sh", "-c", "sleep 1; exit 5").up()
    execs = [Exec(c, "e%d" % i, ["sleep", "1000"]).up() for i in range(5)]
    assert c.wait() == 5
    for e in execs:
        assert e.wait() == 137
        e.call("Delete")
    assert c.finish() == 5
    exits = [x for x in events(host, c) if x[0] == "exit"]
    assert len(exits) == 6 and exits[-1] == ("exit", c.id), exits
    assert sorted(exits[:-1]) == [("exit", "e%d" % i) for i in range(5)]


@test
def the_guest_dies_with_execs(host):
    c = sleeper(host)
    execs = [Exec(c, "e%d" % i, ["sleep", "1000"]).up() for i in range(3)]
    waiting = [e.begin("Wait") for e in execs]
    host.kill_guests()
    assert c.wait() == 137
    for w in waiting:
        assert c.end(w)["exit_status"] == 137
    for e in execs:
        e.call("Delete")
    assert c.finish() == 137
    exits = [x for x in events(host, c) if x[0] == "exit"]
    assert len(exits) == 4 and exits[-1] == ("exit", c.id), exits


@test
def many_at_once(host):
    c = sleeper(host)
    results = {}

    def one(i):
        results[i] = sh(c, "e%d" % i, "echo %d; exit %d" % (i, i)).run()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(64)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(80 * SLOW)
    assert results == {i: (i, b"%d\n" % i) for i in range(64)}, results
    end(c)


@test
def one_after_the_other_leaves_nothing(host):
    c = sleeper(host)
    pid = c.pid()

    def descriptors():
        return len(os.listdir("/proc/%d/fd" % pid))

    for i in range(5):
        assert Exec(c, "w%d" % i, ["true"]).run()[0] == 0
    before = descriptors()
    for i in range(60):
        assert Exec(c, "e%d" % i, ["true"]).run()[0] == 0
    eventually("descriptors", lambda: descriptors() <= before, 5)
    end(c)


@test
def a_terminal_and_its_size(host):
    c = sleeper(host)
    e = sh(c, "tty", "stty size; read x; stty size; test -t 2", terminal=True,
           stdin=True, consoleSize={"width": 80, "height": 25}).up()
    eventually("the first size", lambda: b"25 80" in e.out.data)
    e.call("ResizePty", width=132, height=43)
    with open(e.stdin, "wb") as f:
        f.write(b"go\n")
        f.flush()
        assert e.wait() == 0
    e.call("Delete")
    assert b"43 132" in e.out.end()
    end(c)


@test
def sizes_of_terminals(host):
    c = sleeper(host)
    e = sh(c, "tty", "sleep 1000", terminal=True).up()
    for width, height in ((0, 65535), (65535, 0), (0, 0), (65535, 65535)):
        e.call("ResizePty", width=width, height=height)
    for width, height in ((65536, 1), (1, 65536), ((1 << 32) - 1, 1)):
        with failing(3, "65535"):
            e.call("ResizePty", width=width, height=height)
    # Without a terminal it means nothing, as with runc.
    plain = Exec(c, "plain", ["sleep", "1000"])
    plain.call("ResizePty", width=80, height=25)
    plain.up().call("ResizePty", width=80, height=25)
    c.call("ResizePty", width=80, height=25)
    e.call("Kill", signal=9)
    e.wait()
    with failing(9):
        e.call("ResizePty", width=80, height=25)
    end(c)


@test
def the_request_says_whether_there_is_a_terminal(host):
    c = sleeper(host)
    process = spec(["sh", "-c", "test -t 1 && echo yes || echo no"])["process"]
    for wanted in (True, False):
        process["terminal"] = not wanted
        e = Exec(c, "e", [], terminal=wanted, text=json.dumps(process))
        assert e.run() == (0, b"yes\r\n" if wanted else b"no\n"), wanted
    end(c)


@test
def a_size_before_the_start(host):
    c = sleeper(host)
    e = sh(c, "tty", "stty size", terminal=True)
    e.call("ResizePty", width=111, height=22)
    status, out = e.run()
    assert status == 0 and b"22 111" in out, out
    end(c)


@test
def pids_with_exec_ids(host):
    c = sleeper(host)
    e = Exec(c, "e1", ["sleep", "1000"]).up()

    def listed():
        out = []
        for p in c.call("Pids")["processes"]:
            assert p["pid"] == c.pid(), p
            info = p["info"]
            if info:
                assert info["type_url"] == \
                    "containerd.runc.v1.ProcessDetails", info
                info = ttrpc.decode(ttrpc.DETAILS, info["value"])
            out.append(info)
        return out

    processes = listed()
    assert processes[0] is None, processes
    execs = [p for p in processes[1:] if p["exec_id"] == "e1"]
    assert len(execs) == 1 and execs[0]["pid"] > 1, processes
    e.call("Kill", signal=9)
    e.wait()
    eventually("it is gone", lambda: "e1" not in [
        p["exec_id"] for p in listed()[1:]])
    c.call("Kill", signal=9)
    c.wait()
    assert listed() == [None]
    c.finish()


@test
def state_of_an_exec(host):
    c = sleeper(host)
    e = Exec(c, "e1", ["sleep", "1000"], stdin=True).up()
    s = e.call("State")
    assert s["id"] == c.id and s["exec_id"] == "e1", s
    assert s["stdin"] == e.stdin and not s["terminal"], s
    assert s["status"] == RUNNING and s["pid"] == c.pid(), s
    e.call("Kill", signal=9)
    e.wait()
    s = e.call("State")
    assert s["status"] == STOPPED and s["exit_status"] == 137, s
    assert s["exited_at"]["seconds"] > 0, s
    assert NAMESPACE == "test"
    end(c)


if __name__ == "__main__":
    sys.exit(main())
