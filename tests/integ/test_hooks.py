#!/usr/bin/env python3
"""Hooks of OCI that run on the host, and when."""
import json
import os
import signal
import sys
import time

from harness import eventually, failing, main, read, spec, test, write

# Says which it is, what it got, and whether containers ran by then.
HOOK = """#!/bin/sh
/bin/cat /proc/self/environ > "%(dir)s/hook-environ.$1"
/bin/cat > "%(dir)s/hook-state.$1"
/bin/echo "$1" >> "%(dir)s/hook-order"
case "$2" in
fail) /bin/echo "no luck" >&2; exit 3 ;;
slow) /bin/sleep 1; /bin/echo "$1 done" >> "%(dir)s/hook-order" ;;
esac
"""


def hooked(host, script, hooks, **more):
    """hooks: {kind: word or words for each}"""
    path = host.dir + "/hook"
    write(path, HOOK % {"dir": host.dir})
    os.chmod(path, 0o755)
    for name in os.listdir(host.dir):
        if name.startswith("hook-"):
            os.unlink("%s/%s" % (host.dir, name))
    config = spec(["sh", "-c", script], hooks={
        kind: [{"path": path, "args": ["hook", kind] + words, "timeout": 20}]
        for kind, words in hooks.items()}, **more)
    return host.container(config=config)


def order(host):
    return read(host.dir + "/hook-order").split("\n")[:-1]


def state(host, kind):
    return json.loads(read("%s/hook-state.%s" % (host.dir, kind)))


ALL = {kind: [] for kind in ("prestart", "createRuntime", "poststart",
                             "poststop")}


@test
def hooks_run_in_their_order(host):
    c = hooked(host, "sleep 1000", ALL, annotations={"a": "b\"c"})
    c.start_shim()
    c.create()
    assert order(host) == ["prestart", "createRuntime"], order(host)
    c.call("Start")
    assert order(host)[2:] == ["poststart"], order(host)
    c.call("Kill", signal=9)
    c.wait()
    assert order(host)[3:] == [], order(host)
    c.call("Delete")
    assert order(host)[3:] == ["poststop"], order(host)
    for kind, status in (("prestart", "creating"),
                         ("createRuntime", "creating"),
                         ("poststart", "running"), ("poststop", "stopped")):
        s = state(host, kind)
        assert s["status"] == status, (kind, s)
        assert s["id"] == c.id and s["bundle"] == c.bundle, s
        wanted = None if status == "stopped" else c.pid()
        assert s.get("pid") == wanted and s["ociVersion"] == "1.0.2", s
        assert s["annotations"] == {"a": "b\"c"}, s
        # Not domusd's own environment, but programs are found.
        names = [word.split("=")[0] for word in read(
            "%s/hook-environ.%s" % (host.dir, kind)).split("\0")]
        assert "PATH" in names and "DOMUS_DOMUSD" not in names, names
    c.shutdown()


@test
def create_runtime_failing_fails_create(host):
    for kind in ("prestart", "createRuntime"):
        c = hooked(host, "true", {kind: ["fail"], "poststop": []})
        c.start_shim()
        with failing(2, kind) as f:
            try:
                c.create()
            except Exception as e:
                e.code = 2  # any
                raise
        assert "no luck" in f.message, f.message
        eventually("no domain", lambda: host.domains() == [])
        with failing(5):
            c.call("State")
        c.shutdown()
        assert order(host)[0] == kind


@test
def poststart_and_poststop_failing_are_only_told(host):
    c = hooked(host, "echo fine", {"poststart": ["fail"],
                                   "poststop": ["fail"]})
    c.up()
    assert c.wait() == 0
    assert c.out.end() == b"fine\n"
    assert c.call("Delete")["exit_status"] == 0
    log = c.log()
    assert "poststart" in log and "poststop" in log, log
    c.shutdown()
    assert order(host) == ["poststart", "poststop"]


@test
def start_waits_for_poststart(host):
    c = hooked(host, "sleep 1000", {"poststart": ["slow"]})
    c.start_shim()
    c.create()
    begun = c.begin("Start")
    # It runs, and can be asked, while the hook does.
    eventually("running", lambda: c.status() == 2)
    c.end(begun)
    assert order(host) == ["poststart", "poststart done"], order(host)
    c.call("Kill", signal=9)
    c.wait()
    c.finish()


@test
def a_process_that_ends_before_poststart_does(host):
    c = hooked(host, "exit 4", {"poststart": ["slow"]})
    c.up()
    assert order(host)[-1] == "poststart done"
    assert c.wait() == 4
    assert c.finish() == 4
    topics = [t for t, _ in host.events.of(c.id)]
    assert topics == ["/tasks/create", "/tasks/start", "/tasks/exit",
                      "/tasks/delete"], topics


@test
def hooks_that_policy_does_not_allow(host):
    config = spec(["true"], hooks={"prestart": [
        {"path": "/bin/true"}]})
    c = host.container(config=config).start_shim()
    with failing(7, "/bin/true"):
        c.create()
    c.shutdown()
    assert host.domains() == []


@test
def a_hook_that_is_not_there(host):
    config = spec(["true"], hooks={"createRuntime": [
        {"path": host.dir + "/other-hook"}]})
    c = host.container(config=config).start_shim()
    with failing(3, "other-hook"):
        c.create()
    c.shutdown()


@test
def a_hook_that_takes_too_long(host):
    path = host.dir + "/other-hook"
    write(path, "#!/bin/sh\nexec /bin/sleep 100\n")
    os.chmod(path, 0o755)
    config = spec(["true"], hooks={"prestart": [
        {"path": path, "timeout": 1}]})
    c = host.container(config=config).start_shim()
    began = time.monotonic()
    with failing(4, "prestart"):
        c.create()
    assert time.monotonic() - began < 30
    c.shutdown()
    os.unlink(path)


@test
def the_guest_dies_while_a_hook_runs(host):
    c = hooked(host, "true", {"createRuntime": ["slow"]})
    c.start_shim()
    begun = c.begin("Create", bundle=c.bundle, rootfs=c.rootfs)
    eventually("the hook runs", lambda: order(host) == ["createRuntime"])
    host.kill_guests()
    try:
        c.end(begun)
        raise AssertionError("created")
    except Exception as e:
        if isinstance(e, AssertionError):
            raise
        assert "guest is gone" in e.message, e
    eventually("no domain", lambda: host.domains() == [])
    c.shutdown()


@test
def poststop_when_the_shim_died(host):
    c = hooked(host, "sleep 1000", {"poststop": []}).up()
    os.kill(c.pid(), signal.SIGKILL)
    eventually("the connection ends", lambda: c.client.closed)
    c.client.close()
    c.client = None
    assert c.run_delete()["exit_status"] == 137
    assert order(host) == ["poststop"], order(host)
    s = state(host, "poststop")
    # Its process is gone, and the number may be another's.
    assert (s["status"], s["id"]) == ("stopped", c.id) and "pid" not in s, s
    c.run_delete()
    assert order(host) == ["poststop"], order(host)
    c.drop()


@test
def hooks_of_a_shim_that_died(host):
    """They end with it, and poststop does not run beside them."""
    c = hooked(host, "sleep 1000", {"poststart": ["slow"],
                                    "poststop": ["slow"]})
    c.start_shim()
    c.create()
    pid = c.pid()
    c.begin("Start")
    eventually("the hook runs", lambda: order(host) == ["poststart"])
    os.kill(pid, signal.SIGKILL)
    eventually("the connection ends", lambda: c.client.closed)
    c.client.close()
    c.client = None
    c.run_delete()
    assert order(host) == ["poststart", "poststop", "poststop done"], \
        order(host)
    time.sleep(1)
    assert "poststart done" not in order(host), order(host)
    c.drop()


if __name__ == "__main__":
    sys.exit(main())
