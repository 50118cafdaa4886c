"""The builder's job protocol (docs/PROTOCOL.md) from Python, for tests that
run a real builder process in dom0. Standard library only."""
import os
import select
import socket
import struct
import subprocess

VERSION = 4
(RESULT, HOST, HOST_RESULT, BUILD, BUILT, START, DESTROY, LIST, LIST_RESULT,
 PAUSE, RESUME, SCHED, WATCH, UNWATCH, CHANNEL, DIED) = range(1, 17)
JOB_FD = 3

# Name and kind of the fields, as in src/common/job.c. A list is a table.
VBD = (("name", "s"), ("major", "u32"), ("minor", "u32"),
       ("writable", "bool"), ("path", "s"))
LISTED = (("domid", "u32"), ("uuid", "s"), ("console", "s"), ("dying", "bool"),
          ("shut_down", "bool"), ("paused", "bool"), ("reason", "s"))
DOMAIN = (("domid", "u32"), ("uuid", "s"))
BODIES = {
    RESULT: (("code", "u32"), ("text", "s")),
    HOST_RESULT: (("xen_version", "s"), ("command_line", "s"),
                  ("has_hap", "bool"), ("free_kb", "u64"),
                  ("total_kb", "u64")),
    BUILD: (("name", "s"), ("uuid", "s"), ("pvh", "bool"), ("kernel", "s"),
            ("initramfs", "s"), ("command_line", "s"), ("memory_kb", "u64"),
            ("vcpus", "u32"), ("cpu_weight", "u32"), ("cpu_cap", "u32")),
    BUILT: (("domid", "u32"), ("console", "s")),
    START: DOMAIN + (("vbds", VBD),),
    DESTROY: DOMAIN,
    LIST_RESULT: (("domains", LISTED),),
    PAUSE: DOMAIN,
    RESUME: DOMAIN,
    SCHED: DOMAIN + (("cpu_weight", "u32"), ("has_cpu_cap", "bool"),
                     ("cpu_cap", "u32")),
    WATCH: DOMAIN,
    UNWATCH: DOMAIN,
    CHANNEL: (("domid", "u32"), ("uuid", "s"), ("channel", "s")),
    DIED: (("domid", "u32"), ("uuid", "s"), ("reason", "s")),
}
FORMATS = {"bool": "<?", "u32": "<I", "u64": "<Q"}


class JobError(Exception):
    """A RESULT other than 0: code is an errno value."""

    def __init__(self, code, text):
        super().__init__("%s (%d)" % (text, code))
        self.code = code
        self.text = text


def encode(table, values):
    out = b""
    for name, kind in table:
        value = values[name]
        if kind == "s":
            value = value.encode()
            out += struct.pack("<I", len(value)) + value
        elif kind == "strings":
            out += struct.pack("<I", len(value))
            for each in value:
                out += encode((("", "s"),), {"": each})
        elif isinstance(kind, tuple):
            out += struct.pack("<I", len(value))
            out += b"".join(encode(kind, each) for each in value)
        else:
            out += struct.pack(FORMATS[kind], value)
    return out


def decode(table, data, at=0):
    values = {}
    for name, kind in table:
        if kind == "s" or isinstance(kind, tuple):
            (n,) = struct.unpack_from("<I", data, at)
            at += 4
            if kind == "s":
                values[name] = data[at:at + n].decode()
                at += n
            else:
                values[name] = []
                for _ in range(n):
                    each, at = decode(kind, data, at)
                    values[name].append(each)
        else:
            (values[name],) = struct.unpack_from(FORMATS[kind], data, at)
            at += struct.calcsize(FORMATS[kind])
    return values, at


class Builder:
    """A builder process; program is the path of domusd."""

    def __init__(self, program, role, stderr=None):
        ours, theirs = socket.socketpair(socket.AF_UNIX,
                                         socket.SOCK_SEQPACKET)

        def place():
            os.dup2(theirs.fileno(), JOB_FD)

        self.socket = ours
        self.process = subprocess.Popen(
            ["domus-builder", role], executable=program, preexec_fn=place,
            pass_fds=(JOB_FD,), stderr=stderr)
        theirs.close()
        self.id = 0

    def send(self, kind, **values):
        self.id += 1
        body = encode(BODIES.get(kind, ()), values)
        self.socket.send(struct.pack("<HHI", VERSION, kind, self.id) + body)
        return self.id

    def receive(self, seconds=60):
        if not select.select([self.socket], [], [], seconds)[0]:
            raise TimeoutError("the builder sent nothing for %d s" % seconds)
        data = self.socket.recv(192 << 10)
        if not data:
            raise EOFError("the builder is gone")
        version, kind, number = struct.unpack_from("<HHI", data)
        if version != VERSION:
            raise ValueError("version %d" % version)
        return kind, number, decode(BODIES[kind], data[8:])[0]

    def do(self, kind, **values):
        """Sends a job and gives its answer's body."""
        number = self.send(kind, **values)
        kind, answered, body = self.receive()
        if answered != number:
            raise ValueError("answer to %d, not %d" % (answered, number))
        if kind == RESULT and body["code"]:
            raise JobError(body["code"], body["text"])
        return body

    def close(self):
        self.socket.close()
        return self.process.wait(10)
