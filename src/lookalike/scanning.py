"""Folders -> what a search for copies compares: each file once, hashed, reduced to a fingerprint, perhaps embedded.

With a ``SeenStore`` only new and changed files are read, and only new contents decoded.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import numpy as np

from lookalike.copies.cascade import DECODED_SIDE
from lookalike.copies.frame import inside_share
from lookalike.copies.hashing import Fingerprint, fingerprint
from lookalike.copies.links import Picture
from lookalike.errors import InputError
from lookalike.images import read_bytes, walk
from lookalike.pipeline import contents_of, in_parallel, reason_of
from lookalike.protocols import Encoder
from lookalike.stores.seen import Content, SeenStore
from lookalike.types import Float32, Skipped

Progress = Callable[[int], object]

HASHED_SIDE = 64
"""How many pixels a side are enough for the hash of a whole picture."""
_BATCH = 256
_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class File:
    """A file that is compared: its path, and in which of the given folders (by number) it was found."""

    path: str
    folder: int


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The N files that are compared, in the order of folders and names, with their pictures and vectors (N, D) or None.

    ``inside`` are the shares of their areas that lie inside of an even frame, 1 where there is none; ``decoded`` tells
    how many files were decoded, which is none where all was seen before.
    """

    files: tuple[File, ...]
    pictures: tuple[Picture, ...]
    vectors: Float32 | None
    skipped: tuple[Skipped, ...]
    inside: tuple[float, ...]
    decoded: int


def scan(
    folders: Sequence[str],
    encoder: Encoder | None = None,
    seen: SeenStore | None = None,
    progress: Progress = lambda _: None,
    *,
    every_name: bool = False,
) -> Scan:
    """Look at all pictures in and under ``folders``; embed them where an ``encoder`` is given.

    A file that is reached by several names is compared once: a second path to it (folders that lie in one another) is
    left out silently, links to it are skipped with the reason; with ``every_name`` each name is a file. What cannot be
    read is skipped too. Raises InputError where a folder is missing.
    """
    skipped: list[Skipped] = []
    files = list(_files(folders, skipped, every_name=every_name))
    eye = _Eye(encoder, seen)
    looked: list[tuple[File, _Look]] = []
    for file, look in zip(files, _each_looked_at(eye, files), strict=True):
        progress(1)
        if isinstance(look, Skipped):
            skipped.append(look)
        else:
            looked.append((file, look))
            eye.keep(file.path, look)
    eye.flush()
    for file, look in looked:
        if look.sha256 not in eye.known:
            skipped.append(Skipped(file.path, eye.refused[look.sha256]))
    looked = [(file, look) for file, look in looked if look.sha256 in eye.known]
    known = [eye.known[look.sha256] for _, look in looked]
    pictures = tuple(Picture(look.sha256, one.size, one.print) for (_, look), one in zip(looked, known, strict=True))
    vectors = None if encoder is None else _stacked([eye.vectors[look.sha256] for _, look in looked], encoder)
    inside = tuple(one.inside for one in known)
    return Scan(tuple(file for file, _ in looked), pictures, vectors, tuple(skipped), inside, eye.decoded)


def _each_looked_at(eye: _Eye, files: Sequence[File]) -> Iterator[_Look | Skipped]:
    """Yield what is found in each file, in order; a worker takes a few at a time, since handing over has a cost."""
    some = [files[start : start + _TOGETHER] for start in range(0, len(files), _TOGETHER)]
    return chain.from_iterable(in_parallel(lambda few: [eye.look(file.path) for file in few], some))


def _files(folders: Sequence[str], skipped: list[Skipped], *, every_name: bool) -> Iterator[File]:
    """Yield each file under one name, its own before that of a link; say of other names whose they are."""
    names: dict[tuple[int, int], list[File]] = {}
    for number, folder in enumerate(folders):
        for found in walk(folder):
            if isinstance(found, Skipped):
                skipped.append(found)
                continue
            try:
                status = os.stat(found.path)
            except OSError as error:
                skipped.append(Skipped(found.path, error.strerror or str(error)))
            else:
                path = os.path.abspath(found.path)
                names.setdefault((status.st_dev, status.st_ino), []).append(File(path, number))
    if every_name:
        yield from sorted((one for same in names.values() for one in same), key=lambda one: (one.folder, one.path))
        return
    for same in names.values():
        chosen = same[0] if len(same) == 1 else _under_its_own_name(same)
        yield chosen
        others = dict.fromkeys(one.path for one in same if one.path != chosen.path)
        skipped += [Skipped(path, _whose(path, chosen.path)) for path in others]


def _under_its_own_name(same: Sequence[File]) -> File:
    return next((one for one in same if os.path.realpath(one.path) == one.path), same[0])


def _whose(path: str, chosen: str) -> str:
    if os.path.realpath(path) == os.path.realpath(chosen):
        return f"a link to {chosen}"
    return f"a second name of {chosen} (a hard link): one file, which takes its space once"


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    size: tuple[int, int]
    print: Fingerprint
    inside: float


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What a worker found in a file; ``made`` where its content had not been seen before, with its vector."""

    sha256: str
    stamp: tuple[int, int] | None
    made: _Made | None
    vector: Float32 | None


class _Eye:
    """Looks at files from several threads; what was seen of a content before, in this run or an earlier one, counts."""

    def __init__(self, encoder: Encoder | None, seen: SeenStore | None) -> None:
        self._encoder, self._seen = encoder, seen
        # Vectors of reduced decodes are only good for finding candidates, so they are kept apart from a gallery's.
        self._space = "" if encoder is None else f"{encoder.space}@{DECODED_SIDE}"
        self._lock = threading.Lock()
        self._claimed: set[str] = set()
        self.known: dict[str, _Made] = {}
        self.vectors: dict[str, Float32] = {}
        self.refused: dict[str, str] = {}
        self.decoded = 0
        self._files: dict[str, tuple[int, int, str]] = {}
        self._new: set[str] = set()

    def look(self, path: str) -> _Look | Skipped:
        """Return what a file holds, or why it is left out."""
        try:
            sha256, stamp, data = self._content_of(path)
        except InputError as error:
            return Skipped(path, reason_of(error))
        if not self._claim(sha256):
            return _Look(sha256, stamp, None, None)
        if (kept := self._remembered(sha256)) is not None:
            return _Look(sha256, stamp, *kept)
        try:
            return _Look(sha256, stamp, *self._made(path, sha256, data))
        except InputError as error:
            self.refused[sha256] = reason_of(error)
            return Skipped(path, reason_of(error))

    def _made(self, path: str, sha256: str, data: bytes | None) -> tuple[_Made, Float32 | None]:
        side = HASHED_SIDE if self._encoder is None else DECODED_SIDE
        image = read_bytes(contents_of(path).data if data is None else data, path, side)
        vector = None if self._encoder is None else self._encoder.encode([image]).vectors[0]
        with self._lock:
            self.decoded += 1
            self._new.add(sha256)
        # Frames and parts matter only where parts of pictures are compared.
        parts = self._encoder is not None
        inside = inside_share(image.pixels) if parts else 1.0
        return _Made(image.size, fingerprint(image.pixels, parts=parts), inside), vector

    def keep(self, path: str, look: _Look) -> None:
        """Keep what was found, in the order of the files; write it from time to time."""
        if look.made is not None:
            self.known[look.sha256] = look.made
        if look.vector is not None:
            self.vectors[look.sha256] = look.vector
        if look.stamp is not None:
            self._files[path] = (*look.stamp, look.sha256)
        if len(self._files) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was found since the last time, so that an interrupted run goes on from here."""
        if self._seen is not None:
            with self._lock:
                new = [sha256 for sha256 in self._new if sha256 in self.known]
                self._new.difference_update(new)
            self._seen.put_contents({one: _content(self.known[one]) for one in new})
            if self._encoder is not None:
                self._seen.put_vectors(self._space, {one: self.vectors[one] for one in new})
            self._seen.put_files(self._files)
        self._files = {}

    def _content_of(self, path: str) -> tuple[str, tuple[int, int] | None, bytes | None]:
        """Return the sha256 of a file, how it looked, and its bytes where it had to be read."""
        if self._seen is not None:
            with suppress(OSError):  # reading says why, in words
                status = os.stat(path)
                sha256 = self._seen.sha256_of(path, status.st_size, status.st_mtime_ns)
                if sha256 is not None:
                    return sha256, None, None
        contents = contents_of(path)
        stamp = None if contents.mtime_ns is None else (contents.size, contents.mtime_ns)
        return contents.sha256, stamp, contents.data

    def _claim(self, sha256: str) -> bool:
        """Tell whether this is the first file of a content: the others need not be decoded."""
        with self._lock:
            first = sha256 not in self._claimed
            self._claimed.add(sha256)
            return first

    def _remembered(self, sha256: str) -> tuple[_Made, Float32 | None] | None:
        if self._seen is None or (content := self._seen.content(sha256)) is None:
            return None
        vector = None if self._encoder is None else self._seen.vector(sha256, self._space)
        if self._encoder is not None and vector is None:
            return None
        return _Made(content.size, unpacked(content.packed), content.inside), vector


def _content(made: _Made) -> Content:
    return Content(made.size, made.inside, packed(made.print))


def packed(made: Fingerprint) -> bytes:
    """Return a fingerprint as bytes."""
    stream = io.BytesIO()
    np.savez(stream, hashes=made.hashes, quality=made.quality, parts=made.parts, part_quality=made.part_quality)
    return stream.getvalue()


def unpacked(data: bytes) -> Fingerprint:
    """Return the fingerprint of such bytes."""
    with np.load(io.BytesIO(data), allow_pickle=False) as kept:
        return Fingerprint(kept["hashes"], int(kept["quality"]), kept["parts"], kept["part_quality"])


def _stacked(vectors: Sequence[Float32], encoder: Encoder) -> Float32:
    return np.stack(vectors) if vectors else np.empty((0, encoder.space.dim), np.float32)
