"""Runs all checks of deploy/, or the test modules named. Standard output: how many passed and failed.

run.py [--failed FILE] [MODULE…]: the names of those that failed go to FILE, a line each.
"""

import argparse
import sys
import unittest
from pathlib import Path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--failed", type=Path)
    parser.add_argument("modules", nargs="*")
    args = parser.parse_args()
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(args.modules) if args.modules else loader.discover(folder)
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(suite)
    bad = [str(test) for test, _ in result.failures + result.errors]
    if args.failed:
        args.failed.write_text("".join(f"{name.splitlines()[0]}\n" for name in bad))
    # A class that could not be set up counts once, and none of its tests as run.
    print(max(result.testsRun - len(bad), 0), len(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
