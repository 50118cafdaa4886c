#!/usr/bin/env python3
"""The domain builder alone, on the emulated host: domains built, started,
watched, destroyed, and every way in which that can fail. TAP."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
LAB = os.path.join(HERE, "lab")
TARGET = "/tmp/builder-test-program"
PREFIX = "/usr/local"


def main():
    for name in ("builderjobs.py", "builder_dom0.py"):
        subprocess.run([LAB, "put", os.path.join(HERE, name),
                        "%s/%s" % (TARGET, name)], check=True,
                       stdin=subprocess.DEVNULL)
    return subprocess.run(
        [LAB, "run", "-n", "python3", "-u", TARGET + "/builder_dom0.py",
         PREFIX + "/sbin/domusd", PREFIX + "/lib/domus/vmlinux",
         PREFIX + "/lib/domus/initramfs.cpio"] + sys.argv[1:],
        stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
