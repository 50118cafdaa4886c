"""A domusd and a guest that say what a test wants, for what the real ones do
not do: late, lying and contradictory answers. docs/PROTOCOL.md has the bytes.
"""
import os
import socket
import struct
import threading

from common import NAMESPACE
from control import VERSION as CTL_VERSION

PROTO_VERSION = 2
CTL = {name: i for i, name in enumerate((
    "RESULT", "CREATE", "SANDBOX", "ATTACH", "DESTROY", "CONSOLE",
    "CONSOLE_RESULT", "LIST", "LIST_RESULT", "CHANNEL_READY", "DOMAIN_DIED",
    "PAUSE", "RESUME", "UPDATE", "HOOKS", "LOGGER"), 1)}
PROTO = {name: i for i, name in enumerate((
    "HELLO", "WELCOME", "RESULT", "CREATE", "START", "SIGNAL", "EXITED",
    "PIDS", "PIDS_RESULT", "STATS", "STATS_RESULT", "DELETE", "POWEROFF", "LOG",
    "DATA", "CREDIT", "END", "EXEC", "RESIZE", "PAUSE", "RESUME", "UPDATE",
    "OOM"), 1)}
PROTO_NAMES = {i: name for name, i in PROTO.items()}
CTL_NAMES = {i: name for name, i in CTL.items()}


def text(s):
    data = s.encode()
    return struct.pack("<I", len(data)) + data


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


class Puppet:
    """answers: {message: code} for what is not answered with 0; None: with
    nothing. seen: what came, in order, as "ctl PAUSE" or "guest SIGNAL"."""

    def __init__(self, directory):
        self.socket = directory + "/puppet.sock"
        self.channel = directory + "/puppet.channel"
        self.answers = {}
        self.before = {}  # message: function to call before it is answered
        self.after = {}  # message of control: the one to be answered before
        self.seen = []
        self.bodies = []
        self.guest = self.control = None
        self.pids = []
        self.lock = threading.Lock()
        self.listeners = []
        for path, kind, serve in (
                (self.socket, socket.SOCK_SEQPACKET, self.serve_control),
                (self.channel, socket.SOCK_STREAM, self.serve_guest)):
            s = socket.socket(socket.AF_UNIX, kind)
            s.bind(path)
            s.listen(8)
            self.listeners.append(s)
            threading.Thread(target=self.accept, args=(s, serve),
                             daemon=True).start()

    def accept(self, listener, serve):
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(peer,), daemon=True).start()

    def note(self, what, body):
        with self.lock:
            self.seen.append(what)
            self.bodies.append((what, body))
        if what in self.before:
            self.before[what]()
        return self.answers.get(what, 0)

    def died(self, id, reason="crashed"):
        """domusd tells the shim so."""
        self.control.send(struct.pack(
            "<HHI", CTL_VERSION, CTL["DOMAIN_DIED"], 0) +
            text(NAMESPACE) + text(id) + text(reason))

    def serve_control(self, peer):
        self.control = peer
        held = {}
        while True:
            try:
                packet = peer.recv(192 << 10)
            except OSError:
                return
            if not packet:
                return
            _, kind, id = struct.unpack("<HHI", packet[:8])
            name = CTL_NAMES[kind]
            code = self.note("ctl " + name, packet[8:])
            if code is None:
                continue
            if name == "CREATE" and code == 0:
                body = u32(7) + text("0f8e1f7e-1c5b-4a52-9d0e-6f5f4d3c2b1a") + \
                    text("pvh") + text("unix:" + self.channel) + \
                    text("xvda") + u32(60) + u64(0) * 4
                kind = CTL["SANDBOX"]
            else:
                body = u32(code) + text("puppet" if code else "")
                kind = CTL["RESULT"]
            answer = struct.pack("<HHI", CTL_VERSION, kind, id) + body
            if name in self.after:
                held[self.after[name]] = answer
                continue
            peer.send(answer)
            if name in held:
                peer.send(held.pop(name))

    def send(self, name, body=b"", id=0):
        self.guest.sendall(struct.pack(
            "<IHHI", len(body), PROTO[name], 0, id) + body)

    def result(self, id, code=0, pid=1):
        self.send("RESULT", u32(code) + text("puppet" if code else "") +
                  u32(pid), id)

    def exited(self, container, exec="", status=0):
        self.send("EXITED", text(container) + text(exec) + u32(status) +
                  u64(0))

    def oom(self, container):
        self.send("OOM", text(container))

    def serve_guest(self, peer):
        self.guest = peer
        self.send("HELLO", u32(PROTO_VERSION) + text("puppet") + text("6.1") +
                  u64(1))
        received = b""
        while True:
            try:
                more = peer.recv(192 << 10)
            except OSError:
                return
            if not more:
                return
            received += more
            while len(received) >= 12:
                n, kind, _, id = struct.unpack("<IHHI", received[:12])
                if len(received) < 12 + n:
                    break
                payload, received = received[12:12 + n], received[12 + n:]
                self.handle(PROTO_NAMES[kind], id, payload)

    def handle(self, name, id, payload):
        if name in ("WELCOME", "DATA", "CREDIT", "END", "POWEROFF"):
            return
        code = self.note("guest " + name, payload)
        if code is None:
            return
        if code == 0 and name == "PIDS":
            self.send("PIDS_RESULT", u32(len(self.pids)) + b"".join(
                u32(pid) + text(exec) for pid, exec in self.pids), id)
        elif code == 0 and name == "STATS":
            self.send("STATS_RESULT", u32(1) + text("memory.current") +
                      text("4096\n"), id)
        else:
            self.result(id, code, len(self.seen))

    def close(self):
        for s in self.listeners:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
        for s in (self.guest, self.control):
            if s:
                s.close()
        for path in (self.socket, self.channel):
            os.unlink(path)
