"""The container images that the lab brings along, as OCI archives.

busybox: one static program. debian: a real userland of about 100 MB, in two
layers with removed files and an opaque directory. Cached in build/images.
"""
import gzip
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile

from .host import LAB, ROOT, SHARE
from .step import LabError, Step, read_packages, run_step

BUSYBOX = "localhost/domus/busybox:latest"
DEBIAN = "localhost/domus/debian:latest"
SUITE = "bookworm"
CACHE = os.path.join(ROOT, "build/images")
SOURCES = os.path.join(ROOT, "tests/lab/images")
LOG = os.path.join(LAB, "images.log")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CREATED = "2024-01-01T00:00:00Z"
MTIME = 1704067200
LOAD_SECONDS = 600

PASSWD = "root:x:0:0:root:/root:/bin/sh\n" \
         "nobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"

# The files that userland-test.sh looks at, by layer; None is a directory.
LOWER = [("opt/layers/kept", "lower\n"), ("opt/layers/replaced", "lower\n"),
         ("opt/layers/removed", "lower\n"), ("opt/layers/opaque", None),
         ("opt/layers/opaque/old", "lower\n")]
UPPER = [("opt", None), ("opt/layers", None),
         ("opt/layers/.wh.removed", ""), ("opt/layers/replaced", "upper\n"),
         ("opt/layers/opaque", None), ("opt/layers/opaque/.wh..wh..opq", ""),
         ("opt/layers/opaque/new", "upper\n")]


# --- tar and OCI ----------------------------------------------------------

def normal(info):
    """The same bytes at every build: no times, no names of users."""
    info.mtime = MTIME
    info.uname = info.gname = ""
    return info


class Layer:
    """A tar archive in memory or on disk, written in a fixed order."""

    def __init__(self, out):
        self.tar = tarfile.open(fileobj=out, mode="w",
                                format=tarfile.PAX_FORMAT)

    def member(self, name, kind, mode):
        info = normal(tarfile.TarInfo(name))
        info.type = kind
        info.mode = mode
        return info

    def directory(self, name, mode=0o755):
        self.tar.addfile(self.member(name, tarfile.DIRTYPE, mode))

    def link(self, name, target):
        info = self.member(name, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        self.tar.addfile(info)

    def data(self, name, data, mode=0o644):
        info = self.member(name, tarfile.REGTYPE, mode)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))

    def file(self, name, path, mode):
        with open(path, "rb") as f:
            self.data(name, f.read(), mode)

    def listed(self, entries):
        for name, text in entries:
            if text is None:
                self.directory(name)
            else:
                self.data(name, text.encode())

    def tree(self, root):
        """A whole directory; tarfile sorts each one's names."""
        def keep(info):
            if info.name.startswith("dev/") or info.ischr() or info.isblk():
                return None
            return normal(info)
        for name in sorted(os.listdir(root)):
            self.tar.add(os.path.join(root, name), name, filter=keep)

    def close(self):
        self.tar.close()


def sha256_file(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


class Archive:
    """An OCI image layout as one tar archive."""

    def __init__(self, work):
        self.blobs = os.path.join(work, "blobs/sha256")
        self.work = work
        os.makedirs(self.blobs)
        self.layers = []
        self.diff_ids = []

    def blob(self, data, media):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.blobs, digest), "wb") as f:
            f.write(data)
        return {"mediaType": media, "digest": "sha256:" + digest,
                "size": len(data)}

    def json_blob(self, value, kind):
        return self.blob(json.dumps(value, sort_keys=True).encode(),
                         "application/vnd.oci.image.%s.v1+json" % kind)

    def layer(self, fill, compress):
        path = os.path.join(self.work, "layer.tar")
        with open(path, "wb") as f:
            layer = Layer(f)
            fill(layer)
            layer.close()
        digest = sha256_file(path)
        media = "application/vnd.oci.image.layer.v1.tar"
        self.diff_ids.append("sha256:" + digest)
        if compress:
            with open(path, "rb") as f:
                self.layers.append(self.blob(
                    gzip.compress(f.read(), 6, mtime=0), media + "+gzip"))
            os.unlink(path)
        else:
            self.layers.append({"mediaType": media,
                                "digest": "sha256:" + digest,
                                "size": os.path.getsize(path)})
            os.rename(path, os.path.join(self.blobs, digest))

    def write(self, name, out):
        config = self.json_blob({
            "created": CREATED, "architecture": "amd64", "os": "linux",
            "config": {"Env": ["PATH=" + PATH], "Cmd": ["/bin/sh"],
                       "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids}},
            "config")
        manifest = self.json_blob({
            "schemaVersion": 2, "config": config, "layers": self.layers,
            "mediaType": "application/vnd.oci.image.manifest.v1+json"},
            "manifest")
        manifest["platform"] = {"architecture": "amd64", "os": "linux"}
        manifest["annotations"] = {
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
        with open(out, "wb") as f:
            tar = Layer(f)
            tar.data("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            tar.data("index.json", json.dumps(
                {"schemaVersion": 2, "manifests": [manifest]},
                sort_keys=True).encode())
            for digest in sorted(os.listdir(self.blobs)):
                tar.file("blobs/sha256/" + digest,
                         os.path.join(self.blobs, digest), 0o644)
            tar.close()


# --- the two images -------------------------------------------------------

def build_busybox(work, out):
    program = "/bin/busybox"
    with Step("image %s" % BUSYBOX):
        try:
            applets = subprocess.run([program, "--list"], check=True,
                                     capture_output=True, text=True,
                                     timeout=30).stdout.split()
        except (OSError, subprocess.SubprocessError) as e:
            raise LabError("%s: %s (`make deps` installs busybox-static)" %
                           (program, e)) from None

        def fill(layer):
            for name in ("bin", "dev", "etc", "proc", "root", "sys", "usr",
                         "var"):
                layer.directory(name)
            layer.directory("tmp", 0o1777)
            layer.data("etc/passwd", PASSWD.encode())
            layer.data("etc/group", GROUP.encode())
            layer.file("bin/busybox", program, 0o755)
            for applet in sorted(applets):
                if applet != "busybox":
                    layer.link("bin/" + applet, "busybox")
        archive = Archive(os.path.join(work, "oci"))
        archive.layer(fill, compress=True)
        archive.write(BUSYBOX, out)


def build_debian(work, out):
    root = os.path.join(work, "root")
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/info/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/lintian/*",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            "--include=" + ",".join(
                read_packages(os.path.join(SOURCES, "packages"))),
            SUITE, root]
    run_step("image %s: download and install Debian" % DEBIAN, argv, LOG,
             1800)
    with Step("image %s: write the archive" % DEBIAN):
        for path in ("var/log/apt", "var/cache/apt", "var/lib/apt/lists",
                     "var/cache/debconf", "var/cache/ldconfig"):
            shutil.rmtree(os.path.join(root, path), ignore_errors=True)
        for path in ("var/log/dpkg.log", "var/log/alternatives.log",
                     "var/log/bootstrap.log", "etc/hostname",
                     "etc/resolv.conf"):
            if os.path.lexists(os.path.join(root, path)):
                os.unlink(os.path.join(root, path))
        # Anything else would differ from build to build.
        with open(os.path.join(root, "etc/machine-id"), "w"):
            pass

        def lower(layer):
            layer.tree(root)
            layer.directory("opt/layers")
            layer.listed(LOWER)

        def upper(layer):
            layer.listed(UPPER)
            layer.file("userland-test.sh",
                       os.path.join(SOURCES, "userland-test.sh"), 0o755)
        archive = Archive(os.path.join(work, "oci"))
        # Not compressed: emulation would take long to unpack it.
        archive.layer(lower, compress=False)
        archive.layer(upper, compress=True)
        archive.write(DEBIAN, out)


def digest(sources):
    h = hashlib.sha256()
    for path in [__file__] + sources:
        h.update(sha256_file(path).encode())
    return h.hexdigest()


def ensure(name, function, sources):
    """The path of an archive, built when it is not there or is outdated."""
    path = os.path.join(CACHE, name + ".tar")
    stamp = os.path.join(CACHE, name + ".digest")
    wanted = digest(sources)
    try:
        with open(stamp) as f:
            if f.read() == wanted and os.path.exists(path):
                return path
    except OSError:
        pass
    work = os.path.join(CACHE, name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    try:
        function(work, path + ".new")
        os.rename(path + ".new", path)
        with open(stamp, "w") as f:
            f.write(wanted)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return path


def ensure_all():
    return [ensure("busybox", build_busybox, []),
            ensure("debian", build_debian,
                   [os.path.join(SOURCES, "packages"),
                    os.path.join(SOURCES, "userland-test.sh")])]


# --- into containerd ------------------------------------------------------

# An archive without a name in it gets the file's.
IMPORT_SCRIPT = """
set -eu
file=/lab/%s base=%s marker=%s
mkdir -p /run/lab-images
# containerd 2's ctr leaves the import to containerd if it is not told, and says
# no names then.
local=
if ctr image import --help | grep -q -e --local; then local=--local; fi
take() {
    if ! ctr image import $local "$@" "$file" > "$marker.log" 2>&1; then
        cat "$marker.log"
        exit 1
    fi
    sed -n 's/^unpacking \\([^ ]*\\) .*/\\1/p' "$marker.log" > "$marker.new"
}
take
[ -s "$marker.new" ] || take --digests --base-name "$base"
mv "$marker.new" "$marker"
cat "$marker"
"""


def load(host, path):
    """Imports an OCI or docker archive in dom0; the names that it got."""
    if not os.path.isfile(path):
        raise LabError("%s: no such image archive" % path)
    digest_of_file = sha256_file(path)
    marker = "/run/lab-images/" + digest_of_file
    known = host.run("cat " + marker, 60, stdin=subprocess.DEVNULL,
                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if known.returncode == 0:
        return known.stdout.decode().split()
    shared = "image-%s.tar" % digest_of_file[:12]
    base = "localhost/" + os.path.basename(path).split(".")[0].lower()
    with Step("import %s into containerd" % os.path.basename(path)):
        target = os.path.join(SHARE, shared)
        try:
            shutil.copyfile(path, target)
            names = host.output(IMPORT_SCRIPT %
                                (shared, shlex.quote(base), marker),
                                LOAD_SECONDS).split()
        finally:
            if os.path.exists(target):
                os.unlink(target)
    return names
