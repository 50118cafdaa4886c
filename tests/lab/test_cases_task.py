#!/usr/bin/env python3
"""Named cases: the life of a task and its processes, as containerd's own
tests ask for it."""
import sys

from cases.frame import case, main
from tap import same


@case("containerd TestContainerOutput", "what a process writes comes out")
def container_output(world):
    result = world.run(["echo", "kingkong"])
    same("the status", result.status, 0)
    same("the output", result.out, b"kingkong\n")


@case("containerd TestContainerExec",
      "a second process runs, and ends with a status of its own")
def container_exec(world):
    result = world.shared().exec(["sh", "-c", "echo in; echo err >&2; exit 6"])
    same("the status", result.status, 6)
    same("the output", (result.out, result.err), (b"in\n", "err\n"))


if __name__ == "__main__":
    sys.exit(main(__file__))
