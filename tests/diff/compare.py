"""Compares what the probe saw under two runtimes.

A difference is the text "KEY: RUNC -> DOMUS", where a side that has no such
key says (none). It is allowed when a pattern of the file known-differences
matches the whole of it.
"""
import os
import re

HERE = os.path.dirname(os.path.realpath(__file__))
KNOWN = os.path.join(HERE, "known-differences")
END = "zzz=end"


class Outcome:
    """What came of one container: the probe's lines, or why there are none."""

    def __init__(self, text=None, refusal=None, status=0):
        self.refusal = refusal
        self.status = status
        self.lines = {}
        if refusal is not None:
            return
        rows = (text or "").replace("\r\n", "\n").split("\n")
        for row in rows:
            key, _, value = row.partition("=")
            if key:
                self.lines[key] = value
        if END not in rows:
            self.lines["unfinished"] = "status %d, %r" % (
                status, "\n".join(rows)[-300:])


class Known:
    """The list of allowed differences, each with its reason."""

    def __init__(self, where, path=KNOWN):
        self.entries = []
        self.used = set()
        unexplained_line = 0
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if line.startswith("#") or not line.strip():
                    continue
                if line[0].isspace():
                    unexplained_line = 0
                    continue
                places, _, pattern = line.strip().partition(" ")
                unexplained_line = unexplained_line or number
                if where in places.split(","):
                    self.entries.append(re.compile(pattern))
        if unexplained_line:
            raise ValueError("%s:%d: no reason" % (path, unexplained_line))

    def allows(self, difference):
        for entry in self.entries:
            if entry.fullmatch(difference):
                self.used.add(entry.pattern)
                return True
        return False

    def unused(self):
        return [e.pattern for e in self.entries
                if e.pattern not in self.used]


def differences(runc, domus):
    if runc.refusal is not None or domus.refusal is not None:
        if runc.refusal is not None and domus.refusal is not None:
            return []
        return ["refusal: %s -> %s" % (
            "(none)" if runc.refusal is None else runc.refusal,
            "(none)" if domus.refusal is None else domus.refusal)]
    found = []
    if runc.status != domus.status:
        found.append("status: %d -> %d" % (runc.status, domus.status))
    for key in sorted(set(runc.lines) | set(domus.lines)):
        a = runc.lines.get(key, "(none)")
        b = domus.lines.get(key, "(none)")
        if a != b:
            found.append("%s: %s -> %s" % (key, a, b))
    return found


def unexplained(runc, domus, known):
    return [d for d in differences(runc, domus) if not known.allows(d)]
