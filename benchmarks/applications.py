"""What is built of the parts: recognize, recommend, monitor, inspection and medical, one after the other.

Each prints its own tables, in a process of its own.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.__main__ import run

NAMES = ("recognize", "recommend", "monitor", "inspection", "medical")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.applications", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="on sizes that say little: does everything work?")
    parser.add_argument("--peer", metavar="PYTHON", help="an environment with anomalib, passed to inspection")
    options = parser.parse_args()
    quick = ["--quick"] if options.quick else []
    peer = ["--peer", options.peer] if options.peer else []
    return max(run(name, [*quick, *(peer if name == "inspection" else [])]) for name in NAMES)


if __name__ == "__main__":
    sys.exit(main())
