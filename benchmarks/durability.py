"""Durability: what an acknowledged batch costs, and how many syncs it takes.

A batch of pictures with vectors of 1280 numbers is put into a gallery by ``Gallery.put``, which returns when it is on
the disk; beside it the bare minimum takes turns: the same number of bytes appended to a file, and one ``fdatasync``.

Syncs are counted by strace, where there is one: of a process that puts 40 batches, less of one that puts 20.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness import REPOSITORY, Report, Target, interleaved, medians, parser, say, seconds, spread
from lookalike.gallery import Gallery
from lookalike.types import Embeddings, Item, Space

_SPACE = Space("benchmark", "1", "none", 1280)
_BATCHES = 20
_SYNC = re.compile(r"\b(fsync|fdatasync|sync_file_range|msync)\(")


def main() -> None:
    arguments = parser(__doc__, "durability")
    arguments.add_argument("--repetitions", type=int, default=60, metavar="N", help="batches of each size (60)")
    arguments.add_argument("--put", nargs=2, metavar=("GALLERY", "BATCHES"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.put:
        return _put(*options.put)
    report = Report("Durability", ("numpy",))
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        _cost(report, 5 if options.quick else options.repetitions, Path(scratch))
        _syncs(report, Path(scratch))
    report.print()
    return None


def _cost(report: Report, repetitions: int, scratch: Path) -> None:
    rows = []
    for size in (1, 64, 512):
        say(f"batches of {size}")
        with (
            Gallery.for_spaces(scratch / f"{size}.gallery", [_SPACE]) as gallery,
            (scratch / "bare").open("wb") as file,
        ):
            put = _putting(gallery, size)
            data = os.urandom(size * _SPACE.dim * 4)
            bare = functools.partial(_append, file.fileno(), data)
            routes = {"put": lambda put=put: 1000 * seconds(put), "bare": lambda bare=bare: 1000 * seconds(bare)}
            interleaved(routes, 2, quiet=True)
            measured = interleaved(routes, repetitions, quiet=True)
        ms = medians(measured)
        each = 1000 * ms["put"] / size
        rows.append(
            (str(size), f"{ms['put']:.2f}", spread(measured["put"]), f"{ms['bare']:.2f}", f"{each:.0f}", _x(ms))
        )
    report.section("ms for an acknowledged batch")
    header = ("items", "Gallery.put", "lowest to highest", "write + fdatasync", "µs an item", "ratio")
    report.table(header, rows)


def _x(ms: dict[str, float]) -> str:
    return f"{ms['put'] / ms['bare']:.1f}"


def _append(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data)
    getattr(os, "fdatasync", os.fsync)(descriptor)


def _putting(gallery: Gallery, size: int) -> Callable[[], None]:
    """Return what puts one more batch each time it is called."""
    numbers = itertools.count()
    raw = np.random.default_rng(0).standard_normal((size, _SPACE.dim))
    part = Embeddings.from_raw(raw, _SPACE)

    def put() -> None:
        gallery.put([Item(f"{next(numbers):09d}") for _ in range(size)], [part])

    return put


def _syncs(report: Report, scratch: Path) -> None:
    say("syncs")
    strace = shutil.which("strace")
    if strace is None:
        why = "not counted: there is no strace"
        report.target(Target("syncs a batch", None, 1, why_not=why))
        return
    counted = [_counted(strace, scratch, batches) for batches in (_BATCHES, 2 * _BATCHES)]
    if None in counted:
        report.target(Target("syncs a batch", None, 1, why_not="not counted: strace may not trace here"))
        return
    few, many = (count or 0 for count in counted)
    report.target(Target("syncs a batch, so that what is acknowledged is on the disk", (many - few) / _BATCHES, 1))


def _counted(strace: str, scratch: Path, batches: int) -> int | None:
    log = scratch / f"strace-{batches}"
    gallery = str(scratch / f"strace-{batches}.gallery")
    traced = [strace, "-f", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o", str(log)]
    command = [*traced, sys.executable, "-m", "benchmarks.durability", "--put", gallery, str(batches)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    if done.returncode:
        return None
    return len(_SYNC.findall(log.read_text(encoding="utf-8", errors="replace")))


def _put(path: str, batches: str) -> None:
    with Gallery.for_spaces(path, [_SPACE]) as gallery:
        put = _putting(gallery, 64)
        for _ in range(int(batches)):
            put()


if __name__ == "__main__":
    main()
