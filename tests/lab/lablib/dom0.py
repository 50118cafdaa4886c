"""Builds the emulated host: a disk image, Xen, a kernel and an initramfs.

Debian by mmdebstrap, changed by dom0/setup.sh; cached under the name of its
row and a digest of all that goes into it. What makes it boot quickly under
emulation: Xen and Linux are unpacked here, and the initramfs has a handful of
modules and nothing else.
"""
import gzip
import hashlib
import lzma
import os
import re
import shutil
import struct
import subprocess

from . import cpio
from .step import LabError, Step, read_packages, run_step

DISK_SIZE = "8G"
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCES = os.path.join(HERE, "dom0")
ADD_SID = os.path.join(SOURCES, "add-sid.sh")

# What the initramfs loads, with what these depend on: enough to see the disk.
# 9p and the network come later, from the disk. Debian 12 and 13 have the same
# ones, but 13 compresses them.
INITRAMFS_MODULES = ["crc32c_generic", "virtio_pci", "virtio_blk", "ext4"]

# Never used here, and a good part of Debian's bytes.
EXCLUDED = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*",
            "/usr/share/info/*", "/boot/System.map*"] + [
    "/lib/modules/*/kernel/" + path for path in (
        "sound/*", "drivers/gpu/*", "drivers/media/*", "drivers/infiniband/*",
        "drivers/net/ethernet/*", "drivers/net/wireless/*", "drivers/iio/*",
        "drivers/hwmon/*", "drivers/usb/*", "drivers/scsi/*",
        "drivers/staging/*", "net/bluetooth/*", "drivers/input/*")]
PARTS = ["dom0.img", "xen", "vmlinux", "initramfs", "key"]


def package_lists(row):
    return [os.path.join(SOURCES, "packages"),
            os.path.join(SOURCES, "packages-" + row.suite)]


def digest(row):
    h = hashlib.sha256(row.name.encode())
    paths = [__file__, cpio.__file__]
    for top, dirs, files in os.walk(SOURCES):
        dirs.sort()
        paths += [os.path.join(top, name) for name in sorted(files)]
    used = package_lists(row) + ([ADD_SID] if row.from_sid else [])
    paths = [path for path in paths if path in used or not
             os.path.basename(path).startswith(("packages-", "add-sid"))]
    for path in paths:
        with open(path, "rb") as f:
            data = f.read()
        mode = os.stat(path).st_mode & 0o111
        h.update(b"%s %d %d\n" % (os.path.relpath(path, HERE).encode(),
                                  mode, len(data)))
        h.update(data)
    return h.hexdigest()[:16]


def unpack_kernel(path):
    """The ELF file inside a bzImage (Documentation/x86/boot.rst)."""
    with open(path, "rb") as f:
        data = f.read()
    if data[0x202:0x206] != b"HdrS":
        raise LabError("%s is not a Linux kernel" % path)
    sectors = data[0x1f1] or 4
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = data[start:start + length]
    if payload[:6] == b"\xfd7zXZ\0":
        elf = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    elif payload[:2] == b"\x1f\x8b":
        # The size of the unpacked kernel follows the archive.
        elf = gzip.decompress(payload[:-4])
    elif payload[:4] == b"\x28\xb5\x2f\xfd":
        elf = subprocess.run(["zstd", "-dcq"], input=payload[:-4],
                             stdout=subprocess.PIPE, check=True,
                             timeout=120).stdout
    else:
        # Xen unpacks what this cannot; it only takes longer.
        return data
    if elf[:4] != b"\x7fELF":
        raise LabError("%s: there is no ELF file in it" % path)
    return elf


def module_order(directory, wanted):
    """Paths of the wanted modules and of those that they need, in order."""
    needs = {}
    with open(os.path.join(directory, "modules.dep")) as f:
        for line in f:
            path, _, rest = line.partition(":")
            needs[path] = rest.split()
    with open(os.path.join(directory, "modules.builtin")) as f:
        builtin = {os.path.basename(line.strip()) for line in f}
    by_name = {os.path.basename(path).split(".ko")[0].replace("-", "_"): path
               for path in needs}
    order = []

    def add(path):
        # modules.dep lists all of them, the innermost last.
        for other in reversed(needs[path]):
            add(other)
        if path not in order:
            order.append(path)

    for name in wanted:
        if name + ".ko" in builtin:
            continue
        if name not in by_name:
            raise LabError("the kernel of %s has no module %s" %
                           (directory, name))
        add(by_name[name])
    return [os.path.join(directory, path) for path in order]


def read_module(path):
    """A module's file name and bytes, without compression."""
    with open(path, "rb") as f:
        data = f.read()
    name = os.path.basename(path)
    if name.endswith(".xz"):
        return name[:-3], lzma.decompress(data)
    return name, data


def make_initramfs(root, out):
    modules = os.path.join(root, "lib/modules")
    versions = os.listdir(modules)
    if len(versions) != 1:
        raise LabError("expected one kernel in %s, found %s" %
                       (modules, versions))
    order = module_order(os.path.join(modules, versions[0]),
                         INITRAMFS_MODULES)
    archive = cpio.Archive(out)
    for name in ("bin", "lib", "dev", "proc", "root"):
        archive.directory(name)
    archive.device("dev/console", 5, 1)
    archive.file("init", os.path.join(SOURCES, "init"), 0o755)
    archive.file("bin/busybox", os.path.join(root, "bin/busybox"), 0o755)
    names = []
    for name, data in map(read_module, order):
        archive.data("lib/" + name, data, 0o644)
        names.append(name + "\n")
    archive.data("modules", "".join(names).encode(), 0o644)
    archive.close()


def one_of(root, prefix, suffix=""):
    boot = os.path.join(root, "boot")
    found = [name for name in os.listdir(boot)
             if name.startswith(prefix) and name.endswith(suffix)]
    if len(found) != 1:
        raise LabError("expected one %s*%s in %s, found %s" %
                       (prefix, suffix, boot, found))
    return os.path.join(boot, found[0])


def write_file(path, data, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "wb") as f:
        f.write(data)


def sid_hook(row):
    return ["--setup-hook=%s \"$1\" %s" % (ADD_SID, " ".join(row.from_sid))] \
        if row.from_sid else []


def bootstrap(row, root, log):
    packages = [name for path in package_lists(row)
                for name in read_packages(path)]
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            "--include=" + ",".join(packages)] + sid_hook(row)
    argv += ["--dpkgopt=path-exclude=" + path for path in EXCLUDED]
    # Debian's initramfs takes long to make, and is not used.
    argv += ["--dpkgopt=force-confold",
             "--essential-hook=mkdir -p \"$1/etc/initramfs-tools\" && "
             "echo update_initramfs=no > "
             "\"$1/etc/initramfs-tools/update-initramfs.conf\"",
             "--customize-hook=" + os.path.join(SOURCES, "setup.sh") +
             " \"$1\"", row.suite, root]
    run_step("emulated host: download and install Debian (%s)" % row.name,
             argv, log, 1800)


def build(row, directory, log):
    """Builds everything into a directory that does not exist yet."""
    work = directory + ".part"
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    root = os.path.join(work, "root")
    bootstrap(row, root, log)
    with Step("emulated host: unpack Xen and the kernel"):
        with gzip.open(one_of(root, "xen-", ".gz")) as f:
            write_file(os.path.join(work, "xen"), f.read())
        write_file(os.path.join(work, "vmlinux"),
                   unpack_kernel(one_of(root, "vmlinuz-")))
        make_initramfs(root, os.path.join(work, "initramfs"))
        key = os.path.join(root, "root/.ssh/lab-key")
        with open(key, "rb") as f:
            write_file(os.path.join(work, "key"), f.read(), 0o600)
        os.unlink(key)
    image = os.path.join(work, "dom0.img")
    run_step("emulated host: make its disk",
             ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "dom0", "-d", root,
              "-E", "lazy_itable_init=1,lazy_journal_init=1", "-m", "0",
              image, DISK_SIZE], log, 600)
    shutil.rmtree(root)
    subprocess.run(["sync", "-f", image], check=False)
    shutil.rmtree(directory, ignore_errors=True)
    os.rename(work, directory)


def ensure(row, cache, log, keep=None):
    """The directory with a row's current image, built when it is not there.

    Older ones go, but for the one to keep: a host still runs from it."""
    prefix = "dom0-%s-" % row.name
    name = prefix + digest(row)
    directory = os.path.join(cache, name)
    if all(os.path.exists(os.path.join(directory, p)) for p in PARTS):
        return directory
    os.makedirs(cache, exist_ok=True)
    build(row, directory, log)
    # Names had no row once.
    old = re.compile("(%s|dom0-)" % re.escape(prefix) +
                     "[0-9a-f]{16}(\\.part)?")
    for other in os.listdir(cache):
        path = os.path.join(cache, other)
        if old.fullmatch(other) and other not in (name, keep) and \
                os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
    return directory
