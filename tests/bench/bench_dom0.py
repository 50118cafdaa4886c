#!/usr/bin/env python3
"""The part of `make bench` that runs in dom0; prints Markdown tables.

Everything is measured interleaved in one run: one round of every row, then the
next, so that the machine's noise falls on all of them alike.
"""
import os
import re
import statistics
import subprocess
import sys
import time

import measure

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
GUEST = os.environ.get("BENCH_GUEST_DIR", "/usr/local/lib/domus")
IMAGE = os.environ["BENCH_IMAGE"]
NOOP = os.environ["BENCH_NOOP"]
MEMORY = 128  # MiB for xl create: what domus gives by default
OUTPUT_MIB = 64
EXECS = 20
# Names of the phases in the shim's log line, in order of time.
PHASES = [("built_us", "domain built, image ready"),
          ("unpaused_us", "devices attached, unpaused"),
          ("agent_up_us", "guest booted, domus-init said hello"),
          ("process_started_us", "container created and started"),
          ("first_byte_us", "first byte of output")]


def say(text):
    print(text, file=sys.stderr, flush=True)


def log_of(name):
    """containerd's journal carries the shims' log lines."""
    done = subprocess.run(["journalctl", "-u", "containerd", "-o", "cat",
                           "--since", "-10min"], check=True,
                          stdout=subprocess.PIPE)
    return [line for line in done.stdout.decode(errors="replace").splitlines()
            if name in line and "phases" in line]


def phases(name):
    for _ in range(20):
        lines = log_of(name)
        if lines:
            return {key: int(value) for key, value in
                    re.findall(r"(\w+_us)=(\d+)", lines[-1])}
        time.sleep(0.1)
    raise RuntimeError("no line with the phases of %s in the journal" % name)


def shim_pss(pid):
    with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as source:
        for line in source:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    raise RuntimeError("no Pss of process %d" % pid)


class Waiting:
    """A container that does nothing, for as long as it is looked at."""

    def __init__(self, what):
        runtime, options = measure.RUNTIMES[what]
        self.name = measure.container_id("bench")
        self.execs = 0
        subprocess.run(["ctr", "run", "-d", "--null-io", "--runtime", runtime,
                        *options, IMAGE, self.name, "sleep", "3600"],
                       check=True, timeout=120)

    def words(self, *options):
        self.execs += 1
        return ["ctr", "task", "exec", "--exec-id", "e%d" % self.execs,
                *options, self.name]

    def exec_seconds(self):
        result = measure.watch(self.words() + ["echo", "first"])
        if result.status or result.first_byte is None:
            raise RuntimeError("exec: exit code %s: %s" % (
                result.status, result.output.decode()))
        return result.first_byte

    def exec_detached(self):
        subprocess.run(self.words("-d") + ["sleep", "3600"], check=True,
                       timeout=60, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)

    def pss(self):
        """KiB of its shim."""
        done = subprocess.run(["pgrep", "-f",
                               "containerd-shim-(domus|runc)-v2.*" +
                               self.name], check=True, stdout=subprocess.PIPE)
        return shim_pss(int(done.stdout.split()[0]))

    def __enter__(self):
        time.sleep(1)
        return self

    def __exit__(self, *_):
        subprocess.run(["ctr", "task", "kill", "-s", "KILL", self.name],
                       check=False)
        time.sleep(1)
        subprocess.run(["ctr", "task", "rm", "-f", self.name], check=False,
                       stdout=subprocess.DEVNULL)
        subprocess.run(["ctr", "container", "rm", self.name], check=False)


def execs():
    """Seconds of an exec, and KiB of the shim alone and with many open."""
    seconds = {"domus PV": [], "runc": []}
    alone, loaded = {}, {}
    with Waiting("domus PV") as domus, Waiting("runc") as runc:
        both = (("domus PV", domus), ("runc", runc))
        for what, container in both:
            container.exec_seconds()  # programs are read
            alone[what] = container.pss()
        for number in range(ROUNDS):
            for what, container in both:
                seconds[what].append(container.exec_seconds())
                say("round %d of %d: exec, %s %.2f s" % (
                    number + 1, ROUNDS, what, seconds[what][-1]))
        for what, container in both:
            for _ in range(EXECS):
                container.exec_detached()
            loaded[what] = container.pss()
    return seconds, alone, loaded


def throughput():
    """MiB a second from a container's stdout to who reads ctr's."""
    rates = {"domus PV": [], "runc": []}
    for number in range(ROUNDS):
        for what, taken in rates.items():
            result = measure.run_container(what, IMAGE, [
                "sh", "-c", "dd if=/dev/zero bs=64k count=%d 2>/dev/null" %
                (OUTPUT_MIB * 16)])
            if result.status or len(result.output) != OUTPUT_MIB << 20:
                raise RuntimeError("%s: exit code %s, %d bytes" % (
                    what, result.status, len(result.output)))
            taken.append(OUTPUT_MIB / (result.last_byte - result.first_byte))
            say("round %d of %d: stdout, %s %.1f MiB/s" % (
                number + 1, ROUNDS, what, taken[-1]))
    return rates


def memory_runs(what, mebibytes):
    result = measure.run_container(
        what, IMAGE, ["echo", "it runs"],
        extra=["--annotation", "io.domus.memory=%d" % mebibytes])
    good = result.status == 0 and b"it runs" in result.output
    say("  %s with %d MiB: %s" % (what, mebibytes,
                                  "runs" if good else "does not run"))
    return good


def floor(what):
    """The smallest guest in MiB in which busybox still runs."""
    low, high = 8, 64  # low does not run, high does
    if not memory_runs(what, high):
        raise RuntimeError("%s does not run with %d MiB" % (what, high))
    while high - low > 1:
        middle = (low + high) // 2
        if memory_runs(what, middle):
            high = middle
        else:
            low = middle
    return high


def median(values):
    return statistics.median(values)


def markdown(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width
                                in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print()


def starts():
    times = {what: [] for what in measure.RUNTIMES}
    plain = {"xl create, PV": (False, []), "xl create, PVH": (True, [])}
    steps = {"domus PV": [], "domus PVH": []}
    for what in measure.RUNTIMES:  # images unpacked and cached, binaries read
        result = measure.run_container(what, IMAGE, ["true"])
        if result.status:
            raise RuntimeError("%s: %s" % (what, result.output.decode()))
    for number in range(ROUNDS):
        for what, taken in times.items():
            name = measure.container_id(what)
            result = measure.run_container(what, IMAGE, ["echo", "first"],
                                           name=name)
            if result.status or result.first_byte is None:
                raise RuntimeError("%s: exit code %s: %s" % (
                    what, result.status, result.output.decode()))
            taken.append(result.first_byte)
            if what in steps:
                steps[what].append(phases(name))
            say("round %d of %d: %s %.2f s" % (number + 1, ROUNDS, what,
                                               taken[-1]))
        for what, (pvh, taken) in plain.items():
            taken.append(measure.xl_create(GUEST + "/vmlinux", NOOP, pvh,
                                           MEMORY, b"noop-init is up"))
            say("round %d of %d: %s %.2f s" % (number + 1, ROUNDS, what,
                                               taken[-1]))
    for what, (_, taken) in plain.items():
        times[what] = taken
    return times, steps


def main():
    times, steps = starts()
    base = median(times["runc"])
    rows = [["start to first byte", "median s", "least s", "most s",
             "ratio to runc"]]
    for what, taken in times.items():
        rows.append([what, "%.2f" % median(taken), "%.2f" % min(taken),
                     "%.2f" % max(taken), "%.2f" % (median(taken) / base)])
    print("Each row %d times, interleaved.\n" % ROUNDS)
    markdown(rows)

    rows = [["where domus's time goes", "PV, ms", "PVH, ms"]]
    before = {what: [0] * ROUNDS for what in steps}
    for key, meaning in PHASES:
        row = [meaning]
        for what in ("domus PV", "domus PVH"):
            at = [one[key] for one in steps[what]]
            row.append("%.0f" % (median([now - then for now, then in
                                         zip(at, before[what])]) / 1000))
            before[what] = at
        rows.append(row)
    rows.append(["from Create's arrival to the first byte"] +
                ["%.0f" % (median(before[what]) / 1000)
                 for what in ("domus PV", "domus PVH")])
    rows.append(["around it: ctr, containerd, starting the shim"] +
                ["%.0f" % (median([all_of_it * 1000 - inside / 1000
                                   for all_of_it, inside in
                                   zip(times[what], before[what])]))
                 for what in ("domus PV", "domus PVH")])
    markdown(rows)

    seconds, alone, loaded = execs()
    rates = throughput()
    rows = [["in a running container", "domus PV", "runc", "ratio"]]
    for meaning, taken, form in (
            ("exec to first byte, s", seconds, "%.2f"),
            ("stdout, MiB/s", rates, "%.1f")):
        pair = [median(taken[what]) for what in ("domus PV", "runc")]
        rows.append([meaning] + [form % value for value in pair] +
                    ["%.2f" % (pair[0] / pair[1])])
    markdown(rows)

    rows = [["size", "value"]]
    for what, name in (("domus PV", "domus"), ("runc", "runc")):
        rows.append(["PSS of the shim of " + name,
                     "%.2f MiB" % (alone[what] / 1024)])
        rows.append(["the same with %d execs open" % EXECS,
                     "%.2f MiB" % (loaded[what] / 1024)])
    for what in ("domus PV", "domus PVH"):
        rows.append(["least guest memory that runs busybox, " + what[6:],
                     "%d MiB" % floor(what)])
    for name in ("vmlinux", "initramfs.cpio"):
        rows.append([name, "%.2f MiB" % (
            os.path.getsize(os.path.join(GUEST, name)) / 1048576)])
    markdown(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
