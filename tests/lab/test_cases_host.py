#!/usr/bin/env python3
"""Named cases: containerd goes and comes back, shims that must not leak,
hooks, several containers at once, a Debian userland."""
import contextlib
import glob
import os
import sys
import threading
import time

import house
from cases import local
from cases.client import Client, Events
from cases.frame import case, main, worlds
from cases.grpc import Error
from cases.roots import Root
from cases.world import Container, error_of
from tap import has, same, until

KILL = 9
HOOK_FILE = "/run/domus-cases-hook"


def restart(hard):
    local.restart(hard)
    for world in worlds.values():
        world.client.reconnect()


def shim_of(container):
    """The process that serves it; runc's has the sandbox's name too."""
    found = [pid for pid, words in house.processes().items()
             if os.path.basename(words[0]).startswith("containerd-shim-")
             and container.name in words and "start" not in words
             and "delete" not in words]
    same("the number of shims", len(found), 1)
    return found[0]


def descriptors(pid):
    """Kind → how many; pipes and sockets are what could leak."""
    counts = {"pipe": 0, "socket": 0, "other": 0}
    for path in glob.glob("/proc/%d/fd/*" % pid):
        with contextlib.suppress(OSError):
            kind = os.readlink(path).split(":")[0]
            counts[kind if kind in counts else "other"] += 1
    return counts


def leaks(world, run_one):
    """What a shim has open more of after ten processes than after one."""
    container = world.shared()
    pid = shim_of(container)
    run_one(container)
    time.sleep(1)
    before = descriptors(pid)
    for _ in range(10):
        run_one(container)
    until("the shim's descriptors are %s again, not %s" %
          (before, descriptors(pid)),
          lambda: all(descriptors(pid)[kind] <= before[kind]
                      for kind in before), 20)


@case("containerd TestShimDoesNotLeakPipes, …Sockets",
      "ten execs later it has as many descriptors open as before")
def shim_does_not_leak_pipes(world):
    leaks(world, lambda container: container.exec(["echo", "x"], stdin=b""))


@case("cri-integration TestContainerTTYLeakAfterExit",
      "ten terminals later, too (runc's shim 1.6 keeps them)", only="domus")
def container_tty_leak_after_exit(world):
    leaks(world, lambda container: container.exec(["tty"], terminal=True))


@case("containerd TestShimDoesNotLeakPipes, failures",
      "ten execs later that could not start, too")
def shim_does_not_leak_after_failures(world):
    def fail(container):
        error_of(container.exec_start, ["nothing-like-this"])
    leaks(world, fail)


@case("containerd TestShimOOMScore", "the shim's oom_score_adj is as runc's",
      as_runc=True, full=True)
def shim_oom_score(world):
    return local.read("/proc/%d/oom_score_adj" % shim_of(world.shared()))


@case("containerd TestShimSockLength",
      "a namespace of 76 and an id of 64 characters work", full=True)
def shim_sock_length(world):
    class Far:
        """The same runtime, another namespace."""
        client = Client(world.client.path, "n" * 76)
        runtime, domus = world.runtime, world.domus
    with Root() as root:
        name = house.new_name()
        with Container(Far, ["/bin/sh", "-c", "exit 4"], root=root.path,
                       name=name + "x" * (64 - len(name))) as container:
            same("the status", container.start().wait(), 4)
            container.delete_task()
    for path in (house.BUNDLES, "/var/lib/containerd/"
                 "io.containerd.runtime.v2.task"):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(os.path.join(path, "n" * 76))


def survives(world, hard):
    with world.container(["sh", "-c", "while read x; do echo got $x; done"]) \
            as container:
        init = container.start(stdin=True)
        init.streams.write(b"before\n")
        init.out_until("got before")
        restart(hard)
        same("the state", container.state(), "RUNNING")
        init.streams.write(b"after\n")
        init.out_until("got after")
        same("an exec's output", container.sh("echo fine"), "fine")
        with Events(world.client.path) as events:
            waiting = world.client.begin("tasks.Wait",
                                         container_id=container.name)
            init.kill(KILL)
            same("the status", world.client.end(waiting)["exit_status"], 137)
            events.wait(container.name, "/tasks/exit")
            time.sleep(1)
            same("the exits", len([1 for topic, _ in events.of(
                container.name) if topic == "/tasks/exit"]), 1)


@case("containerd TestDaemonRestart; cri-integration TestContainerdRestart",
      "a running task, its streams and its exit survive a restart")
def daemon_restart(world):
    survives(world, False)


@case("containerd TestDaemonRestartWithRunningShim, "
      "TestDaemonReconnectsToShimIOPipesOnRestart",
      "and a containerd that was killed")
def daemon_restart_with_running_shim(world):
    survives(world, True)


@case("containerd TestDaemonRestart: an exit meanwhile",
      "what ended while containerd was away is told afterwards")
def daemon_restart_exit_meanwhile(world):
    with world.container(["sh", "-c", "echo ready; read x; sleep 1; "
                          "exit 17"]) as container:
        init = container.start(stdin=True)
        init.out_until("ready")
        init.streams.write(b"go\n")
        restart(True)
        until("it is stopped", lambda: container.state() == "STOPPED", 60)
        same("the status", container.delete_task()["exit_status"], 17)


@case("containerd TestClientTTRPC_Reconnect",
      "a client that comes back finds its task, and its Wait is answered")
def client_reconnect(world):
    container = world.shared()
    added = container.exec_start(["sleep", "1000"])
    world.client.reconnect()
    same("the state", added.state(), "RUNNING")
    waiting = world.client.begin("tasks.Wait", container_id=container.name,
                                 exec_id=added.exec_id)
    added.kill(KILL)
    same("the status", world.client.end(waiting)["exit_status"], 137)
    added.delete()
    added.streams.close()


@case("cri-integration TestFailFastWhenConnectShim",
      "the shim is killed: the task is told to be over, and can be deleted")
def shim_killed(world):
    with world.container(["sleep", "1000"]) as container:
        container.start(null=True)
        os.kill(shim_of(container), KILL)

        def over():
            try:
                return container.state() not in ("RUNNING", "CREATED")
            except Error:
                return True
        until("it is over", over, 60)
        with contextlib.suppress(Error):
            container.delete_task()
        error_of(container.state)


@case("Kata k8s-parallel", "four containers at once, each with its output",
      full=True)
def parallel_containers(world):
    results = {}

    def one(n):
        results[n] = world.run(["sh", "-c", "echo %d; exit %d" % (n, n)])
    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same("the results", {n: (each.status, each.text)
                         for n, each in results.items()},
         {n: (n, "%d\n" % n) for n in range(4)})


@case("Kata k8s-graceful-termination",
      "SIGTERM, a cleanup of a second, a status of its own")
def graceful_termination(world):
    with world.container(["sh", "-c", "trap 'sleep 1; echo clean; exit 0' "
                          "TERM; echo ready; while :; do sleep 0.1; done"]) \
            as container:
        init = container.start()
        init.out_until("ready")
        init.kill(15)
        init.out_until("clean")
        same("the status", init.wait(), 0)


@case("Kata k8s-kill-all-process-in-container",
      "every process but init is killed: init goes on", full=True)
def kill_all_process_in_container(world):
    container = world.shared()
    added = container.exec_start(["sleep", "1000"])
    container.exec(["sh", "-c", "kill -9 -1"])
    same("the status", added.result().status, 137)
    same("the state", container.state(), "RUNNING")


@case("containerd restart monitor TestRestartMonitor",
      "a task that should run is started again", full=True, only="runc")
def restart_monitor(world):
    with world.container(["sleep", "1000"], labels={
            "containerd.io/restart.status": "running"}) as container:
        init = container.start(null=True)
        init.kill(KILL)
        init.wait()
        until("it runs again", lambda: state_or_none(container) == "RUNNING",
              60)


def state_or_none(container):
    try:
        return container.state()
    except Error:
        return None


# --- hooks ------------------------------------------------------------------

def hooked(kind, path, args, **more):
    def change(config):
        config["hooks"] = {kind: [dict({"path": path, "args": args}, **more)]}
    return change


@contextlib.contextmanager
def hook_allowed():
    """domusd runs on the host only what its configuration names."""
    with contextlib.nullcontext() if local.LOCAL else \
            house.configured(hooks="/bin/sh"):
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(HOOK_FILE)


@case("containerd TestContainerHook",
      "prestart and createRuntime hooks run on the host, with the state")
def container_hook(world):
    for kind in ("prestart", "createRuntime"):
        with hook_allowed():
            result = world.run(["true"], change=hooked(
                kind, "/bin/sh", ["sh", "-c", "cat > " + HOOK_FILE]))
            same("the status", result.status, 0)
            has("the state", local.read(HOOK_FILE), '"id"', '"bundle"',
                '"pid"', '"status"', "creat")


@case("runc hooks.bats: a hook that fails",
      "the start fails, and says which hook", full=True)
def hook_fails(world):
    with hook_allowed():
        error = world.refused(["true"], change=hooked(
            "createRuntime", "/bin/sh", ["sh", "-c", "exit 3"]))
        has("the error", error.message, "hook")


@case("runc hooks.bats: poststop", "it runs when the task is deleted",
      full=True)
def hook_poststop(world):
    with hook_allowed():
        world.run(["true"], change=hooked(
            "poststop", "/bin/sh", ["sh", "-c", "echo x > " + HOOK_FILE]))
        until("it ran", lambda: local.read(HOOK_FILE) == "x", 20)


@case("runc hooks.bats: startContainer",
      "it runs in the container, before the process", full=True)
def hook_start_container(world):
    result = world.run(["cat", "/tmp/hooked"], change=hooked(
        "startContainer", "/bin/sh", ["sh", "-c", "echo in > /tmp/hooked"]))
    same("the output", result.text, "in\n")


@case("host policy of hooks",
      "a hook that domus.conf does not name is refused", only="domus",
      full=True)
def hook_not_allowed(world):
    error = world.refused(["true"], change=hooked(
        "createRuntime", "/bin/touch", ["touch", HOOK_FILE]))
    has("the error", error.message, "/bin/touch")
    same("it ran", os.path.exists(HOOK_FILE), False)


# --- Debian -----------------------------------------------------------------

def debian(world):
    def change(config):
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO",
                 "errnoRet": 111}]}
    return world.shared("debian", image=house.DEBIAN, change=change)


@case("Kata k8s-inotify", "a change of a file is told to who watches it",
      full=True)
def inotify(world):
    container = debian(world)
    added = container.exec_start(["perl", "-e", """
        $| = 1; open(F, ">", "/tmp/watched"); close(F);
        $name = "/tmp/watched"; $fd = syscall(253); syscall(254, $fd, $name, 2);
        print "ready\\n"; open(I, "<&=", $fd); sysread(I, $x, 4096);
        print "seen ", length($x), "\\n";"""])
    added.out_until("ready")
    container.sh("echo x > /tmp/watched")
    same("the output", added.result().text, "ready\nseen 16\n")


@case("critest seccomp localhost: a number of the profile",
      "a call fails with the error that the profile says")
def seccomp_errno(world):
    same("it", debian(world).exec(
        ["perl", "-e", "syscall(250, 0, 0); print $!+0"]).text, "111")


@case("containerd TestContainerUser",
      "`ctr task exec --user` with names of the image's files")
def container_user(world):
    container = debian(world)
    result = house.call("ctr", "task", "exec", "--exec-id", "named", "--user",
                        "nobody:nogroup", container.name, "sh", "-c",
                        "id -un; id -gn")
    same("the output", (result.text.split(), result.err),
         (["nobody", "nogroup"], ""))


@case("runc a socket of the file system",
      "two processes of a container meet at a Unix socket")
def unix_socket(world):
    container = debian(world)
    server = container.exec_start(["perl", "-MSocket", "-e", """
        $| = 1; socket(S, AF_UNIX, SOCK_STREAM, 0); unlink("/tmp/s");
        bind(S, pack_sockaddr_un("/tmp/s")); listen(S, 1); print "ready\\n";
        accept(C, S); print scalar(<C>);"""])
    server.out_until("ready")
    container.exec(["perl", "-MSocket", "-e", """
        socket(S, AF_UNIX, SOCK_STREAM, 0);
        connect(S, pack_sockaddr_un("/tmp/s")); syswrite(S, "hello\\n");"""])
    same("the output", server.result().text, "ready\nhello\n")


if __name__ == "__main__":
    sys.exit(main(__file__))
