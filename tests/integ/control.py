"""A client of domusd's control socket (docs/PROTOCOL.md)."""
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), "lab"))
from builderjobs import decode, encode  # noqa: E402

VERSION = 3
(RESULT, CREATE, SANDBOX, ATTACH, DESTROY, CONSOLE, CONSOLE_RESULT, LIST,
 LIST_RESULT, CHANNEL_READY, DOMAIN_DIED, PAUSE, RESUME, UPDATE, HOOKS,
 LOGGER) = range(1, 17)

# Name and kind of the fields, as in src/common/ctl.c. A list is a table.
NAME = (("namespace", "s"), ("id", "s"))
MOUNT = (("type", "s"), ("source", "s"), ("options", "strings"))
HOOK = (("path", "s"), ("args", "strings"), ("env", "strings"),
        ("timeout_s", "u32"))
BODIES = {
    RESULT: (("code", "u32"), ("text", "s")),
    CREATE: NAME + (
        ("bundle", "s"), ("annotations", "strings"), ("memory_max", "u64"),
        ("vcpus", "u32"), ("cpu_weight", "u32"), ("cpu_cap", "u32"),
        ("rootfs", MOUNT), ("rootfs_path", "s")),
    SANDBOX: (("domid", "u32"), ("uuid", "s"), ("domain_type", "s"),
              ("channel", "s"), ("root_device", "s"), ("start_timeout_s", "u32"),
              ("received_ns", "u64"),
              ("image_ns", "u64"), ("built_ns", "u64"),
              ("unpaused_ns", "u64")),
    ATTACH: NAME,
    DESTROY: NAME,
    LIST_RESULT: (("sandboxes", NAME + (
        ("uuid", "s"), ("domain_type", "s"), ("state", "s"),
        ("domid", "u32"), ("memory_kb", "u64"), ("vcpus", "u32"),
        ("created_unix_ns", "u64"))),),
    CHANNEL_READY: NAME + (("channel", "s"),),
    DOMAIN_DIED: NAME + (("reason", "s"),),
    PAUSE: NAME,
    RESUME: NAME,
    UPDATE: NAME + (("memory_max", "u64"), ("cpu_weight", "u32"),
                    ("has_cpu_cap", "bool"), ("cpu_cap", "u32")),
    HOOKS: NAME + (("kind", "s"), ("hooks", HOOK), ("state", "s"),
                   ("bundle", "s")),
    LOGGER: NAME + (("path", "s"), ("args", "strings")),
}


class ControlError(Exception):
    """A RESULT other than 0: code is an errno value."""

    def __init__(self, code, text):
        super().__init__("%s (%d)" % (text, code))
        self.code = code
        self.text = text


def refuses(code, words, function, *args, **values):
    try:
        function(*args, **values)
    except ControlError as e:
        assert e.code == code, e
        for word in words if isinstance(words, tuple) else (words,):
            assert word in e.text, "%r lacks %r" % (e.text, word)
        return
    raise AssertionError("did not fail")


class Control:
    def __init__(self, path="/run/domus/domusd.sock", namespace="test",
                 timeout=60):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.namespace = namespace
        self.id = 0
        self.notices = []
        self.answers = {}

    def send(self, kind, fds=(), /, **values):
        self.id += 1
        values.setdefault("namespace", self.namespace)
        data = struct.pack("<HHI", VERSION, kind, self.id) + encode(
            BODIES.get(kind, ()), values)
        if fds:
            socket.send_fds(self.socket, [data], list(fds))
        else:
            self.socket.send(data)
        return self.id

    def receive(self):
        data = self.socket.recv(192 << 10)
        if not data:
            raise EOFError("domusd closed the connection")
        version, kind, number = struct.unpack_from("<HHI", data)
        assert version == VERSION, version
        body = decode(BODIES[kind], data[8:])[0]
        if number:
            self.answers[number] = (kind, body)
        else:
            self.notices.append((kind, body))
        return kind, body

    def wait(self, number):
        while number not in self.answers:
            self.receive()
        kind, body = self.answers.pop(number)
        if kind == RESULT and body["code"]:
            raise ControlError(body["code"], body["text"])
        return body

    def do(self, kind, fds=(), /, **values):
        return self.wait(self.send(kind, fds, **values))

    def create(self, id, **values):
        body = dict(id=id, bundle="/", annotations=[], memory_max=0, vcpus=0,
                    cpu_weight=0, cpu_cap=0, rootfs=[], rootfs_path="")
        body.update(values)
        return self.do(CREATE, **body)

    def ready(self, id):
        """Until the guest has offered its channel."""
        while not any(kind == CHANNEL_READY and body["id"] == id
                      for kind, body in self.notices):
            self.receive()

    def states(self):
        return {s["id"]: s["state"] for s in self.do(LIST)["sandboxes"]}

    def close(self):
        self.socket.close()
