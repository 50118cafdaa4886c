#!/usr/bin/env python3
"""What domusd does for shims beside making domains: pausing, sizes, a destroy
that takes its time; hooks and loggers are in test_programs.py."""
import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import control
from control import Control, ControlError, refuses
from harness import DOMUSD, SLOW, eventually, main, read, test, write

MIB = 1 << 20


def connect(host, **more):
    return Control(host.socket, **more)


def sandbox(host, id="s1", **values):
    client = connect(host)
    client.domid = client.create(id, rootfs_path=host.layer,
                                 **values)["domid"]
    client.ready(id)
    return client


def fact(host, client, name):
    return read("%s/%d/%s" % (host.fake, client.domid, name))


def frozen(host, client):
    group = "fake%s-%d" % (host.fake.replace("/", "-"), client.domid)
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        path = "%s/%s/cgroup.events" % (root, group)
        if os.path.exists(path):
            return "frozen 1" in read(path)
    raise AssertionError("no group of the domain")


def gone(host, client, id="s1"):
    client.do(control.DESTROY, id=id)
    client.close()
    assert host.domains() == []


@test
def pause_and_resume(host):
    c = sandbox(host)
    assert c.states() == {"s1": "running"}
    for _ in range(2):
        assert c.do(control.PAUSE, id="s1")["text"] == ""
        assert c.states() == {"s1": "paused"}
        eventually("it stands still", lambda: frozen(host, c))
    for _ in range(2):
        c.do(control.RESUME, id="s1")
        assert c.states() == {"s1": "running"}
        eventually("it goes on", lambda: not frozen(host, c))
    gone(host, c)


@test
def pauses_in_the_order_they_were_asked(host):
    c = sandbox(host)
    asked = [c.send(kind, id="s1") for kind in
             [control.PAUSE, control.RESUME] * 5 + [control.PAUSE]]
    for number in asked:
        c.wait(number)
    assert c.states() == {"s1": "paused"}
    eventually("it stands still", lambda: frozen(host, c))
    gone(host, c)


@test
def a_paused_domain_is_destroyed(host):
    c = sandbox(host)
    c.do(control.PAUSE, id="s1")
    begin = time.monotonic()
    gone(host, c)
    assert time.monotonic() - begin < 3


@test
def a_paused_domain_whose_shim_is_gone(host):
    c = sandbox(host)
    c.do(control.PAUSE, id="s1")
    c.close()
    eventually("destroyed", lambda: host.domains() == [], 20)


@test
def a_paused_domain_is_adopted(host):
    for number in (signal.SIGTERM, signal.SIGKILL):
        c = sandbox(host)
        c.do(control.PAUSE, id="s1")
        host.stop_domusd(number)
        c.close()
        host.start_domusd()
        c2 = connect(host)
        c2.domid = c2.do(control.ATTACH, id="s1")["domid"]
        assert c2.states() == {"s1": "paused"}
        assert frozen(host, c2)
        c2.do(control.RESUME, id="s1")
        assert c2.states() == {"s1": "running"}
        gone(host, c2)


@test
def a_record_of_a_newer_domusd(host):
    """After a downgrade the older one touches nothing."""
    c = sandbox(host)
    (name,) = os.listdir(host.run + "/sandboxes")
    path = host.run + "/sandboxes/" + name
    text = read(path)
    host.stop_domusd()
    c.close()
    write(path, text.replace("version = 2", "version = 3\nnewer = yes"))
    try:
        host.start_domusd()
        raise AssertionError("it started")
    except AssertionError as e:
        assert "version 3" in str(e) and name in str(e), e
    assert len(host.domains()) == 1
    host.domusd = None
    write(path, text)
    host.start_domusd()
    c = connect(host)
    c.domid = c.do(control.ATTACH, id="s1")["domid"]
    assert c.states() == {"s1": "running"}
    gone(host, c)


@test
def a_lock_that_a_child_has_inherited(host):
    """Of a domusd that was killed between fork and exec."""
    host.stop_domusd()
    with open(host.run + "/domusd.lock", "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        host.start_domusd()
    # But no two at once.
    r = subprocess.run([DOMUSD, "--config", host.dir + "/domus.conf"],
                       stderr=subprocess.PIPE, timeout=20 * SLOW, text=True)
    assert r.returncode == 1 and "another domusd serves" in r.stderr, r


@test
def notices_of_another_domain(host):
    host.fault("late-notices")
    c = sandbox(host)
    host.fault()
    assert c.states() == {"s1": "running"}
    gone(host, c)


@contextlib.contextmanager
def small_run_directory(host):
    """domusd with a run directory that a test can fill."""
    host.stop_domusd()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs",
                    host.run], check=True)
    try:
        host.start_domusd()
        yield
        host.stop_domusd()
    finally:
        subprocess.run(["umount", "-l", host.run], check=True)
    host.start_domusd()


def fill(path):
    with contextlib.suppress(OSError), open(path, "wb", 0) as f:
        while True:
            f.write(b"x" * 4096)


@test
def no_room_to_write_down_that_it_runs(host):
    """It would be taken for half done by the next domusd, and destroyed."""
    with small_run_directory(host):
        host.fault("build-hang")
        c = connect(host)
        asked = c.send(control.CREATE, id="s1", bundle="/", annotations=[],
                       memory_max=0, vcpus=0, cpu_weight=0, cpu_cap=0,
                       rootfs=[], rootfs_path=host.layer)
        eventually("its image is there", lambda: os.listdir(host.images))
        time.sleep(0.5)
        fill(host.run + "/full")
        host.fault()
        refuses(errno.ENOSPC, ("container s1", "record"), c.wait, asked)
        os.unlink(host.run + "/full")
        eventually("it is gone", lambda: host.domains() == [])
        assert c.states() == {}
        c.create("s1", rootfs_path=host.layer)
        c.ready("s1")
        gone(host, c)


@test
def pause_fails_and_says_why(host):
    c = sandbox(host)
    host.fault("pause-fail")
    refuses(errno.EIO, ("pause: container s1", "the domain was not paused"),
            c.do, control.PAUSE, id="s1")
    host.fault()
    assert c.states() == {"s1": "running"}
    os.kill(int(fact(host, c, "pid")), signal.SIGKILL)
    eventually("it is dead", lambda: c.states() == {"s1": "dead"})
    refuses(errno.ESRCH, "its domain is dead", c.do, control.PAUSE, id="s1")
    refuses(errno.ENOENT, "no sandbox 'nobody'", c.do, control.PAUSE,
            id="nobody")
    refuses(errno.ENOENT, "no sandbox 'nobody'", c.do, control.UPDATE,
            id="nobody", memory_max=0, cpu_weight=0, has_cpu_cap=False,
            cpu_cap=0)
    gone(host, c)


@test
def no_pause_before_the_guest_is_up(host):
    host.fault("never-hello")
    c = connect(host)
    c.create("s1", rootfs_path=host.layer)
    refuses(errno.EBUSY, "its guest is still starting", c.do, control.PAUSE,
            id="s1")
    assert c.states() == {"s1": "running"}
    host.fault()
    gone(host, c)


@test
def destroyed_while_a_pause_is_under_way(host):
    c = sandbox(host)
    asked = [c.send(control.PAUSE, id="s1") for _ in range(3)]
    last = c.send(control.DESTROY, id="s1")
    c.wait(last)
    for number in asked:
        try:
            c.wait(number)
        except ControlError as e:
            assert e.code == errno.ESRCH, e
    c.close()
    eventually("nothing left", lambda: host.domains() == [])


@test
def weight_and_cap(host):
    c = sandbox(host, cpu_weight=512, cpu_cap=50)
    assert fact(host, c, "weight") == "512"
    assert fact(host, c, "cap") == "50"

    def update(**values):
        return c.do(control.UPDATE, id="s1", **dict({
            "memory_max": 0, "cpu_weight": 0, "has_cpu_cap": False,
            "cpu_cap": 0}, **values))

    update(cpu_weight=100)
    assert (fact(host, c, "weight"), fact(host, c, "cap")) == ("100", "50")
    update(has_cpu_cap=True, cpu_cap=75)
    assert (fact(host, c, "weight"), fact(host, c, "cap")) == ("100", "75")
    # It has one processor: all of it is no limit.
    update(has_cpu_cap=True, cpu_cap=101)
    assert fact(host, c, "cap") == "0"
    update()
    refuses(errno.EINVAL, "cpu weight 65536", update, cpu_weight=65536)
    gone(host, c)


@test
def a_weight_that_xen_does_not_have(host):
    c = connect(host)
    refuses(errno.EINVAL, ("container s1", "cpu weight 70000"), c.create,
            "s1", rootfs_path=host.layer, cpu_weight=70000)
    c.close()


@test
def memory_does_not_grow(host):
    c = sandbox(host, memory_max=200 * MIB)

    def update(memory_max):
        return c.do(control.UPDATE, id="s1", memory_max=memory_max,
                    cpu_weight=0, has_cpu_cap=False, cpu_cap=0)

    assert c.do(control.LIST)["sandboxes"][0]["memory_kb"] == 232 * 1024
    update(200 * MIB)
    update(100 * MIB)
    refuses(errno.ENOMEM, ("update: container s1", "the domain has 232 MiB",
                           "200 MiB are for the container"),
            update, 201 * MIB)
    gone(host, c)


# --- a destroy that takes its time -----------------------------------------

def destroy(c, id="s1"):
    begin = time.monotonic()
    answer = c.do(control.DESTROY, id=id)
    assert time.monotonic() - begin < 5, time.monotonic() - begin
    return answer["text"]


@test
def a_destroy_that_fails_twice(host):
    c = sandbox(host)
    host.fault("destroy-fails-twice")
    assert destroy(c) == ""
    assert c.states() == {}
    c.close()


@test
def a_domain_that_lingers(host):
    c = sandbox(host)
    host.fault("destroy-slow")
    text = destroy(c)
    assert "goes on to take down container s1" in text, text
    assert "still maps its memory" in text, text
    assert c.states() == {"s1": "dying"}
    # Again: it waits, and says the same.
    assert "still maps its memory" in destroy(c)
    refuses(errno.ENOENT, "no sandbox", c.do, control.PAUSE, id="s1")
    # Its name is free, and others are not held up.
    again = sandbox(host)
    assert again.domid != c.domid
    assert sorted(s["state"] for s in again.do(control.LIST)["sandboxes"]) \
        == ["dying", "running"]
    host.fault()
    eventually("only the new one", lambda: host.domains() == [again.domid],
               30)
    c.close()
    gone(host, again)


@test
def a_delete_of_a_domain_that_lingers(host):
    """containerd gives it five seconds, and then makes the next container."""
    c = host.container("sh", "-c", "exit 42").up()
    assert c.wait() == 42
    os.kill(c.pid(), signal.SIGKILL)
    eventually("the connection ends", lambda: c.client.closed)
    c.client.close()
    c.client = None
    host.fault("destroy-slow")
    begin = time.monotonic()
    assert c.run_delete()["exit_status"] == 42
    assert time.monotonic() - begin < 5 * SLOW, time.monotonic() - begin
    c.drop()
    client = connect(host)
    assert list(client.states().values()) == ["dying"], client.states()
    client.close()
    again = host.container("sh", "-c", "exit 3", id=c.id)
    assert again.run()[0] == 3
    host.fault()
    eventually("gone", lambda: host.domains() == [], 30)


@test
def a_worker_that_hangs_in_a_destroy(host):
    c = sandbox(host)
    host.fault("destroy-hang")
    text = destroy(c)
    assert "its domain takes its time" in text, text
    assert c.states() == {"s1": "dying"}
    host.fault()
    eventually("gone", lambda: c.states() == {}, 20)
    c.close()


@test
def the_reaper_goes_on_after_a_restart(host):
    for number in (signal.SIGTERM, signal.SIGKILL):
        c = sandbox(host)
        host.fault("destroy-fail")
        assert "does not want to go" in destroy(c)
        c.close()
        host.stop_domusd(number)
        host.start_domusd()
        c = connect(host)
        eventually("still known", lambda: c.states() == {"s1": "dying"})
        again = sandbox(host, "s2")
        host.fault()
        eventually("gone", lambda: c.states() == {"s2": "running"}, 20)
        gone(host, again, "s2")
        c.close()


@test
def the_pauses_between_attempts_grow(host):
    c = sandbox(host)
    host.fault("destroy-fail")
    destroy(c)
    log = read(host.dir + "/domusd.log")
    waits = [int(line.split("next attempt in ")[1].split()[0])
             for line in log.splitlines() if "next attempt in" in line]
    host.fault()
    assert waits[-3:] == sorted(set(waits[-3:])), waits
    assert {250, 500, 1000} <= set(waits), waits
    eventually("gone", lambda: c.states() == {}, 20)
    c.close()


if __name__ == "__main__":
    sys.exit(main())
