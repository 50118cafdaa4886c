"""Test programs of the emulated host: TAP, and the way from the build machine
into dom0. Standard library only.

A test program imports this, names its tests with @test and ends in
main(__file__). Called on the build machine it copies itself and its modules
into dom0, runs there and passes the lines on; when a test failed it collects
the logs. Words on its command line choose tests by parts of their names.
RUNTIME in the environment names another containerd runtime than domus's, to
compare with: what is domus's own is left out then.
"""
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.realpath(__file__))
LAB = os.path.join(HERE, "lab")
LOGS = os.path.realpath(os.path.join(HERE, "../../build/lab"))
WHERE = "/root/domus-tests"
MODULES = ("tap.py", "house.py")
DOMUS = "io.containerd.domus.v2"
RUNTIME = os.environ.get("RUNTIME", DOMUS)
FULL = bool(os.environ.get("DOMUS_FULL"))
PROGRAM_SECONDS = 7000 if FULL else 3000
TEST_SECONDS = 420

TESTS = []


class Failure(Exception):
    """What was seen is not what should be; the text says both."""


def test(name, domus_only=False, full=False):
    """Adds a function to the program's tests, in order. full: it takes long,
    or another test sees nearly the same; only with DOMUS_FULL."""
    def add(function):
        if (RUNTIME == DOMUS or not domus_only) and (FULL or not full):
            TESTS.append((name, function))
        return function
    return add


def same(what, seen, wanted):
    if seen != wanted:
        raise Failure("%s is %r, not %r" % (what, seen, wanted))


def has(what, text, *parts):
    """Each part stands in text, whatever the case of its letters."""
    for part in parts:
        if part.lower() not in text.lower():
            raise Failure("%s lacks %r: %s" % (what, part, text.strip()))


def until(what, function, seconds=60, pause=0.2):
    """Waits for function to give something true, and gives that."""
    deadline = time.monotonic() + seconds
    while True:
        value = function()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure("%s: not within %d s" % (what, seconds))
        time.sleep(pause)


def comment(text):
    for line in text.rstrip().splitlines():
        print("# " + line[:400], flush=True)


def alarm(_signal, _frame):
    raise Failure("no end within the time that it has")


def allow(seconds):
    """Gives the running test more time than others have."""
    signal.alarm(seconds)


def run_one(function, around):
    """None, or what went wrong."""
    signal.alarm(TEST_SECONDS)
    try:
        with around():
            function()
        return None
    except Failure as failure:
        line = traceback.extract_tb(failure.__traceback__)[-1].lineno
        return "%s (line %d)" % (failure, line)
    except subprocess.TimeoutExpired as expired:
        return "%s\n%s\n%s" % (expired, expired.stdout, expired.stderr)
    except Exception:  # pylint: disable=broad-except
        return traceback.format_exc()
    finally:
        signal.alarm(0)


def run_here(around):
    chosen = [(name, function) for name, function in TESTS
              if not sys.argv[1:] or any(w in name for w in sys.argv[1:])]
    failed = 0
    signal.signal(signal.SIGALRM, alarm)
    print("1..%d" % len(chosen), flush=True)
    for number, (name, function) in enumerate(chosen, 1):
        begin = time.monotonic()
        why = run_one(function, around)
        if why:
            failed += 1
            comment(why)
        print("%sok %d - %s" % ("not " if why else "", number, name),
              flush=True)
        print("# %.1f s" % (time.monotonic() - begin), flush=True)
    return 1 if failed else 0


def save_logs(name):
    target = os.path.join(LOGS, "logs-" + name)
    for key in ("LAB_SUITE", "LAB_CONTAINERD"):
        if os.environ.get(key):
            target += "-" + os.environ[key]
    done = subprocess.run([LAB, "logs"], capture_output=True, text=True)
    if done.returncode:
        print("# no logs: %s" % done.stderr.strip(), flush=True)
        return
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(os.path.join(LOGS, "logs"), target)
    print("# logs of shim, domusd, containerd, guests and Xen: %s" %
          os.path.relpath(target), flush=True)


def run_there(path):
    name = os.path.splitext(os.path.basename(path))[0]
    for module in MODULES + (os.path.basename(path),):
        subprocess.run([LAB, "put", os.path.join(HERE, module), WHERE + "/"],
                       check=True)
    subprocess.run([LAB, "load"], check=True, stdout=subprocess.DEVNULL)
    child = subprocess.Popen(
        [LAB, "run", "-n", "--timeout", str(PROGRAM_SECONDS), "--", "env",
         "DOMUS_IN_LAB=1", "RUNTIME=" + RUNTIME,
         "DOMUS_FULL=" + "1" * FULL, "python3", "-B",
         os.path.join(WHERE, os.path.basename(path))] + sys.argv[1:],
        stdout=subprocess.PIPE)
    failed = False
    for line in child.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.flush()
        failed = failed or line.startswith(b"not ok")
    status = child.wait()
    if failed or status:
        save_logs(name)
    return status


def main(path, prepare, around):
    """prepare: called first, in dom0; around: a context for each test."""
    if not os.environ.get("DOMUS_IN_LAB"):
        return run_there(path)
    prepare()
    return run_here(around)
