#!/usr/bin/env python3
"""Makes OCI configs for the differential: number N of seed S is always the
same one. A config is a plain one to which some features were applied.

usage: generator.py --print SEED NUMBER [integ|lab]
       generator.py --features
"""
import json
import random
import sys

from features import ALL_CAPS, FEATURES, REFUSALS

# A feature is applied with this chance, so that pairs of them come often.
CHANCE = 0.3
REFUSAL_CHANCE = 0.1

DEFAULT_CAPS = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD",
    "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"]
assert set(DEFAULT_CAPS) < set(ALL_CAPS)


def plain():
    """What containerd's client library asks for."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["/bin/probe"], "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
                    "/sbin:/bin"],
            "capabilities": {kind: list(DEFAULT_CAPS) for kind in (
                "bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024,
                         "soft": 1024}],
            "noNewPrivileges": True},
        "root": {"path": "rootfs"},
        "hostname": "differential",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755",
                         "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance",
                         "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777",
                         "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue",
             "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755",
                         "size=65536k"]}],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": t} for t in (
                "pid", "ipc", "uts", "mount", "network")],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi"],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                "/proc/sysrq-trigger"]}}


def usable(feature, where, without):
    return where in feature.where and feature.name not in without


def generate(seed, number, where="integ", without=()):
    """(config, names of what was applied); without names features, or values
    of them as name=value."""
    choose = random.Random("%s/%s" % (seed, number))
    config = plain()
    applied = []
    for feature in FEATURES:
        # Drawn even if it is not used, so that the others stay the same.
        wanted = choose.random() < CHANCE
        name, change = choose.choice(feature.values)
        what = "%s=%s" % (feature.name, name)
        if wanted and usable(feature, where, without) and what not in without:
            change(config)
            applied.append(what)
    wanted = choose.random() < REFUSAL_CHANCE
    name, change = choose.choice(REFUSALS.values)
    if wanted and usable(REFUSALS, where, without):
        change(config)
        applied.append("refusal=" + name)
    return config, applied


def single(feature, name, change):
    config = plain()
    change(config)
    return config, ["%s=%s" % (feature.name, name)]


def singles(where="integ", without=()):
    """Each value of each feature alone; a difference is then plain to see."""
    for feature in FEATURES + [REFUSALS]:
        if usable(feature, where, without):
            for name, change in feature.values:
                yield single(feature, name, change)


def main():
    if sys.argv[1:2] == ["--features"]:
        for feature in FEATURES + [REFUSALS]:
            print("%s (%s): %s" % (feature.name, ", ".join(feature.where),
                                   ", ".join(n for n, _ in feature.values)))
        return
    if len(sys.argv) < 4 or sys.argv[1] != "--print":
        sys.exit(__doc__)
    where = sys.argv[4] if len(sys.argv) > 4 else "integ"
    config, applied = generate(sys.argv[2], int(sys.argv[3]), where)
    print(json.dumps(config, indent=1))
    print(" ".join(applied) or "(plain)", file=sys.stderr)


if __name__ == "__main__":
    main()
