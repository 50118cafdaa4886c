#!/usr/bin/env python3
"""Named cases: what makes no sense is refused by name, nothing is left of
it, and what runs goes on."""
import contextlib
import glob
import os
import shutil
import subprocess
import sys
import time

import house
from cases import spec as oci
from cases.client import PROCESS_URL, SPEC_URL
from cases.frame import case, main
from cases.grpc import Error
from cases.roots import Root
from cases.world import Container, answers, error_of
from tap import Failure, has, same

KILL = 9
SECONDS_TO_REFUSE = 60


def bad_exec(world, *words, **process):
    container = world.shared()
    args = process.pop("args", ["true"])
    error = error_of(container.exec_start, args, **process)
    has("the error", error.message, *words)
    same("an exec after it", container.sh("echo fine"), "fine")


def bad_process(world, *words, **fields):
    """A task whose init's config makes no sense."""
    def change(config):
        config["process"].update(fields)
    has("the error", world.refused(["true"], change=change).message, *words)


def never_runs(container, args):
    """Start refuses it, or it ends at once, as with runc that finds out only
    when it has given its word."""
    with contextlib.suppress(Error):
        result = container.exec(args)
        same("its success", result.status == 0, False)
        same("its output", result.out, b"")
    same("an exec after it", container.sh("echo fine"), "fine")


def named(world, *words):
    """Words that domus promises and runc does not always say."""
    return words if world.domus else ()


@case("crun test_error_handling: invalid JSON",
      "a config that is no JSON is refused")
def invalid_json(world):
    name = house.new_name()
    client = world.client
    client.call("containers.Create", container={
        "id": name, "runtime": {"name": world.runtime},
        "spec": {"type_url": SPEC_URL, "value": b'{"ociVersion": "1.0.2",'}})
    try:
        error_of(client.call, "tasks.Create", container_id=name)
    finally:
        client.call("containers.Delete", id=name)
        # containerd 1.6 forgets the bundle, before any shim is started.
        bundle = os.path.join(house.BUNDLES, "default", name)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(os.readlink(bundle + "/work"))
        shutil.rmtree(bundle, ignore_errors=True)


@case("crun test_error_handling: wrong type",
      "a number where a text belongs is refused, and named")
def wrong_type(world):
    bad_process(world, *named(world, "cwd"), cwd=7)


@case("crun test_error_handling: empty args", "no program is no process")
def empty_args(world):
    bad_process(world, "args", args=[])


@case("crun test_error_handling: no process", "it is refused")
def no_process(world):
    def change(config):
        del config["process"]
    has("the error", world.refused(["true"], change=change).message,
        "process")


@case("crun test_error_handling: exec of empty args",
      "no program is no process", full=True)
def exec_empty_args(world):
    bad_exec(world, args=[])


@case("crun test_error_handling: a directory as program",
      "an exec of it is refused")
def exec_directory(world):
    error = error_of(world.shared().exec_start, ["/bin"])
    has("the error", error.message, "/bin")


@case("crun test_error_handling: permission denied",
      "an exec of a file that is no program is refused")
def exec_no_permission(world):
    error = error_of(world.shared().exec_start, ["/etc/passwd"])
    has("the error", error.message, "permission denied")


@case("crun test_error_handling: not a program",
      "an exec of a text that is none is refused")
def exec_format(world):
    container = world.shared()
    container.sh("echo nonsense > /tmp/text; chmod 755 /tmp/text")
    never_runs(container, ["/tmp/text"])


@case("crun test_error_handling: rlimit soft above hard", "it is refused")
def rlimit_soft_above_hard(world):
    bad_exec(world, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1024,
                              "hard": 512}])


@case("crun test_error_handling: rlimit soft above hard, of init",
      "it is refused", full=True)
def init_rlimit_soft_above_hard(world):
    bad_process(world, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1024,
                                 "hard": 512}])


@case("crun test_error_handling: unknown rlimit", "it is refused, by name")
def rlimit_unknown(world):
    bad_exec(world, "rlimits" if world.domus else "RLIMIT_NONSENSE",
             rlimits=[{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}])


@case("crun test_error_handling: oom_score out of range", "it is refused")
def oom_score_out_of_range(world):
    bad_process(world, oomScoreAdj=1001)


@case("crun test_error_handling: unknown id for state", "NOT_FOUND")
def state_unknown(world):
    same("it", error_of(world.client.state, "no-such-id").code, "NOT_FOUND")


@case("crun test_error_handling: unknown id for kill", "NOT_FOUND")
def kill_unknown(world):
    same("it", error_of(world.client.call, "tasks.Kill", signal=KILL,
                        container_id="no-such-id").code, "NOT_FOUND")
    same("it", error_of(world.client.call, "tasks.Kill", signal=KILL,
                        container_id=world.shared().name,
                        exec_id="no-such-exec").code, "NOT_FOUND")


@case("crun test_error_handling: unknown id for delete", "NOT_FOUND")
def delete_unknown(world):
    same("it", error_of(world.client.call, "tasks.Delete",
                        container_id="no-such-id").code, "NOT_FOUND")
    same("it", error_of(world.client.call, "tasks.DeleteProcess",
                        container_id=world.shared().name,
                        exec_id="no-such-exec").code, "NOT_FOUND")


@case("crun test_error_handling: unknown id for exec", "NOT_FOUND")
def exec_unknown(world):
    same("it", error_of(
        world.client.call, "tasks.Exec", container_id="no-such-id",
        exec_id="x", spec={"type_url": PROCESS_URL,
                           "value": oci.dump(oci.process(["true"]))}
    ).code, "NOT_FOUND")


@case("critest idempotence: calls for an exec that is not there",
      "NOT_FOUND, every call")
def calls_for_unknown_exec(world):
    for name, values in (
            ("Start", {}), ("Wait", {}), ("Get", {}),
            ("CloseIO", {"stdin": True}),
            ("ResizePty", {"width": 80, "height": 24})):
        error = error_of(world.client.call, "tasks." + name,
                         container_id=world.shared().name,
                         exec_id="no-such-exec", **values)
        answers(world, error, "NOT_FOUND")


@case("bad input: exec into a stopped task", "it is refused")
def exec_stopped(world):
    with world.container(["true"]) as container:
        container.start().wait()
        error_of(container.exec_start, ["true"])
        same("the state", container.state(), "STOPPED")


@case("crun test_exec_created", "an exec in a created task: as on runc",
      as_runc=True, full=True)
def exec_created(world):
    with world.container(["sleep", "1000"]) as container:
        container.create(null=True)
        try:
            return container.exec(["echo", "early"]).text
        except Error:
            return "refused"


def bad_ids(world, field):
    for value in (-1, 1 << 32, (1 << 64) - 1, "0x0", "0", 1.5):
        value = [value] if field == "additionalGids" else value
        bad_exec(world, *named(world, field),
                 user={"uid": 0, "gid": 0, field: value})


@case("bad input: uid -1, 2^32, \"0x0\"", "refused by name, never root")
def bad_uid(world):
    bad_ids(world, "uid")


@case("bad input: gid -1, 2^32, \"0x0\"", "refused by name, never root")
def bad_gid(world):
    bad_ids(world, "gid")


@case("bad input: additional group -1, 2^32, \"0x0\"", "refused by name")
def bad_additional_gid(world):
    bad_ids(world, "additionalGids")


@case("bad input: uid 2^32-1", "(uid_t)-1 is no user")
def uid_minus_one(world):
    bad_exec(world, user={"uid": (1 << 32) - 1, "gid": 0})
    bad_exec(world, user={"uid": 0, "gid": (1 << 32) - 1})


@case("bad input: init's uid", "refused, and nothing starts")
def init_bad_uid(world):
    bad_process(world, *named(world, "uid"), user={"uid": -1, "gid": 0})


@case("bad input: unknown signals",
      "numbers beyond the last are refused; the process goes on")
def unknown_signals(world):
    added = world.shared().exec_start(["sleep", "1000"])
    try:
        for number in (65, 128, 1000, (1 << 31) - 1, (1 << 32) - 1):
            error_of(added.kill, number)
        same("the state", added.state(), "RUNNING")
    finally:
        added.kill(KILL)
        added.result()


@case("bad input: unknown signal, of a task",
      "numbers beyond the last are refused; the task goes on")
def unknown_signal_init(world):
    container = world.shared()
    for number in (65, (1 << 31) - 1):
        error_of(container.init.kill, number)
        if world.domus:
            error_of(container.init.kill, number, True)
    same("the state", container.state(), "RUNNING")


@case("crun test_error_handling: bad signal name",
      "`ctr task kill` refuses it; the task goes on")
def signal_name(world):
    container = world.shared()
    result = house.call("ctr", "task", "kill", "--signal", "SIGNONSENSE",
                        container.name)
    same("its success", result.status == 0, False)
    same("the state", container.state(), "RUNNING")


@case("bad input: environment", "an entry without = is refused")
def env_without_equals(world):
    bad_exec(world, env=[oci.PATH, "NONSENSE"])


@case("bad input: a NUL in an argument", "refused, not cut short")
def nul_in_args(world):
    never_runs(world.shared(), ["echo", "a\0b"])


@case("bad input: a NUL in the environment", "refused, not cut short")
def nul_in_env(world):
    bad_exec(world, env=[oci.PATH, "A=a\0b"])


@case("bad input: cwd empty", "it is refused")
def cwd_empty(world):
    bad_process(world, "cwd", cwd="")


@case("bad input: arguments beyond the limit",
      "2 MB in one argument: refused, and the task goes on")
def args_too_big(world):
    never_runs(world.shared(), ["true", "x" * (2 << 20)])


@case("bad input: 10^5 arguments", "work, or are refused")
def args_100000(world):
    container = world.shared()
    try:
        result = container.exec(["sh", "-c", "echo $#", "x"] +
                                ["y"] * 100000)
        same("the number", result.text, "100000\n")
    except Error:
        pass
    same("an exec after it", container.sh("echo fine"), "fine")


@case("bad input: selinux label and apparmor profile",
      "refused, by name", only="domus")
def lsm_labels(world):
    bad_exec(world, "selinuxLabel", selinuxLabel="system_u:object_r:x:s0")
    bad_exec(world, "apparmorProfile", apparmorProfile="docker-default")


@case("bad input: unknown capability", "the process goes without it")
def capability_unknown(world):
    def change(config):
        config["process"]["capabilities"] = {
            kind: ["CAP_KILL", "CAP_NONSENSE"]
            for kind in ("bounding", "effective", "permitted")}
    result = world.run(["grep", "CapBnd", "/proc/self/status"], change=change)
    same("the set", result.text.split(), ["CapBnd:", "%016x" % (1 << 5)])


@case("bad input: values of resources",
      "wrong types and impossible numbers are refused")
def bad_resources(world):
    for resources in ({"memory": {"limit": "64M"}},
                      {"cpu": {"quota": 1.5}},
                      {"pids": {"limit": "x"}}):
        def change(config, resources=resources):
            config["linux"]["resources"].update(resources)
        world.refused(["true"], change=change)


@case("cri-integration TestRuntimeHandler",
      "a runtime that is not installed: an error, nothing left")
def runtime_handler(world):
    class Other:
        """The same client, another runtime."""
        client, chain, domus = world.client, world.chain, False
        runtime = "io.containerd.nonsense.v1"
    with Container(Other, ["true"]) as container:
        error_of(container.start)


@case("cri-integration TestContainerIOLeakAfterStartFailed",
      "when the start fails, its streams are closed", full=True)
def container_io_leak_after_start_failed(world):
    with world.container(["nothing-like-this"]) as container:
        error_of(container.start)
        same("who still has them open",
             holders(container.init.streams.directory), [])


def holders(directory):
    """Who else has a file of the directory open, after a while."""
    deadline = time.monotonic() + 20
    while True:
        found = [pid for pid in house.processes()
                 if pid != os.getpid() and holds(pid, directory)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def holds(pid, directory):
    for path in glob.glob("/proc/%d/fd/*" % pid):
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(directory + "/"):
                return True
    return False


@case("crun: a root without /proc, /sys and /dev",
      "the mount points are made, as on runc", as_runc=True, full=True)
def root_without_mount_points(world):
    with Root() as root:
        for name in ("proc", "sys", "dev", "run"):
            os.rmdir(root.path + "/" + name)
        return world.run(["/bin/sh", "-c", "cat /proc/1/cmdline"],
                         root=root.path).text


@case("runc delete.bats: ctr container delete of a running one",
      "it is refused", full=True)
def container_delete_running(world):
    result = subprocess.run(["ctr", "container", "delete",
                             world.shared().name], capture_output=True,
                            check=False)
    same("its success", result.returncode == 0, False)
    same("an exec after it", world.shared().sh("echo fine"), "fine")


@case("H13: a config of 3 MB", "refused or run, within a minute", full=True)
def config_big(world):
    def change(config):
        config["annotations"] = dict(config.get("annotations", {}),
                                     big="x" * (3 << 20))
    begin = time.monotonic()
    with world.container(["true"], change=change) as container:
        with contextlib.suppress(Error):
            container.start().wait()
    if time.monotonic() - begin > SECONDS_TO_REFUSE:
        raise Failure("after %d s" % (time.monotonic() - begin))


@case("H13: nesting of 900", "refused, and no process of the host dies")
def config_deep(world):
    def change(config):
        value = []
        for _ in range(900):
            value = [value]
        config["nonsense"] = value
    with world.container(["true"], change=change) as container:
        with contextlib.suppress(Error):
            container.start().wait()
    same("an exec elsewhere", world.shared().sh("echo fine"), "fine")


if __name__ == "__main__":
    sys.exit(main(__file__))
