#!/usr/bin/env python3
"""Pause, Resume, Update, figures, memory, events while containerd is away."""
import json
import os
import signal
import sys
import threading
import time

import ttrpc
from execs import end, sleeper
from harness import SLOW, eventually, failing, main, read, spec, test

RUNNING, STOPPED, PAUSED = 2, 3, 4
TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"


def ticker(host):
    """Says a line every tenth of a second."""
    return host.container("sh", "-c", "i=0; while :; do echo $i; "
                          "i=$((i+1)); sleep 0.1; done").up()


def topics(host, c):
    return [t[7:] for t, _ in host.events.of(c.id)]


def asleep(host):
    return [d for d in host.domains()
            if os.path.exists("%s/%d/paused" % (host.fake, d))]


def update(c, resources, type_url=TYPE):
    c.call("Update", resources={
        "type_url": type_url, "value": json.dumps(resources).encode()
        if not isinstance(resources, bytes) else resources})


@test
def pause_and_resume(host):
    c = ticker(host)
    eventually("it talks", lambda: len(c.out.data) > 8)
    c.call("Pause")
    assert c.status() == PAUSED
    time.sleep(0.3)
    before = len(c.out.data)
    time.sleep(0.5)
    assert len(c.out.data) == before
    c.call("Resume")
    assert c.status() == RUNNING
    eventually("it talks on", lambda: len(c.out.data) > before)
    end(c)
    assert topics(host, c) == ["create", "start", "paused", "resumed", "exit",
                               "delete"], topics(host, c)


@test
def pause_again_and_again(host):
    c = ticker(host)
    for _ in range(5):
        c.call("Pause")
        c.call("Resume")
    before = len(c.out.data)
    eventually("it talks on", lambda: len(c.out.data) > before)
    end(c)


@test
def pause_where_it_makes_no_sense(host):
    c = host.container("sleep", "1000").start_shim()
    for method in ("Pause", "Resume"):
        with failing(5):
            c.call(method)
    c.create()
    with failing(9, "not started"):
        c.call("Pause")
    c.call("Start")
    with failing(9, "is running"):
        c.call("Resume")
    c.call("Pause")
    with failing(9, "is paused"):
        c.call("Pause")
    with failing(9, "is paused"):
        c.call("Exec", exec_id="e")
    c.call("Resume")
    c.call("Kill", signal=9)
    c.wait()
    for method in ("Pause", "Resume"):
        with failing(9, "has ended"):
            c.call(method)
    c.finish()


@test
def calls_of_a_paused_task(host):
    c = sleeper(host)
    c.call("Pause")
    for _ in range(3):
        assert c.call("Stats")["stats"]
    # The figures are from before; the rest is asked of the guest, which has
    # to run for it.
    assert len(asleep(host)) == 1
    assert c.call("Pids")["processes"]
    assert asleep(host) == []
    assert c.call("Stats")["stats"]
    assert c.status() == PAUSED
    c.call("Kill", signal=15)
    c.call("CloseIO", stdin=True)
    assert c.call("Connect")["task_pid"] == c.pid()
    c.call("Shutdown")
    assert c.status() == PAUSED
    with failing(9):
        c.call("Delete")
    c.call("Resume")
    end(c)


@test
def kill_of_a_paused_task(host):
    c = sleeper(host)
    c.call("Pause")
    waiting = c.begin("Wait")
    c.call("Kill", signal=9)
    assert c.end(waiting, 20)["exit_status"] == 137
    assert c.status() == STOPPED
    assert c.finish() == 137
    assert topics(host, c) == ["create", "start", "paused", "exit", "delete"]


@test
def a_domain_that_cannot_be_paused(host):
    c = ticker(host)
    host.fault("pause-fail")
    c.call("Pause")
    assert c.status() == PAUSED
    time.sleep(0.3)
    before = len(c.out.data)
    time.sleep(0.5)
    assert len(c.out.data) == before
    host.fault()
    assert c.call("Stats")["stats"]
    c.call("Resume")
    eventually("it talks on", lambda: len(c.out.data) > before)
    end(c)


@test
def the_shim_of_a_paused_task_dies(host):
    c = sleeper(host)
    c.call("Pause")
    os.kill(c.pid(), signal.SIGKILL)
    eventually("the connection ends", lambda: c.client.closed)
    c.client.close()
    c.client = None
    assert c.run_delete()["exit_status"] == 137
    c.drop()
    eventually("no domain", lambda: host.domains() == [])


@test
def the_guest_of_a_paused_task_dies(host):
    c = sleeper(host)
    c.call("Pause")
    host.kill_guests()
    assert c.wait() == 137
    c.finish()


@test
def many_calls_while_it_pauses(host):
    c = sleeper(host)
    pause = c.begin("Pause")
    begun = [c.begin("Stats") for _ in range(10)]
    begun += [c.begin("Pids") for _ in range(10)]
    c.end(pause)
    for b in begun:
        assert c.end(b)
    resume = c.begin("Resume")
    assert c.end(c.begin("Pids"))["processes"]
    c.end(resume)
    end(c)


@test
def updates_that_are_refused(host):
    c = sleeper(host)
    for resources in (b"", b"{", b"[]", b"[" * 100000, b"7", b"\0",
                      {"memory": {"limit": "1"}},
                      {"cpu": {"shares": -1}}, {"pids": {"limit": 2 ** 70}}):
        try:
            update(c, resources)
            raise AssertionError("taken: %.80r" % (resources,))
        except ttrpc.Error as e:
            assert e.code in (3, 8), (str(resources)[:80], e)
    with failing(3):
        c.call("Update")
    with failing(3, "Process"):
        update(c, {}, "types/Process")
    with failing(5):
        c.call("Update", id="other")
    update(c, {})
    end(c)


@test
def more_memory_than_the_domain_has(host):
    c = sleeper(host)
    with failing(8, "memory"):
        update(c, {"memory": {"limit": 1 << 40}})
    assert c.status() == RUNNING
    end(c)
    c = host.container("true").up()
    c.wait()
    with failing(9):
        update(c, {})
    c.finish()


@test
def kill_with_all(host):
    c = host.container("sh", "-c", "trap '' TERM; sleep 1000 & "
                       "while :; do sleep 1; done").up()
    c.call("Kill", signal=9, all=True)
    assert c.wait() == 137
    with failing(5):
        c.call("Kill", signal=9)
    c.finish()


@test
def figures_of_all_kinds(host):
    c = ticker(host)
    stats = c.call("Stats")["stats"]
    assert stats["type_url"] == "io.containerd.cgroups.v2.Metrics", stats
    metrics = ttrpc.decode(ttrpc.METRICS, stats["value"])
    for name in ("pids", "cpu", "memory", "io", "memory_events"):
        assert metrics[name] is not None, metrics
    end(c)


@test
def exits_wait_for_containerd(host):
    host.events.close()
    c = host.container("sh", "-c", "exit 6").up()
    assert c.wait() == 6
    time.sleep(1)
    host.events.open()
    eventually("the exit", lambda: "exit" in topics(host, c))
    assert topics(host, c) == ["create", "start", "exit"]
    c.finish()
    assert host.events.wait(c.id, "/tasks/delete")
    assert topics(host, c) == ["create", "start", "exit", "delete"]


@test
def containerd_goes_in_the_middle_and_refuses(host):
    c = sleeper(host)
    host.events.close()
    c.call("Kill", signal=9)
    assert c.wait() == 137
    host.events.refuse = True
    host.events.open()
    time.sleep(0.5)
    host.events.close()
    time.sleep(0.5)
    host.events.refuse = False
    host.events.open()
    eventually("the exit", lambda: "exit" in topics(host, c), 30)
    assert topics(host, c) == ["create", "start", "exit"], topics(host, c)
    c.finish()


@test
def the_exit_is_on_disk_when_it_is_told(host):
    c = host.container("sh", "-c", "exit 77").up()
    host.events.wait(c.id, "/tasks/exit")
    record = read(c.bundle + "/domus-record")
    assert "exited=1\nstatus=77\n" in record, record
    c.finish()


@test
def delete_prints_its_answer_only(host):
    c = host.container("sh", "-c", "exit 9").up()
    assert c.wait() == 9
    os.kill(c.pid(), signal.SIGKILL)
    eventually("the connection ends", lambda: c.client.closed)
    c.client.close()
    c.client = None
    first = c.shim("delete", "-bundle", c.bundle)
    second = c.shim("delete", "-bundle", c.bundle)
    for r in (first, second):
        assert r.returncode == 0 and r.stderr == b"", r
        answer = ttrpc.decode(ttrpc.DELETE_RESPONSE, r.stdout)
        assert answer["exit_status"] == 9, answer
    assert first.stdout == second.stdout
    c.drop()


@test
def delete_is_done_in_time_without_domusd(host):
    c = sleeper(host)
    host.domusd.send_signal(signal.SIGSTOP)
    try:
        os.kill(c.pid(), signal.SIGKILL)
        eventually("the connection ends", lambda: c.client.closed)
        c.client.close()
        c.client = None
        begun = time.monotonic()
        r = c.shim("delete", "-bundle", c.bundle)
        took = time.monotonic() - begun
        assert r.returncode == 0 and took < 5 * SLOW, (took, r)
        answer = ttrpc.decode(ttrpc.DELETE_RESPONSE, r.stdout)
        assert answer["exit_status"] == 137, answer
        assert b"domusd still works on it" in r.stderr, r
    finally:
        host.domusd.send_signal(signal.SIGCONT)
    eventually("no domain", lambda: host.domains() == [])
    assert c.run_delete()["exit_status"] == 137
    c.drop()


@test
def waits_of_many_connections(host):
    c = host.container("sh", "-c", "sleep 1; exit 8").up()
    clients = [ttrpc.Client(c.address) for _ in range(20)]
    begun = [client.begin("Wait", id=c.id) for client in clients]
    for client, b in zip(clients, begun):
        assert client.end(b, 20)["exit_status"] == 8
        client.close()
    c.finish()


def memory_that_runs_out(host):
    config = spec(["sh", "-c", "head -c 200000000 /dev/zero | tail"])
    config["linux"]["resources"] = {"memory": {"limit": 30000000,
                                               "swap": 30000000}}
    c = host.container(config=config).up()
    c.wait()
    c.finish()
    assert topics(host, c).count("oom") >= 1, topics(host, c)
    assert topics(host, c).index("oom") < topics(host, c).index("exit")


# Where the machine's cgroups are still version 1 its guests have no limits;
# test_order.py has the events all the same.
if "memory" in read("/sys/fs/cgroup/cgroup.controllers").split():
    test(memory_that_runs_out)


@test
def several_at_once_pause(host):
    cs = [ticker(host) for _ in range(4)]

    def cycle(c):
        for _ in range(3):
            c.call("Pause")
            c.call("Stats")
            c.call("Resume")

    threads = [threading.Thread(target=cycle, args=(c,)) for c in cs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60 * SLOW)
    for c in cs:
        assert c.status() == RUNNING
        end(c)


if __name__ == "__main__":
    sys.exit(main())
