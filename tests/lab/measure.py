"""Runs containers and domains in dom0 and takes the time; standard library.

A module for demo.py and bench.py, which run beside it on the emulated host.
All times are seconds of dom0's monotonic clock.
"""
import os
import pty
import re
import select
import subprocess
import time

RUNTIMES = {
    "domus PV": ("io.containerd.domus.v2",
                 ["--annotation", "io.domus.domain-type=pv"]),
    "domus PVH": ("io.containerd.domus.v2",
                  ["--annotation", "io.domus.domain-type=pvh"]),
    "runc": ("io.containerd.runc.v2", []),
}
DEADLINE = 180


class Result:
    """What one run gave."""

    def __init__(self):
        self.first_byte = None
        self.last_byte = None
        self.total = None
        self.status = None
        self.output = bytearray()  # grows in place: some commands say 64 MiB


def container_id(what):
    return re.sub(r"[^a-z0-9]+", "-", what.lower()) + "-" + \
        str(time.monotonic_ns() % 10**9)


def watch(argv, stdin=subprocess.DEVNULL, on_output=None, until=None,
          deadline=DEADLINE):
    """Runs argv; notes when its first and last byte of output came and
    what it said.
    until: a pattern of bytes; the first byte counts from its appearance."""
    result = Result()
    begin = time.monotonic()
    child = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    fd = child.stdout.fileno()
    while True:
        left = begin + deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            child.kill()
            result.output += b"\n(no end within %d s)\n" % deadline
            break
        piece = os.read(fd, 65536)
        now = time.monotonic()
        if not piece:
            break
        result.output += piece
        if result.first_byte is None and (until is None or
                                          until in result.output):
            result.first_byte = now - begin
        result.last_byte = now - begin
        if on_output:
            on_output(piece)
    result.status = child.wait()
    result.total = time.monotonic() - begin
    return result


def run_container(what, image, command, name=None, extra=(), on_output=None):
    """`ctr run` of command (a list) in image; what: a key of RUNTIMES."""
    runtime, options = RUNTIMES[what]
    name = name or container_id(what)
    return watch(["ctr", "run", "--rm", "--runtime", runtime, *options,
                  *extra, image, name, *command], on_output=on_output)


def xl_create(kernel, ramdisk, pvh, memory, message):
    """Seconds from `xl create -c` to message on the guest's console."""
    name = container_id("bench-xl")
    config = "/run/" + name + ".cfg"
    with open(config, "w", encoding="ascii") as out:
        out.write('name="%s"\ntype="%s"\nkernel="%s"\nramdisk="%s"\n'
                  'memory=%d\nmaxmem=%d\nvcpus=1\n'
                  'extra="console=hvc0 quiet loglevel=3 panic=-1"\n'
                  'on_crash="destroy"\n'
                  % (name, "pvh" if pvh else "pv", kernel, ramdisk, memory,
                     memory))
    leader, follower = pty.openpty()
    begin = time.monotonic()
    child = subprocess.Popen(["xl", "create", "-c", config], stdin=follower,
                             stdout=follower, stderr=follower)
    os.close(follower)
    seen = b""
    try:
        while message not in seen:
            left = begin + DEADLINE - time.monotonic()
            if left <= 0 or not select.select([leader], [], [], left)[0]:
                raise TimeoutError("xl create: no message; console: %r" % seen)
            try:
                seen += os.read(leader, 65536)
            except OSError as error:
                raise RuntimeError("xl create ended: %r" % seen) from error
        return time.monotonic() - begin
    finally:
        child.kill()
        child.wait()
        os.close(leader)
        subprocess.run(["xl", "destroy", name], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.unlink(config)


def import_image(archive):
    """`ctr image import`; the first name that it gave the image."""
    done = subprocess.run(["ctr", "image", "import", archive], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise RuntimeError("ctr image import %s: %s" % (archive, text.strip()))
    names = re.findall(r"^unpacking (\S+)", text, re.MULTILINE)
    if not names:
        raise RuntimeError("%s holds no image that containerd knows a name "
                           "for: %s" % (archive, text.strip()))
    return names[0]


def table(rows):
    """Lines of a table; rows of strings, the first the headings."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        lines.append("  ".join(cell.ljust(width) for cell, width
                               in zip(row, widths)).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return lines
