"""A Debian of the emulated host's release to build and test domus in.

Programs are linked with the libxenlight of one Xen version. Where the build
machine is of another release than the emulated host, they are built in a tree
of that release, build/ROW/chroot-DIGEST; the checkout is mounted there, in a
mount namespace of the one command. The tests that want no Xen run there, too:
the compiler, containerd and other libraries change as well.
"""
import hashlib
import os
import re
import shutil

from . import dom0
from .step import LabError, read_packages, run_step

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.realpath(os.path.join(HERE, "../.."))
PACKAGES = os.path.join(HERE, "packages")
# The parts of that list that are wanted there.
SECTIONS = ("build", "tests of programs")
# The tree becomes the root of its mount namespace: in a mere chroot the kernel
# makes no user namespaces, and a runtime cannot change a container's root.
ENTER = """
set -eu
checkout=$1
tree=$2
shift 2
mount --bind "$tree" "$tree"
mount --bind "$checkout" "$tree/src"
for directory in proc sys dev; do
    mount --rbind "/$directory" "$tree/$directory"
done
for directory in tmp run; do
    mount -t tmpfs tmpfs "$tree/$directory"
done
cd "$tree"
pivot_root . .
umount -l .
exec chroot . /usr/bin/env -C /src "$@"
"""


def is_native(row):
    """Whether the build machine itself is of the release."""
    if row.from_sid:
        return False
    try:
        with open("/etc/os-release") as f:
            text = f.read()
    except OSError:
        return False
    return re.search(r'^VERSION_CODENAME="?%s"?$' % row.suite, text, re.M) \
        is not None


def digest(row, packages):
    h = hashlib.sha256("\n".join(sorted(packages)).encode())
    for path in [__file__] + [dom0.ADD_SID] * bool(row.from_sid):
        with open(path, "rb") as f:
            h.update(f.read())
    return h.hexdigest()[:16]


def directory(row):
    return os.path.join(ROOT, "build", row.name)


def ensure(row, log):
    """The tree of a row, made when it is not there; older ones go."""
    packages = read_packages(PACKAGES, SECTIONS)
    top = directory(row)
    name = "chroot-" + digest(row, packages)
    tree = os.path.join(top, name)
    if os.path.exists(os.path.join(tree, "src")):
        return tree
    if os.path.isdir(top):
        for other in os.listdir(top):
            if other.startswith("chroot-"):
                shutil.rmtree(os.path.join(top, other))
    os.makedirs(top, exist_ok=True)
    part = tree + ".part"
    run_step("%s: download and install its compiler and libraries" % row.name,
             ["mmdebstrap", "--mode=root", "--variant=minbase",
              "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
              "--include=" + ",".join(packages)] + dom0.sid_hook(row) + [
              "--dpkgopt=path-exclude=/usr/share/doc/*",
              "--dpkgopt=path-exclude=/usr/share/man/*",
              "--dpkgopt=path-exclude=/usr/share/locale/*", row.suite, part],
             log, 1800)
    os.mkdir(os.path.join(part, "src"))
    os.rename(part, tree)
    return tree


def enter(row, argv, log):
    """The command that runs a program there, in the checkout."""
    if os.getuid() != 0:
        raise LabError("only root can build for another release (%s)" %
                       row.name)
    return ["unshare", "--mount", "sh", "-c", ENTER, "sh", ROOT,
            ensure(row, log)] + argv


def run(what, row, argv, log, seconds):
    run_step(what, enter(row, argv, log), log, seconds)
