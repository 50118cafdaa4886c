#!/usr/bin/env python3
"""Configs run by runc and by domus on this machine: a probe inside must see
the same, but for what tests/diff/known-differences explains.

With words on the command line: "config SEED NUMBER" or "feature NAME=VALUE"
runs one config and prints every difference.
"""
import os
import shutil
import sys

import harness
import ttrpc
from common import OUT, REPO, SANITIZED
from harness import main, test, write

sys.path.insert(0, REPO + "/tests/diff")
import generator  # noqa: E402
from compare import Known, Outcome, unexplained  # noqa: E402
from runc import Runc  # noqa: E402

PROBE = OUT + "/tests/diff/probe"
FULL = bool(os.environ.get("DOMUS_FULL"))
SEED = os.environ.get("DOMUS_SEED", "1")
# One pair takes some 0.3 s.
CONFIGS = 8 if SANITIZED else 3000 if FULL else 60
BATCH = 8 if SANITIZED else 250 if FULL else 30
# Features that cannot be compared here.
WITHOUT = ()
SHOWN = int(os.environ.get("DOMUS_SHOWN", "40"))


def fill_layer(layer):
    """The root file system that both get, with all that features name."""
    shutil.copy(PROBE, layer + "/bin/probe")
    for path in ("data/sub", "mnt", "run", "usr/bin"):
        os.makedirs("%s/%s" % (layer, path), exist_ok=True)
    for path, text in (("data/file", "text\n"), ("data/secret", "secret\n"),
                       ("data/sub/file", "more\n"), ("etc/shadow", "root\n"),
                       ("etc/inner", "inner\n")):
        write("%s/%s" % (layer, path), text)
    for path, target in (("datalink", "data"), ("etc/link", "shadow"),
                         ("etc/link-dir", "/data/sub"),
                         ("bin/probelink", "probe")):
        os.symlink(target, "%s/%s" % (layer, path))
    os.chmod(layer + "/etc/shadow", 0o640)
    os.chmod(layer + "/data/secret", 0o600)
    os.chmod(layer + "/data/file", 0o644)
    os.chmod(layer + "/tmp", 0o1777)


class Pair:
    """Both runtimes of a host of tests."""

    def __init__(self, host):
        self.host = host
        if not os.path.exists(host.layer + "/bin/probe"):
            fill_layer(host.layer)
            # The root of a user namespace has to come through.
            os.chmod(host.dir, 0o711)
        self.runc = Runc("%s/runc-%d" % (host.dir, host.started), host.layer)
        self.known = Known("integ")

    def domus(self, config):
        tty = bool(config["process"].get("terminal"))
        c = self.host.container(config=config, stderr=not tty)
        c.start_shim()
        try:
            c.create(terminal=tty)
            c.call("Start")
        except ttrpc.Error as e:
            c.shutdown()
            self.host.containers.remove(c)
            return Outcome(refusal=e.message)
        status = c.wait()
        text = c.out.end()
        c.finish()
        self.host.containers.remove(c)
        return Outcome(text.decode(errors="replace"), status=status)

    def differences(self, config):
        return unexplained(self.runc.run(config), self.domus(config),
                           self.known)

    def check(self, configs):
        bad = []
        for what, (config, applied) in configs:
            found = self.differences(config)
            if found:
                bad.append("%s (%s)" % (what, " ".join(applied) or "plain"))
                bad += ["  " + d for d in found]
        if bad:
            raise AssertionError("\n".join(bad[:SHOWN]) + (
                "\nand %d more lines" % (len(bad) - SHOWN)
                if len(bad) > SHOWN else ""))


def batch(begin, end):
    def random_configs(host):
        Pair(host).check(
            ("config %s %d" % (SEED, n),
             generator.generate(SEED, n, "integ", WITHOUT))
            for n in range(begin, end))
    random_configs.__name__ = "random_configs_%d_to_%d" % (begin, end - 1)
    test(random_configs)


@test
def a_plain_config(host):
    Pair(host).check([("plain", (generator.plain(), []))])


def alone(feature):
    def one_feature(host):
        Pair(host).check(
            ("feature", generator.single(feature, name, change))
            for name, change in feature.values)
    one_feature.__name__ = "feature_" + feature.name
    test(one_feature)


for one in generator.FEATURES + [generator.REFUSALS]:
    if generator.usable(one, "integ", WITHOUT) and not SANITIZED:
        alone(one)
for first in range(0, CONFIGS, BATCH):
    batch(first, min(first + BATCH, CONFIGS))


def show():
    """For people who look at one config."""
    harness.private_mounts()
    host = harness.Host()
    try:
        host.start_domusd()
        pair = Pair(host)
        if sys.argv[1] == "config":
            config, applied = generator.generate(sys.argv[2],
                                                 int(sys.argv[3]))
        else:
            config, applied = next(
                (c, a) for c, a in generator.singles() if a == [sys.argv[2]])
        print(" ".join(applied))
        found = pair.differences(config)
        print("\n".join(found) or "no difference")
        return 1 if found else 0
    finally:
        host.close()


if __name__ == "__main__":
    sys.exit(show() if sys.argv[1:2] in (["config"], ["feature"])
             else main(limit=1200 if FULL else 300))
