#!/usr/bin/env python3
"""What breaks while containers run, and that nothing is left of it."""
import os
import re
import signal
import subprocess
import sys

import house
from house import Attached, Detached, ctr, domains, run
from tap import DOMUS, RUNTIME, Failure, has, main, same, test, until

ECHO = ["sh", "-c", "echo ready; while read -r line; do echo got $line; done"]
DOWN = ("STOPPED", "UNKNOWN")


def converse(container, text):
    container.write(text + "\n")
    same("the answer", container.read_line(60), "got " + text)


def gone(name):
    """containerd noticed the end of the task, and its domain is no more."""
    until("the task of %s ends" % name,
          lambda: house.tasks().get(name, (0, "UNKNOWN"))[1] in DOWN)
    if RUNTIME == DOMUS:
        until("the domain of %s goes" % name,
              lambda: house.domain_name(name) not in domains())


def domusd():
    return until("domusd runs", house.domusd_pid)


@test("domusd is killed while a container runs", domus_only=True)
def daemon_killed():
    with Attached(ECHO) as container:
        same("the first line", container.read_line(), "ready")
        converse(container, "before")
        first = domusd()
        house.kill_hard(first)
        converse(container, "after")
        # The next container starts a domusd, which adopts the first one.
        same("another one's output", run(["echo", "next"]).text, "next\n")
        if domusd() == first:
            raise Failure("it is the same domusd")
        converse(container, "adopted")
        same("its state", house.tasks()[container.name][1], "RUNNING")
        same("the exit status", container.end().status, 0)


@test("domusd is killed, then the container ends before anybody asks for "
      "another", domus_only=True)
def daemon_killed_then_exit():
    with Attached(["sh", "-c", "echo ready; read -r line; exit 9"]) as \
            container:
        same("the first line", container.read_line(), "ready")
        house.kill_hard(domusd())
        container.write("go\n")
        same("the exit status", container.end().status, 9)


@test("domusd is killed three times while containers come and go",
      domus_only=True)
def daemon_killed_often():
    with Attached(ECHO) as container:
        same("the first line", container.read_line(), "ready")
        for number in range(3):
            house.kill_hard(domusd())
            same("the output", run(["echo", str(number)]).text,
                 "%d\n" % number)
        converse(container, "still here")


@test("domusd is killed while it builds a domain", domus_only=True)
def daemon_killed_building():
    with Attached(ECHO) as container:
        until("a domain is being built", lambda: any(
            container.name in name for name in domains()))
        house.kill_hard(domusd())
        # Either the container was too far to be stopped, or it failed; what
        # counts is that nothing of it stays.
        container.child.stdin.close()
        container.child.stdin = None
        container.end()


@test("domusd is stopped and started in good order", domus_only=True)
def daemon_restarted():
    with Attached(ECHO) as container:
        same("the first line", container.read_line(), "ready")
        house.must("systemctl", "restart", "domusd.service")
        converse(container, "after")
        same("the exit status", container.end().status, 0)


@test("the shim is killed while a container runs")
def shim_killed():
    with Detached(["sleep", "1000"]) as container:
        house.kill_hard(house.shim_of(container.name))
        gone(container.name)


@test("the shim is killed while its client reads")
def shim_killed_attached():
    with Attached(["sh", "-c", "while :; do echo line; done"]) as container:
        same("the first line", container.read_line(), "line")
        house.kill_hard(house.shim_of(container.name))
        if container.end(60).status == 0:
            raise Failure("ctr run took that for a success")
        gone(container.name)
        # ctr removes its FIFOs only when its own Delete succeeds, and here
        # containerd, which cleans up after the shim, may come first.
        house.drop_fifos(container.name)


@test("shim and domusd are killed together", domus_only=True)
def both_killed():
    with Detached(["sleep", "1000"]) as container:
        shim = house.shim_of(container.name)
        os.kill(domusd(), signal.SIGKILL)
        house.kill_hard(shim)
        gone(container.name)


@test("a builder is killed: the next container has another",
      domus_only=True)
def builders_killed():
    for pid in house.builder_pids():
        os.kill(pid, signal.SIGKILL)
    results = [run(["echo", "hello"]) for _ in range(2)]
    # The job that met its death may fail, with a reason; the second may not.
    if results[0].status:
        has("the error", results[0].err, "builder")
    same("the second one's output", results[1].text, "hello\n")


@test("the domain is destroyed behind the container's back",
      domus_only=True)
def domain_destroyed():
    with Attached(["sh", "-c", "echo ready; sleep 1000"]) as container:
        same("the first line", container.read_line(), "ready")
        house.must("xl", "destroy", house.domain_name(container.name))
        same("the exit status", container.end(60).status, 137)


@test("containerd is restarted while a container runs")
def containerd_restarted():
    with Detached(["sleep", "1000"]) as container:
        before = house.tasks()[container.name]
        house.must("systemctl", "restart", "containerd")
        until("containerd answers",
              lambda: house.call("ctr", "version").status == 0)
        same("its task", house.tasks()[container.name], before)
        ctr("task", "kill", "--signal", "SIGKILL", container.name)
        until("its task ends", lambda: house.tasks()[container.name][1] in
              DOWN)
        has("what delete says", house.call("ctr", "task", "delete",
                                           container.name).err, "137")
        gone(container.name)


@test("the client is killed: the container goes on and can be removed")
def client_killed():
    with Attached(["sh", "-c", "echo ready; sleep 1000"]) as container:
        same("the first line", container.read_line(), "ready")
        container.child.kill()
        container.child.wait()
        same("its state", house.tasks()[container.name][1], "RUNNING")


@test("a reader that stops reading stops the writer, and loses nothing")
def slow_reader():
    command = "i=0; while [ $i -lt 60000 ]; do echo $i; i=$((i+1)); done"
    with Attached(["sh", "-c", command]) as container:
        same("the first line", container.read_line(), "0")
        container.child.send_signal(signal.SIGSTOP)
        try:
            subprocess.run(["sleep", "3"], check=True)
        finally:
            container.child.send_signal(signal.SIGCONT)
        lines = container.end().text.split()
        same("the number of lines", len(lines), 59999)
        same("the lines", lines, [str(n) for n in range(1, 60000)])


@test("six containers, one after the other, leave memory and descriptors "
      "as they were", domus_only=True)
def many():
    def used():
        pid = domusd()
        with open("/proc/%d/status" % pid, encoding="ascii") as f:
            resident = int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
        return resident, len(os.listdir("/proc/%d/fd" % pid))
    run(["true"])
    before = used()
    for _ in range(6):
        same("the exit status", run(["true"]).status, 0)
    after = until("domusd closes its descriptors", lambda: used()
                  if used()[1] <= before[1] + 2 else None, 30)
    if after[0] > before[0] + 2048:
        raise Failure("domusd grew from %d to %d kB" % (before[0], after[0]))


if __name__ == "__main__":
    sys.exit(main(__file__, house.prepare, house.nothing_left))
