#!/usr/bin/env python3
"""Programs that domusd runs for others: OCI's hooks, and loggers."""
import errno
import glob
import json
import os
import signal
import sys
import time

import control
from control import Control, refuses
from harness import alive, eventually, main, read, test, write

STATE = json.dumps({"ociVersion": "1.0.2", "id": "c1", "status": "created",
                    "pid": 7, "bundle": "/b", "annotations": {"a": "b"}})


def program(host, name, text, mode=0o755):
    path = "%s/%s" % (host.dir, name)
    write(path, text)
    os.chmod(path, mode)
    return path


def script(host, name, *lines):
    return program(host, name, "#!/bin/sh\n" + "\n".join(lines) + "\n")


class Allowed:
    """domusd with these programs allowed; afterwards it is as before."""

    def __init__(self, host, **lists):
        self.host = host
        self.lists = {k: " ".join(v) for k, v in lists.items()}

    def __enter__(self):
        self.host.stop_domusd()
        self.host.configure(**self.lists)
        self.host.start_domusd()
        return Control(self.host.socket)

    def __exit__(self, *_):
        self.host.stop_domusd()
        self.host.configure()
        self.host.start_domusd()


def hook(path, args=(), env=(), timeout_s=0):
    return {"path": path, "args": list(args), "env": list(env),
            "timeout_s": timeout_s}


def run(host, c, *hooks, **more):
    return c.do(control.HOOKS, **dict(
        {"id": "c1", "kind": "createRuntime", "hooks": list(hooks),
         "state": STATE, "bundle": host.dir}, **more))


@test
def hooks_get_state_arguments_environment_and_place(host):
    out = host.dir + "/out"
    show = script(host, "show", "cat > {0}".format(out),
                  "printf '\\n%s %s\\n' \"$1\" \"$2\" >> " + out,
                  "/usr/bin/tr '\\0' '\\n' < /proc/$$/environ >> " + out,
                  "(echo fds:; ls /proc/$$/fd | sort -n) | tr '\\n' ' ' >> " + out,
                  "echo >> " + out,
                  "pwd >> " + out, "umask >> " + out,
                  "cat /proc/$$/oom_score_adj >> " + out)
    with Allowed(host, hooks=[show]) as c:
        write("/proc/%d/oom_score_adj" % host.domusd.pid, "100")
        run(host, c, hook(show, ["zero", "one", "two words"],
                          ["A=1", "B=2 3"]))
        lines = read(out).split("\n")
        assert json.loads(lines[0]) == json.loads(STATE), lines
        assert lines[1] == "one two words", lines
        assert lines[2:4] == ["A=1", "B=2 3"], lines
        # 0 to 2 and the script itself, which its shell may have moved.
        assert lines[4].startswith("fds: 0 1 2"), lines
        assert len(lines[4].split()) <= 6, lines
        assert lines[5:8] == [host.dir, "0022", "0"], lines
        # Without arguments and environment.
        run(host, c, hook(show))
        lines = read(out).split("\n")
        assert lines[2].startswith("PATH=/"), lines
        assert lines[3].startswith("fds:"), lines


@test
def a_binary_is_a_hook_too(host):
    touched = host.dir + "/touched"
    with Allowed(host, hooks=["/usr/bin/touch"]) as c:
        run(host, c, hook("/usr/bin/touch", ["touch", touched]))
        assert os.path.exists(touched)
        run(host, c)  # none at all


@test
def hooks_run_in_order_and_stop_at_the_first_failure(host):
    out = host.dir + "/order"
    say = script(host, "say", "echo $1 >> " + out)
    fails = script(host, "fails", "echo some words >&2", "echo more >&2",
                   "exit 3")
    dies = script(host, "dies", "kill -9 $$")
    with Allowed(host, hooks=[say, fails, dies]) as c:
        def said(n):
            return hook(say, ["say", str(n)])

        run(host, c, said(1), said(2), said(3))
        assert read(out) == "1\n2\n3\n"
        refuses(errno.EIO, ("container c1: createRuntime: hook " + fails,
                            "ended with status 3", "some words"),
                run, host, c, said(4), hook(fails), said(5))
        assert read(out) == "1\n2\n3\n4\n"
        refuses(errno.EIO, "was killed by signal 9", run, host, c, hook(dies))


@test
def a_hook_has_a_deadline_and_domusd_serves_others(host):
    pids = host.dir + "/pids"
    slow = script(host, "slow", "sleep 100 &", "echo $! $$ > " + pids, "wait")
    with Allowed(host, hooks=[slow]) as c:
        begin = time.monotonic()
        number = c.send(control.HOOKS, id="c1", kind="poststart", state=STATE,
                        hooks=[hook(slow, timeout_s=2)], bundle=host.dir)
        eventually("it runs", lambda: read(pids))
        other = Control(host.socket, timeout=1)
        assert other.states() == {}
        other.close()
        refuses(errno.ETIMEDOUT, "did not end within 2 s", c.wait, number)
        assert 2 <= time.monotonic() - begin < 10
        eventually("all are dead", lambda: not any(
            alive(int(pid)) for pid in read(pids).split()))


@test
def hooks_end_with_domusd(host):
    pid = host.dir + "/pid"
    slow = script(host, "slow", "echo $$ > " + pid, "exec sleep 100")
    with Allowed(host, hooks=[slow]) as c:
        for number in (signal.SIGTERM, signal.SIGKILL):
            write(pid, "")
            c.send(control.HOOKS, id="c1", kind="prestart", state=STATE,
                   hooks=[hook(slow)], bundle=host.dir)
            eventually("it runs", lambda: read(pid).strip())
            host.stop_domusd(number)
            eventually("it is dead", lambda: not alive(int(read(pid))))
            host.start_domusd()
            c = Control(host.socket)


@test
def a_hook_that_floods_or_does_not_read(host):
    flood = script(host, "flood", "exec 0<&-",
                   "head -c 3000000 /dev/zero >&2", "exit 1")
    with Allowed(host, hooks=[flood]) as c:
        refuses(errno.EIO, "ended with status 1", run, host, c, hook(flood))


@test
def hooks_of_too_many_at_once(host):
    go = host.dir + "/go"
    waits = script(host, "waits", "while ! test -e %s; do sleep 0.1; done" % go)
    with Allowed(host, hooks=[waits]) as c:
        values = {"id": "c1", "kind": "poststop", "state": STATE,
                  "hooks": [hook(waits)], "bundle": host.dir}
        asked = [c.send(control.HOOKS, **values) for _ in range(64)]
        refuses(errno.EBUSY, "hooks of 64 containers run", c.do,
                control.HOOKS, **values)
        write(go, "")
        for number in asked:
            c.wait(number)
        assert run(host, c, hook(waits))["code"] == 0


@test
def none_runs_when_one_is_not_allowed(host):
    out = host.dir + "/ran"
    good = script(host, "good", "echo ran >> " + out)
    loose = script(host, "loose", "echo ran >> " + out)
    foreign = script(host, "foreign", "echo ran >> " + out)
    plain = program(host, "plain", "#!/bin/sh\n", 0o644)
    missing = host.dir + "/missing"
    link = host.dir + "/link"
    os.symlink(loose, link)
    os.chmod(loose, 0o775)
    os.chown(foreign, 1000, 0)
    with Allowed(host, hooks=[good, loose, foreign, plain, missing, link,
                              host.dir, "/dev/null"]) as c:
        for code, words, path in (
                (errno.EPERM, "'hooks' in domus.conf", "/bin/sh"),
                (errno.EPERM, "'hooks' in domus.conf", host.dir + "/../" +
                 os.path.basename(host.dir) + "/good"),
                (errno.EPERM, "others than root (mode 0775)", loose),
                (errno.EPERM, "others than root (mode 0775)", link),
                (errno.EPERM, "belongs to user 1000", foreign),
                (errno.EACCES, "is not executable", plain),
                (errno.ENOENT, "No such file", missing),
                (errno.EPERM, "not a regular file", host.dir),
                (errno.EPERM, "not a regular file", "/dev/null")):
            refuses(code, (words, "hook " + path), run, host, c, hook(good),
                    hook(path))
        assert not os.path.exists(out)
        for bad in ({"kind": "startContainer"}, {"kind": ""}, {"id": "../x"},
                    {"bundle": "b"}):
            refuses(errno.EINVAL, "hooks of container", run, host, c,
                    hook(good), **bad)
        refuses(errno.ENOENT, "its working directory", run, host, c,
                hook(good), bundle="/nonexistent")
        assert not os.path.exists(out)


@test
def what_cannot_be_executed(host):
    odd = program(host, "odd", "#!/nonexistent/interpreter\n")
    noise = program(host, "noise", "\0\1\2 no program")
    with Allowed(host, hooks=[odd, noise], loggers=[odd, noise]) as c:
        refuses(errno.ENOENT, "it cannot be executed", run, host, c, hook(odd))
        refuses(errno.ENOEXEC, "it cannot be executed", run, host, c,
                hook(noise))
        for path, code in ((odd, errno.ENOENT), (noise, errno.ENOEXEC)):
            with Pipes() as pipes:
                refuses(code, ("container c1: logger " + path, "cannot be executed"),
                        pipes.start, c, path)


# --- loggers ---------------------------------------------------------------

class Pipes:
    def __enter__(self):
        self.out, self.err, self.ready = os.pipe(), os.pipe(), os.pipe()
        self.life = os.pipe()
        self.open = set(self.out + self.err + self.ready + self.life)
        return self

    def close(self, fd):
        self.open.remove(fd)
        os.close(fd)

    def __exit__(self, *_):
        for fd in list(self.open):
            self.close(fd)

    def start(self, c, path, *args):
        theirs = [self.out[0], self.err[0], self.ready[1], self.life[0]]
        c.do(control.LOGGER, theirs, id="c1", path=path, args=list(args))
        for fd in theirs:
            self.close(fd)


def session(pid):
    """The processes of one."""
    return [p for p in glob.glob("/proc/[0-9]*/stat")
            if read(p).rpartition(")")[2].split()[3:4] == [str(pid)]]


def logger(host):
    """Writes down what it is given, and ends at the end of both."""
    out = host.dir + "/log"
    return out, script(
        host, "logger",
        "echo $$ $(/usr/bin/tr '\\0' ' ' < /proc/$$/environ) > %s" % out,
        "echo \"$@\" >> " + out,
        "(cd /proc/$$/fd && ls | sort -n | xargs -n1 readlink | tr '\\n' ' ';"
        " echo) >> " + out,
        "cut -d' ' -f6 /proc/$$/stat >> " + out,
        "exec 5>&-", "cat <&3 >> " + out, "cat <&4 >> " + out,
        "echo end >> " + out)


@test
def a_logger_reads_to_the_end(host):
    out, path = logger(host)
    with Allowed(host, loggers=[path]) as c, Pipes() as pipes:
        # Counted when domusd has taken this connection, and has seen the end
        # of the one that asked whether it is up: certain at a second answer.
        c.states()
        c.states()
        before = host.descriptors()
        pipes.start(c, path, "_NERDCTL", "a b")
        assert os.read(pipes.ready[0], 1) == b""
        lines = read(out).splitlines()
        pid = lines[0].split()[0]
        words = lines[0].split()[1:]
        assert [w for w in words if not w.startswith(("PWD=", "SHLVL", "_="))
                ] == ["CONTAINER_ID=c1", "CONTAINER_NAMESPACE=test"], lines
        assert lines[1] == "_NERDCTL a b"
        opened = lines[2].split()
        assert opened[:3] == ["/dev/null"] * 3, opened
        assert [o.split(":")[0] for o in opened[3:6]] == ["pipe"] * 3, opened
        assert all(o == path or o.startswith("/proc") for o in opened[6:])
        assert lines[3] == pid  # a session of its own
        os.write(pipes.out[1], b"from stdout\n")
        os.write(pipes.err[1], b"from stderr\n")
        pipes.close(pipes.out[1])
        pipes.close(pipes.err[1])
        eventually("it ends", lambda: not os.path.exists("/proc/" + pid))
        assert read(out).splitlines()[4:] == ["from stdout", "from stderr",
                                              "end"], read(out)
        eventually("no descriptor is kept",
                   lambda: host.descriptors() == before)


@test
def a_logger_outlives_domusd(host):
    out, path = logger(host)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with Allowed(host, loggers=[path]) as c, Pipes() as pipes:
            pipes.start(c, path)
            assert os.read(pipes.ready[0], 1) == b""
            pid = int(read(out).split()[0])
            host.stop_domusd(number)
            assert alive(pid)
            host.start_domusd()
            os.write(pipes.out[1], b"still here\n")
            pipes.close(pipes.out[1])
            pipes.close(pipes.err[1])
            eventually("it ends", lambda: not alive(pid))
            assert read(out).endswith("still here\nend\n"), read(out)


@test
def loggers_that_are_not_allowed(host):
    loose = script(host, "loose", "true")
    os.chmod(loose, 0o757)
    with Allowed(host, loggers=[loose]) as c, Pipes() as pipes:
        refuses(errno.EPERM, ("container c1: logger /bin/sh",
                              "'loggers' in domus.conf"),
                pipes.start, c, "/bin/sh")
        refuses(errno.EPERM, "others than root", pipes.start, c, loose)
        # Two descriptors end the connection; domusd goes on.
        c.send(control.LOGGER, [pipes.out[0], pipes.err[0]], id="c1",
               path=loose, args=[])
        try:
            c.receive()
            raise AssertionError("answered")
        except (EOFError, ConnectionError):
            pass
        again = Control(host.socket)
        assert again.states() == {}
        again.close()


@test
def nerdctl_is_only_a_logger(host):
    """By its arguments it would run containers in dom0."""
    path = script(host, "nerdctl", "exec 5>&-", "sleep 0.2")
    with Allowed(host, loggers=[path]) as c, Pipes() as pipes:
        for args in ([], ["run", "-v=/:/host"], ["_NERDCTL_INTERNAL_LOGGING"],
                     ["--debug", "_NERDCTL_INTERNAL_LOGGING"],
                     ["_NERDCTL_INTERNAL_LOGGING", "/x", "run"]):
            refuses(errno.EPERM, ("container c1", "_NERDCTL_INTERNAL_LOGGING"),
                    pipes.start, c, path, *args)
        pipes.start(c, path, "_NERDCTL_INTERNAL_LOGGING", "/x")


@test
def a_logger_that_does_not_end_is_ended(host):
    """What it started as well; as long as anybody holds on to it it stays."""
    out = host.dir + "/stays"
    path = script(host, "stays", "trap 'echo term >> %s' TERM" % out,
                  "echo $$ > " + out, "exec 5>&-",
                  "while :; do sleep 1000; done")
    with Allowed(host, loggers=[path]) as c, Pipes() as pipes:
        pipes.start(c, path)
        assert os.read(pipes.ready[0], 1) == b""
        pid = int(read(out))
        pipes.close(pipes.out[1])
        pipes.close(pipes.err[1])
        time.sleep(1)
        began = time.monotonic()
        pipes.close(pipes.life[1])
        eventually("it is killed", lambda: not alive(pid), 40)
        assert 16 < time.monotonic() - began < 30
        assert "does not end" in read(host.dir + "/domusd.log")
        assert read(out).splitlines()[1:] == ["term"]
        eventually("its child is gone", lambda: not session(pid))


@test
def a_logger_that_fails_leaves_no_zombie(host):
    path = script(host, "fails", "exit 4")
    with Allowed(host, loggers=[path]) as c, Pipes() as pipes:
        pipes.start(c, path)
        assert os.read(pipes.ready[0], 1) == b""
        eventually("it is told", lambda: "container c1: logger %s ended with status 4" % path in read(host.dir + "/domusd.log"))
        children = read("/proc/%d/task/%d/children" % (
            (host.domusd.pid,) * 2)).split()
        assert all("fails" not in read("/proc/%s/cmdline" % p)
                   and ") Z" not in read("/proc/%s/stat" % p)
                   for p in children), children


if __name__ == "__main__":
    sys.exit(main())
