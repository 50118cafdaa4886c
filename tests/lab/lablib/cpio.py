"""Writes a cpio archive of the kind that Linux takes as an initramfs."""
import stat


class Archive:
    def __init__(self, path):
        self.out = open(path, "wb")
        self.inode = 0

    def entry(self, name, mode, data=b"", major=0, minor=0, links=1):
        raw = name.encode() + b"\0"
        self.inode += 1
        fields = [self.inode, mode, 0, 0, links, 0, len(data), 0, 0, major,
                  minor, len(raw), 0]
        self.out.write(b"070701" +
                       b"".join(b"%08X" % field for field in fields) + raw)
        self.pad(6 + 13 * 8 + len(raw))
        self.out.write(data)
        self.pad(len(data))

    def pad(self, size):
        self.out.write(b"\0" * (-size % 4))

    def directory(self, name):
        self.entry(name, stat.S_IFDIR | 0o755, links=2)

    def device(self, name, major, minor):
        self.entry(name, stat.S_IFCHR | 0o600, major=major, minor=minor)

    def data(self, name, data, mode):
        self.entry(name, stat.S_IFREG | mode, data)

    def file(self, name, path, mode):
        with open(path, "rb") as f:
            self.data(name, f.read(), mode)

    def close(self):
        self.entry("TRAILER!!!", 0)
        self.out.close()
