#!/usr/bin/env python3
"""The part of `make demo` that runs in dom0: containers, and a table.

With a command (DEMO_CMD in the environment) it runs that in DEMO_IMAGE, else
a greeting in busybox and the Debian userland's own test.
"""
import os
import sys

import measure

GREETING = ('echo "hello from a container: $(uname -sr), on $(cat '
            '/sys/hypervisor/type 2>/dev/null || echo a shared kernel), '
            'process $$ of $(hostname)"')


def show(piece):
    sys.stdout.write(piece.decode(errors="replace"))
    sys.stdout.flush()


def run(what, image, command):
    print("\n--- %s, %s" % (what, image), flush=True)
    # The kernel is asked in a run of its own, so that the first byte of the
    # command is the command's.
    kernel = measure.run_container(what, image, ["uname", "-r"])
    result = measure.run_container(what, image, command, on_output=show)
    text = kernel.output.decode(errors="replace").strip()
    seconds = "none" if result.first_byte is None \
        else "%.1f s" % result.first_byte
    return result, [what, image.rsplit("/", 1)[-1],
                    text if kernel.status == 0 else "?", os.uname().release,
                    str(result.status), seconds]


def main():
    own = os.environ.get("DEMO_CMD", "")
    image = os.environ.get("DEMO_IMAGE", "")
    if image.startswith("/"):
        image = measure.import_image(image)
    if own or image:
        image = image or os.environ["DEMO_DEBIAN"]
        jobs = [(image, ["sh", "-c", own or GREETING])]
    else:
        jobs = [(os.environ["DEMO_BUSYBOX"], ["sh", "-c", GREETING]),
                (os.environ["DEMO_DEBIAN"], ["sh", "/userland-test.sh"])]
    rows = [["container in", "image", "kernel it saw", "dom0's kernel",
             "exit code", "first output after"]]
    failed = False
    for image, command in jobs:
        for what in measure.RUNTIMES:
            result, row = run(what, image, command)
            rows.append(row)
            if result.status and not own:
                failed = True
    print()
    print("\n".join(measure.table(rows)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
