"""More processes in a container, for the tests that need one."""
import json
import os

import ttrpc
from harness import Reader, spec

TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"


class Exec:
    """One exec of a container, as containerd's client has it."""

    def __init__(self, c, id, args, terminal=False, stdin=False, text=None,
                 type_url=TYPE, keep=True, **process):
        self.c, self.id = c, id
        self.fifos = "%s/exec-%s" % (c.fifos, id[:40].replace("/", "_"))
        os.makedirs(self.fifos, exist_ok=True)
        for name in ("stdin", "stdout", "stderr"):
            path = "%s/%s" % (self.fifos, name)
            if not os.path.exists(path):
                os.mkfifo(path)
        self.stdin = self.fifos + "/stdin" if stdin else ""
        self.out = Reader(self.fifos + "/stdout", keep)
        self.err = None if terminal else Reader(self.fifos + "/stderr")
        if text is None:
            text = json.dumps(dict(spec(args)["process"], terminal=terminal,
                                   **process))
        try:
            c.call("Exec", exec_id=id, terminal=terminal, stdin=self.stdin,
                   stdout=self.fifos + "/stdout",
                   stderr="" if terminal else self.fifos + "/stderr",
                   spec={"type_url": type_url, "value": text.encode()})
        except ttrpc.Error:
            self.stop()
            raise

    def call(self, method, timeout=60, **values):
        return self.c.call(method, timeout, exec_id=self.id, **values)

    def begin(self, method, **values):
        return self.c.begin(method, exec_id=self.id, **values)

    def up(self):
        self.call("Start")
        return self

    def wait(self, timeout=60):
        return self.call("Wait", timeout)["exit_status"]

    def status(self):
        return self.call("State")["status"]

    def stop(self):
        for reader in (self.out, self.err):
            if reader:
                reader.stop()

    def run(self):
        self.up()
        status = self.wait()
        assert self.call("Delete")["exit_status"] == status
        out = self.out.end()
        self.stop()
        return status, out


def sleeper(host, **options):
    return host.container("sh", "-c", "sleep 1000", **options).up()


def end(c):
    c.call("Kill", signal=9)
    assert c.wait() == 137
    return c.finish()


def sh(c, id, script, **options):
    return Exec(c, id, ["sh", "-c", script], **options)
