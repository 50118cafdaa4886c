#!/usr/bin/env python3
"""The table of docs/TEST-CASES.md, from what the cases say of themselves.

usage: catalogue.py [--write]    without it the table is only printed
"""
import glob
import importlib
import os
import sys

LAB = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
DOCUMENT = os.path.realpath(os.path.join(LAB, "../../docs/TEST-CASES.md"))
MARK = "<!-- cases -->\n"
ON = {None: "both", "domus": "domus", "runc": "runc"}


def cases():
    sys.path.insert(0, LAB)
    for path in sorted(glob.glob(LAB + "/test_cases_*.py")):
        importlib.import_module(os.path.splitext(os.path.basename(path))[0])
    return importlib.import_module("cases.frame").CASES


def table(found):
    check = sum(not each.full for each in found)
    lines = ["%d cases: %d in `make check`, all in `make check-full`." %
             (len(found), check)]
    program = None
    for each in found:
        if each.program != program:
            program = each.program
            lines += ["", "## `%s`" % program, "",
                      "| case | origin | what must hold | on | where |",
                      "|---|---|---|---|---|"]
        lines.append("| `%s` | %s | %s | %s | %s |" % (
            each.name, each.origin, each.holds,
            "domus, as on runc" if each.as_runc else ON[each.only],
            "full" if each.full else "check"))
    return "\n".join(lines) + "\n"


def parts():
    with open(DOCUMENT, encoding="utf-8") as f:
        return f.read().split(MARK)


def main():
    text = table(cases())
    if "--write" not in sys.argv[1:]:
        print(text, end="")
        return
    before, _, after = parts()
    with open(DOCUMENT, "w", encoding="utf-8") as f:
        f.write(MARK.join((before, text, after)))


if __name__ == "__main__":
    main()
