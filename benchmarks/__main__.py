"""List the benchmarks, or run them all, each in a process of its own: ``python -m benchmarks [--all] [--quick]``."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

NAMES = (
    "footprint",
    "edge",
    "durability",
    "indexing",
    "search",
    "retrieval",
    "structural",
    "quality",
    "explanation",
    "decisions",
    "encoders",
    "evaluation",
    "duplicates",
    "doctor",
    "results",
    "viewpoint",
    "robustness",
    "learning",
    "recognize",
    "recommend",
    "monitor",
    "inspection",
    "medical",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="List or run the benchmarks.")
    parser.add_argument("--all", action="store_true", help="run all, one after the other")
    parser.add_argument("--quick", action="store_true", help="run all on sizes that say little: does everything work?")
    parser.add_argument("--peers", metavar="PYTHON", help="passed to the benchmarks that compare with peers")
    options = parser.parse_args()
    if not (options.all or options.quick):
        return _list()
    quick = ["--quick"] if options.quick else []
    peers = ["--peers", options.peers] if options.peers else []
    return max(run(name, [*quick, *(peers if name == "indexing" else [])]) for name in NAMES)


def _list() -> int:
    for name in NAMES:
        summary = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip().splitlines()[0]
        print(f"python -m benchmarks.{name:<12} {summary}")
    return 0


def run(name: str, arguments: list[str]) -> int:
    """Run a benchmark in a process of its own, and return its exit code."""
    print(f"== {name}", file=sys.stderr, flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
