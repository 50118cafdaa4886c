"""containerd's own interface: containers, snapshots, tasks and events.

`ctr` covers a part of it, at up to a second for each call on the emulated
host; here a call takes milliseconds.
"""
import threading
import time

from protobuf import ANY, TIMESTAMP, decode, encode

from . import grpc

NAMESPACE = "default"
SECONDS = 120
SPEC_URL = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES_URL = \
    "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
STATES = ("UNKNOWN", "CREATED", "RUNNING", "STOPPED", "PAUSED", "PAUSING")

PAIR = {"key": (1, "string"), "value": (2, "string")}
MOUNT = {"type": (1, "string"), "source": (2, "string"),
         "target": (3, "string"), "options": (4, ["string"])}
CONTAINER = {
    "id": (1, "string"), "labels": (2, [PAIR]), "image": (3, "string"),
    "runtime": (4, {"name": (1, "string"), "options": (2, ANY)}),
    "spec": (5, ANY), "snapshotter": (6, "string"),
    "snapshot_key": (7, "string"), "created_at": (8, TIMESTAMP),
    "updated_at": (9, TIMESTAMP), "extensions": (10, [PAIR]),
    "sandbox": (11, "string")}
TASK = {
    "container_id": (1, "string"), "id": (2, "string"), "pid": (3, "int"),
    "status": (4, "int"), "stdin": (5, "string"), "stdout": (6, "string"),
    "stderr": (7, "string"), "terminal": (8, "bool"),
    "exit_status": (9, "int"), "exited_at": (10, TIMESTAMP)}
ENVELOPE = {"timestamp": (1, TIMESTAMP), "namespace": (2, "string"),
            "topic": (3, "string"), "event": (4, ANY)}

PROCESS = {"container_id": (1, "string"), "exec_id": (2, "string")}
CONTAINER_ID = {"container_id": (1, "string")}
ID = {"id": (1, "string")}
KEY = {"snapshotter": (1, "string"), "key": (2, "string")}
DELETED = {"id": (1, "string"), "pid": (2, "int"), "exit_status": (3, "int"),
           "exited_at": (4, TIMESTAMP)}
METRIC = {"timestamp": (1, TIMESTAMP), "id": (2, "string"), "data": (3, ANY)}

CALLS = {
    "containers.Create": ({"container": (1, CONTAINER)},
                          {"container": (1, CONTAINER)}),
    "containers.Get": (ID, {"container": (1, CONTAINER)}),
    "containers.List": ({"filters": (1, ["string"])},
                        {"containers": (1, [CONTAINER])}),
    "containers.Delete": (ID, {}),
    "snapshots.Prepare": (dict(KEY, parent=(3, "string"), labels=(4, [PAIR])),
                          {"mounts": (1, [MOUNT])}),
    "snapshots.Remove": (KEY, {}),
    "tasks.Create": ({
        "container_id": (1, "string"), "rootfs": (3, [MOUNT]),
        "stdin": (4, "string"), "stdout": (5, "string"),
        "stderr": (6, "string"), "terminal": (7, "bool"),
        "options": (9, ANY)}, {"container_id": (1, "string"),
                               "pid": (2, "int")}),
    "tasks.Start": (PROCESS, {"pid": (1, "int")}),
    "tasks.Delete": (CONTAINER_ID, DELETED),
    "tasks.DeleteProcess": (PROCESS, DELETED),
    "tasks.Get": (PROCESS, {"process": (1, TASK)}),
    "tasks.List": ({"filter": (1, "string")}, {"tasks": (1, [TASK])}),
    "tasks.Kill": (dict(PROCESS, signal=(3, "int"), all=(4, "bool")), {}),
    "tasks.Exec": (dict(CONTAINER_ID, stdin=(2, "string"),
                        stdout=(3, "string"), stderr=(4, "string"),
                        terminal=(5, "bool"), spec=(6, ANY),
                        exec_id=(7, "string")), {}),
    "tasks.ResizePty": (dict(PROCESS, width=(3, "int"), height=(4, "int")),
                        {}),
    "tasks.CloseIO": (dict(PROCESS, stdin=(3, "bool")), {}),
    "tasks.Pause": (CONTAINER_ID, {}),
    "tasks.Resume": (CONTAINER_ID, {}),
    "tasks.ListPids": (CONTAINER_ID, {"processes": (1, [{
        "pid": (1, "int"), "info": (2, ANY)}])}),
    "tasks.Checkpoint": (CONTAINER_ID, {}),
    "tasks.Update": (dict(CONTAINER_ID, resources=(2, ANY)), {}),
    "tasks.Metrics": ({"filters": (1, ["string"])},
                      {"metrics": (1, [METRIC])}),
    "tasks.Wait": (PROCESS, {"exit_status": (1, "int"),
                             "exited_at": (2, TIMESTAMP)}),
}
SERVICES = {"containers": "Containers", "snapshots": "Snapshots",
            "tasks": "Tasks"}

EXITED = {"container_id": (1, "string"), "id": (2, "string"),
          "pid": (3, "int"), "exit_status": (4, "int"),
          "exited_at": (5, TIMESTAMP)}
EVENTS = {
    "/tasks/create": {
        "container_id": (1, "string"), "bundle": (2, "string"),
        "rootfs": (3, [MOUNT]), "io": (4, "bytes"),
        "checkpoint": (5, "string"), "pid": (6, "int")},
    "/tasks/start": {"container_id": (1, "string"), "pid": (2, "int")},
    "/tasks/exit": EXITED,
    "/tasks/delete": {
        "container_id": (1, "string"), "pid": (2, "int"),
        "exit_status": (3, "int"), "exited_at": (4, TIMESTAMP),
        "id": (5, "string")},
    "/tasks/exec-added": {"container_id": (1, "string"),
                          "exec_id": (2, "string")},
    "/tasks/exec-started": {"container_id": (1, "string"),
                            "exec_id": (2, "string"), "pid": (3, "int")},
    "/tasks/paused": {"container_id": (1, "string")},
    "/tasks/resumed": {"container_id": (1, "string")},
    "/tasks/oom": {"container_id": (1, "string")},
}


class Client:
    """Calls by name: client.call("tasks.Kill", container_id=…, signal=9)."""

    def __init__(self, path, namespace=NAMESPACE):
        self.path = path
        self.metadata = (("containerd-namespace", namespace),)
        self.channel = grpc.Channel(path)

    def begin(self, name, **values):
        service, method = name.split(".")
        return name, self.channel.begin(
            "/containerd.services.%s.v1.%s/%s" %
            (service, SERVICES[service], method),
            encode(CALLS[name][0], values), self.metadata)

    def end(self, begun, seconds=SECONDS):
        name, stream = begun
        return decode(CALLS[name][1], self.channel.end(stream, seconds))

    def call(self, name, seconds=SECONDS, **values):
        return self.end(self.begin(name, **values), seconds)

    def reconnect(self):
        self.channel.close()
        self.channel = grpc.Channel(self.path)

    def state(self, container, exec_id=""):
        return STATES[self.call("tasks.Get", container_id=container,
                                exec_id=exec_id)["process"]["status"]]


class Events:
    """Listens to all events; keeps those of tasks in their order."""

    def __init__(self, path):
        self.channel = grpc.Channel(path)
        self.lock = threading.Condition()
        self.seen = []
        self.stream = self.channel.begin(
            "/containerd.services.events.v1.Events/Subscribe", b"",
            (("containerd-namespace", NAMESPACE),))
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            while True:
                message = self.channel.message(self.stream, 1 << 20)
                if message is None:
                    return
                envelope = decode(ENVELOPE, message)
                schema = EVENTS.get(envelope["topic"])
                if schema is None:
                    continue
                event = decode(schema, envelope["event"]["value"])
                with self.lock:
                    self.seen.append((envelope["topic"], event))
                    self.lock.notify_all()
        except grpc.Error:
            pass

    def of(self, container):
        with self.lock:
            return [(topic, event) for topic, event in self.seen
                    if event["container_id"] == container]

    def wait(self, container, topic, seconds=30, **wanted):
        """The first such event, or None when none came."""
        deadline = time.monotonic() + seconds
        with self.lock:
            while True:
                for seen, event in self.seen:
                    if seen == topic and event["container_id"] == container \
                            and all(event[k] == wanted[k] for k in wanted):
                        return event
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.lock.wait(left)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
