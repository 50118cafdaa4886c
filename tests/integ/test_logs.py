#!/usr/bin/env python3
"""Where output goes: files, loggers, and what is refused."""
import json
import os
import stat
import subprocess
import sys
import time

from common import alive
from execs import TYPE, Exec
from harness import eventually, failing, main, read, spec, test, write

LOGGER = """#!/bin/sh
/bin/echo "$CONTAINER_NAMESPACE $CONTAINER_ID" > "$2/env"
for word; do /bin/echo "[$word]"; done > "$2/args"
exec 5>&-
/bin/cat <&4 > "$2/err" &
/bin/cat <&3 > "$2/out"
wait
/bin/echo done > "$2/done"
"""


def program(host, name, text):
    path = "%s/%s" % (host.dir, name)
    write(path, text)
    os.chmod(path, 0o755)
    return path


def logged(host, script, out, err=None, **options):
    """A container whose output goes to URIs."""
    c = host.container("sh", "-c", script, **options)
    c.stdout = out
    c.stderr = out if err is None else err
    c.out = c.err = False  # no readers
    return c


def directory(host, name):
    path = "%s/%s" % (host.dir, name)
    os.makedirs(path)
    return path


def frozen(function):
    """A file system of its own, which is given as a directory."""
    def run(host):
        place = directory(host, function.__name__)
        image = place + ".ext4"
        with open(image, "wb") as f:
            f.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        try:
            function(host, place)
        finally:
            subprocess.run(["fsfreeze", "-u", place],
                           stderr=subprocess.DEVNULL)
            host.end_containers()
            # Writers that it held up end first.
            eventually("nobody uses the disk", lambda: subprocess.run(
                ["umount", place], stderr=subprocess.DEVNULL).returncode == 0)
            os.unlink(image)

    run.__name__ = function.__name__
    return test(run)


def freeze(place, what="-f"):
    subprocess.run(["fsfreeze", what, place], check=True)


@frozen
def a_frozen_disk_holds_up_nobody_else(host, place):
    path = place + "/a.log"
    c = logged(host, "while :; do echo line; sleep 0.01; done",
               "file://" + path).up()
    other = logged(host, "sleep 1000", "", "").up()
    eventually("it logs", lambda: os.path.getsize(path) > 0)
    freeze(place)
    e = Exec(other, "e", ["echo", "hi"])
    assert e.run() == (0, b"hi\n")
    assert c.call("State", timeout=5)["status"] == 2
    other.call("Exec", exec_id="log", stdout="file://%s/b.log" % place, spec={
        "type_url": TYPE, "value": json.dumps(
            spec(["true"])["process"]).encode()})
    with failing(4, "file %s/b.log: it was not ready" % place):
        other.call("Start", exec_id="log")
    c.call("Kill", timeout=5, signal=9)
    assert c.wait(5) == 137
    began = time.monotonic()
    c.call("Delete", timeout=20)
    assert 1 < time.monotonic() - began < 8
    size = os.path.getsize(path)
    freeze(place, "-u")
    eventually("what was written is there", lambda: os.path.getsize(path) >
               size)
    c.shutdown()
    other.call("Kill", signal=9)
    other.wait()
    other.finish()


@frozen
def create_on_a_frozen_disk_fails_in_time(host, place):
    freeze(place)
    c = logged(host, "true", "file://%s/new/a.log" % place).start_shim()
    began = time.monotonic()
    with failing(4, "file %s/new/a.log: it was not ready" % place):
        c.create()
    assert time.monotonic() - began < 20
    c.shutdown()


@test
def delete_waits_until_a_file_is_written(host):
    path = host.dir + "/last.log"
    for _ in range(20):
        c = logged(host, "head -c 200000 /dev/zero", "file://" + path).up()
        c.wait()
        c.finish()
        assert os.path.getsize(path) == 200000
        os.unlink(path)


def writers(c):
    return [int(pid) for pid in read("/proc/%d/task/%d/children" % (
        (c.pid(),) * 2)).split()]


@test
def a_writer_ends_with_its_input_only(host):
    path = host.dir + "/signals.log"
    c = logged(host, "while :; do echo line; sleep 0.01; done",
               "file://" + path).up()
    writer, = writers(c)

    def goes_on():
        size = os.path.getsize(path)
        eventually("it goes on", lambda: os.path.getsize(path) > size)

    goes_on()
    for number in (1, 2, 10, 12, 13, 15):
        os.kill(writer, number)
        goes_on()
    assert "has ended" not in c.log()
    os.kill(writer, 9)
    eventually("it is told", lambda: "writer of its file has ended" in c.log())
    assert writers(c) == [] and c.status() == 2
    c.call("Kill", signal=9)
    c.wait()
    c.finish()


@test
def a_logger_that_stays_is_ended(host):
    path = program(host, "logger", "#!/bin/sh\necho $$ >%s/pid\nexec 5>&-\n"
                   "exec sleep 1000\n" % host.dir)
    c = logged(host, "true", "binary://" + path).up()
    c.wait()
    began = time.monotonic()
    c.finish()
    assert 1 < time.monotonic() - began < 8, "Delete waits two seconds"
    eventually("it is ended", lambda: not alive(
        int(read(host.dir + "/pid"))), 40)


@test
def a_file_gets_both_outputs(host):
    path = host.dir + "/logs-of-test/deep/er/both.log"
    c = logged(host, "echo one; echo two >&2; echo three", "file://" + path)
    c.up()
    assert c.wait() == 0
    c.finish()
    lines = read(path).splitlines()
    assert sorted(lines) == ["one", "three", "two"], lines
    assert lines.index("one") < lines.index("three"), lines
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o022 == 0


@test
def a_file_can_be_read_by_others(host):
    path = host.dir + "/readable/deep/a.log"
    c = logged(host, "echo one", "file://" + path).up()
    c.wait()
    c.finish()
    modes = [stat.S_IMODE(os.stat(p).st_mode)
             for p in (path, os.path.dirname(path))]
    assert modes == [0o644, 0o755], modes


@test
def a_full_disk_costs_only_what_it_has_no_room_for(host):
    place = directory(host, "small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place],
                   check=True)
    try:
        path = place + "/a.log"
        write(place + "/filler", "x" * 60000)
        c = logged(host, "while :; do echo line; sleep 0.01; done",
                   "file://" + path, "").up()
        eventually("it is told", lambda: "is lost" in c.log())
        size = os.stat(path).st_size
        os.unlink(place + "/filler")
        eventually("it goes on", lambda: os.stat(path).st_size > size)
        c.call("Kill", signal=9)
        c.wait()
        c.finish()
    finally:
        subprocess.run(["umount", place], check=True)


@test
def a_logger_may_say_a_byte_to_be_ready(host):
    program(host, "logger", "#!/bin/sh\necho >&5\n"
            "/bin/cat <&3 >%s/said\n" % host.dir)
    c = logged(host, "echo one", "binary://%s/logger" % host.dir).up()
    c.wait()
    c.finish()
    eventually("it has all", lambda: read(host.dir + "/said") == "one\n")


@test
def a_file_is_appended_to(host):
    path = host.dir + "/appended.log"
    write(path, "before\n")
    for word in ("first", "second"):
        c = logged(host, "echo " + word, "file://" + path, "").up()
        assert c.wait() == 0
        c.finish()
    assert read(path) == "before\nfirst\nsecond\n", read(path)


@test
def a_file_takes_much(host):
    path = host.dir + "/much.log"
    c = logged(host, "head -c 30000000 /dev/zero", "file://" + path, "").up()
    assert c.wait() == 0
    c.finish()
    assert os.path.getsize(path) == 30000000
    os.unlink(path)


@test
def escapes_in_a_files_name(host):
    path = host.dir + "/with a blank.log"
    c = logged(host, "echo x", "file://" + path.replace(" ", "%20"), "").up()
    assert c.wait() == 0
    c.finish()
    assert read(path) == "x\n"


@test
def fifos_by_uri(host):
    c = host.container("sh", "-c", "cat; echo err >&2", stdin=True)
    c.start_shim()
    from harness import Reader
    c.out, c.err = Reader(c.stdout), Reader(c.stderr)
    c.create(stdin="fifo://" + c.stdin, stdout="fifo://" + c.stdout,
             stderr="fifo://" + c.stderr)
    c.call("Start")
    with open(c.stdin, "wb") as f:
        f.write(b"through\n")
    assert c.wait() == 0
    assert (c.out.end(), c.err.end()) == (b"through\n", b"err\n")
    c.finish()


@test
def a_logger_gets_both_outputs(host):
    path = program(host, "logger", LOGGER)
    where = directory(host, "logger-both")
    c = logged(host, "echo out; echo err >&2", "binary://%s?dir=%s&a+b=c%%26"
               "&empty" % (path, where)).up()
    assert c.wait() == 0
    c.finish()
    eventually("the logger ends", lambda: read(where + "/done"))
    assert read(where + "/out") == "out\n"
    assert read(where + "/err") == "err\n"
    assert read(where + "/env") == "test %s\n" % c.id
    assert read(where + "/args").split("\n") == [
        "[dir]", "[%s]" % where, "[a b]", "[c&]", "[empty]", "[]", ""]


@test
def a_logger_gets_everything(host):
    path = program(host, "logger", LOGGER)
    where = directory(host, "logger-much")
    c = logged(host, "head -c 20000000 /dev/zero", "binary://%s?dir=%s" % (
        path, where), "").up()
    assert c.wait() == 0
    c.finish()
    eventually("the logger ends", lambda: read(where + "/done"))
    assert os.path.getsize(where + "/out") == 20000000
    os.unlink(where + "/out")


@test
def a_logger_that_ends_early_harms_nobody(host):
    path = program(host, "logger", "#!/bin/sh\nexit 1\n")
    c = logged(host, "head -c 3000000 /dev/zero; echo; exit 7",
               "binary://" + path).up()
    assert c.wait() == 7
    c.finish()


@test
def create_waits_until_the_logger_is_ready(host):
    path = program(host, "logger", "#!/bin/sh\nsleep 1\n/bin/date > $2/ready\n"
                   "exec 5>&-\n/bin/cat <&3 > /dev/null\n")
    where = directory(host, "logger-slow")
    c = logged(host, "true", "binary://%s?dir=%s" % (path, where), "")
    c.start_shim()
    c.create()
    assert read(where + "/ready")
    c.call("Start")
    assert c.wait() == 0
    c.finish()


@test
def a_logger_that_is_never_ready(host):
    path = program(host, "logger", "#!/bin/sh\nexec sleep 30\n")
    c = logged(host, "true", "binary://" + path)
    c.start_shim()
    with failing(4, "was not ready"):
        c.create()
    c.shutdown()
    assert host.domains() == []


@test
def loggers_that_policy_does_not_allow(host):
    other = program(host, "not-listed", LOGGER)
    for path in ("/bin/sh", other, host.dir + "/../" +
                 os.path.basename(host.dir) + "/logger"):
        c = logged(host, "true", "binary://%s?-c=id" % path)
        c.start_shim()
        with failing(7, "loggers"):
            c.create()
        c.shutdown()
    assert host.domains() == []


@test
def a_logger_that_is_not_there(host):
    c = logged(host, "true", "binary://%s/other-logger" % host.dir)
    c.start_shim()
    with failing(3, "other-logger"):
        c.create()
    c.shutdown()


@test
def uris_that_are_refused(host):
    for uri, words in (
            ("http://example.com/x", "http://example.com/x"),
            ("binary-v2:///x", "binary-v2"), ("file:///x?y=z", "parameters"),
            ("file:///x%zz", "escape"), ("file:///x%00y", "escape"),
            ("file://relative", "not absolute"), ("relative", "neither"),
            ("ttrpc+unix:///x?streaming_id=1", "ttrpc+unix"),
            ("file:///" + "a" * 5000, "more than"),
            ("file:///dev/null", "not a regular file"),
            ("file:///dev", "/dev"), ("file:///etc/passwd/x", "/etc/passwd"),
            ("binary://%s/logger?%s" % (host.dir, "&".join(
                "k%d=v" % i for i in range(40))), "parameters")):
        c = logged(host, "true", uri, "")
        c.start_shim()
        try:
            c.create()
            raise AssertionError("%s was taken" % uri)
        except Exception as e:
            if isinstance(e, AssertionError):
                raise
            assert e.code in (2, 3) and words in e.message, (uri, e)
        c.shutdown()
    assert host.domains() == []


@test
def two_different_loggers_are_refused(host):
    path = program(host, "logger", LOGGER)
    c = logged(host, "true", "binary://%s?dir=/x" % path,
               "binary://%s?dir=/y" % path)
    c.start_shim()
    with failing(3, "one logger"):
        c.create()
    c.shutdown()


@test
def standard_input_is_a_fifo_only(host):
    c = host.container("true")
    c.start_shim()
    with failing(3, "not a FIFO"):
        c.create(stdin="file:///etc/passwd")
    c.shutdown()


if __name__ == "__main__":
    sys.exit(main())
