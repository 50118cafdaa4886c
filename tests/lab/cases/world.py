"""Containers and processes of one runtime, by containerd's interface."""
import contextlib
import hashlib
import json
import os
import select
import shutil
import threading
import time

import house
from tap import DOMUS, Failure, has, same

from . import client as api
from . import grpc
from . import spec as oci

FIFOS = "/run/domus-cases"
SNAPSHOTTER = "overlayfs"
SOCKET = os.environ.get("CONTAINERD_ADDRESS",
                        "/run/containerd/containerd.sock")
SECONDS = 120
DRAIN_SECONDS = 30
SIGKILL = 9
# Until a container refers to it, a snapshot would be swept away.
NOT_GARBAGE = {"key": "containerd.io/gc.root", "value": "test"}


class Reader(threading.Thread):
    """Collects what comes from a FIFO until its writers are gone."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.data = bytearray()
        self.lock = threading.Condition()
        self.held = False
        self.ended = False
        # A hundred threads that look five times a second would be a load.
        self.stopped = os.eventfd(0)
        self.start()

    def stop(self):
        with self.lock:
            self.held = False
            if not self.ended:
                os.eventfd_write(self.stopped, 1)

    def run(self):
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.register(self.stopped, select.POLLIN)
        while True:
            while self.held:
                time.sleep(0.05)
            found = dict(poll.poll())
            if self.stopped in found:
                break
            events = found.get(self.fd, 0)
            piece = b""
            if events & select.POLLIN:
                with contextlib.suppress(BlockingIOError):
                    piece = os.read(self.fd, 1 << 16)
            if piece:
                with self.lock:
                    self.data += piece
                    self.lock.notify_all()
            elif events & select.POLLHUP:
                break
        os.close(self.fd)
        with self.lock:
            os.close(self.stopped)
            self.ended = True
            self.lock.notify_all()

    def until(self, wanted, seconds=SECONDS):
        """Waits for bytes to appear; all that came so far."""
        deadline = time.monotonic() + seconds
        with self.lock:
            while wanted not in self.data:
                left = deadline - time.monotonic()
                if left <= 0 or self.ended:
                    raise Failure("no %r in %r" % (wanted,
                                                   bytes(self.data[-400:])))
                self.lock.wait(left)
            return bytes(self.data)

    def all(self):
        self.join(DRAIN_SECONDS)
        if not self.ended:
            raise Failure("its output did not end within %d s; so far: %r" %
                          (DRAIN_SECONDS, bytes(self.data[-400:])))
        return bytes(self.data)


class Streams:
    """The FIFOs of one process, and our ends of them."""

    def __init__(self, name, terminal=False, stdin=False, null=False):
        self.paths = {}
        self.readers = {}
        self.stdin = None
        self.directory = os.path.join(FIFOS, name)
        if null:
            return
        os.makedirs(self.directory)
        for stream in ("stdin",) * stdin + ("stdout",) + \
                ("stderr",) * (not terminal):
            path = self.paths[stream] = os.path.join(self.directory, stream)
            os.mkfifo(path, 0o600)
            if stream == "stdin":
                # Also for reading: it opens before the shim has its end.
                self.stdin = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            else:
                self.readers[stream] = Reader(path)

    def write(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.stdin, view):]

    def close_stdin(self):
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    def close(self):
        self.close_stdin()
        for reader in self.readers.values():
            reader.stop()
        for reader in self.readers.values():
            reader.join(2)
        shutil.rmtree(self.directory, ignore_errors=True)


class Process:
    """Init or another process of a container, with its streams."""

    def __init__(self, container, exec_id, streams):
        self.container = container
        self.exec_id = exec_id
        self.streams = streams
        self.waiting = None
        self.pid = 0
        self.status = None
        self.exited_at = None

    def call(self, name, **values):
        return self.container.world.client.call(
            name, container_id=self.container.name, exec_id=self.exec_id,
            **values)

    def start(self):
        self.waiting = self.container.world.client.begin(
            "tasks.Wait", container_id=self.container.name,
            exec_id=self.exec_id)
        self.pid = self.call("tasks.Start")["pid"]
        return self

    def state(self):
        return self.container.world.client.state(self.container.name,
                                                 self.exec_id)

    def kill(self, number, everyone=False):
        self.call("tasks.Kill", signal=number, all=everyone)

    def close_io(self):
        self.streams.close_stdin()
        self.call("tasks.CloseIO", stdin=True)

    def resize(self, width, height):
        self.call("tasks.ResizePty", width=width, height=height)

    def out_until(self, wanted, seconds=SECONDS):
        return self.streams.readers["stdout"].until(wanted.encode(), seconds)

    def wait(self, seconds=SECONDS):
        """The exit status."""
        if self.status is None:
            answer = self.container.world.client.end(self.waiting, seconds)
            self.status = answer["exit_status"]
            self.exited_at = answer["exited_at"]
        return self.status

    def delete(self):
        if self.exec_id:
            return self.call("tasks.DeleteProcess")
        return self.container.delete_task()

    def result(self, seconds=SECONDS):
        """Waits for its end, removes it; how it ended and what it wrote."""
        self.wait(seconds)
        self.delete()
        texts = [self.streams.readers[name].all()
                 if name in self.streams.readers else b""
                 for name in ("stdout", "stderr")]
        self.streams.close()
        return house.Result(self.status, *texts)


class Container:
    """One container with, from create() to delete_task(), its task."""

    def __init__(self, world, args, change=None, root=None, image=None,
                 name=None, labels=None, **process):
        self.world = world
        self.name = name or house.new_name()
        self.snapshot = False
        self.streams = None
        self.init = None
        self.execs = 0
        self.processes = []
        config = oci.spec(self.name, args, **process)
        if world.runtime == DOMUS:
            config["annotations"] = {"io.domus.domain-type": "pv"}
        if root:
            config["root"]["path"] = root
        if change:
            change(config)
        self.config = config
        self.rootfs = []
        if not root:
            self.rootfs = world.client.call(
                "snapshots.Prepare", snapshotter=SNAPSHOTTER, key=self.name,
                parent=world.chain(image or house.BUSYBOX),
                labels=[NOT_GARBAGE])["mounts"]
            self.snapshot = True
        try:
            world.client.call("containers.Create", container={
                "id": self.name, "image": image or house.BUSYBOX,
                "labels": [{"key": key, "value": value} for key, value in
                           (labels or {}).items()],
                "runtime": {"name": world.runtime},
                "spec": {"type_url": api.SPEC_URL, "value": oci.dump(config)},
                "snapshotter": SNAPSHOTTER, "snapshot_key": self.name})
        except BaseException:
            self.remove()
            raise

    def create(self, stdin=False, null=False):
        """Creates its task: init with streams, not yet started."""
        terminal = bool(self.config.get("process", {}).get("terminal"))
        streams = Streams(self.name, terminal, stdin, null)
        self.init = Process(self, "", streams)
        self.init.pid = self.world.client.call(
            "tasks.Create", container_id=self.name, rootfs=self.rootfs,
            terminal=terminal, **streams.paths)["pid"]
        return self.init

    def start(self, **streams):
        self.create(**streams)
        return self.init.start()

    def delete_task(self):
        return self.world.client.call("tasks.Delete", container_id=self.name)

    def state(self):
        return self.world.client.state(self.name)

    def figures(self):
        """What Stats says; containerd leaves out who does not answer."""
        found = self.world.client.call(
            "tasks.Metrics", filters=["id==" + self.name])["metrics"]
        same("whose figures came", [each["id"] for each in found],
             [self.name])
        return found[0]["data"]

    def exec_prepared(self, args, stdin=False, exec_id=None, null=False,
                      **process):
        """An added process, not yet started."""
        self.execs += 1
        exec_id = exec_id or "exec-%d" % self.execs
        config = oci.process(args, **process)
        terminal = bool(config.get("terminal"))
        streams = Streams("%s-%d" % (self.name, self.execs), terminal, stdin,
                          null)
        added = Process(self, exec_id, streams)
        self.processes.append(added)
        try:
            self.world.client.call(
                "tasks.Exec", container_id=self.name, exec_id=exec_id,
                terminal=terminal, spec={"type_url": api.PROCESS_URL,
                                         "value": oci.dump(config)},
                **streams.paths)
        except BaseException:
            streams.close()
            raise
        return added

    def exec_start(self, args, **how):
        added = self.exec_prepared(args, **how)
        try:
            return added.start()
        except BaseException:
            added.streams.close()
            with contextlib.suppress(grpc.Error):
                added.delete()
            raise

    def exec(self, args, stdin=None, seconds=SECONDS, **process):
        """Runs a process to its end."""
        added = self.exec_start(args, stdin=stdin is not None, **process)
        if stdin is not None:
            added.streams.write(stdin)
            added.close_io()
        return added.result(seconds)

    def sh(self, script, **process):
        """Runs a script; what it wrote, when it succeeded."""
        result = self.exec(["sh", "-c", script], **process)
        if result.status:
            raise Failure("%r ended with %d: %s%s" % (
                script, result.status, result.text, result.err))
        return result.text.replace("\r\n", "\n").strip()

    def remove(self):
        """Whatever became of it, it is gone afterwards."""
        client = self.world.client
        with contextlib.suppress(grpc.Error):
            waiting = client.begin("tasks.Wait", container_id=self.name)
            for name in ("tasks.Resume",) * (self.state() == "PAUSED"):
                client.call(name, container_id=self.name)
            with contextlib.suppress(grpc.Error):
                client.call("tasks.Kill", container_id=self.name,
                            signal=SIGKILL, all=True)
            client.end(waiting, 60)
        with contextlib.suppress(grpc.Error):
            self.delete_task()
        for process in self.processes + [self.init] * bool(self.init):
            process.streams.close()
        with contextlib.suppress(grpc.Error):
            client.call("containers.Delete", id=self.name)
        if self.snapshot:
            with contextlib.suppress(grpc.Error):
                client.call("snapshots.Remove", snapshotter=SNAPSHOTTER,
                            key=self.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


class World:
    """One runtime, and its containers that many cases use."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.domus = runtime == DOMUS
        self.client = api.Client(SOCKET)
        self.chains = {}
        self.kept = {}
        os.makedirs(FIFOS, exist_ok=True)

    def chain(self, image):
        """The snapshot that an image's containers stand on."""
        if image not in self.chains:
            digest = next(line.split()[2] for line in house.ctr(
                "image", "ls").splitlines() if line.startswith(image + " "))
            while True:
                blob = json.loads(house.ctr("content", "get", digest))
                if "rootfs" in blob:
                    break
                digest = blob["manifests"][0]["digest"] \
                    if "manifests" in blob else blob["config"]["digest"]
            chain = None
            for layer in blob["rootfs"]["diff_ids"]:
                chain = layer if chain is None else "sha256:" + \
                    hashlib.sha256((chain + " " + layer).encode()).hexdigest()
            self.chains[image] = chain
        return self.chains[image]

    def container(self, args, **how):
        return Container(self, args, **how)

    def run(self, args, stdin=None, seconds=SECONDS, **how):
        """A container from its creation to its removal."""
        with Container(self, args, **how) as container:
            init = container.start(stdin=stdin is not None)
            if stdin is not None:
                init.streams.write(stdin)
                init.close_io()
            return init.result(seconds)

    def refused(self, args, **how):
        """The error that a container's creation or start ends in."""
        with Container(self, args, **how) as container:
            try:
                container.start()
            except grpc.Error as error:
                return error
            raise Failure("nothing was refused")

    def shared(self, key="plain", **how):
        """A container that stays for later cases of the same key."""
        container = self.kept.get(key)
        if container:
            try:
                if container.state() == "RUNNING":
                    return container
            except grpc.Error:
                pass
            self.kept.pop(key).remove()
        container = Container(self, ["sleep", "100000"], **how)
        try:
            container.start(null=True)
        except BaseException:
            container.remove()
            raise
        self.kept[key] = container
        return container

    def drop(self):
        for key in list(self.kept):
            self.kept.pop(key).remove()


def error_of(function, *args, **how):
    """The error that a call ends in."""
    try:
        function(*args, **how)
    except grpc.Error as error:
        return error
    raise Failure("nothing was refused")


def answers(world, error, code, *words):
    """The contract's code; runc's shim often says UNKNOWN in its place."""
    if error.code != code and (world.domus or error.code != "UNKNOWN"):
        raise Failure("the answer is %s, not %s" % (error, code))
    has("the error", error.message, *words)
