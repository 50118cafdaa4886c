#!/usr/bin/env python3
"""What shims may ask of domusd, asked on the emulated host without one: its
domains are then looked at with xl. TAP."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
LAB = os.path.join(HERE, "lab")
TARGET = "/tmp/control-test-program"


def main():
    for path in ("builderjobs.py", "control_dom0.py", "../integ/control.py"):
        subprocess.run([LAB, "put", os.path.join(HERE, path),
                        "%s/%s" % (TARGET, os.path.basename(path))],
                       check=True, stdin=subprocess.DEVNULL)
    return subprocess.run(
        [LAB, "run", "-n", "python3", "-u", TARGET + "/control_dom0.py"] +
        sys.argv[1:], stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
