"""Long steps that are never silent: a line that says what and for how long.

Everything that a step's program prints goes to a log, whose end is shown when
the step fails.
"""
import os
import signal
import subprocess
import sys
import threading
import time

# Without a terminal a line is printed this often.
QUIET_SECONDS = 5
TAIL_LINES = 25


class LabError(Exception):
    """Something a person must know; printed without a traceback."""


def tail(path, lines=TAIL_LINES):
    try:
        with open(path, "rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - 16384))
            text = f.read().decode(errors="replace")
    except OSError:
        return ""
    text = "".join(c for c in text if c == "\n" or c == "\t" or c >= " ")
    return "\n".join("    | " + line for line in text.splitlines()[-lines:])


class Step:
    """`with Step("what")`: announces, tells how long so far, and the end."""

    def __init__(self, what):
        self.what = what
        self.start = time.monotonic()
        self.tty = sys.stderr.isatty()
        self.over = threading.Event()
        self.clock = threading.Thread(target=self.ticks, daemon=True)

    def elapsed(self):
        return time.monotonic() - self.start

    def line(self, text, end=False):
        if self.tty:
            text = "\r\033[K  " + text + ("\n" if end else "")
        else:
            text = "  " + text + "\n"
        sys.stderr.write(text)
        sys.stderr.flush()

    def ticks(self):
        while not self.over.wait(1 if self.tty else QUIET_SECONDS):
            self.line("%s … %d s" % (self.what, self.elapsed()))

    def __enter__(self):
        self.line("%s …" % self.what)
        self.clock.start()
        return self

    def __exit__(self, kind, value, trace):
        self.over.set()
        self.clock.join()
        how = "done" if kind is None else "FAILED"
        self.line("%s: %s, %.1f s" % (self.what, how, self.elapsed()),
                  end=True)
        return False


def end_process(child):
    try:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    except ProcessLookupError:
        child.wait()


def run_step(what, argv, log, seconds, **options):
    """Runs a program as a step; LabError with the end of its log on failure."""
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with Step(what) as step, open(log, "ab") as out:
        out.write(("$ %s\n" % " ".join(argv)).encode())
        out.flush()
        try:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL,
                                     stdout=out, stderr=out,
                                     start_new_session=True, **options)
        except OSError as e:
            raise LabError("%s: cannot run %s: %s (`make deps` installs what "
                           "is needed)" % (what, argv[0], e.strerror))
        try:
            while child.poll() is None:
                if step.elapsed() > seconds:
                    raise LabError("%s: not done after %d s; log: %s\n%s" %
                                   (what, seconds, log, tail(log)))
                try:
                    child.wait(0.2)
                except subprocess.TimeoutExpired:
                    pass
        finally:
            if child.poll() is None:
                end_process(child)
        if child.returncode != 0:
            raise LabError("%s: %s ended with %d; log: %s\n%s" %
                           (what, os.path.basename(argv[0]),
                            child.returncode, log, tail(log)))


def read_packages(path, sections=None):
    """The names in a list of `name  # reason` lines; sections, which begin
    with a line `# --- name`, choose a part of it."""
    names = []
    section = None
    with open(path) as f:
        for line in f:
            if line.startswith("# ---"):
                section = line[5:].strip()
            name = line.split("#", 1)[0].strip()
            if name and (sections is None or section in sections):
                names.append(name)
    return names
