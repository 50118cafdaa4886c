"""The domain builder on a real Xen, in dom0: test_builder.py brings it there.

builder_dom0.py DOMUSD KERNEL INITRAMFS; prints TAP, and times as comments.
"""
import os
import re
import stat
import subprocess
import sys
import time
import uuid

import builderjobs as jobs
from builderjobs import Builder, JobError

COMMAND_LINE = "console=hvc0 quiet loglevel=4 rdinit=/init panic=-1"
NAME = "domus-builder-test-"
MEMORY_KB = 64 * 1024
WAIT = 60
ENOENT, ESRCH, EIO, ENOMEM, ENODEV, EINVAL = 2, 3, 5, 12, 19, 22
EOPNOTSUPP, ETIMEDOUT, ECONNREFUSED = 95, 110, 111


def shell(command, check=True):
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        raise AssertionError("%s: %s" % (command, done.stdout))
    return done.stdout


def wait(what, condition, seconds=WAIT):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("not within %d s: %s" % (seconds, what))
        time.sleep(0.05)


def node(path):
    return shell("xenstore-read %s 2>/dev/null" % path, check=False).strip()


def domains():
    """Of the whole host: domid by uuid, from xl, which lists nameless ones
    too. Others may use this host, so tests look for their own uuids only."""
    found = {}
    for line in shell("xl list -v").splitlines()[1:]:
        match = re.search(r"\s(\d+)\s.*\s([0-9a-f-]{36})\s", line + " ")
        if match:
            found[match.group(2)] = int(match.group(1))
    return found


def perms(path):
    """Of a node as xenstore-ls writes them: "n5,r0" is owner and reader."""
    for line in shell("xenstore-ls -fp " + os.path.dirname(path)).splitlines():
        if line.startswith(path + " = "):
            return line.rpartition("(")[2].rstrip(")")
    raise AssertionError("no " + path)


class Host:
    """What the tests share: a worker, an image, and how to leave no trace."""

    def __init__(self, program, kernel, initramfs):
        self.program = program
        self.kernel = kernel
        self.initramfs = initramfs
        self.worker = Builder(program, "worker")
        tree = "/tmp/builder-test"
        shell("rm -rf {0}; mkdir -p {0}/tree; echo hello > {0}/tree/file; "
              "mkfs.erofs --quiet {0}/image {0}/tree".format(tree))
        self.image = tree + "/image"

    def job(self, pvh, **changes):
        values = dict(
            name=NAME + uuid.uuid4().hex[:8], uuid=str(uuid.uuid4()),
            pvh=pvh, kernel=self.kernel, initramfs=self.initramfs,
            command_line=COMMAND_LINE, memory_kb=MEMORY_KB, vcpus=1,
            cpu_weight=0, cpu_cap=0)
        values.update(changes)
        return values

    def destroy(self, domid, uuid_text):
        """What lingers is asked for again, as domusd does."""
        deadline = time.monotonic() + WAIT
        while True:
            try:
                self.worker.do(jobs.DESTROY, domid=domid, uuid=uuid_text)
                return
            except JobError as e:
                if e.code != ETIMEDOUT or time.monotonic() > deadline:
                    raise
                print("#   " + e.text)

    def loop(self):
        device = shell("losetup -r -f --show " + self.image).strip()
        number = os.stat(device).st_rdev
        return dict(name="xvda", major=os.major(number),
                    minor=os.minor(number), writable=False, path=device)


def no_trace(domid):
    """Nothing is left of a domain that was destroyed."""
    left = [line for line in shell("xenstore-ls -f").splitlines()
            if "/%d/" % domid in line.split(" = ")[0] + "/"]
    assert not left, left
    devices = [d for d in os.listdir("/sys/bus/xen-backend/devices")
               if d.split("-")[1] == str(domid)]
    assert not devices, devices
    assert domid not in domains().values(), domid


def refused(code, words, call):
    try:
        call()
    except JobError as e:
        assert e.code == code, "%d, not %d: %s" % (e.code, code, e.text)
        assert words in e.text, e.text
        print("#   " + e.text)
        return
    raise AssertionError("it was not refused: " + words)


def timed(label, call):
    begin = time.monotonic_ns()
    result = call()
    print("#   %s: %.1f ms" % (label, (time.monotonic_ns() - begin) / 1e6))
    return result


# --- tests ------------------------------------------------------------------

def host(h):
    answer = h.worker.do(jobs.HOST)
    assert answer["xen_version"].startswith("4."), answer
    assert "dom0_mem" in answer["command_line"], answer
    assert answer["has_hap"], answer
    assert 0 < answer["free_kb"] < answer["total_kb"], answer


def life(h, pvh):
    job = h.job(pvh)
    watcher = Builder(h.program, "watcher")
    built = timed("BUILD", lambda: h.worker.do(jobs.BUILD, **job))
    domid = built["domid"]
    assert stat.S_ISCHR(os.stat(built["console"]).st_mode)
    line = next(x.split() for x in shell("xl list").splitlines()
                if job["name"] in x)
    assert line[1] == str(domid) and "p" in line[4], line
    data = perms("/local/domain/%d/data" % domid)
    assert data == "n%d" % domid, "the guest owns its data directory: " + data

    watcher.send(jobs.WATCH, domid=domid, uuid=job["uuid"])
    vbd = h.loop()
    timed("START", lambda: h.worker.do(
        jobs.START, domid=domid, uuid=job["uuid"], vbds=[vbd]))
    kind, _, said = timed("the guest's channel",
                          lambda: watcher.receive(WAIT))
    assert kind == jobs.CHANNEL and said["uuid"] == job["uuid"], (kind, said)
    assert said["channel"] == "vchan:%d:/local/domain/%d/data/vchan" % (
        domid, domid), said
    back = "/local/domain/0/backend/vbd/%d/51712" % domid
    wait("block device connected", lambda: node(back + "/state") == "4")
    listed = shell("xl block-list %d" % domid)
    assert "51712" in listed and back in listed, listed
    mine = [d for d in h.worker.do(jobs.LIST)["domains"]
            if d["domid"] == domid]
    assert mine == [dict(domid=domid, uuid=job["uuid"],
                         console=built["console"], dying=False,
                         shut_down=False, paused=False, reason="")], mine

    # Not this one: the number fits, the uuid does not.
    h.destroy(domid, str(uuid.uuid4()))
    assert job["name"] in shell("xl list")
    timed("DESTROY", lambda: h.destroy(domid, job["uuid"]))
    no_trace(domid)
    kind, _, said = watcher.receive(WAIT)
    assert (kind, said) == (jobs.DIED,
                            dict(domid=domid, uuid=job["uuid"],
                                 reason="destroyed")), said
    h.destroy(domid, job["uuid"])
    shell("losetup -d " + vbd["path"])
    wait("loop device free", lambda: not shell(
        "losetup -j " + h.image).strip(), 10)

    # A watch for what has ended already says so at once.
    watcher.send(jobs.WATCH, domid=domid, uuid=job["uuid"])
    assert watcher.receive(10)[0] == jobs.DIED
    assert watcher.close() == 0


def scheduling(domid):
    """Weight and cap, as `xl sched-credit2` has them."""
    line = shell("xl sched-credit2 -d %d" % domid).splitlines()[-1]
    return [int(word) for word in line.split()[-2:]]


def is_paused(domid):
    return "p" in shell("xl list %d" % domid).splitlines()[-1].split()[4]


def paused_and_scheduled(h, pvh):
    job = h.job(pvh, cpu_weight=512, cpu_cap=50)
    domid = h.worker.do(jobs.BUILD, **job)["domid"]
    this = dict(domid=domid, uuid=job["uuid"])
    assert scheduling(domid) == [512, 50], scheduling(domid)
    h.worker.do(jobs.START, vbds=[], **this)
    assert not is_paused(domid)
    for _ in range(2):
        h.worker.do(jobs.PAUSE, **this)
        assert is_paused(domid)
        assert [d["paused"] for d in h.worker.do(jobs.LIST)["domains"]
                if d["domid"] == domid] == [True]
    for _ in range(2):
        h.worker.do(jobs.RESUME, **this)
        assert not is_paused(domid)
    for asked, got in (((100, False, 0), [100, 50]), ((0, True, 80), [100, 80]),
                       ((0, True, 0), [100, 0]), ((0, False, 9), [100, 0])):
        h.worker.do(jobs.SCHED, cpu_weight=asked[0], has_cpu_cap=asked[1],
                    cpu_cap=asked[2], **this)
        assert scheduling(domid) == got, (asked, scheduling(domid))
    refused(EINVAL, "cpu weight of 65536", lambda: h.worker.do(
        jobs.SCHED, cpu_weight=65536, has_cpu_cap=False, cpu_cap=0, **this))
    refused(ESRCH, "is gone", lambda: h.worker.do(
        jobs.PAUSE, domid=domid, uuid=str(uuid.uuid4())))
    h.worker.do(jobs.PAUSE, **this)
    h.destroy(domid, job["uuid"])
    no_trace(domid)
    refused(ESRCH, "is gone", lambda: h.worker.do(jobs.RESUME, **this))


def ends_by_itself(h, pvh):
    """An initramfs without an init: the kernel panics, Xen says why."""
    watcher = Builder(h.program, "watcher")
    empty = os.path.join(os.path.dirname(h.image), "empty.cpio")
    shell("cd /tmp/builder-test/tree && echo file | "
          "busybox cpio -o -H newc > %s 2>/dev/null" % empty)
    job = h.job(pvh, initramfs=empty,
                command_line="console=hvc0 quiet panic=0")
    domid = h.worker.do(jobs.BUILD, **job)["domid"]
    watcher.send(jobs.WATCH, domid=domid, uuid=job["uuid"])
    h.worker.do(jobs.START, domid=domid, uuid=job["uuid"], vbds=[])
    kind, _, said = watcher.receive(WAIT)
    assert (kind, said) == (jobs.DIED,
                            dict(domid=domid, uuid=job["uuid"],
                                 reason="crash")), said
    mine = [d for d in h.worker.do(jobs.LIST)["domains"]
            if d["domid"] == domid]
    assert mine[0]["shut_down"] and mine[0]["reason"] == "crash", mine
    refused(ESRCH, "has ended", lambda: h.worker.do(
        jobs.START, domid=domid, uuid=job["uuid"], vbds=[]))
    h.destroy(domid, job["uuid"])
    no_trace(domid)
    watcher.close()


def xl_destroys(h):
    """A person's `xl destroy` removes all of it, too, and is noticed."""
    job = h.job(False)
    watcher = Builder(h.program, "watcher")
    domid = h.worker.do(jobs.BUILD, **job)["domid"]
    watcher.send(jobs.WATCH, domid=domid, uuid=job["uuid"])
    vbd = h.loop()
    h.worker.do(jobs.START, domid=domid, uuid=job["uuid"], vbds=[vbd])
    said = shell("xl destroy %d" % domid)
    assert not said.strip(), said
    no_trace(domid)
    while True:
        kind, _, said = watcher.receive(WAIT)
        if kind == jobs.DIED:
            break
    assert said["reason"] == "destroyed", said
    watcher.close()
    shell("losetup -d " + vbd["path"])


def bad_builds(h):
    tried = []

    def build(**changes):
        job = h.job(False, **changes)
        tried.append(job["uuid"])
        return lambda: h.worker.do(jobs.BUILD, **job)

    refused(ENOENT, "kernel /nonexistent", build(kernel="/nonexistent"))
    refused(ENOENT, "initramfs /nonexistent", build(initramfs="/nonexistent"))
    refused(EINVAL, "0 vcpus", build(vcpus=0))
    refused(EINVAL, "not a uuid", build(uuid="1234"))
    refused(ENOMEM, "not enough memory", build(memory_kb=1 << 30))
    try:
        build(kernel="/etc/passwd")()
        raise AssertionError("it built a domain of /etc/passwd")
    except JobError as e:
        print("#   " + e.text)
    assert not set(tried) & set(domains())


def bad_devices(h):
    job = h.job(False)
    domid = h.worker.do(jobs.BUILD, **job)["domid"]

    def start(**vbd):
        values = dict(name="xvda", major=7, minor=0, writable=False,
                      path="/dev/loop0")
        values.update(vbd)
        return lambda: h.worker.do(jobs.START, domid=domid, uuid=job["uuid"],
                                   vbds=[values])

    refused(EINVAL, "none of xvda", start(name="sda"))
    refused(ENODEV, "is not block device", start(path="/dev/null"))
    refused(ENOENT, "/nonexistent", start(path="/nonexistent"))
    nobody = "/tmp/builder-test/nobody"  # no driver has this number
    os.mknod(nobody, stat.S_IFBLK | 0o600, os.makedev(240, 99))
    refused(EIO, "refused xvda", start(path=nobody, major=240, minor=99))
    refused(ESRCH, "is gone", lambda: h.worker.do(
        jobs.START, domid=domid, uuid=str(uuid.uuid4()), vbds=[]))
    h.destroy(domid, job["uuid"])
    no_trace(domid)


def worker_killed(h):
    """Whenever it dies in a build, the uuid is enough to clean up."""
    for delay in (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5):
        job = h.job(True)
        victim = Builder(h.program, "worker")
        victim.do(jobs.HOST)
        victim.send(jobs.BUILD, **job)
        time.sleep(delay)
        victim.process.kill()
        victim.process.wait()
        domid = domains().get(job["uuid"])
        mine = [d for d in h.worker.do(jobs.LIST)["domains"]
                if d["uuid"] == job["uuid"]]
        print("#   killed after %g s: %s" % (delay, mine or "no domain"))
        if domid is None:
            assert not mine
            continue
        assert [d["domid"] for d in mine] == [domid], (domid, mine)
        h.destroy(domid, job["uuid"])
        assert job["uuid"] not in domains()
        no_trace(domid)


def no_xenconsoled(h):
    job = h.job(False)
    shell("systemctl stop xenconsoled")
    try:
        refused(ECONNREFUSED, "xenconsoled is not running",
                lambda: h.worker.do(jobs.BUILD, **job))
        assert job["uuid"] not in domains()
    finally:
        shell("systemctl start xenconsoled")
    job = h.job(False)
    built = h.worker.do(jobs.BUILD, **job)
    h.destroy(built["domid"], job["uuid"])


def wrong_jobs(h):
    refused(EOPNOTSUPP, "a worker does no WATCH", lambda: h.worker.do(
        jobs.WATCH, domid=1, uuid=str(uuid.uuid4())))
    watcher = Builder(h.program, "watcher", stderr=subprocess.DEVNULL)
    watcher.send(jobs.LIST)
    assert watcher.process.wait(10) == 1
    assert Builder(h.program, "worker").close() == 0


TESTS = [
    ("what the host offers", host),
    ("a PV domain's life", lambda h: life(h, False)),
    ("a PVH domain's life", lambda h: life(h, True)),
    ("a PV domain paused and scheduled",
     lambda h: paused_and_scheduled(h, False)),
    ("a PVH domain paused and scheduled",
     lambda h: paused_and_scheduled(h, True)),
    ("a PV domain that ends by itself", lambda h: ends_by_itself(h, False)),
    ("a PVH domain that ends by itself", lambda h: ends_by_itself(h, True)),
    ("xl destroy leaves nothing", xl_destroys),
    ("builds that cannot be", bad_builds),
    ("devices that cannot be", bad_devices),
    ("a worker killed in a build", worker_killed),
    ("no xenconsoled", no_xenconsoled),
    ("jobs for the other role", wrong_jobs),
]


def main():
    h = Host(*sys.argv[1:4])
    wanted = sys.argv[4:]
    tests = [t for t in TESTS if not wanted or any(w in t[0] for w in wanted)]
    failed = 0
    print("1..%d" % len(tests), flush=True)
    for number, (name, test) in enumerate(tests, 1):
        try:
            test(h)
            print("ok %d - %s" % (number, name), flush=True)
        except Exception as e:  # whatever it is, the others go on
            failed += 1
            for line in ("%s: %s" % (type(e).__name__, e)).splitlines():
                print("# " + line)
            print("not ok %d - %s" % (number, name), flush=True)
            names = shell("xl list")
            for left in h.worker.do(jobs.LIST)["domains"]:
                if re.search(r"^%s\S+ +%d " % (NAME, left["domid"]), names,
                             re.M):
                    h.destroy(left["domid"], left["uuid"])
            shell("losetup -j %s | cut -d: -f1 | xargs -r losetup -d" %
                  h.image, check=False)
    h.worker.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
