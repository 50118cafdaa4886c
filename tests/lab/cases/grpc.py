"""A gRPC client over a Unix socket: unary calls and streams of answers.

Several threads may call at once; one thread reads for all of them.
"""
import collections
import socket
import struct
import threading
import time
import urllib.parse

from . import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW, MORE = \
    0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
FRAME_MAX = 16384
WINDOW_START = 65535
# More than any answer here: one grant at the start is enough for short calls.
WINDOW_OURS = (1 << 31) - 1

CODES = ("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT",
         "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
         "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
         "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
         "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED")


class Error(Exception):
    """What the server answered instead of a message."""

    def __init__(self, code, message):
        super().__init__("%s: %s" % (code, message))
        self.code = code
        self.message = message


class Stream:
    """One call: what came for it so far."""

    def __init__(self, number):
        self.number = number
        self.window = WINDOW_START
        self.data = b""
        self.messages = collections.deque()
        self.headers = {}
        self.ended = False

    def take(self, data):
        self.data += data
        while len(self.data) >= 5:
            size = struct.unpack(">xI", self.data[:5])[0]
            if len(self.data) < 5 + size:
                return
            self.messages.append(self.data[5:5 + size])
            self.data = self.data[5 + size:]

    def check(self):
        """Raises what the server had to say, when it was no success."""
        status = int(self.headers.get("grpc-status", 14))
        if status:
            raise Error(CODES[status], urllib.parse.unquote(
                self.headers.get("grpc-message", "the connection ended")))


class Channel:
    """A connection to one server."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.lock = threading.Condition(threading.RLock())
        self.streams = {}
        self.next = 1
        self.window = self.window_start = WINDOW_START
        self.closed = False
        self.decoder = hpack.Decoder()
        self.sock.sendall(PREFACE + self.frame(
            SETTINGS, 0, 0, struct.pack(">HIHI", 1, 0, 4, WINDOW_OURS)) +
            self.frame(WINDOW, 0, 0, struct.pack(
                ">I", WINDOW_OURS - WINDOW_START)))
        threading.Thread(target=self.read, daemon=True).start()

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + \
            struct.pack(">BBI", kind, flags, stream) + payload

    def exactly(self, n):
        data = bytearray()
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def read(self):
        block, first = b"", 0
        try:
            while True:
                head = self.exactly(9)
                size = struct.unpack(">I", b"\0" + head[:3])[0]
                kind, flags, number = struct.unpack(">BBI", head[3:])
                payload = self.exactly(size)
                with self.lock:
                    if kind in (HEADERS, MORE):
                        # The end of the stream stands in the first of them.
                        first |= flags
                        block += payload
                        if not flags & END_HEADERS:
                            continue
                        kind, flags, payload = HEADERS, first, block
                        block, first = b"", 0
                    self.handle(kind, flags, number, payload)
                    self.lock.notify_all()
        except (EOFError, OSError):
            with self.lock:
                self.closed = True
                for stream in self.streams.values():
                    stream.ended = True
                self.lock.notify_all()

    def handle(self, kind, flags, number, payload):
        stream = self.streams.get(number)
        if kind == SETTINGS and not flags & ACK:
            self.settings(payload)
            self.sock.sendall(self.frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.sock.sendall(self.frame(PING, ACK, 0, payload))
        elif kind == WINDOW:
            n = struct.unpack(">I", payload)[0]
            if number == 0:
                self.window += n
            elif stream:
                stream.window += n
        elif kind == HEADERS:
            found = dict(self.decoder.decode(payload))
            if stream:
                stream.headers.update(found)
        elif kind == DATA and payload:
            self.sock.sendall(self.frame(WINDOW, 0, 0, struct.pack(
                ">I", len(payload))))
            if stream:
                stream.take(payload)
        elif kind == RESET and stream:
            stream.headers.setdefault("grpc-status", "1")
            stream.headers.setdefault("grpc-message", "the stream was reset")
            stream.ended = True
        if stream and kind in (HEADERS, DATA) and flags & END_STREAM:
            stream.ended = True

    def settings(self, payload):
        for at in range(0, len(payload), 6):
            key, value = struct.unpack(">HI", payload[at:at + 6])
            if key == 4:
                for stream in self.streams.values():
                    stream.window += value - self.window_start
                self.window_start = value

    def begin(self, method, message, metadata=()):
        headers = hpack.encode((
            (":method", "POST"), (":scheme", "http"), (":path", method),
            (":authority", "localhost"),
            ("content-type", "application/grpc"), ("te", "trailers"),
            *metadata))
        body = struct.pack(">BI", 0, len(message)) + message
        with self.lock:
            if self.closed:
                raise Error("UNAVAILABLE", "the connection is closed")
            stream = Stream(self.next)
            stream.window = self.window_start
            self.next += 2
            self.streams[stream.number] = stream
            self.sock.sendall(self.frame(HEADERS, END_HEADERS, stream.number,
                                         headers))
            at = 0
            while at < len(body) and not stream.ended:
                n = min(FRAME_MAX, self.window, stream.window, len(body) - at)
                if n <= 0:
                    self.lock.wait(10)
                    continue
                self.window -= n
                stream.window -= n
                self.sock.sendall(self.frame(
                    DATA, END_STREAM if at + n == len(body) else 0,
                    stream.number, body[at:at + n]))
                at += n
        return stream

    def message(self, stream, seconds):
        """The stream's next one; None at its end."""
        deadline = time.monotonic() + seconds
        with self.lock:
            while not stream.messages and not stream.ended:
                left = deadline - time.monotonic()
                if left <= 0:
                    self.cancel(stream)
                    raise Error("DEADLINE_EXCEEDED",
                                "no answer within %d s" % seconds)
                self.lock.wait(left)
            if stream.messages:
                return stream.messages.popleft()
            self.streams.pop(stream.number, None)
        stream.check()
        return None

    def end(self, stream, seconds):
        """The one message of a unary call."""
        first = self.message(stream, seconds)
        if first is None:
            raise Error("INTERNAL", "no message")
        self.message(stream, seconds)
        return first

    def cancel(self, stream):
        """The caller no longer waits; the server learns of it."""
        with self.lock:
            if self.streams.pop(stream.number, None) and not stream.ended:
                stream.ended = True
                self.sock.sendall(self.frame(RESET, 0, stream.number,
                                             struct.pack(">I", 8)))

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
