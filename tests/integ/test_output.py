#!/usr/bin/env python3
"""The last output of a process: Delete waits for it, but not for ever."""
import sys
import time

from harness import SLOW, main, test
from execs import end, sh, sleeper


def timed_delete(e):
    begin = time.monotonic()
    e.call("Delete")
    return time.monotonic() - begin


@test
def delete_waits_for_the_last_output(host):
    c = sleeper(host)
    e = sh(c, "e", "head -c 5000000 /dev/zero")
    e.up()
    assert e.wait() == 0
    e.call("Delete")
    assert len(e.out.end()) == 5000000
    end(c)


@test
def a_background_process_holds_it(host):
    c = sleeper(host)
    e = sh(c, "e", "sleep 1000 & echo said").up()
    assert e.wait() == 0
    assert 1.5 < timed_delete(e) < 5
    assert e.out.end() == b"said\n"
    e.stop()
    end(c)


@test
def a_background_process_goes_on_for_a_while(host):
    """What is written within two seconds of the last is not lost."""
    c = sleeper(host)
    e = sh(c, "e", "for i in 1 2 3 4; do sleep 1; echo $i; done &").up()
    assert e.wait() == 0
    assert 3 < timed_delete(e) < 8
    assert e.out.end() == b"1\n2\n3\n4\n"
    e.stop()
    end(c)


@test
def a_background_process_never_stops(host):
    c = sleeper(host)
    e = sh(c, "e", "while :; do echo x; sleep 0.1; done &").up()
    assert e.wait() == 0
    assert 8 < timed_delete(e) < 13 * SLOW
    e.stop()
    end(c)


if __name__ == "__main__":
    sys.exit(main())
