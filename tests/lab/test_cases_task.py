#!/usr/bin/env python3
"""Named cases: the life of a task, from its creation to its deletion."""
import subprocess
import sys
import time

import house
from cases.frame import NO_SHARES, case, main
from cases.world import answers, error_of
from tap import Failure, has, same, until

KILL, TERM = 9, 15


@case("containerd TestContainerStart",
      "started, it has a pid; ended, its state tells the status")
def container_start(world):
    with world.container(["sh", "-c", "exit 7"]) as container:
        init = container.start()
        if init.pid <= 0:
            raise Failure("its pid is %d" % init.pid)
        same("the status", init.wait(), 7)
        same("the state", container.state(), "STOPPED")
        seen = container.delete_task()
        same("the status at deletion", seen["exit_status"], 7)


@case("containerd TestContainerOutput", "what a process writes comes out",
      full=True)
def container_output(world):
    result = world.run(["echo", "kingkong"])
    same("the status", result.status, 0)
    same("the output", result.out, b"kingkong\n")


@case("containerd TestContainerExec",
      "a second process runs, and ends with a status of its own")
def container_exec(world):
    result = world.shared().exec(["sh", "-c", "echo in; echo err >&2; exit 6"])
    same("the status", result.status, 6)
    same("the output", (result.out, result.err), (b"in\n", "err\n"))


@case("containerd TestContainerPids",
      "the list of processes has init's pid, and is never empty")
def container_pids(world):
    container = world.shared()
    found = world.client.call("tasks.ListPids",
                              container_id=container.name)["processes"]
    if container.init.pid not in [each["pid"] for each in found]:
        raise Failure("no pid %d in %s" % (container.init.pid, found))


@case("containerd TestContainerPids",
      "the list of processes names an exec by its id")
def container_pids_exec(world):
    container = world.shared()
    added = container.exec_start(["sleep", "1000"])
    try:
        def named():
            found = world.client.call("tasks.ListPids",
                                      container_id=container.name)
            return any(added.exec_id.encode() in each["info"]["value"]
                       for each in found["processes"] if each["info"])
        until("the exec's id is listed", named, 20)
    finally:
        added.kill(KILL)
        same("the status", added.result().status, 137)


@case("containerd TestContainerKill", "SIGKILL ends it with 137", full=True)
def container_kill(world):
    with world.container(["sleep", "1000"]) as container:
        init = container.start()
        init.kill(KILL)
        same("the status", init.wait(), 137)
        error = error_of(init.kill, KILL)
        same("the answer to a second kill", error.code, "NOT_FOUND")


@case("containerd TestContainerKillAll",
      "a kill of all reaches the children too")
def container_kill_all(world):
    with world.container(["sh", "-c", "sleep 1000 & sleep 1001 & echo ready; "
                          "wait"]) as container:
        init = container.start()
        init.out_until("ready")
        init.kill(KILL, everyone=True)
        same("the status", init.wait(), 137)
        container.delete_task()
        init.streams.readers["stdout"].all()


@case("containerd TestContainerCloseIO",
      "closed, standard input ends for the process")
def container_close_io(world):
    added = world.shared().exec_start(["cat"], stdin=True)
    added.streams.write(b"before\n")
    added.out_until("before")
    added.close_io()
    same("the output", added.result().out, b"before\n")


@case("containerd TestContainerNoSTDIN",
      "with no standard input a reader sees its end at once")
def container_no_stdin(world):
    result = world.shared().exec(["sh", "-c", "cat; echo over"])
    same("the output", result.out, b"over\n")


@case("containerd TestContainerPTY",
      "a terminal: streams are a tty, lines end in CR LF")
def container_pty(world):
    result = world.run(["sh", "-c", "test -t 0 && test -t 1 && test -t 2 && "
                        "echo hello"], terminal=True)
    same("the status", result.status, 0)
    same("the output", result.out, b"hello\r\n")


@case("containerd TestContainerHostname", "it has the host name of its config",
      full=True)
def container_hostname(world):
    def change(config):
        config["hostname"] = "myhostname"
    result = world.run(["hostname"], change=change)
    same("the output", result.out, b"myhostname\n")


@case("containerd TestContainerNoBinaryExists",
      "a program that is not there: an error that names it, nothing left")
def container_no_binary_exists(world):
    error = world.refused(["nothing-like-this"])
    has("the error", error.message, "nothing-like-this")


@case("containerd TestContainerExecNoBinaryExists",
      "an exec of a program that is not there is an error; the id is free "
      "again once it is deleted")
def container_exec_no_binary_exists(world):
    container = world.shared()
    error = error_of(container.exec_start, ["nothing-like-this"],
                     exec_id="again")
    has("the error", error.message, "nothing-like-this")
    result = container.exec(["echo", "fine"], exec_id="again")
    same("the next output", result.out, b"fine\n")


@case("containerd TestDeleteRunningContainer",
      "a running task is not deleted: FAILED_PRECONDITION")
def delete_running_container(world):
    container = world.shared()
    answers(world, error_of(container.delete_task), "FAILED_PRECONDITION")
    same("the state", container.state(), "RUNNING")


@case("containerd TestTaskForceDelete",
      "`ctr task delete --force` ends and removes a running task")
def task_force_delete(world):
    with world.container(["sleep", "1000"]) as container:
        container.start(null=True)
        house.ctr("task", "delete", "--force", container.name)
        same("the answer", error_of(container.state).code, "NOT_FOUND")


@case("containerd TestProcessForceDelete",
      "`ctr task delete --force --exec-id` ends and removes a process")
def process_force_delete(world):
    container = world.shared()
    added = container.exec_start(["sleep", "1000"])
    words = ("ctr", "task", "delete", "--force", "--exec-id", added.exec_id,
             container.name)
    # containerd 1.7's ctr forgets --force for processes, with runc as well.
    if "must be stopped" in house.call(*words).err:
        added.kill(KILL)
        added.wait()
        house.call(*words)
    until("it is gone", lambda: added.exec_id not in exec_ids(world,
                                                              container), 20)
    added.streams.close()


def exec_ids(world, container):
    found = world.client.call("tasks.ListPids", container_id=container.name)
    return " ".join(each["info"]["value"].decode(errors="replace")
                    for each in found["processes"] if each["info"])


@case("containerd TestDeleteContainerExecCreated",
      "an exec that never started can be deleted")
def delete_container_exec_created(world):
    added = world.shared().exec_prepared(["sleep", "1000"])
    same("the state", added.state(), "CREATED")
    added.delete()
    same("the answer", error_of(added.state).code, "NOT_FOUND")
    added.streams.close()


@case("containerd TestWaitStoppedTask",
      "Wait after the end gives the status, for many callers")
def wait_stopped_task(world):
    with world.container(["sh", "-c", "exit 9"]) as container:
        container.start().wait()
        waits = [world.client.begin("tasks.Wait", container_id=container.name)
                 for _ in range(10)]
        same("the statuses", {world.client.end(each)["exit_status"]
                              for each in waits}, {9})


@case("containerd TestWaitStoppedProcess",
      "Wait for a process after its end gives its status")
def wait_stopped_process(world):
    added = world.shared().exec_start(["sh", "-c", "exit 6"])
    same("the status", added.wait(), 6)
    same("the state", added.state(), "STOPPED")
    same("the second answer", added.call("tasks.Wait")["exit_status"], 6)
    added.result()


@case("critest streaming exec",
      "Wait before Start is answered when the process ends")
def wait_before_start(world):
    added = world.shared().exec_prepared(["sh", "-c", "exit 5"])
    early = world.client.begin("tasks.Wait",
                               container_id=added.container.name,
                               exec_id=added.exec_id)
    added.start()
    same("the status", world.client.end(early)["exit_status"], 5)
    added.result()


@case("containerd TestContainerExitedAtSet",
      "the time of the end is that of the end, everywhere the same")
def container_exited_at_set(world):
    added = world.shared().exec_start(["true"])
    before = time.time() - 60
    added.wait()
    if not before < added.exited_at["seconds"] < time.time() + 2:
        raise Failure("it ended at %s" % added.exited_at)
    same("the time at deletion", added.delete()["exited_at"], added.exited_at)
    added.streams.close()


@case("containerd TestShortRunningTaskPid",
      "a process that ends at once had a pid")
def short_running_task_pid(world):
    with world.container(["true"]) as container:
        init = container.start()
        if init.pid <= 0:
            raise Failure("its pid is %d" % init.pid)
        init.wait()


@case("containerd TestContainerLargeExecArgs",
      "an argument of 20,000 bytes arrives whole")
def container_large_exec_args(world):
    long = "x" * 20000
    result = world.shared().exec(["sh", "-c", "echo ${#0}; echo $0 | wc -c",
                                  long])
    same("the lengths", result.text.split(), ["20000", "20001"])


@case("containerd TestContainerExecLargeOutputWithTTY",
      "20,000 lines through a terminal: not a byte is lost", full=True)
def container_exec_large_output_with_tty(world):
    result = world.shared().exec(["sh", "-c", "seq 1 20000"], terminal=True)
    same("the status", result.status, 0)
    same("the output is right", result.out == b"".join(
        b"%d\r\n" % n for n in range(1, 20001)), True)


@case("containerd TestContainerLoadUnexistingProcess",
      "a process that is not there: NOT_FOUND")
def container_load_unexisting_process(world):
    error = error_of(world.client.state, world.shared().name, "no-such-exec")
    same("the answer", error.code, "NOT_FOUND")


@case("containerd TestContainerAttach",
      "`ctr task attach` reads and writes the streams of a running task")
def container_attach(world):
    name = house.new_name()
    house.ctr(*house.run_words(["cat"], name, options=(
        "--detach", *NO_SHARES))[1:])
    try:
        with subprocess.Popen(["ctr", "task", "attach", name],
                              stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as attached:
            attached.stdin.write(b"hello\n")
            attached.stdin.flush()
            same("the output", attached.stdout.readline(), b"hello\n")
            house.ctr("task", "kill", "--signal", "SIGKILL", name)
            same("its status", attached.wait(60), 137)
    finally:
        house.remove(name)


@case("containerd TestIssue9103",
      "init killed between create and start: stopped, not hung")
def issue_9103(world):
    with world.container(["sleep", "1000"]) as container:
        init = container.create(null=True)
        early = world.client.begin("tasks.Wait", container_id=container.name)
        init.kill(KILL)
        same("the status", world.client.end(early)["exit_status"], 137)
        same("the state", container.state(), "STOPPED")
        container.delete_task()


@case("containerd TestIssue10589",
      "execs that race with init's death all end, and all Waits answer")
def issue_10589(world):
    with world.container(["sleep", "1000"]) as container:
        init = container.start(null=True)
        added = [container.exec_start(["sleep", "1000"], null=True)
                 for _ in range(4)]
        init.kill(KILL)
        same("init's status", init.wait(), 137)
        same("their statuses", {each.wait() for each in added}, {137})


@case("cri-integration TestContainerRestart",
      "a container whose task was deleted gets another task", full=True)
def container_restart(world):
    with world.container(["echo", "once more"]) as container:
        for _ in range(2):
            same("the output", container.start().result().out, b"once more\n")


@case("cri-integration TestSharedPidMultiProcessContainerStop",
      "when init dies, the processes that it left die with it", full=True)
def shared_pid_multi_process_container_stop(world):
    with world.container(["sh", "-c", "sleep 1000 & echo ready; read x"]) \
            as container:
        init = container.start(stdin=True)
        init.out_until("ready")
        added = container.exec_start(["sleep", "1000"])
        init.kill(KILL)
        same("init's status", init.wait(), 137)
        same("the exec's status", added.wait(), 137)


@case("cri-integration TestContainerStopCancellation",
      "a Wait that is given up does not disturb the next")
def container_stop_cancellation(world):
    added = world.shared().exec_start(["sleep", "1000"])
    for _ in range(3):
        _, stream = world.client.begin(
            "tasks.Wait", container_id=added.container.name,
            exec_id=added.exec_id)
        world.client.channel.cancel(stream)
    added.kill(KILL)
    same("the status", added.result().status, 137)


@case("critest container start", "a task is started once: FAILED_PRECONDITION")
def start_twice(world):
    container = world.shared()
    answers(world, error_of(container.init.call, "tasks.Start"),
            "FAILED_PRECONDITION")


@case("critest container remove in state created",
      "a task that never started can be killed and deleted")
def delete_created(world):
    with world.container(["sleep", "1000"]) as container:
        init = container.create(null=True)
        same("the state", container.state(), "CREATED")
        init.kill(KILL)
        until("it is stopped", lambda: container.state() == "STOPPED")
        container.delete_task()


@case("critest idempotence: remove twice", "a second delete: NOT_FOUND")
def delete_twice(world):
    with world.container(["true"]) as container:
        container.start().wait()
        container.delete_task()
        same("the answer", error_of(container.delete_task).code, "NOT_FOUND")
        same("the answer to Kill", error_of(container.init.kill, KILL).code,
             "NOT_FOUND")


@case("runc kill.bats", "a signal reaches init, which decides")
def kill_detached_busybox(world):
    script = "trap 'echo got it; exit 42' TERM; echo ready; " \
        "while :; do sleep 0.1; done"
    with world.container(["sh", "-c", script]) as container:
        init = container.start()
        init.out_until("ready")
        init.kill(TERM)
        same("the result", (init.wait(), bytes(
            init.streams.readers["stdout"].until(b"got it"))[-7:]),
             (42, b"got it\n"))


if __name__ == "__main__":
    sys.exit(main(__file__))
