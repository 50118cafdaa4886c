#!/usr/bin/env python3
"""What works: containers in domains, by containerd and ctr."""
import hashlib
import json
import os
import subprocess
import sys

import house
from house import DEBIAN, PV, PVH, Attached, Detached, ctr, domains, run
from tap import DOMUS, RUNTIME, Failure, has, main, same, test, until

MB = 1 << 20


def hello(domain, kind):
    result = run(["sh", "-c", "echo hello from $(uname -r); "
                  "cat /sys/hypervisor/type /sys/hypervisor/guest_type"],
                 domain=domain)
    same("the exit status", result.status, 0)
    lines = result.text.splitlines()
    has("the output", lines[0], "hello from ")
    if os.uname().release in lines[0]:
        raise Failure("the container has dom0's kernel: " + lines[0])
    same("the hypervisor", lines[1:], ["xen", kind])


@test("hello in a PV domain", domus_only=True)
def hello_pv():
    hello(PV, "PV")


@test("hello in a PVH domain", domus_only=True)
def hello_pvh():
    hello(PVH, "PVH")


@test("hello in a domain of the host's own choice")
def hello_default():
    same("the output", run(["echo", "hello"], domain=()).out, b"hello\n")


def exits_with(status):
    def check():
        result = run(["sh", "-c", "exit %d" % status])
        same("the exit status", result.status, status)
    return check


for code in (0, 1, 127, 255):
    test("exit code %d" % code)(exits_with(code))


@test("exit code 128 and the number of a signal")
def exit_signal():
    with Attached(["sh", "-c", "echo ready; exec sleep 1000"]) as container:
        same("the first line", container.read_line(), "ready")
        ctr("task", "kill", "--signal", "SIGKILL", container.name)
        same("the exit status", container.end().status, 137)


@test("a child's death by a signal, seen inside")
def child_signal():
    result = run(["sh", "-c", "sleep 1000 & kill -TERM $!; wait $!"])
    same("the exit status", result.status, 143)


@test("SIGTERM reaches the process, which decides")
def sigterm():
    script = "trap 'echo got it; exit 42' TERM; echo ready; " \
        "while :; do sleep 0.1; done"
    with Attached(["sh", "-c", script]) as container:
        same("the first line", container.read_line(), "ready")
        ctr("task", "kill", "--signal", "SIGTERM", container.name)
        result = container.end()
        same("the output", result.text, "got it\n")
        same("the exit status", result.status, 42)


@test("SIGKILL ends a process that takes no other signal")
def sigkill():
    script = "trap '' TERM INT HUP; echo ready; while :; do sleep 0.1; done"
    with Attached(["sh", "-c", script]) as container:
        same("the first line", container.read_line(), "ready")
        ctr("task", "kill", "--signal", "SIGTERM", container.name)
        container_state = house.tasks()[container.name][1]
        same("its state after SIGTERM", container_state, "RUNNING")
        ctr("task", "kill", "--signal", "SIGKILL", container.name)
        same("the exit status", container.end().status, 137)


@test("10 MB of random bytes through stdin to stdout")
def random_through():
    data = os.urandom(10 * MB)
    result = run(["cat"], stdin=data)
    same("the exit status", result.status, 0)
    same("the number of bytes", len(result.out), len(data))
    same("the digest", hashlib.sha256(result.out).hexdigest(),
         hashlib.sha256(data).hexdigest())


@test("64 MB to stdout")
def much_output():
    line = b"0123456789abcdef0123456789abcde\n"
    result = run(["sh", "-c", "yes %s | head -c %d" %
                  (line[:-1].decode(), 64 * MB)])
    same("the exit status", result.status, 0)
    same("the number of bytes", len(result.out), 64 * MB)
    same("the digest", hashlib.sha256(result.out).hexdigest(),
         hashlib.sha256(line * (2 * MB)).hexdigest())


@test("stdout and stderr stay apart")
def streams_apart():
    result = run(["sh", "-c", "echo out; echo err >&2; echo out again; "
                  "echo err again >&2"])
    same("stdout", result.text, "out\nout again\n")
    same("stderr", result.err, "err\nerr again\n")


@test("the end of stdin reaches the process")
def stdin_end():
    result = run(["sh", "-c", "cat; echo over"], stdin=b"some\nlines\n")
    same("the output", result.text, "some\nlines\nover\n")


@test("environment, directory, host name and read-only root")
def settings():
    result = run(["sh", "-c", "echo $COLOUR; pwd; id -u; touch /new || "
                  "echo refused; touch /run/new && echo written"],
                 options=("--env", "COLOUR=blue", "--cwd", "/bin",
                          "--read-only"))
    same("the output", result.text, "blue\n/bin\n0\nrefused\nwritten\n")


@test("mounts, masked paths and capabilities as ctr asks")
def confinement():
    result = run(["sh", "-c", "grep -c . /proc/self/mounts >/dev/null; "
                  "wc -c < /proc/timer_list; "
                  "echo x > /proc/sys/kernel/hostname || echo refused; "
                  "grep -E '^(NoNewPrivs|CapBnd)' /proc/self/status; "
                  "ulimit -n; echo $$; ls /dev/null /dev/pts/ptmx"])
    same("the output", result.text.split(),
         "0 refused CapBnd: 00000000a80425fb NoNewPrivs: 1 1024 1 "
         "/dev/null /dev/pts/ptmx".split())


@test("two containers at once, each in its own domain")
def two_at_once():
    with Detached(["sleep", "1000"]) as first, \
            Detached(["sleep", "1000"]) as second:
        listed = house.tasks()
        for container in (first, second):
            same("the state of " + container.name,
                 listed[container.name][1], "RUNNING")
        if RUNTIME == DOMUS:
            for container in (first, second):
                house.domain_name(container.name) in domains() or fail_list()
        result = run(["echo", "third"])
        same("a third one's output", result.text, "third\n")


def fail_list():
    raise Failure("xl list: %s" % sorted(domains()))


@test("two containers started in the same moment")
def same_moment():
    with Attached(["sh", "-c", "echo a; cat"]) as first, \
            Attached(["sh", "-c", "echo b; cat"]) as second:
        same("the first one's line", first.read_line(), "a")
        same("the second one's line", second.read_line(), "b")
        first.write("to the first\n")
        second.write("to the second\n")
        same("the first one's output", first.end().text, "to the first\n")
        same("the second one's output", second.end().text, "to the second\n")


@test("`ctr task ls` and `ctr task ps` show it")
def listing():
    with Detached(["sleep", "1000"]) as container:
        pid, state = house.tasks()[container.name]
        same("its state", state, "RUNNING")
        if not os.path.exists("/proc/%d" % pid):
            raise Failure("its process %d is not there" % pid)
        shown = ctr("task", "ps", container.name).split()
        has("ctr task ps", " ".join(shown), "PID")
        if len(shown) < 3:
            raise Failure("ctr task ps shows no process: %s" % shown)
        ctr("task", "kill", "--signal", "SIGKILL", container.name)
        until("it is stopped", lambda: house.tasks()[container.name][1] ==
              "STOPPED")


@test("`ctr task metrics` tells memory and processor time")
def metrics():
    with Detached(["sleep", "1000"]) as container:
        shown = ctr("task", "metrics", "--format", "json", container.name)
        memory = re_number(shown, "usage")
        if not 4096 <= memory <= 512 * MB:
            raise Failure("memory in use: %d bytes: %s" % (memory, shown))


def re_number(text, name):
    """The first number of that name in JSON of any shape."""
    def search(value):
        if isinstance(value, dict):
            for key, each in value.items():
                if key == name and isinstance(each, (int, str)):
                    yield int(each)
                yield from search(each)
        elif isinstance(value, list):
            for each in value:
                yield from search(each)
    for number in search(json.loads(text)):
        return number
    raise Failure("no %s in %s" % (name, text))


def event_list(lines, name):
    """(topic, fields) of the events that concern a container's task."""
    found = []
    for line in lines:
        topic = next((w for w in line.split() if w.startswith("/")), "")
        fields = json.loads(line[line.index("{"):]) if "{" in line else {}
        if topic.startswith("/tasks/") and \
                fields.get("container_id") == name:
            found.append((topic, fields))
    return found


@test("`ctr events`: create, start, exit, delete, in this order and once")
def events():
    listener = subprocess.Popen(["ctr", "events"], stdout=subprocess.PIPE,
                                text=True)
    lines = []
    try:
        name = house.new_name()
        same("the exit status", run(["sh", "-c", "exit 7"],
                                    name=name).status, 7)
        # Everything came when an event that is younger has come.
        marker = house.new_name()
        same("the exit status", run(["true"], name=marker).status, 0)
        while not any(topic == "/tasks/delete" for topic, _ in
                      event_list(lines, marker)):
            lines.append(listener.stdout.readline())
    finally:
        listener.kill()
        listener.wait()
        listener.stdout.close()
    seen = event_list(lines, name)
    same("the events", [topic for topic, _ in seen],
         ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"])
    same("the pids", len({fields["pid"] for _, fields in seen}), 1)
    for topic, fields in seen[2:]:
        same("exit_status of " + topic, fields.get("exit_status"), 7)
    same("id of the exit", seen[2][1].get("id"), name)


@test("a script in a Debian userland")
def userland():
    result = run(["sh", "/userland-test.sh"], image=DEBIAN)
    bad = [line for line in result.text.splitlines()
           if line.startswith("not ok")]
    same("what failed", bad, [])
    same("the exit status", result.status, 0)
    has("the output", result.text, "ok 1 ")


@test("the same image twice: what one writes the other does not see")
def fresh_root():
    script = "test ! -e /etc/mark && echo > /etc/mark && rm /bin/sleep && " \
        "echo clean"
    for _ in range(2):
        same("the output", run(["sh", "-c", script]).text, "clean\n")


@test("`xl list` shows the domain by its container's name", domus_only=True)
def named_domain():
    with Detached(["sleep", "1000"]) as container:
        if house.domain_name(container.name) not in domains():
            fail_list()


@test("a root that is no image: ctr run --rootfs")
def own_root():
    root = "/root/domus-tests/root"
    os.makedirs(root + "/bin", exist_ok=True)
    for name in ("proc", "sys", "dev", "run", "tmp"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    house.must("cp", "/bin/busybox", root + "/bin/sh")
    result = house.call(*house.run_words(
        ["/bin/sh", "-c", "echo own root"], house.new_name(), image=root,
        options=("--rm", "--rootfs")))
    same("the output", result.text + result.err, "own root\n")


if __name__ == "__main__":
    sys.exit(main(__file__, house.prepare, house.nothing_left))
