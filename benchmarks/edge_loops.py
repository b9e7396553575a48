"""What a small machine does, each in a process of its own for :mod:`benchmarks.edge`: prints one line of JSON.

    python -m benchmarks.edge_loops encode ENCODER ROUNDS PICTURE…   # load, then encode each again and again
    python -m benchmarks.edge_loops watch ENCODER ROUNDS A B         # read, encode and compare two files
    python -m benchmarks.edge_loops compare ENCODER ROUNDS A B       # lookalike.compare: metrics, registration, quality

Imports no more than such a program would.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import peak_memory_mib, seconds

_SETTLED = 10


def main() -> None:
    what, encoder, rounds, *pictures = sys.argv[1:]
    loop = {"encode": encode, "watch": watch, "compare": compare}[what]
    print(json.dumps(loop(encoder, pictures, int(rounds))))


def encode(name: str, pictures: list[str], rounds: int) -> dict[str, float]:
    """Return ms to load the encoder and to encode a picture that is already decoded, and the peak of memory."""
    from lookalike import registry  # noqa: PLC0415 - counted
    from lookalike.images import read  # noqa: PLC0415

    encoder = registry.encoder(name)
    images = [read(Path(path), encoder.at_least) for path in pictures]
    first = seconds(lambda: encoder.encode(images[:1]))
    each = [seconds(lambda: encoder.encode([image])) for _ in range(rounds) for image in images]  # noqa: B023
    ms = 1000 * statistics.median(each)
    return {"first": 1000 * first - ms, "ms": ms, "peak": peak_memory_mib()}


def watch(name: str, pictures: list[str], rounds: int) -> dict[str, float]:
    """Return the memory of a loop that reads, encodes and compares two files."""
    from lookalike import registry  # noqa: PLC0415 - counted
    from lookalike.images import read  # noqa: PLC0415

    encoder, cosine = registry.encoder(name), registry.metric("cosine")

    def once() -> Any:
        first, second = (encoder.encode([read(Path(path), encoder.at_least)]).vectors for path in pictures)
        return cosine.matrix(first, second)

    return _memory_of(once, rounds)


def compare(_name: str, pictures: list[str], rounds: int) -> dict[str, float]:
    """Return the memory of a loop that asks whether two files match."""
    import lookalike  # noqa: PLC0415 - counted

    return _memory_of(lambda: lookalike.compare(*pictures), rounds)


def _memory_of(once: Callable[[], Any], rounds: int) -> dict[str, float]:
    for _ in range(_SETTLED):
        once()
    settled, start = peak_memory_mib(), time.perf_counter()
    for _ in range(rounds):
        once()
    ms = 1000 * (time.perf_counter() - start) / rounds
    return {"ms": ms, "settled": settled, "peak": peak_memory_mib()}


if __name__ == "__main__":
    main()
