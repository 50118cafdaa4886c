#!/usr/bin/env python3
"""Named cases: what a process is given: user, groups, capabilities,
environment, directory, limits, terminal, signals."""
import os
import sys
import threading
import time

from cases.frame import case, main
from cases.grpc import Error
from cases.spec import CAPABILITIES, PATH
from cases.world import error_of
from tap import Failure, has, same, until

INT, QUIT, KILL, USR1, USR2, TERM = 2, 3, 9, 10, 12, 15
DEFAULT_CAPS = "00000000a80425fb"
NET_ADMIN, NET_BIND_SERVICE, SYS_ADMIN = 12, 10, 21


def secure(world):
    """A container whose init has no usual setting at all."""
    return world.shared("secure", cwd="/made/by/runtime", user={
        "uid": 1000, "gid": 2000, "additionalGids": [3000, 3001],
        "umask": 0o27}, oomScoreAdj=500, capabilities={
            "bounding": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "permitted": ["CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_NET_BIND_SERVICE"],
            "inheritable": ["CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_NET_BIND_SERVICE"]})


def status_of(container, pid, *names):
    lines = container.sh("cat /proc/%s/status" % pid).splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return [found[name].split() for name in names]


def caps(container, **process):
    """The five sets of an exec, as numbers."""
    text = container.sh("grep ^Cap /proc/self/status", **process)
    return {line[3:6]: int(line.split()[1], 16) for line in text.splitlines()}


@case("critest RunAsUser", "init runs as the user of its config")
def run_as_user(world):
    same("the users", status_of(secure(world), 1, "Uid"), [["1000"] * 4])


@case("critest RunAsGroup", "init runs as the group of its config")
def run_as_group(world):
    same("the groups", status_of(secure(world), 1, "Gid"), [["2000"] * 4])


@case("critest SupplementalGroups", "and has its additional groups")
def supplemental_groups(world):
    same("the groups", set(status_of(secure(world), 1, "Groups")[0]) -
         {"2000"}, {"3000", "3001"})


@case("runc umask.bats", "init has the umask of its config")
def umask(world):
    same("the umask", status_of(secure(world), 1, "Umask"), [["0027"]])


@case("crun test_oom_score_adj", "init has the oom_score_adj of its config")
def oom_score_adj(world):
    same("it", secure(world).sh("cat /proc/1/oom_score_adj"), "500")


@case("critest capabilities of a user that is not root",
      "all five sets are those of the config")
def init_capability_sets(world):
    bit = "%016x" % (1 << NET_BIND_SERVICE)
    same("the sets", status_of(secure(world), 1, "CapInh", "CapPrm", "CapEff",
                               "CapBnd", "CapAmb"),
         [[bit], [bit], [bit], ["%016x" % (1 << NET_BIND_SERVICE | 1 << 5)],
          [bit]])


@case("crun test_cwd_not_exist", "a directory that is not there is made")
def cwd_created(world):
    same("it", secure(world).sh("ls -d /made/by/runtime"), "/made/by/runtime")


@case("containerd TestContainerUserID", "an exec as a user and a group")
def container_user_id(world):
    text = world.shared().sh("id -u; id -g", user={"uid": 1000, "gid": 1001})
    same("the ids", text.split(), ["1000", "1001"])


@case("containerd TestUIDNoGID", "a user without a group has group 0")
def uid_no_gid(world):
    text = world.shared().sh("id -u; id -g", user={"uid": 1000})
    same("the ids", text.split(), ["1000", "0"])


@case("crun test_exec_additional_gids", "an exec has additional groups")
def exec_additional_gids(world):
    text = world.shared().sh("id -G", user={
        "uid": 1000, "gid": 1001, "additionalGids": [2147483647, 7]})
    same("the groups", set(text.split()), {"1001", "7", "2147483647"})


@case("crun test_exec_populate_home_env_from_process_uid",
      "HOME is set as runc sets it", as_runc=True)
def exec_populate_home_env(world):
    container = world.shared()
    return [container.sh("echo $HOME", user={"uid": uid, "gid": uid})
            for uid in (0, 1234)]


@case("crun test_exec_add_env", "the environment arrives as it is")
def exec_add_env(world):
    env = [PATH, "A=b=c", "EMPTY=", "SPACE= a  b ", "LINES=x\ny", "HOME=/h"]
    result = world.shared().exec(["env", "-0"], env=env)
    if result.status:
        result = world.shared().exec(["cat", "/proc/self/environ"], env=env)
    same("the environment", set(result.text.rstrip("\0").split("\0")),
         set(env))


@case("critest AddCapability", "an exec with one capability more")
def caps_add(world):
    given = CAPABILITIES + ["CAP_NET_ADMIN"]
    seen = caps(world.shared(), capabilities={
        name: given for name in ("bounding", "effective", "permitted")})
    same("the effective set", seen["Eff"],
         int(DEFAULT_CAPS, 16) | 1 << NET_ADMIN)


@case("critest DropCapability", "an exec with one capability less")
def caps_drop(world):
    given = [name for name in CAPABILITIES if name != "CAP_CHOWN"]
    container = world.shared()
    sets = {name: given for name in ("bounding", "effective", "permitted")}
    same("the effective set", caps(container, capabilities=sets)["Eff"],
         int(DEFAULT_CAPS, 16) & ~1)
    result = container.exec(["chown", "1", "/tmp"], capabilities=sets)
    same("chown's success", result.status == 0, False)


@case("critest DropCapability ALL", "an exec with no capability at all")
def caps_drop_all(world):
    seen = caps(world.shared(), capabilities={})
    same("the sets", set(seen.values()), {0})


@case("crun test_exec_add_capability",
      "ambient capabilities of a user that is not root")
def exec_ambient_capability(world):
    sets = {name: ["CAP_NET_ADMIN"] for name in (
        "bounding", "effective", "permitted", "inheritable", "ambient")}
    seen = caps(world.shared(), user={"uid": 1000, "gid": 1000},
                capabilities=sets)
    same("the sets", set(seen.values()), {1 << NET_ADMIN})


@case("crun test_exec_no_new_privs", "no_new_privs is as the config says")
def exec_no_new_privs(world):
    container = world.shared()
    same("it", [container.sh("grep NoNewPrivs /proc/self/status",
                             noNewPrivileges=value).split()[1]
                for value in (True, False)], ["1", "0"])


@case("crun test_cwd", "an exec starts in its directory")
def exec_cwd(world):
    same("it", world.shared().sh("pwd", cwd="/bin"), "/bin")


@case("crun test_cwd_relative", "a relative directory is refused")
def cwd_relative(world):
    error_of(world.shared().exec_start, ["pwd"], cwd="bin")


@case("runc cwd.bats: a directory that is not there",
      "an exec into it fails, and names it")
def exec_cwd_missing(world):
    error = error_of(world.shared().exec_start, ["pwd"], cwd="/not/there")
    has("the error", error.message, "/not/there")


@case("runc cwd.bats: not a directory", "an exec into a file fails")
def exec_cwd_file(world):
    error_of(world.shared().exec_start, ["pwd"], cwd="/bin/sh")


@case("runc cwd.bats: a symbolic link", "is followed inside the container")
def exec_cwd_symlink(world):
    container = world.shared()
    container.sh("ln -sfn /proc/sys /tmp/link")
    same("it", container.sh("readlink /proc/self/cwd", cwd="/tmp/link"),
         "/proc/sys")


@case("runc cwd.bats: /proc/self/fd (CVE-2024-21626)",
      "no descriptor of the runtime is a way out")
def cwd_proc_self_fd(world):
    container = world.shared()
    for number in range(3, 12):
        cwd = "/proc/self/fd/%d" % number
        try:
            seen = container.sh("ls -d ../../../proc/1/cwd/sbin/init "
                                "2>/dev/null; true", cwd=cwd)
            same("what is seen", seen, "")
        except Error:
            pass


@case("runc CVE-2024-21626", "a process has no descriptor beyond its three")
def descriptors(world):
    container = world.shared()
    found = container.sh("ls /proc/self/fd").split()
    # ls itself has the directory open.
    same("an exec's", len(found) <= 4 and found[:3] == ["0", "1", "2"], True)
    same("init's", container.sh("ls /proc/1/fd").split(), ["0", "1", "2"])


@case("crun test_limits nofile", "soft and hard limits arrive")
def rlimit_nofile(world):
    text = world.shared().sh("ulimit -Sn; ulimit -Hn", rlimits=[
        {"type": "RLIMIT_NOFILE", "soft": 512, "hard": 768}])
    same("the limits", text.split(), ["512", "768"])


@case("crun test_limits", "all sixteen limits are as on runc", as_runc=True)
def rlimits_all(world):
    size = 1 << 40
    limits = {
        "AS": size, "CORE": size, "CPU": 1000, "DATA": size, "FSIZE": size,
        "LOCKS": 100, "MEMLOCK": 8192, "MSGQUEUE": 4096, "NICE": 0,
        "NOFILE": 1000, "NPROC": 2000, "RSS": size, "RTPRIO": 0,
        "RTTIME": 10000, "SIGPENDING": 300, "STACK": 4 << 20}
    return world.shared().sh("cat /proc/self/limits", rlimits=[
        {"type": "RLIMIT_" + kind, "hard": n,
         # Go's runtime raises this one, so that runc's may come out higher.
         "soft": n if kind == "NOFILE" else n // 2}
        for kind, n in limits.items()])


@case("crun test_exec", "an exec sees the processes of its container only")
def exec_pid_namespace(world):
    container = world.shared()
    same("init", container.sh("tr '\\0' ' ' < /proc/1/cmdline"),
         "sleep 100000")
    count = int(container.sh("ls -d /proc/[0-9]* | wc -l"))
    if count > 12:
        raise Failure("%d processes are seen" % count)


@case("critest execSync timeout", "a process that takes too long is killed")
def exec_sync_timeout(world):
    added = world.shared().exec_start(["sleep", "1000"])
    begin = time.monotonic()
    added.kill(KILL)
    same("the status", added.result(60).status, 137)
    if time.monotonic() - begin > 60:
        raise Failure("only after %d s" % (time.monotonic() - begin))


@case("cri-integration TestContainerStopSignals",
      "each signal reaches the process that it is for")
def container_stop_signals(world):
    for number in (INT, QUIT, USR1, USR2, TERM):
        added = world.shared().exec_start([
            "sh", "-c", "trap 'echo got; exit %d' %d; echo ready; "
            "while :; do sleep 0.1; done" % (40 + number, number)])
        added.out_until("ready")
        added.kill(number)
        same("the status", added.result().status, 40 + number)


@case("cri-integration TestContainerDrainExecIOAfterExit",
      "an exec's end is told although a child of it holds its output")
def container_drain_exec_io_after_exit(world):
    added = world.shared().exec_start(
        ["sh", "-c", "sleep 20 & echo $!; exit 3"])
    same("the status", added.wait(15), 3)
    child = added.streams.readers["stdout"].until(b"\n").split()[0].decode()
    world.shared().sh("kill -9 %s" % child)
    added.result()


@case("cri-integration TestLongContainerLog",
      "a line of a million bytes comes out whole")
def long_container_log(world):
    result = world.shared().exec(
        ["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo"])
    same("the output is right", result.out == b"x" * 1000000 + b"\n", True)


@case("Kata k8s-copy-file", "1 MB goes in by stdin, and out by stdout")
def copy_file(world):
    data = os.urandom(1 << 20)
    container = world.shared()
    container.exec(["sh", "-c", "cat > /tmp/copied"], stdin=data)
    same("it is the same", container.exec(["cat", "/tmp/copied"]).out == data,
         True)


@case("Kata k8s-parallel", "16 execs at once, each with its own output")
def parallel_execs(world):
    container = world.shared()
    added = [container.exec_prepared(
        ["sh", "-c", "echo %d; exit %d" % (n, n)]) for n in range(16)]
    threads = [threading.Thread(target=each.start) for each in added]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, each in enumerate(added):
        result = each.result()
        same("its result", (result.status, result.text), (n, "%d\n" % n))


@case("runc tty.bats: stdin not a tty", "no terminal unless it is asked for")
def stdin_not_a_tty(world):
    result = world.shared().exec(["sh", "-c", "test -t 0 || test -t 1"])
    same("the status", result.status, 1)


@case("runc tty.bats: tty ptsname", "the terminal's name can be found")
def tty_ptsname(world):
    has("it", world.shared().sh("tty", terminal=True), "/dev/pts/")


@case("runc tty.bats: tty owner", "the terminal belongs to the user")
def tty_owner(world):
    same("it", world.shared().sh("stat -Lc %u /dev/fd/0", terminal=True,
                                 user={"uid": 1000, "gid": 1001}), "1000")


@case("runc tty.bats: exec tty consolesize",
      "the terminal has the size of the config")
def tty_consolesize(world):
    same("it", world.shared().sh(
        "stty size", terminal=True,
        consoleSize={"height": 10, "width": 110}), "10 110")


@case("containerd TestTaskResize",
      "a resize is seen, and told by SIGWINCH")
def task_resize(world):
    added = world.shared().exec_start(
        ["sh", "-c", "trap 'stty size' WINCH; echo ready; "
         "while :; do sleep 0.1; done"], terminal=True)
    added.out_until("ready")
    added.resize(42, 33)
    added.out_until("33 42")
    added.kill(KILL)
    added.result()


@case("bad input: resize 0 x 65535", "no size ends the process or the task")
def resize_extremes(world):
    container = world.shared()
    added = container.exec_start(["sh", "-c", "read x; stty size; read x"],
                                 terminal=True, stdin=True)
    for width, height in ((0, 65535), (65535, 0), (0, 0), (65535, 65535),
                          (1 << 16, 1), ((1 << 32) - 1, 1)):
        try:
            added.resize(width, height)
        except Error:
            pass
    added.resize(80, 24)
    added.streams.write(b"\n")
    added.out_until("24 80")
    added.kill(KILL)
    added.result()


@case("runc tty.bats", "^C on the terminal interrupts, ^D ends the input")
def tty_control_characters(world):
    added = world.shared().exec_start(
        ["sh", "-c", "trap 'echo interrupted' INT; echo ready; read x; cat; "
         "echo over"], terminal=True, stdin=True)
    added.out_until("ready")
    added.streams.write(b"\x03")
    added.out_until("interrupted")
    added.streams.write(b"\n\x04")
    added.out_until("over")
    same("the status", added.result().status, 0)


@case("critest host name", "each container has a UTS namespace of its own")
def uts_namespace(world):
    same("dom0's name", world.shared().sh("hostname") == os.uname().nodename
         and world.domus, False)


@case("bad input: a signal into a stopped process",
      "NOT_FOUND, as after its end on runc")
def kill_stopped_exec(world):
    added = world.shared().exec_start(["true"])
    added.wait()
    same("the answer", error_of(added.kill, TERM).code, "NOT_FOUND")
    added.result()


@case("crun test_exec_not_exists", "an exec id is used once at a time")
def exec_id_twice(world):
    container = world.shared()
    added = container.exec_start(["sleep", "1000"], exec_id="twice")
    try:
        error = error_of(container.exec_prepared, ["true"], exec_id="twice")
        same("the answer", error.code, "ALREADY_EXISTS")
    finally:
        added.kill(KILL)
        added.result()


@case("runc delete.bats", "a running exec is not deleted")
def delete_running_exec(world):
    added = world.shared().exec_start(["sleep", "1000"])
    error_of(added.delete)
    same("the state", added.state(), "RUNNING")
    added.kill(KILL)
    until("it is stopped", lambda: added.state() == "STOPPED")
    added.result()


if __name__ == "__main__":
    sys.exit(main(__file__))
