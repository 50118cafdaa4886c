#!/usr/bin/env python3
"""Whatever dies, hangs or lies: a clear error, and nothing left behind."""
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import ttrpc
from common import NAMESPACE
from harness import DOMUSD, eventually, failing, main, read, test, write

STOPPED = 3


def sleeper(host):
    return host.container("sh", "-c", "echo up; sleep 1000").up()


def refused(host, words, code=None, **options):
    """Create fails with these words; then containerd runs delete."""
    c = host.container("true", **options).start_shim()
    try:
        c.create()
        raise AssertionError("created")
    except ttrpc.Error as e:
        assert words.lower() in e.message.lower(), e
        assert code is None or e.code == code, e
    c.shutdown()
    assert host.domains() == []


def works(host):
    status, output = host.container("echo", "still works").run()
    assert (status, output) == (0, b"still works\n")


def kill_shim(c):
    os.kill(c.pid(), signal.SIGKILL)
    eventually("the connection ends", lambda: c.client.closed)
    c.client.close()
    c.client = None


@test
def the_shim_is_killed(host):
    c = sleeper(host)
    kill_shim(c)
    status = c.run_delete()
    assert status["exit_status"] == 137 and status["pid"] > 0, status
    assert c.run_delete()["exit_status"] == 137
    c.drop()
    eventually("no domain", lambda: host.domains() == [])


def fill_backlog(host):
    """Connections to a domusd that takes none, until there is no room."""
    socks = []
    while True:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.setblocking(False)
        socks.append(s)
        try:
            s.connect(host.socket)
        except BlockingIOError:
            return socks


@test
def delete_waits_for_a_domusd_that_has_many_clients(host):
    c = sleeper(host)
    kill_shim(c)
    host.domusd.send_signal(signal.SIGSTOP)
    socks = fill_backlog(host)
    try:
        deleting = threading.Thread(target=c.run_delete)
        deleting.start()
        time.sleep(1)
        assert deleting.is_alive()
    finally:
        host.domusd.send_signal(signal.SIGCONT)
        for s in socks:
            s.close()
    deleting.join(20)
    assert not deleting.is_alive()
    assert c.run_delete()["exit_status"] == 137
    c.drop()
    eventually("no domain", lambda: host.domains() == [])


@test
def the_shim_is_killed_after_the_exit(host):
    c = host.container("sh", "-c", "exit 42").up()
    assert c.wait() == 42
    kill_shim(c)
    status = c.run_delete()
    assert status["exit_status"] == 42, status
    c.drop()


@test
def delete_ends_its_own_shim_only(host):
    """The process id of a record may be another shim's by now."""
    for namespace, ended in (("other", False), (NAMESPACE, True)):
        c = host.container("true")
        shim = subprocess.Popen(
            ["containerd-shim-domus-v2", "-c", "import time; time.sleep(600)",
             "-namespace", namespace, "-id", c.id], executable=sys.executable)
        eventually("it runs", lambda: b"-id" in open(
            "/proc/%d/cmdline" % shim.pid, "rb").read())
        write(c.bundle + "/domus-record", "shim=%d\nsandbox=0\nexited=1\n"
              "status=3\nexited_ns=5\n" % shim.pid)
        assert c.run_delete()["exit_status"] == 3
        time.sleep(0.1)
        assert (shim.poll() is not None) == ended, namespace
        shim.kill()
        shim.wait()
        c.drop()


@test
def the_shim_is_killed_while_it_creates(host):
    for delay in (0.0, 0.005, 0.02, 0.05, 0.1):
        c = host.container("true").start_shim()
        pid = c.pid()
        c.begin("Create", bundle=c.bundle, rootfs=c.rootfs)
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        eventually("the connection ends", lambda: c.client.closed)
        c.client.close()
        c.client = None
        c.run_delete()
        c.drop()
        eventually("no domain", lambda: host.domains() == [])


@test
def domusd_is_killed_and_comes_back(host):
    c = host.container("sh", "-c", "echo up; read x; echo got $x; exit 4",
                       stdin=True).up()
    eventually("up", lambda: b"up" in c.out.data)
    host.stop_domusd(signal.SIGKILL)
    # Standard streams do not go through domusd.
    with open(c.stdin, "w") as f:
        f.write("a word\n")
    assert c.wait() == 4
    assert c.out.end() == b"up\ngot a word\n"
    host.start_domusd()
    assert c.finish() == 4
    works(host)


@test
def domusd_is_killed_and_stays_away_until_delete(host):
    c = sleeper(host)
    host.stop_domusd(signal.SIGKILL)
    c.call("Kill", signal=9)
    assert c.wait() == 137
    host.start_domusd()
    assert c.finish() == 137


@test
def domusd_adopts_and_deletes_what_a_dead_shim_left(host):
    c = sleeper(host)
    host.stop_domusd(signal.SIGKILL)
    kill_shim(c)
    host.start_domusd()
    assert len(host.domains()) == 1
    c.run_delete()
    c.drop()
    eventually("no domain", lambda: host.domains() == [])


@test
def domusd_is_killed_while_it_creates(host):
    for delay in (0.0, 0.004, 0.01, 0.03, 0.08):
        c = host.container("true").start_shim()
        begun = c.begin("Create", bundle=c.bundle, rootfs=c.rootfs)
        time.sleep(delay)
        host.stop_domusd(signal.SIGKILL)
        host.start_domusd()
        try:
            c.end(begun)
            c.call("Delete")
        except ttrpc.Error:
            pass
        c.shutdown()
        eventually("no domain", lambda: host.domains() == [])
    works(host)


@test
def the_guest_dies(host):
    c = sleeper(host)
    domid, = host.domains()
    os.kill(int(read("%s/%d/pid" % (host.fake, domid))), signal.SIGKILL)
    assert c.wait() in (137, 255)
    assert c.call("State")["status"] == STOPPED
    ended = host.events.wait(c.id, "/tasks/exit")
    assert ended["exit_status"] != 0
    c.finish()


def talker(host, rate):
    """Its output is in the shim's hands, more than the FIFO holds."""
    c = host.container("sh", "-c", "seq 1 30000; echo said >&2; sleep 1000",
                       rate=rate).up()
    eventually("said", lambda: b"said" in c.err.data)
    time.sleep(0.3)
    return c


def kill_guest(host):
    domid, = host.domains()
    os.kill(int(read("%s/%d/pid" % (host.fake, domid))), signal.SIGKILL)


@test
def a_slow_reader_gets_what_a_dead_guest_wrote(host):
    c = talker(host, 40 * 1024)
    kill_guest(host)
    assert c.wait() == 137
    # Delete waits for the reader, too.
    assert c.call("Delete")["exit_status"] == 137
    assert c.out.end() == b"".join(b"%d\n" % i for i in range(1, 30001))
    c.shutdown()


@test
def nobody_reads_what_a_dead_guest_wrote(host):
    c = talker(host, 1)
    kill_guest(host)
    assert c.wait() == 137
    begun = time.monotonic()
    assert c.finish() == 137
    assert time.monotonic() - begun < 40


def impatient(host, fault, words):
    host.stop_domusd()
    host.configure(start_timeout=2)
    host.start_domusd()
    host.fault(fault)
    refused(host, words)
    host.fault()
    works(host)
    host.stop_domusd()
    host.configure()
    host.start_domusd()


@test
def the_guest_never_says_hello(host):
    impatient(host, "never-hello",
              "kernel panic - not syncing: no guest today")


@test
def the_guest_opens_its_channel_and_is_silent(host):
    impatient(host, "silent-channel", "no guest today")


@test
def the_guest_speaks_another_language(host):
    host.fault("garbage")
    refused(host, "")
    host.fault()
    works(host)


@test
def the_domain_dies_before_its_channel(host):
    host.fault("die-early")
    refused(host, "")
    host.fault()
    works(host)


@test
def not_enough_memory(host):
    host.fault("build-enomem")
    refused(host, "not enough memory", 8)
    host.fault()
    works(host)


@test
def a_builder_dies_while_it_builds(host):
    host.fault("build-crash")
    refused(host, "")
    host.fault()
    works(host)


@test
def a_device_does_not_attach(host):
    host.fault("start-fail")
    refused(host, "the block device did not attach")
    host.fault()
    works(host)


@test
def no_xen_here(host):
    host.stop_domusd()
    host.fault("no-xen")
    try:
        host.start_domusd()
        refused(host, "xen")
    finally:
        host.fault()
        host.stop_domusd()
        host.start_domusd()
    works(host)


@test
def a_client_that_leaves_while_it_creates(host):
    c = host.container("true").start_shim()
    c.begin("Create", bundle=c.bundle, rootfs=c.rootfs)
    c.client.close()
    c.client = ttrpc.Client(c.address)
    eventually("created", lambda: any(
        t == "/tasks/create" for t, _ in host.events.of(c.id)))
    c.call("Delete")
    c.shutdown()


@test
def kernel_missing_and_wrong_digest(host):
    path = host.guest + "/vmlinux"
    good = read(path)
    os.rename(path, path + ".away")
    refused(host, "vmlinux")
    with open(path, "w") as f:
        f.write(good + "tampered")
    refused(host, "vmlinux")
    os.unlink(path)
    os.rename(path + ".away", path)
    works(host)
    initramfs = host.guest + "/initramfs.cpio"
    good = read(initramfs)
    with open(initramfs, "a") as f:
        f.write("x")
    refused(host, "initramfs.cpio")
    with open(initramfs, "w") as f:
        f.write(good)
    os.rename(host.guest + "/guest.sha256", host.guest + "/away")
    refused(host, "guest.sha256")
    os.rename(host.guest + "/away", host.guest + "/guest.sha256")
    works(host)


@test
def the_first_shim_starts_domusd(host):
    from harness import FAKE, write
    host.stop_domusd()
    script = host.dir + "/start-domusd"
    write(script, "#!/bin/sh\nexec %s --config %s/domus.conf\n" % (
        DOMUSD, host.dir))
    os.chmod(script, 0o755)
    assert os.access(FAKE, os.X_OK)
    c = host.container("echo", "by myself", env={"DOMUS_DOMUSD": script})
    assert c.run() == (0, b"by myself\n")
    pids = [pid for pid, words in all_domusd(host).items()]
    assert len(pids) == 1, pids
    os.kill(pids[0], signal.SIGTERM)
    eventually("domusd ends", lambda: not all_domusd(host))
    host.start_domusd()


def all_domusd(host):
    from harness import DOMUSD, alive
    found = {}
    for pid in (int(p) for p in os.listdir("/proc") if p.isdigit()):
        words = read("/proc/%d/cmdline" % pid).replace("\0", " ")
        if words.startswith(DOMUSD) and host.dir in words and alive(pid):
            found[pid] = words
    return found


@test
def no_domusd_at_all(host):
    host.stop_domusd()
    c = host.container("true", env={"DOMUS_DOMUSD": "/no/such/domusd"})
    try:
        c.start_shim()
        with failing(14) as f:
            c.create()
        assert "domusd" in f.message, f.message
        c.client.close()
        c.client = None
    except AssertionError as e:
        assert "domusd" in str(e), e
    host.start_domusd()
    c.run_delete()
    c.drop()


@test
def systemd_takes_over_from_a_domusd_of_a_shim(host):
    """Its socket unit binds the name anew; then it starts one for it."""
    c = sleeper(host)
    first = host.domusd
    os.unlink(host.socket)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(host.socket)
        s.listen(8)
        with open(host.dir + "/domusd.log", "a", encoding="utf-8") as log:
            host.domusd = subprocess.Popen(
                ["bash", "-c", "export LISTEN_FDS=1 LISTEN_PID=$$; "
                 'exec "$0" --config "$1" 3<&%d' % s.fileno(),
                 DOMUSD, host.dir + "/domus.conf"], stdout=log, stderr=log,
                env=host.environment(), start_new_session=True,
                pass_fds=[s.fileno()])
        assert first.wait(20) == 0
    eventually("the new one listens", host.listening)
    assert c.status() == 2
    works(host)
    c.call("Kill", signal=9)
    assert c.wait() == 137
    c.finish()
    host.stop_domusd()
    host.start_domusd()


@test
def a_sandbox_of_that_name_exists(host):
    c = sleeper(host)
    other = host.container("true", id=c.id + "-x")
    # The same id from another bundle: what two containerds would do.
    other.id = c.id
    r = other.shim("start")
    assert r.returncode != 0 or c.address.encode() in r.stdout, r
    other.drop()
    assert c.status() == 2
    c.call("Kill", signal=9)
    c.wait()
    c.finish()


if __name__ == "__main__":
    sys.exit(main())
