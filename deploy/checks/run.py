"""Runs all checks of deploy/, or the test modules named: run.py [MODULE…]

Standard output: how many passed and failed, then the names of those that failed, a line each.
"""

import sys
import unittest
from pathlib import Path


def main():
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(sys.argv[1:]) if sys.argv[1:] else loader.discover(folder)
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(suite)
    bad = [str(test) for test, _ in result.failures + result.errors]
    # A class that could not be set up counts once, and none of its tests as run.
    print(max(result.testsRun - len(bad), 0), len(bad))
    for name in bad:
        print(name.splitlines()[0])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
