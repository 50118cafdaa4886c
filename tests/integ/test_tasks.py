#!/usr/bin/env python3
"""The task service, on well-behaved containers."""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time

import ttrpc
from harness import SLOW, Reader, eventually, failing, main, test

CREATED, RUNNING, STOPPED = 1, 2, 3


def sh(host, script, **options):
    return host.container("sh", "-c", script, **options)


@test
def hello(host):
    status, output = sh(host, "echo hello from $(hostname), process $$").run()
    assert status == 0
    assert output == b"hello from guest-of-tests, process 1\n", output


@test
def hello_from_a_bind_mount(host):
    status, output = sh(host, "echo from a bind", rootfs="bind").run()
    assert (status, output) == (0, b"from a bind\n")


@test
def exit_codes(host):
    for code in (0, 1, 127, 255):
        status, _ = sh(host, "exit %d" % code).run()
        assert status == code, (status, code)


@test
def exit_by_signal(host):
    # A child of the shell: the first process of a pid namespace ignores what
    # it sends itself.
    status, _ = sh(host, "sh -c 'kill -9 $$'; exit $?").run()
    assert status == 137, status


@test
def stderr_is_apart(host):
    c = sh(host, "echo out; echo err >&2").up()
    assert c.wait() == 0
    assert c.out.end() == b"out\n"
    assert c.err.end() == b"err\n"
    c.finish()


@test
def process_has_what_the_spec_says(host):
    from harness import spec
    config = spec(
        ["sh", "-c", "id -u; id -g; pwd; echo \"$WORD\"; umask; hostname; "
         "ulimit -n; grep -c . /proc/mounts >/dev/null && echo mounted"],
        process={"user": {"uid": 1000, "gid": 7, "umask": 23}, "cwd": "/tmp",
                 "env": ["PATH=/bin", "WORD=a b  c"],
                 "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 333,
                              "hard": 444}]},
        hostname="named")
    status, output = host.container(config=config).run()
    assert status == 0, output
    assert output.decode().split("\n") == [
        "1000", "7", "/tmp", "a b  c", "0027", "named", "333", "mounted",
        ""], output


@test
def root_is_writable_and_gone_afterwards(host):
    c = sh(host, "echo x > /new && cat /new && rm /bin/cat && ls /bin/cat")
    status, output = c.run()
    assert status == 1 and output == b"x\n", (status, output)
    assert not os.path.exists(host.layer + "/new")
    assert os.path.exists(host.layer + "/bin/cat")


@test
def ten_megabytes_through_stdin_to_stdout(host):
    data = os.urandom(10 << 20)
    c = host.container("cat", stdin=True, keep=False).up()
    with open(c.stdin, "wb", buffering=0) as f:
        view = memoryview(data)
        while view:
            view = view[f.write(view):]
    assert c.wait() == 0
    c.out.end()
    assert c.out.size == len(data), c.out.size
    assert c.out.digest.digest() == hashlib.sha256(data).digest()
    c.finish()


@test
def sixty_four_megabytes_to_stdout(host):
    c = sh(host, "dd if=/dev/zero bs=65536 count=1024 2>/dev/null",
           keep=False).up()
    assert c.wait() == 0
    c.out.end()
    assert c.out.size == 64 << 20, c.out.size
    assert c.out.digest.hexdigest() == hashlib.sha256(
        bytes(64 << 20)).hexdigest()
    c.finish()


@test
def a_slow_reader_gets_everything(host):
    c = sh(host, "seq 1 60000", rate=400 * 1024)
    status, output = c.run()
    assert status == 0
    assert output == b"".join(b"%d\n" % i for i in range(1, 60001))


@test
def a_reader_that_leaves_and_comes_back(host):
    c = sh(host, "echo one; sleep 1; echo two; sleep 0.2; echo three").up()
    eventually("first line", lambda: b"one\n" in c.out.data)
    c.out.stop()
    c.out = Reader(c.stdout)
    assert c.wait() == 0
    assert c.out.end() == b"two\nthree\n"
    c.finish()


@test
def stdin_ends_when_the_last_writer_leaves(host):
    c = sh(host, "cat; echo ended", stdin=True).up()
    first = os.open(c.stdin, os.O_WRONLY)
    second = os.open(c.stdin, os.O_WRONLY)
    os.write(first, b"typed\n")
    eventually("echo", lambda: bytes(c.out.data) == b"typed\n")
    os.close(first)
    time.sleep(0.3)
    os.write(second, b"again\n")
    eventually("echo", lambda: bytes(c.out.data) == b"typed\nagain\n")
    os.close(second)
    assert c.wait() == 0
    assert c.out.end() == b"typed\nagain\nended\n"
    c.finish()


@test
def stdin_ends_when_closed_though_the_writer_stays(host):
    c = sh(host, "cat; echo ended", stdin=True).up()
    fd = os.open(c.stdin, os.O_WRONLY)
    os.write(fd, b"typed\n")
    c.call("CloseIO", stdin=True)
    assert c.wait() == 0
    os.close(fd)
    assert c.out.end() == b"typed\nended\n"
    c.finish()


@test
def stdin_may_be_written_and_left_before_start(host):
    c = sh(host, "cat; echo ended", stdin=True)
    c.start_shim()
    c.create()
    fd = os.open(c.stdin, os.O_WRONLY)
    os.write(fd, b"early\n")
    os.close(fd)
    c.call("Start")
    assert c.wait() == 0
    assert c.out.end() == b"early\nended\n"
    c.finish()


@test
def stdin_nobody_writes_to_does_not_hold_anything(host):
    c = host.container("true", stdin=True).up()
    assert c.wait() == 0
    c.finish()


@test
def no_stdio_at_all(host):
    c = host.container("sh", "-c", "cat; echo lost; exit 3")
    c.start_shim()
    c.call("Create", bundle=c.bundle, rootfs=c.rootfs)
    c.call("Start")
    assert c.wait() == 3
    c.finish()


@test
def wait_before_start_and_many_waiters(host):
    c = sh(host, "sleep 0.3; exit 9")
    c.start_shim()
    c.create()
    waits = [c.begin("Wait") for _ in range(20)]
    other = ttrpc.Client(c.address, "containerd.task.v3.Task")
    waits_v3 = [other.begin("Wait", id=c.id) for _ in range(5)]
    c.call("Start")
    for w in waits:
        assert c.end(w)["exit_status"] == 9
    for w in waits_v3:
        assert other.end(w, 30)["exit_status"] == 9
    # And again, when it has ended.
    first, again = c.call("Wait"), c.call("Wait")
    assert first == again and first["exit_status"] == 9
    assert abs(first["exited_at"]["seconds"] - time.time()) < 60
    other.close()
    c.finish()


@test
def kill_with_sigterm_and_sigkill(host):
    for number, status in ((signal.SIGTERM, 143), (signal.SIGKILL, 137)):
        # A shell that ends by that signal, not the namespace's first process.
        c = sh(host, "trap 'exit 143' TERM; echo up; "
               "while :; do sleep 0.1; done").up()
        eventually("up", lambda: b"up" in c.out.data)
        c.call("Kill", signal=int(number))
        assert c.wait() == status
        c.finish()


@test
def kill_all(host):
    c = sh(host, "sleep 1000 & sleep 1000 & echo up; wait").up()
    eventually("up", lambda: b"up" in c.out.data)
    c.call("Kill", signal=9, all=True)
    assert c.wait() == 137
    c.finish()


@test
def kill_of_an_ended_process_is_not_found(host):
    c = host.container("true").up()
    c.wait()
    with failing(5):
        c.call("Kill", signal=15)
    c.finish()


@test
def signals_that_end_nobody_leave_a_created_task(host):
    c = sh(host, "echo up; exit 3")
    c.start_shim()
    c.create()
    for name in ("WINCH", "CHLD", "CONT", "URG", "TSTP", "STOP", "CONT"):
        c.call("Kill", signal=getattr(signal, "SIG" + name))
        assert c.status() == CREATED, name
    c.call("Start")
    assert c.wait() == 3
    c.finish()


@test
def pids_are_told_while_the_task_exists(host):
    c = sh(host, "sleep 1000 & sleep 1000 & echo up; wait")
    c.start_shim()
    c.create()
    assert len(c.call("Pids")["processes"]) >= 1
    c.call("Start")
    eventually("up", lambda: b"up" in c.out.data)
    assert len(c.call("Pids")["processes"]) >= 1
    c.call("Kill", signal=9)
    c.wait()
    assert len(c.call("Pids")["processes"]) >= 1
    c.finish()


@test
def stats_are_cgroup_v2_metrics(host):
    c = sh(host, "echo up; sleep 1000").up()
    eventually("up", lambda: b"up" in c.out.data)
    stats = c.call("Stats")["stats"]
    assert stats["type_url"] == "io.containerd.cgroups.v2.Metrics", stats
    metrics = ttrpc.decode(ttrpc.METRICS, stats["value"])
    assert metrics["memory"] is not None and metrics["cpu"] is not None
    c.call("Kill", signal=9)
    c.wait()
    c.finish()


@test
def connect_and_state(host):
    c = sh(host, "exit 5")
    c.start_shim()
    pid = c.create()["pid"]
    info = c.call("Connect")
    assert info["shim_pid"] == pid and info["task_pid"] == pid, (info, pid)
    assert info["version"]
    # It is the shim's, as seen on the host.
    assert os.readlink("/proc/%d/exe" % pid).endswith("shim-domus-v2")
    state = c.call("State")
    assert state["status"] == CREATED and state["id"] == c.id
    assert state["bundle"] == c.bundle and state["stdout"] == c.stdout
    assert c.call("Start")["pid"] == pid
    c.wait()
    state = c.call("State")
    assert state["status"] == STOPPED and state["exit_status"] == 5
    assert state["exited_at"]["seconds"] > 0
    c.finish()


@test
def events_come_in_order(host):
    c = sh(host, "exit 6").up()
    c.wait()
    c.finish()
    host.events.wait(c.id, "/tasks/delete")
    events = host.events.of(c.id)
    assert [t for t, _ in events] == [
        "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"], \
        events
    create, start, ended, delete = [v for _, v in events]
    assert create["bundle"] == c.bundle
    assert create["io"]["stdout"] == c.stdout
    assert create["rootfs"][0]["type"] == "overlay"
    assert create["pid"] == start["pid"] == ended["pid"] == delete["pid"] > 0
    assert ended["id"] == c.id and ended["exit_status"] == 6
    assert delete["exit_status"] == 6
    assert ended["exited_at"] == delete["exited_at"]
    assert all(ns == "test" for ns, _, _ in host.events.events)


@test
def events_of_a_process_that_ends_at_once(host):
    for _ in range(5):
        c = host.container("true").up()
        c.wait()
        c.finish()
        host.events.wait(c.id, "/tasks/delete")
        topics = [t for t, _ in host.events.of(c.id)]
        assert topics == ["/tasks/create", "/tasks/start", "/tasks/exit",
                          "/tasks/delete"], topics


@test
def a_task_that_was_never_started(host):
    c = host.container("true")
    c.start_shim()
    c.create()
    c.call("Delete")
    c.shutdown()
    host.events.wait(c.id, "/tasks/delete")
    topics = [t for t, _ in host.events.of(c.id)]
    assert topics[0] == "/tasks/create" and topics[-1] == "/tasks/delete"
    assert "/tasks/start" not in topics


@test
def calls_in_the_wrong_state_are_refused(host):
    c = sh(host, "sleep 1000")
    c.start_shim()
    for method in ("Start", "Delete", "Pids", "State", "Wait", "Stats",
                   "Connect"):
        if method != "Connect":
            with failing(5):
                c.call(method)
    with failing(5):
        c.call("Kill", signal=9)
    c.create()
    with failing(6):
        c.create()
    c.call("Start")
    with failing(9):
        c.call("Start")
    with failing(9):
        c.call("Delete")
    assert c.status() == RUNNING
    c.call("Kill", signal=9)
    c.wait()
    with failing(9):
        c.call("Start")
    assert c.call("Delete")["exit_status"] == 137
    with failing(5):
        c.call("Delete")
    c.shutdown()


@test
def other_ids_are_not_found(host):
    c = sh(host, "sleep 1000").up()
    for other in ("nobody", "", c.id + "x", "../" + c.id):
        for method in ("State", "Start", "Delete", "Pids", "Wait", "Stats"):
            with failing(5):
                c.call(method, id=other)
    for method in ("State", "Start", "Delete", "Wait"):
        with failing(5):
            c.call(method, exec_id="nothing")
    assert c.status() == RUNNING
    c.call("Kill", signal=9)
    c.wait()
    c.finish()


@test
def checkpoint_is_unimplemented(host):
    c = sh(host, "sleep 1000").up()
    with failing(12, "domus does not support Checkpoint"):
        c.call("Checkpoint")
    with failing(12, "Migrate"):
        c.client.call("Migrate")
    c.call("Kill", signal=9)
    c.wait()
    c.finish()


@test
def shutdown_with_a_task_does_nothing(host):
    c = sh(host, "sleep 1000").up()
    c.call("Shutdown")
    assert c.status() == RUNNING
    c.call("Kill", signal=9)
    c.wait()
    c.finish()


@test
def two_at_once(host):
    cs = [sh(host, "echo %d; sleep 0.5; echo %d" % (i, i)) for i in range(4)]
    threads = [threading.Thread(target=c.up) for c in cs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60 * SLOW)
    for i, c in enumerate(cs):
        assert c.wait() == 0
        assert c.out.end() == b"%d\n%d\n" % (i, i)
        c.finish()


@test
def long_names(host):
    name = "a" * 64 + ".b-c_d.e.f12"
    assert len(name) == 76
    status, output = sh(host, "echo long", id=name).run()
    assert (status, output) == (0, b"long\n")


@test
def shut_down_after_the_bundle_is_gone(host):
    """containerd 2 is as quick when it cannot even ask for a Create."""
    c = sh(host, "true").start_shim()
    path = c.address[len("unix://"):]
    shutil.move(c.bundle, c.bundle + ".gone")
    with contextlib.suppress(EOFError):
        c.call("Shutdown", 10)
    eventually("the shim is gone", lambda: c.client.closed)
    eventually("its socket, too", lambda: not os.path.exists(path))
    c.client.close()
    c.client = None
    shutil.move(c.bundle + ".gone", c.bundle)
    c.run_delete()
    c.drop()


@test
def the_bundle_is_gone_before_the_shim_is_up(host):
    """So it is when containerd 2 cannot make a Create of the config."""
    for _ in range(20):
        c = sh(host, "true")
        answer = json.loads(c.shim("start").stdout)
        shutil.rmtree(c.bundle)
        c.client = ttrpc.Client(answer["address"])
        with contextlib.suppress(EOFError):
            c.call("Shutdown", 10)
        eventually("the shim is gone", lambda c=c: c.client.closed)
        path = answer["address"][len("unix://"):]
        eventually("its socket, too",
                   lambda path=path: not os.path.exists(path))
        c.client.close()
        c.client = None
        os.mkdir(c.bundle)
        c.drop()


@test
def the_domain_is_named_after_the_container(host):
    c = sh(host, "sleep 1000", id="web1").up()
    from harness import read
    names = [read("%s/%d/name" % (host.fake, d)) for d in host.domains()]
    assert names == ["domus-test:web1"], names
    c.call("Kill", signal=9)
    c.wait()
    c.finish()


@test
def a_command_that_does_not_exist(host):
    c = host.container("/no/such/program")
    c.start_shim()
    try:
        c.create()
        c.call("Start")
        raise AssertionError("started")
    except ttrpc.Error as e:
        assert "no such file" in e.message.lower(), e
    try:
        c.call("Delete")
    except ttrpc.Error as e:
        assert e.code == 5, e
    c.shutdown()
    assert "/tasks/exit" not in [t for t, _ in host.events.of(c.id)] or \
        "/tasks/start" in [t for t, _ in host.events.of(c.id)]


@test
def descriptors_do_not_grow(host):
    sh(host, "echo warm").run()
    c = sh(host, "sleep 1000").up()
    pid = c.pid()

    def count():
        return len(os.listdir("/proc/%d/fd" % pid))

    before = count()
    for _ in range(10):
        extra = ttrpc.Client(c.address)
        extra.call("State", id=c.id)
        extra.close()
    eventually("descriptors of the shim", lambda: count() <= before, 5)
    c.call("Kill", signal=9)
    c.wait()
    c.finish()
    eventually("clean", lambda: not host.left(), 10)
    before = host.descriptors()
    for _ in range(4):
        sh(host, "true").run()
    eventually("descriptors of domusd", lambda: host.descriptors() <= before,
               5)


if __name__ == "__main__":
    sys.exit(main())
