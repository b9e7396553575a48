"""Files -> embeddings on every core: each worker thread decodes and embeds one picture at a time."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from lookalike.errors import ConfigError, InputError
from lookalike.images import read_bytes, read_file
from lookalike.protocols import Encoder
from lookalike.types import Embeddings, Image, Skipped

Task = TypeVar("Task")
Result = TypeVar("Result")

# Deep enough that the workers stay busy while the caller writes a batch to disk.
_IN_FLIGHT_PER_WORKER = 8


@dataclass(frozen=True, slots=True)
class Contents:
    """The bytes of a file, their sha256, and how the file looked when it was read."""

    data: bytes
    sha256: str
    size: int
    mtime_ns: int | None


def worker_count() -> int:
    """Return $LOOKALIKE_THREADS, else the number of processors that this process may use."""
    wanted = os.environ.get("LOOKALIKE_THREADS", "").strip()
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ConfigError(f"LOOKALIKE_THREADS is a number from 1 up, got {wanted!r}")
    return int(wanted)


def in_parallel(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int | None = None
) -> Generator[Result, None, None]:
    """Yield ``work(task)`` for each task, in order, with a bounded number in flight; tasks are drawn as needed."""
    workers = workers or worker_count()
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lookalike")
    try:
        for task in tasks:
            pending.append(pool.submit(work, task))
            if len(pending) >= workers * _IN_FLIGHT_PER_WORKER:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def contents_of(path: str) -> Contents:
    """Read a file once and hash it; raise UnreadableImage."""
    data, size, mtime_ns = read_file(path)
    return Contents(data, hashlib.sha256(data).hexdigest(), size, mtime_ns)


def smallest_side(encoders: Sequence[Encoder]) -> int | None:
    """Return how many pixels a side a reduced decode must keep to serve all these encoders; None: read it whole."""
    needs = [encoder.at_least for encoder in encoders]
    return None if None in needs else max(need for need in needs if need is not None)


def embed(image: Image, encoders: Sequence[Encoder]) -> tuple[Embeddings, ...]:
    """Return the embedding of one picture in each encoder's space."""
    return tuple(encoder.encode([image]) for encoder in encoders)


def embed_files(paths: Iterable[str], encoder: Encoder) -> Iterator[tuple[str, Embeddings] | Skipped]:
    """Yield (path, its embedding) or Skipped for each path, in order, in bounded memory."""

    def work(path: str) -> tuple[str, Embeddings] | Skipped:
        try:
            image = read_bytes(read_file(path)[0], path, encoder.at_least)
            return path, encoder.encode([image])
        except InputError as error:
            return Skipped(path, reason_of(error))

    return in_parallel(work, paths)


def reason_of(error: InputError) -> str:
    """Return why a picture was left out, without its path in front."""
    return str(getattr(error, "reason", error))
