"""Root file systems that are no images: directories, made for a case."""
import contextlib
import os
import shutil
import tempfile

import house


def place():
    path = os.path.join(os.path.dirname(house.OWN), "roots")
    os.makedirs(path, exist_ok=True)
    return path


class Root:
    """A directory with a shell, and what a case wants in it."""

    def __init__(self, links=(), directories=(), files=()):
        links, files = dict(links), dict(files)
        self.path = tempfile.mkdtemp(prefix="root-", dir=place())
        os.chmod(self.path, 0o755)
        for name in {"bin", "proc", "sys", "dev", "run", "tmp", "etc",
                     *directories} - set(links):
            os.makedirs(os.path.join(self.path, name))
        shutil.copy("/bin/busybox", self.path + "/bin/busybox")
        for name in ("sh", "grep", "cut", "tail", "cat"):
            os.symlink("busybox", os.path.join(self.path, "bin", name))
        for name, text in files.items():
            with open(os.path.join(self.path, name), "w",
                      encoding="utf-8") as f:
                f.write(text)
        for name, target in links.items():
            os.symlink(target, os.path.join(self.path, name))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)


@contextlib.contextmanager
def empty_directory():
    path = tempfile.mkdtemp(prefix="root-", dir=place())
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
