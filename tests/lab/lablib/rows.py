"""Which Debian the emulated host is made of: a row of the tests.

LAB_SUITE in the environment is the release (Xen, Linux, containerd and runc
come from it); LAB_CONTAINERD=sid takes containerd from Debian's sid instead.
"""
import os

from .step import LabError

SUITES = ("bookworm", "trixie")
# What is taken from sid. Its runc wants a newer C library than Debian 12 has;
# there the release's own runs.
FROM_SID = {"bookworm": ("containerd",), "trixie": ("containerd", "runc")}


class Row:
    def __init__(self, suite, containerd=""):
        if suite not in SUITES:
            raise LabError("LAB_SUITE=%s: the emulated host can be %s" %
                           (suite, " or ".join(SUITES)))
        if containerd not in ("", "sid"):
            raise LabError("LAB_CONTAINERD=%s: it can be sid, or empty for "
                           "the release's own" % containerd)
        self.suite = suite
        self.containerd = containerd
        self.name = suite + ("-" + containerd if containerd else "")
        self.from_sid = FROM_SID[suite] if containerd else ()


def wanted():
    """The row that the environment asks for; the first one by itself."""
    return Row(os.environ.get("LAB_SUITE") or SUITES[0],
               os.environ.get("LAB_CONTAINERD") or "")


def of_name(name):
    suite, _, containerd = name.partition("-")
    return Row(suite, containerd)
