"""A ttrpc client, containerd's task service, and a server for its events."""
import os
import socket
import struct
import threading
import time

from protobuf import ANY, TIMESTAMP, decode, encode

MAX = 4 << 20
REQUEST, RESPONSE = 1, 2

PAIR = {"key": (1, "string"), "value": (2, "string")}
REQUEST_SCHEMA = {
    "service": (1, "string"), "method": (2, "string"), "payload": (3, "bytes"),
    "timeout_nano": (4, "int"), "metadata": (5, [PAIR])}
STATUS = {"code": (1, "int"), "message": (2, "string"), "details": (3, [ANY])}
RESPONSE_SCHEMA = {"status": (1, STATUS), "payload": (2, "bytes")}

ID = {"id": (1, "string")}
PROCESS = {"id": (1, "string"), "exec_id": (2, "string")}
MOUNT = {"type": (1, "string"), "source": (2, "string"),
         "target": (3, "string"), "options": (4, ["string"])}
METHODS = {
    "State": (PROCESS, {
        "id": (1, "string"), "bundle": (2, "string"), "pid": (3, "int"),
        "status": (4, "int"), "stdin": (5, "string"), "stdout": (6, "string"),
        "stderr": (7, "string"), "terminal": (8, "bool"),
        "exit_status": (9, "int"), "exited_at": (10, TIMESTAMP),
        "exec_id": (11, "string")}),
    "Create": ({
        "id": (1, "string"), "bundle": (2, "string"), "rootfs": (3, [MOUNT]),
        "terminal": (4, "bool"), "stdin": (5, "string"),
        "stdout": (6, "string"), "stderr": (7, "string"),
        "checkpoint": (8, "string"), "parent_checkpoint": (9, "string"),
        "options": (10, ANY)}, {"pid": (1, "int")}),
    "Start": (PROCESS, {"pid": (1, "int")}),
    "Delete": (PROCESS, {"pid": (1, "int"), "exit_status": (2, "int"),
                         "exited_at": (3, TIMESTAMP)}),
    "Pids": (ID, {"processes": (1, [{"pid": (1, "int"), "info": (2, ANY)}])}),
    "Pause": (ID, {}),
    "Resume": (ID, {}),
    "Checkpoint": (ID, {}),
    "Migrate": (ID, {}),  # there is no such method
    "Kill": (dict(PROCESS, signal=(3, "int"), all=(4, "bool")), {}),
    "Exec": (dict(PROCESS, terminal=(3, "bool"), stdin=(4, "string"),
                  stdout=(5, "string"), stderr=(6, "string"), spec=(7, ANY)),
             {}),
    "ResizePty": (dict(PROCESS, width=(3, "int"), height=(4, "int")), {}),
    "CloseIO": (dict(PROCESS, stdin=(3, "bool")), {}),
    "Update": (dict(ID, resources=(2, ANY)), {}),
    "Wait": (PROCESS, {"exit_status": (1, "int"), "exited_at": (2, TIMESTAMP)}),
    "Stats": (ID, {"stats": (1, ANY)}),
    "Connect": (ID, {"shim_pid": (1, "int"), "task_pid": (2, "int"),
                     "version": (3, "string")}),
    "Shutdown": ({"id": (1, "string"), "now": (2, "bool")}, {}),
}
DELETE_RESPONSE = METHODS["Delete"][1]


def numbered(*names):
    return {name: (i, "int") for i, name in enumerate(names, 1)}


# From ProcessDetails; the pid in the guest is ours alone.
DETAILS = {"exec_id": (1, "string"), "pid": (1000, "int")}
METRICS = {
    "pids": (1, numbered("current", "limit")),
    "cpu": (2, numbered("usage_usec", "user_usec", "system_usec", "nr_periods",
                        "nr_throttled", "throttled_usec")),
    "memory": (4, numbered(
        "anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped",
        "file_dirty", "file_writeback", "anon_thp", "inactive_anon",
        "active_anon", "inactive_file", "active_file", "unevictable",
        "slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault",
        "workingset_refault", "workingset_activate", "workingset_nodereclaim",
        "pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate",
        "pglazyfree", "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
        "usage", "usage_limit", "swap_usage", "swap_limit", "max_usage",
        "swap_max_usage")),
    "io": (6, {"usage": (1, [numbered("major", "minor", "rbytes", "wbytes",
                                      "rios", "wios")])}),
    "hugetlb": (7, [dict(numbered("current", "max"),
                         pagesize=(3, "string"))]),
    "memory_events": (8, numbered("low", "high", "max", "oom", "oom_kill")),
}

TASK_IO = {"stdin": (1, "string"), "stdout": (2, "string"),
           "stderr": (3, "string"), "terminal": (4, "bool")}
EVENTS = {
    "containerd.events.TaskCreate": {
        "container_id": (1, "string"), "bundle": (2, "string"),
        "rootfs": (3, [MOUNT]), "io": (4, TASK_IO), "checkpoint": (5, "string"),
        "pid": (6, "int")},
    "containerd.events.TaskStart": {
        "container_id": (1, "string"), "pid": (2, "int")},
    "containerd.events.TaskExit": {
        "container_id": (1, "string"), "id": (2, "string"), "pid": (3, "int"),
        "exit_status": (4, "int"), "exited_at": (5, TIMESTAMP)},
    "containerd.events.TaskDelete": {
        "container_id": (1, "string"), "pid": (2, "int"),
        "exit_status": (3, "int"), "exited_at": (4, TIMESTAMP),
        "id": (5, "string")},
    "containerd.events.TaskExecAdded": {
        "container_id": (1, "string"), "exec_id": (2, "string")},
    "containerd.events.TaskExecStarted": {
        "container_id": (1, "string"), "exec_id": (2, "string"),
        "pid": (3, "int")},
    "containerd.events.TaskPaused": {"container_id": (1, "string")},
    "containerd.events.TaskResumed": {"container_id": (1, "string")},
    "containerd.events.TaskOOM": {"container_id": (1, "string")},
}
ENVELOPE = {"timestamp": (1, TIMESTAMP), "namespace": (2, "string"),
            "topic": (3, "string"), "event": (4, ANY)}


class Error(Exception):
    def __init__(self, code, message):
        super().__init__("%d: %s" % (code, message))
        self.code = code
        self.message = message


def frame(stream, kind, payload, flags=0, length=None):
    return struct.pack(">IIBB", len(payload) if length is None else length,
                       stream, kind, flags) + payload


def read_exactly(sock, n):
    data = b""
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def read_frame(sock):
    length, stream, kind, flags = struct.unpack(">IIBB",
                                                read_exactly(sock, 10))
    return stream, kind, flags, read_exactly(sock, length)


def dial(address, timeout=20):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(address[len("unix://"):] if address.startswith("unix://")
                 else "\0" + address)
    return sock


class Client:
    """Calls may wait in several threads."""

    def __init__(self, address, service="containerd.task.v2.Task"):
        self.service = service
        self.sock = dial(address)
        self.sock.settimeout(None)
        self.lock = threading.Condition()
        self.next = 1
        self.answers = {}
        self.closed = False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        try:
            while True:
                stream, kind, _, payload = read_frame(self.sock)
                if kind != RESPONSE:
                    continue
                with self.lock:
                    self.answers[stream] = payload
                    self.lock.notify_all()
        except (EOFError, OSError):
            with self.lock:
                self.closed = True
                self.lock.notify_all()

    def send(self, method, payload, service=None):
        with self.lock:
            stream = self.next
            self.next += 2
            request = encode(REQUEST_SCHEMA, {
                "service": service or self.service, "method": method,
                "payload": payload, "metadata": [
                    {"key": "containerd-namespace-ttrpc", "value": "test"}]})
            self.sock.sendall(frame(stream, REQUEST, request, 1))
        return stream

    def answer(self, stream, timeout=60):
        deadline = time.monotonic() + timeout
        with self.lock:
            while stream not in self.answers:
                left = deadline - time.monotonic()
                if self.closed:
                    raise EOFError("the shim closed the connection")
                if left <= 0:
                    raise TimeoutError("no answer after %d s" % timeout)
                self.lock.wait(left)
            payload = self.answers.pop(stream)
        response = decode(RESPONSE_SCHEMA, payload)
        status = response["status"]
        if status and status["code"]:
            raise Error(status["code"], status["message"])
        return response["payload"]

    def begin(self, method, **values):
        return method, self.send(method, encode(METHODS[method][0], values))

    def end(self, begun, timeout=60):
        method, stream = begun
        return decode(METHODS[method][1], self.answer(stream, timeout))

    def call(self, method, timeout=60, **values):
        return self.end(self.begin(method, **values), timeout)

    def close(self):
        # Ends the reader's recv(), which close() alone would not.
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.reader.join(5)
        self.sock.close()


class EventsServer:
    """Takes what shims forward; keeps (topic, event) in order."""

    def __init__(self, path):
        self.path = path
        self.events = []
        self.lock = threading.Condition()
        self.refuse = False  # answer with an error
        self.open()

    def open(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(16)
        self.connections = []
        threading.Thread(target=self.accept, args=(self.socket,),
                         daemon=True).start()

    def accept(self, listening):
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,),
                             daemon=True).start()

    def serve(self, connection):
        try:
            while True:
                stream, _, _, payload = read_frame(connection)
                request = decode(REQUEST_SCHEMA, payload)
                if self.refuse:
                    connection.sendall(frame(stream, RESPONSE, encode(
                        RESPONSE_SCHEMA, {"status": {
                            "code": 14, "message": "later"}})))
                    continue
                assert request["service"] == \
                    "containerd.services.events.ttrpc.v1.Events", request
                assert request["method"] == "Forward", request
                envelope = decode({"envelope": (1, ENVELOPE)},
                                  request["payload"])["envelope"]
                event = envelope["event"]
                schema = EVENTS.get(event["type_url"])
                value = decode(schema, event["value"]) if schema else {}
                # close() comes before both or after both: an event whose
                # answer is lost comes a second time.
                with self.lock:
                    connection.sendall(frame(stream, RESPONSE, encode(
                        RESPONSE_SCHEMA, {"status": None, "payload": b""})))
                    self.events.append((envelope["namespace"],
                                        envelope["topic"], value))
                    self.lock.notify_all()
        except (EOFError, OSError):
            connection.close()

    def of(self, container):
        with self.lock:
            return [(topic, value) for _, topic, value in self.events
                    if value.get("container_id") == container]

    def wait(self, container, topic, timeout=20):
        deadline = time.monotonic() + timeout
        with self.lock:
            while True:
                for _, t, value in self.events:
                    if t == topic and value.get("container_id") == container:
                        return value
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no %s of %s" % (topic, container))
                self.lock.wait(left)

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        with self.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                connection.close()
        if os.path.exists(self.path):
            os.unlink(self.path)
