"""The emulated host as tests see it: containers by `ctr`, domusd's
configuration, and a picture of everything that a container could leave
behind. Runs in dom0; standard library only.

Other people may use the host at the same time: only containers whose names
new_name() gave, and domusd's own processes, are ever killed or removed.
"""
import contextlib
import fcntl
import glob
import itertools
import os
import re
import select
import signal
import subprocess
import time

from tap import DOMUS, RUNTIME, Failure, same, until

BUSYBOX = "localhost/domus/busybox:latest"
DEBIAN = "localhost/domus/debian:latest"
PV = ("--annotation", "io.domus.domain-type=pv")
PVH = ("--annotation", "io.domus.domain-type=pvh")
CONFIG = "/etc/domus/domus.conf"
GUEST_FILES = "/usr/local/lib/domus"
BUNDLES = "/run/containerd/io.containerd.runtime.v2.task"
SETTLE_SECONDS = 40
RUN_SECONDS = 240

OWN = "/root/domus-tests/names"
LOCK = "/run/domus-tests.lock"
LEAKS_SHOWN = 20

counter = itertools.count(1)


class Result:
    """How a program ended and what it wrote."""

    def __init__(self, status, out, err):
        self.status = status
        self.out = out
        self.err = err.decode(errors="replace")

    @property
    def text(self):
        return self.out.decode(errors="replace")


def call(*argv, stdin=None, seconds=RUN_SECONDS):
    source = {"input": stdin} if stdin is not None else \
        {"stdin": subprocess.DEVNULL}
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=False,
                          stderr=subprocess.PIPE, timeout=seconds, **source)
    return Result(done.returncode, done.stdout, done.stderr)


def must(*argv, **options):
    result = call(*argv, **options)
    if result.status:
        raise Failure("%s ended with %d: %s" % (" ".join(argv), result.status,
                                                result.err.strip()))
    return result.text


def ctr(*words, **options):
    return must("ctr", *words, **options)


def new_name():
    """Noted before it is used, so that a later run may clean up after us."""
    name = "domus-test-%d-%d" % (os.getpid(), next(counter))
    with open(OWN, "a", encoding="ascii") as f:
        f.write(name + "\n")
    return name


def own_names():
    try:
        with open(OWN, encoding="ascii") as f:
            return set(f.read().split())
    except FileNotFoundError:
        return set()


def run_words(command, name, image=BUSYBOX, options=(), domain=PV):
    """`ctr run`; domain: PV, PVH, or () for the host's own choice."""
    chosen = domain if RUNTIME == DOMUS else ()
    return ["ctr", "run", "--runtime", RUNTIME, *chosen, *options, image,
            name, *command]


def run(command, name=None, stdin=None, seconds=RUN_SECONDS, options=(),
        **how):
    """Runs a container to its end and removes it."""
    return call(*run_words(command, name or new_name(),
                           options=("--rm", *options), **how),
                stdin=stdin, seconds=seconds)


class Attached:
    """A container whose standard streams are ours, as long as it runs."""

    def __init__(self, command, options=(), **how):
        self.name = new_name()
        self.seen = b""
        self.child = subprocess.Popen(
            run_words(command, self.name, options=("--rm", *options), **how),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def read_line(self, seconds=RUN_SECONDS):
        deadline = time.monotonic() + seconds
        fd = self.child.stdout.fileno()
        while b"\n" not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise Failure("no line from %s within %d s" % (self.name,
                                                               seconds))
            piece = os.read(fd, 65536)
            if not piece:
                raise Failure("%s ended: %s" % (
                    self.name, self.child.stderr.read().decode()))
            self.seen += piece
        line, _, self.seen = self.seen.partition(b"\n")
        return line.decode()

    def write(self, text):
        self.child.stdin.write(text.encode())
        self.child.stdin.flush()

    def end(self, seconds=RUN_SECONDS):
        """Its exit status, and what was left to read."""
        out, err = self.child.communicate(timeout=seconds)
        return Result(self.child.returncode, self.seen + out, err)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()
        remove(self.name)


class Detached:
    """A container in the background, with no streams at all."""

    def __init__(self, command, **how):
        self.name = new_name()
        result = call(*run_words(command, self.name,
                                 options=("--detach", "--null-io"), **how))
        if result.status:
            remove(self.name)
            raise Failure("ctr run: " + result.err)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        remove(self.name)


def tasks():
    """Name → (pid, status) of every task."""
    lines = ctr("task", "ls").splitlines()[1:]
    return {words[0]: (int(words[1]), words[2])
            for words in map(str.split, lines)}


def remove(name):
    """Whatever became of it, our container is gone afterwards."""
    if name not in own_names():
        raise Failure("%s is not a container of these tests" % name)
    if name in tasks():
        call("ctr", "task", "kill", "--signal", "SIGKILL", name)
        deadline = time.monotonic() + 60
        while tasks().get(name, (0, ""))[1] == "RUNNING" and \
                time.monotonic() < deadline:
            time.sleep(0.2)
        call("ctr", "task", "delete", "--force", name)
    if name in ctr("container", "ls", "--quiet").split():
        call("ctr", "container", "delete", name)
    if any(line.split()[:1] == [name]
           for line in ctr("snapshot", "ls").splitlines()):
        call("ctr", "snapshot", "rm", name)


def drop_fifos(name):
    """The FIFOs of a client that could not remove them itself."""
    for path in glob.glob("/run/containerd/fifo/*/%s-std*" % name):
        os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))


def remove_ours(kept=frozenset()):
    for name in (own_names() - kept) & \
            set(ctr("container", "ls", "--quiet").split()):
        remove(name)


# --- processes --------------------------------------------------------------

def processes():
    """pid → argv of everything that runs."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            with open(path, "rb") as f:
                words = f.read().decode(errors="replace").split("\0")[:-1]
            if words:
                found[int(path.split("/")[2])] = words
    return found


def pids_of(program):
    return [pid for pid, words in processes().items()
            if os.path.basename(words[0]) == program]


def parent_of(pid):
    with open("/proc/%d/stat" % pid, encoding="utf-8") as f:
        return int(f.read().rpartition(")")[2].split()[1])


def shim_of(name):
    """The process that serves a container."""
    found = [pid for pid, words in processes().items()
             if os.path.basename(words[0]).startswith("containerd-shim-")
             and name in words and "start" not in words
             and "delete" not in words]
    same("the number of shims of %s" % name, len(found), 1)
    return found[0]


def kill_hard(pid):
    os.kill(pid, signal.SIGKILL)
    until("process %d is gone" % pid,
          lambda: not os.path.exists("/proc/%d" % pid))


# --- domains ----------------------------------------------------------------

def domains():
    """Name → number of every domain but dom0."""
    if RUNTIME != DOMUS:
        return {}
    lines = must("xl", "list").splitlines()[1:]
    found = {words[0]: int(words[1]) for words in map(str.split, lines)}
    found.pop("Domain-0", None)
    return found


def domain_name(container):
    return "domus-default:" + container


# --- what a container could leave behind ------------------------------------

def xenstore_nodes():
    nodes = set()
    kept = re.compile(r"/(local/domain/[1-9]\d*|libxl/[1-9]\d*|domus/[^/]+|"
                      r"local/domain/0/backend/[^/]+/\d+)")
    for line in must("xenstore-ls", "-f").splitlines():
        found = kept.match(line)
        if found:
            nodes.add(found.group(0))
    for line in call("xenstore-list", "/vm").text.split():
        nodes.add("/vm/" + line)
    return nodes


def files():
    places = ["/run/domus", "/var/lib/domus", BUNDLES, "/run/containerd/fifo",
              "/run/containerd/s",
              "/var/lib/containerd/io.containerd.runtime.v2.task"]
    found = set()
    for place in places:
        for path, directories, names in os.walk(place):
            # What is mounted there is told by the list of mounts.
            if "rootfs" in directories:
                directories.remove("rootfs")
            found.update(os.path.join(path, n) for n in directories + names)
    # The log is of a domusd that a shim started and that failed: for people.
    found.discard("/run/domus/domusd.log")
    # The images are a cache: they stay, what is only half made doesn't.
    return {path for path in found
            if not re.fullmatch(r"/var/lib/domus/images/"
                                r"(keys/[0-9a-f]+|[0-9a-f]+\.erofs)", path)}


def sockets():
    with open("/proc/net/unix", encoding="utf-8") as f:
        names = [words[7] for words in map(str.split, f) if len(words) > 7]
    return {name for name in names
            if "/containerd/s/" in name or "domus" in name}


def interesting_processes():
    found = set()
    for pid, words in processes().items():
        name = os.path.basename(words[0])
        if name.startswith("containerd-shim-") or name == "mkfs.erofs":
            found.add(" ".join(words))
        elif name == "domus-builder":
            with contextlib.suppress(OSError):
                if parent_of(pid) == 1:
                    found.add("%s %d without a domusd" % (name, pid))
    return found


def domusd_pid():
    """The process of the unit, 0 when it does not run."""
    return int(must("systemctl", "show", "--property", "MainPID", "--value",
                    "domusd.service"))


def builder_pids():
    """The builders of our domusd, nobody else's."""
    parent = domusd_pid()
    found = []
    for pid in pids_of("domus-builder"):
        with contextlib.suppress(OSError):
            if parent and parent_of(pid) == parent:
                found.append(pid)
    return found


def open_files():
    """What domusd has open and could forget to close. It is made to run, or
    what it always has open would look new later."""
    found = set()
    pid = domusd_pid()
    if not pid:
        must("systemctl", "start", "domusd.service")
        pid = domusd_pid()
    for path in glob.glob("/proc/%d/fd/*" % pid):
        with contextlib.suppress(OSError):
            target = os.readlink(path)
            if target.startswith(("/dev/loop", "/run", "/var")):
                found.add(target)
    return found


def picture():
    """Kind → set of what there is of it."""
    with open("/proc/self/mounts", encoding="utf-8") as f:
        mounts = {" ".join(line.split()[:3]) for line in f}
    seen = {
        "mount": mounts,
        "loop": set(must("losetup", "--list", "--noheadings", "--output",
                         "NAME,BACK-FILE").splitlines()),
        "file": files(),
        "socket": sockets(),
        "process": interesting_processes(),
        "task": set(tasks()),
        "container": set(ctr("container", "ls", "--quiet").split()),
    }
    if RUNTIME == DOMUS:
        seen["domain"] = {"%s %d" % item for item in domains().items()}
        seen["xenstore node"] = xenstore_nodes()
        seen["open file of domusd"] = open_files()
    return seen


def left_behind(before, now):
    return ["%s left behind: %s" % (kind, each)
            for kind in sorted(now)
            for each in sorted(now[kind] - before[kind])]


class Surroundings:
    """A test's surroundings: afterwards the host is as it was before. A picture
    costs seconds under emulation, so the one after a test that left nothing is
    that before the next."""

    def __init__(self):
        self.last = None

    @contextlib.contextmanager
    def __call__(self):
        before = self.last or picture()
        self.last = None
        try:
            yield
        except BaseException:
            remove_ours()
            raise
        deadline = time.monotonic() + SETTLE_SECONDS
        now = picture()
        while left_behind(before, now) and time.monotonic() < deadline:
            time.sleep(0.5)
            now = picture()
        leaks = left_behind(before, now)
        if leaks:
            remove_ours()
            more = len(leaks) - LEAKS_SHOWN
            raise Failure("\n".join(leaks[:LEAKS_SHOWN]) +
                          ("\nand %d more" % more if more > 0 else ""))
        self.last = now


nothing_left = Surroundings()


# --- domusd -----------------------------------------------------------------

def configure(**keys):
    """Writes domus.conf, with _ for -, and has domusd start afresh."""
    if RUNTIME != DOMUS:
        return
    keys.setdefault("allow_annotations", "io.domus.domain-type "
                    "io.domus.memory")
    os.makedirs(os.path.dirname(CONFIG), exist_ok=True)
    with open(CONFIG, "w", encoding="ascii") as f:
        f.write("[domus]\n")
        for key, value in keys.items():
            f.write("%s = %s\n" % (key.replace("_", "-"), value))
    before = domusd_pid()
    must("systemctl", "stop", "domusd.service")
    # The shim of a container that runs starts another one at once.
    until("domusd stops", lambda: not before or domusd_pid() != before)
    # Tests stop and start it more often than systemd thinks sane.
    call("systemctl", "reset-failed", "domusd.service", "domusd.socket")
    must("systemctl", "start", "domusd.socket")


@contextlib.contextmanager
def configured(**keys):
    configure(**keys)
    try:
        yield
    finally:
        configure()


def prepare():
    """Called before the first test: a host at rest, with domusd running."""
    # One program at a time: they look at the whole host. Held until we end.
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    configure()
    remove_ours()
    result = run(["true"])
    if result.status:
        raise SystemExit("Bail out! the first container: " + result.err)
