#!/usr/bin/env python3
"""docs/TEST-CASES.md says what the named cases say of themselves."""
import collections
import difflib
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)),
                                "../lab/cases"))
import catalogue  # noqa: E402

CASES_WANTED = 120


def document(found):
    """What differs between the document and the cases."""
    pieces = catalogue.parts()
    if len(pieces) != 3:
        return ["%s lacks its marks" % catalogue.DOCUMENT]
    return list(difflib.unified_diff(
        pieces[1].splitlines(), catalogue.table(found).splitlines(),
        "docs/TEST-CASES.md", "the cases", lineterm=""))


def names(found):
    counted = collections.Counter(each.name for each in found)
    return [name for name, count in counted.items() if count > 1]


def number(found):
    enough = len(found) >= CASES_WANTED
    return [] if enough else ["only %d cases" % len(found)]


TESTS = (
    ("the document lists the cases (catalogue.py --write)", document),
    ("every case has a name of its own", names),
    ("there are at least %d cases" % CASES_WANTED, number),
)


def main():
    found = catalogue.cases()
    failed = 0
    print("1..%d" % len(TESTS))
    for n, (title, function) in enumerate(TESTS, 1):
        wrong = function(found)
        failed += bool(wrong)
        for line in wrong:
            print("# " + line)
        print("%sok %d - %s" % ("not " if wrong else "", n, title))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
