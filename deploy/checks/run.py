"""Runs all checks of deploy/, or the test modules named. Standard output: how many passed and failed."""

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
    failed = len(result.failures) + len(result.errors)
    # A class that could not be set up counts once, and none of its tests as run.
    print(max(result.testsRun - failed, 0), failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
