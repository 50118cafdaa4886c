#!/usr/bin/env python3
"""Named cases: limits and their updates, pause, figures, events, seccomp and
namespaces."""
import sys
import time

import house
from cases import spec as oci
from cases.client import RESOURCES_URL, Events
from cases.frame import NO_SHARES, UNIFIED, case, main
from cases.world import error_of
from protobuf import decode
from tap import DOMUS, Failure, has, same, until

MB = 1 << 20
KILL = 9
ENOSPC, EXDEV = 28, 18

FIGURES = {
    "pids": (1, {"current": (1, "int"), "limit": (2, "int")}),
    "cpu": (2, {"usage_usec": (1, "int"), "user_usec": (2, "int"),
                "system_usec": (3, "int"), "nr_periods": (4, "int"),
                "nr_throttled": (5, "int"), "throttled_usec": (6, "int")}),
    "memory": (4, {"usage": (32, "int"), "usage_limit": (33, "int")}),
}


def limited(world):
    """A container with every usual limit, that sees its own cgroup."""
    def change(config):
        config["mounts"].append(dict(oci.CGROUP))
        config["linux"]["resources"].update({
            "memory": {"limit": 64 * MB, "reservation": 16 * MB},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000,
                    "cpus": "0"},
            "pids": {"limit": 60}})
        if UNIFIED:
            config["linux"]["resources"]["unified"] = {
                "memory.high": "62914560"}
    return world.shared("limited", change=change)


def own_group(config):
    """Its group, to write to."""
    config["mounts"].append(dict(oci.CGROUP, options=[
        word for word in oci.CGROUP["options"] if word != "ro"]))


@case("kernel cgroup-v2.rst, Delegation Containment",
      "a container may not raise its own limits where its group is writable",
      only="domus", cgroup2=True)
def limits_are_not_its_own(world):
    def change(config):
        own_group(config)
        config["linux"]["resources"]["pids"] = {"limit": 60}
    with world.container(["sleep", "1000"], change=change) as container:
        container.start()
        same("the answer", container.sh(
            "cd /sys/fs/cgroup; mkdir inner && rmdir inner && echo made; "
            "echo max >pids.max || cat pids.max"), "made\n60")


@case("runc exec (cgroup v2, init process in non-root cgroup)",
      "it runs where the container has put its first process",
      cgroup2=True)
def exec_beside_moved_init(world):
    with world.container(["sleep", "1000"], change=own_group) as container:
        container.start()
        container.sh("cd /sys/fs/cgroup && mkdir inner && "
                     "echo 1 >inner/cgroup.procs && "
                     "echo 0 >inner/cgroup.procs && "
                     "echo +pids >cgroup.subtree_control")
        same("the group", container.sh("cat /proc/self/cgroup"), "0::/inner")


def value(container, name):
    return container.sh("cat /sys/fs/cgroup/" + name)


def update(container, **resources):
    container.world.client.call(
        "tasks.Update", container_id=container.name, resources={
            "type_url": RESOURCES_URL, "value": oci.dump(resources)})


def parsed(data):
    """The figures of cgroup v2 that are looked at here."""
    try:
        return decode(FIGURES, data["value"])
    except ValueError:
        return decode_known(FIGURES, data["value"])


def decode_known(schema, data):
    from protobuf import fields  # pylint: disable=import-outside-toplevel
    names = {number: (name, kind) for name, (number, kind) in schema.items()}
    out = {}
    for number, field in fields(data):
        if number in names:
            name, kind = names[number]
            out[name] = decode_known(kind, field) \
                if isinstance(kind, dict) else field
    return out


@case("Kata k8s-memory", "memory.max and memory.low are the config's",
      cgroup2=True)
def memory_limit(world):
    container = limited(world)
    same("them", (value(container, "memory.max"),
                  value(container, "memory.low")),
         (str(64 * MB), str(16 * MB)))


@case("crun test_limits cpu", "cpu.max, weight and cpuset are the config's",
      cgroup2=True)
def cpu_limits(world):
    container = limited(world)
    same("them", (value(container, "cpu.max"), value(container, "cpu.weight"),
                  value(container, "cpuset.cpus")),
         ("50000 100000", "20", "0"))


@case("crun test_limits unified", "what `unified` says is written as it is",
      cgroup2=True)
def unified(world):
    same("it", value(limited(world), "memory.high"), "62914560")


@case("crun test_limit_pid_n", "there are no more processes than pids.max")
def pids_limit(world):
    def change(config):
        config["linux"]["resources"]["pids"] = {"limit": 20}
    result = world.run(["sh", "-c", "for i in $(seq 100); do "
                        "sleep 1000 & done"], change=change)
    has("the error", result.err, "can't fork")


@case("cri-integration TestUpdateContainerResources_Memory",
      "a new memory limit holds at once", cgroup2=True)
def update_memory(world):
    container = limited(world)
    update(container, memory={"limit": 48 * MB})
    same("it", value(container, "memory.max"), str(48 * MB))
    update(container, memory={"limit": 64 * MB})


@case("cri-integration TestUpdateContainerResources_CPU",
      "a new quota and weight hold at once", cgroup2=True)
def update_cpu(world):
    container = limited(world)
    update(container, cpu={"quota": 30000, "period": 60000, "shares": 1024})
    same("them", (value(container, "cpu.max"),
                  value(container, "cpu.weight")), ("30000 60000", "39"))
    update(container, cpu={"quota": 15000})
    same("the period of before", value(container, "cpu.max"), "15000 60000")
    update(container, cpu={"period": 30000})
    same("the quota of before", value(container, "cpu.max"), "15000 30000")


@case("runc update.bats: pids", "a new limit of processes holds at once",
      cgroup2=True)
def update_pids(world):
    container = limited(world)
    update(container, pids={"limit": 50})
    same("it", value(container, "pids.max"), "50")
    update(container, pids={"limit": -1})
    same("it", value(container, "pids.max"), "max")


@case("runc update.bats: what is not said stays",
      "an update of one limit leaves the others", cgroup2=True)
def update_leaves_others(world):
    container = limited(world)
    before = value(container, "memory.max")
    update(container, pids={"limit": 55})
    same("it", value(container, "memory.max"), before)


@case("bad input: an update that makes no sense",
      "is an error, and the task goes on")
def update_bad(world):
    container = limited(world)
    for resources in ({"memory": {"limit": "much"}},
                      {"cpu": {"cpus": "nonsense"}},
                      {"cpu": {"period": 1}}):
        error_of(update, container, **resources)
    same("the state", container.state(), "RUNNING")


@case("Kata k8s-sandbox-vcpus-allocation",
      "the domain has as many processors as the quota fills", only="domus")
def vcpus_allocation(world):
    def change(config):
        config["linux"]["resources"]["cpu"] = {"quota": 150000,
                                               "period": 100000}
    with world.container(["sleep", "1000"], change=change) as container:
        container.start(null=True)
        same("them", container.sh("grep -c ^processor /proc/cpuinfo"), "2")


@case("Kata k8s-memory", "the domain has the limit's memory, and little more",
      only="domus")
def domain_memory(world):
    seen = int(limited(world).sh("grep MemTotal /proc/meminfo").split()[1])
    if not 64 * 1024 <= seen <= 320 * 1024:
        raise Failure("MemTotal: %d kB" % seen)


@case("Kata k8s-oom; critest OOMKilled",
      "more memory than the limit: status 137, and an oom event before exit")
def oom(world):
    def change(config):
        config["linux"]["resources"]["memory"] = {"limit": 32 * MB,
                                                  "swap": 32 * MB}
    with Events(world.client.path) as events, world.container(
            ["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"],
            change=change) as container:
        init = container.start()
        same("the status", init.wait(), 137)
        if not events.wait(container.name, "/tasks/oom"):
            raise Failure("no oom event, but %s" %
                          events.of(container.name))
        events.wait(container.name, "/tasks/exit")
        topics = [topic for topic, _ in events.of(container.name)]
        # runc's shim gives no promise about the order.
        if world.domus and topics.index("/tasks/oom") > \
                topics.index("/tasks/exit"):
            raise Failure("oom comes after exit: %s" % topics)


@case("critest stats", "memory, processor time and processes are told",
      cgroup2=True)
def container_stats(world):
    container = limited(world)
    before = parsed(container.figures())
    container.sh("i=0; while [ $i -lt 30000 ]; do i=$((i + 1)); done")
    after = parsed(container.figures())
    same("the limit of memory", after["memory"]["usage_limit"], 64 * MB)
    if not 0 < after["memory"]["usage"] <= 64 * MB:
        raise Failure("memory: %s" % after)
    if after["cpu"]["usage_usec"] <= before["cpu"]["usage_usec"]:
        raise Failure("processor time: %s, then %s" % (before, after))
    same("processes", after["pids"]["current"] >= 1, True)


@case("containerd TestContainerMetrics", "figures of cgroup v2, of the task",
      cgroup2=True, full=True)
def container_metrics(world):
    same("their type", world.shared().figures()["type_url"],
         "io.containerd.cgroups.v2.Metrics")


@case("cri-integration TestContainerListStats",
      "a filter chooses whose figures")
def container_list_stats(world):
    limited(world)
    one = world.shared()
    found = world.client.call("tasks.Metrics", filters=[
        "id==" + one.name, "id==" + limited(world).name])["metrics"]
    same("whose", {each["id"] for each in found},
         {one.name, limited(world).name})


@case("containerd TestDeletedContainerMetrics",
      "after its deletion a task has no figures", full=True)
def deleted_container_metrics(world):
    with world.container(["true"]) as container:
        container.start().wait()
        container.delete_task()
        same("them", world.client.call("tasks.Metrics", filters=[
            "id==" + container.name])["metrics"], [])


# --- pause ------------------------------------------------------------------

@case("runc pause.bats", "paused, it does nothing; resumed, it goes on; the "
      "events tell")
def pause_and_resume(world):
    client = world.client
    with Events(world.client.path) as events, world.container(
            ["sh", "-c", "while :; do echo x; sleep 0.1; done"]) as container:
        init = container.start()
        init.out_until("x")
        client.call("tasks.Pause", container_id=container.name)
        same("the state", container.state(), "PAUSED")
        time.sleep(1)
        data = init.streams.readers["stdout"].data
        written = len(data)
        time.sleep(2)
        same("what it wrote meanwhile", len(data) - written, 0)
        error_of(client.call, "tasks.Pause", container_id=container.name)
        client.call("tasks.Resume", container_id=container.name)
        same("the state", container.state(), "RUNNING")
        until("it writes again", lambda: len(data) > written, 20)
        for topic in ("/tasks/paused", "/tasks/resumed"):
            if not events.wait(container.name, topic):
                raise Failure("no event %s" % topic)
        init.kill(KILL)
        init.wait()


@case("runc pause.bats: exec", "no exec starts in a paused container")
def pause_exec(world):
    client, container = world.client, world.shared()
    client.call("tasks.Pause", container_id=container.name)
    try:
        error_of(container.exec_start, ["true"])
    finally:
        client.call("tasks.Resume", container_id=container.name)
    same("an exec after it", container.sh("echo fine"), "fine")


@case("runc pause.bats: kill",
      "a task that is killed while it is paused ends", full=True)
def pause_kill(world):
    with world.container(["sleep", "1000"]) as container:
        init = container.start(null=True)
        world.client.call("tasks.Pause", container_id=container.name)
        init.kill(KILL)
        same("the status", init.wait(60), 137)


@case("runc pause.bats: resume", "what is not paused is not resumed")
def resume_running(world):
    error_of(world.client.call, "tasks.Resume",
             container_id=world.shared().name)


@case("containerd checkpoint", "domus answers UNIMPLEMENTED", only="domus")
def checkpoint_unimplemented(world):
    error = error_of(world.client.call, "tasks.Checkpoint",
                     container_id=world.shared().name)
    has("the error", error.code + error.message, "implemented")


# --- events -----------------------------------------------------------------

@case("cri-integration TestContainerEvents",
      "every event, in its order, init's exit last")
def container_events(world):
    with Events(world.client.path) as events, world.container(
            ["sleep", "1000"]) as container:
        init = container.start(null=True)
        added = container.exec_start(["sh", "-c", "exit 4"])
        added.result()
        other = container.exec_start(["sleep", "1000"], null=True)
        init.kill(KILL)
        same("the statuses", (init.wait(), other.wait()), (137, 137))
        container.delete_task()
        events.wait(container.name, "/tasks/delete", id="")
        seen = events.of(container.name)
        topics = [(topic, event.get("id") or event.get("exec_id") or "")
                  for topic, event in seen]
        wanted = ["/tasks/create", "/tasks/start", "/tasks/exec-added",
                  "/tasks/exec-started", "/tasks/exit"]
        same("the first events", [topic for topic, _ in topics][:5], wanted)
        exits = [(who, event["exit_status"]) for (topic, who), (_, event) in
                 zip(topics, seen) if topic == "/tasks/exit"]
        same("the exits", sorted(exits), sorted([
            (added.exec_id, 4), (other.exec_id, 137), (container.name, 137)]))
        if world.domus:
            same("the last exit", exits[-1][0], container.name)
        same("the last event", topics[-1][0], "/tasks/delete")


@case("containerd TestRegressionIssue4769", "one exit event for one end",
      full=True)
def regression_issue_4769(world):
    with Events(world.client.path) as events, \
            world.container(["true"]) as container:
        container.start().wait()
        container.delete_task()
        events.wait(container.name, "/tasks/delete")
        time.sleep(1)
        same("the exits", len([1 for topic, _ in events.of(container.name)
                               if topic == "/tasks/exit"]), 1)


@case("containerd TestRegressionIssue6429",
      "no exit event when there was no program to run", full=True)
def regression_issue_6429(world):
    with Events(world.client.path) as events:
        with world.container(["nothing-like-this"]) as container:
            error_of(container.start)
        marker = world.container(["true"])
        with marker:
            marker.start().wait()
            events.wait(marker.name, "/tasks/exit")
        same("the exits", [1 for topic, _ in events.of(container.name)
                           if topic == "/tasks/exit"], [])


# --- seccomp ----------------------------------------------------------------

def filtered(world):
    def change(config):
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO",
                 "errnoRet": ENOSPC},
                {"names": ["chmod"], "action": "SCMP_ACT_ERRNO",
                 "args": [{"index": 1, "value": 0o777, "op": "SCMP_CMP_EQ"}]},
                {"names": ["fchmodat"], "action": "SCMP_ACT_ERRNO",
                 "args": [{"index": 2, "value": 0o777, "op": "SCMP_CMP_EQ"}]},
                {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                 "errnoRet": EXDEV,
                 "args": [{"index": 1, "value": 0xff, "valueTwo": 12,
                           "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["symlink", "symlinkat"],
                 "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["sethostname"], "action": "SCMP_ACT_LOG"}]}
    return world.shared("filtered", change=change)


@case("critest seccomp localhost",
      "a call that the profile denies fails with the profile's error",
      full=True)
def seccomp_localhost(world):
    has("the error", filtered(world).exec(["mkdir", "/tmp/x"]).err,
        "no space left")


@case("runc seccomp.bats: arguments",
      "a call is denied by an argument, and else allowed")
def seccomp_arguments(world):
    container = filtered(world)
    container.sh("chmod 755 /tmp")
    has("the error", container.exec(["chmod", "777", "/tmp"]).err,
        "not permitted")


@case("runc seccomp.bats: masked comparison", "a masked value is compared")
def seccomp_masked_equal(world):
    container = filtered(world)
    has("the error", container.exec(
        ["sh", "-c", "sleep 100 & kill -12 $!; r=$?; kill -9 $!; exit $r"]
    ).err, "cross-device")


@case("runc seccomp.bats: SCMP_ACT_KILL_PROCESS",
      "the process dies by SIGSYS: 159")
def seccomp_kill_process(world):
    same("the status", filtered(world).exec(["ln", "-s", "a", "/tmp/b"]
                                            ).status, 159)


@case("critest seccomp unconfined", "without a profile there is no filter")
def seccomp_unconfined(world):
    same("it", [world.shared().sh("grep ^Seccomp: /proc/self/status").split(),
                filtered(world).sh("grep ^Seccomp: /proc/self/status"
                                   ).split()],
         [["Seccomp:", "0"], ["Seccomp:", "2"]])


@case("Kata k8s-seccomp; critest seccomp default",
      "containerd's own profile loads, and a call that it denies fails")
def seccomp_default(world):
    script = "grep ^Seccomp: /proc/self/status; " \
        "unshare -U true 2>&1 | grep -o 'not permitted'"
    name = house.new_name()
    words = ["ctr", "run", "--rm", "--runtime", world.runtime,
             *(house.PV if world.runtime == DOMUS else ()), "--seccomp",
             *NO_SHARES, house.BUSYBOX, name, "sh", "-c", script]
    try:
        same("the output", house.call(*words).text.split(),
             ["Seccomp:", "2", "not", "permitted"])
    finally:
        house.remove(name)


def bad_config(world, *words, **linux):
    def change(config):
        config["linux"].update(linux)
    has("the error", world.refused(["true"], change=change).message, *words)


@case("runc seccomp.bats: SCMP_ACT_NOTIFY without a listener",
      "it is refused")
def seccomp_notify(world):
    bad_config(world, seccomp={
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]})


@case("crun test_seccomp, unknown action", "an unknown action is refused")
def seccomp_unknown_action(world):
    bad_config(world, seccomp={"defaultAction": "SCMP_ACT_NONSENSE"})


# --- namespaces -------------------------------------------------------------

@case("containerd TestUserNamespaces",
      "ids are mapped: 0 inside is another outside")
def user_namespaces(world):
    def change(config):
        linux = config["linux"]
        linux["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            linux[kind] = [{"containerID": 0, "hostID": 0, "size": 1},
                           {"containerID": 1, "hostID": 2001, "size": 5000}]
    result = world.run(["sh", "-c", "id -u; cat /proc/self/uid_map"],
                       change=change)
    same("the output", (result.text.split(), result.err),
         (["0", "0", "0", "1", "1", "2001", "5000"], ""))


@case("crun test_error_handling bad uid map",
      "a mapping that makes no sense is refused", full=True)
def bad_uid_map(world):
    bad_config(world, namespaces=[{"type": kind} for kind in (
        "pid", "ipc", "uts", "mount", "network", "user")],
               uidMappings=[{"containerID": 0, "hostID": -1, "size": 1}],
               gidMappings=[{"containerID": 0, "hostID": 0, "size": 1}])


@case("crun namespaces, unknown type", "an unknown namespace is refused")
def namespace_unknown(world):
    bad_config(world, namespaces=[{"type": "nonsense"}])


@case("crun namespaces, twice", "a namespace that stands twice is refused")
def namespace_twice(world):
    bad_config(world, namespaces=[{"type": "mount"}, {"type": "pid"},
                                  {"type": "pid"}])


@case("critest HostPID, HostIPC, HostNetwork",
      "a namespace of dom0 by its path is refused, by name", only="domus")
def host_namespaces(world):
    for kind, name in (("pid", "pid"), ("ipc", "ipc"), ("network", "net")):
        others = [{"type": each} for each in ("pid", "ipc", "uts", "mount",
                                              "network") if each != kind]
        bad_config(world, "namespaces", namespaces=others + [
            {"type": kind, "path": "/proc/1/ns/" + name}])


if __name__ == "__main__":
    sys.exit(main(__file__))
