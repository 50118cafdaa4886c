"""domusd's control socket on a real Xen, in dom0: test_control.py brings it
there. Prints TAP."""
import errno
import os
import re
import subprocess
import sys
import time

import control
from control import Control, refuses

NAME = "control-test"
TREE = "/tmp/control-test"
MIB = 1 << 20


def shell(command):
    return subprocess.run(command, shell=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True,
                          check=False).stdout


def domain(domid):
    """Memory, processors and state, as `xl list` has them; None: gone."""
    for line in shell("xl list").splitlines()[1:]:
        words = line.split()
        if words[1] == str(domid):
            return int(words[2]), int(words[3]), words[4]
    return None


def scheduling(domid):
    line = shell("xl sched-credit2 -d %d" % domid).splitlines()[-1]
    return [int(word) for word in line.split()[-2:]]


def state_on_disk(uuid):
    with open("/run/domus/sandboxes/%s.state" % uuid, encoding="ascii") as f:
        return re.search("^state = (.*)$", f.read(), re.M).group(1)


def sandbox(c, kind, **values):
    made = c.create(NAME, rootfs_path=TREE, annotations=[
        "io.domus.domain-type=" + kind], **values)
    c.ready(NAME)
    return made


def update(c, **values):
    return c.do(control.UPDATE, id=NAME, **dict(
        {"memory_max": 0, "cpu_weight": 0, "has_cpu_cap": False,
         "cpu_cap": 0}, **values))


def destroy(c, domid):
    begin = time.monotonic()
    text = c.do(control.DESTROY, id=NAME)["text"]
    took = time.monotonic() - begin
    print("#   DESTROY answered after %.2f s: %s" % (took, text or "gone"))
    assert took < 5, took
    deadline = time.monotonic() + 60
    while domain(domid) or c.states():
        assert time.monotonic() < deadline, (domain(domid), c.states())
        time.sleep(0.1)


def sizes(kind):
    c = Control(namespace="default", timeout=120)
    made = sandbox(c, kind, memory_max=100 * MIB, cpu_weight=512, cpu_cap=150,
                   vcpus=2)
    domid = made["domid"]
    # The limit and the overhead of 32 MiB, more than the least of 128. What
    # `xl list` says is rounded down, and of a PVH domain Xen 4.20 keeps two
    # pages.
    assert shell("xenstore-read /local/domain/%d/memory/static-max" %
                 domid).strip() == str(132 << 10)
    assert domain(domid)[0] in (131, 132), domain(domid)
    assert domain(domid)[1] == 2, domain(domid)
    assert scheduling(domid) == [512, 150], scheduling(domid)
    update(c, cpu_weight=1000, has_cpu_cap=True, cpu_cap=25)
    assert scheduling(domid) == [1000, 25], scheduling(domid)
    update(c, has_cpu_cap=True, cpu_cap=201)
    assert scheduling(domid) == [1000, 0], scheduling(domid)
    update(c, memory_max=100 * MIB)
    refuses(errno.ENOMEM, "the domain has 132 MiB, of which 100 MiB", update,
            c, memory_max=101 * MIB)
    destroy(c, domid)
    c.close()


def paused(kind):
    c = Control(namespace="default", timeout=120)
    made = sandbox(c, kind)
    domid, uuid = made["domid"], made["uuid"]
    for _ in range(2):
        c.do(control.PAUSE, id=NAME)
        assert "p" in domain(domid)[2], domain(domid)
    assert c.states() == {NAME: "paused"}
    assert state_on_disk(uuid) == "paused"
    for _ in range(2):
        c.do(control.RESUME, id=NAME)
        assert "p" not in domain(domid)[2], domain(domid)
    assert state_on_disk(uuid) == "running"
    c.do(control.PAUSE, id=NAME)
    # Its name is for people; the next domusd goes by the uuid.
    assert shell("xl rename %d something-else" % domid) == ""
    shell("systemctl kill -s KILL domusd.service")
    c.close()
    deadline = time.monotonic() + 60
    while True:
        try:
            c = Control(namespace="default", timeout=120)
            c.do(control.ATTACH, id=NAME)
            break
        except (OSError, EOFError, control.ControlError):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert c.states() == {NAME: "paused"}
    assert "p" in domain(domid)[2], domain(domid)
    destroy(c, domid)
    c.close()


TESTS = [("%s of a %s domain" % (name, kind.upper()),
          lambda f=function, k=kind: f(k))
         for kind in ("pv", "pvh")
         for name, function in (("sizes", sizes), ("pause and adoption",
                                                   paused))]


def main():
    wanted = sys.argv[1:]
    tests = [t for t in TESTS if not wanted or any(w in t[0] for w in wanted)]
    failed = 0
    os.makedirs(TREE, exist_ok=True)
    with open(TREE + "/file", "w", encoding="ascii") as f:
        f.write("hello\n")
    print("1..%d" % len(tests), flush=True)
    for number, (name, test) in enumerate(tests, 1):
        try:
            test()
            print("ok %d - %s" % (number, name), flush=True)
        except Exception as e:  # whatever it is, the others go on
            failed += 1
            for line in ("%s: %s" % (type(e).__name__, e)).splitlines():
                print("# " + line)
            print("not ok %d - %s" % (number, name), flush=True)
            try:
                c = Control(namespace="default", timeout=60)
                c.do(control.DESTROY, id=NAME)
                c.close()
            except (OSError, EOFError, control.ControlError) as left:
                print("# " + str(left))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
