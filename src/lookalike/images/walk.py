"""A folder -> the files in it that may be pictures, one after another, and why the others are left out."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lookalike.errors import InputError
from lookalike.images.files import kind_of
from lookalike.types import Skipped

_GALLERY_FILE = "lookalike.db"

_ENDINGS = """
    3gp 7z aac aae avi bz2 c cfg conf css csv db db-shm db-wal doc docx dll eml epub exe flac flv gz h h5 htm
    html ini ipynb jar java js json jsonl log lua m4a m4v md mkv mov mp3 mp4 mpeg mpg npy npz odp ods odt ogg
    onnx opus otf parquet pdf php pickle pkl ppt pptx pt pth py pyc rar rb rs rst rtf sh so sql sqlite sqlite3
    srt tar tex tgz toml tsv ttf txt wasm wav webm wma wmv woff woff2 xls xlsx xml xmp xz yaml yml zip zst
"""
_NOT_PICTURES = frozenset(f".{ending}" for ending in _ENDINGS.split())


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file that may be a picture: its path, the same relative to the root, its bytes and time of change."""

    path: str
    relative: str
    size: int
    mtime_ns: int


def walk(
    root: str | os.PathLike[str], *, hidden: bool = False, exclude: Sequence[str] = ()
) -> Iterator[Found | Skipped]:
    """Yield what lies in and under a folder, depth first and sorted by name; a single file yields just itself.

    Links to files are followed. Links to folders are followed too, last of all, each folder being visited once.
    A Skipped line is yielded for: hidden entries (unless ``hidden``), entries whose name or relative path matches a
    shell pattern of ``exclude``, galleries of lookalike, names that end as no picture does (.txt, .mp4; they are not
    opened), broken links, pipes, sockets, devices, and folders that cannot be listed. All other files are Found,
    whatever their names: what they hold shows when they are read. Raises InputError, naming it, where ``root`` is
    missing or is no file or folder.
    """
    top = os.path.expanduser(os.fsdecode(root))
    try:
        status = os.stat(top)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot open {os.fsdecode(root)}: {reason}") from error
    if stat.S_ISREG(status.st_mode):
        return iter([Found(top, os.path.basename(top), status.st_size, status.st_mtime_ns)])
    if not stat.S_ISDIR(status.st_mode):
        raise InputError(f"cannot open {os.fsdecode(root)}: it is {kind_of(status.st_mode)}, not a folder or a file")
    return _Walk(top, hidden, tuple(exclude)).run()


class _Walk:
    """One walk: the folders visited so far, and the links to folders still to be followed."""

    def __init__(self, root: str, hidden: bool, exclude: tuple[str, ...]) -> None:
        self._root, self._hidden, self._exclude = root, hidden, exclude
        self._visited: set[tuple[int, int]] = set()
        self._links: deque[str] = deque()

    def run(self) -> Iterator[Found | Skipped]:
        yield from self._below("")
        while self._links:
            # After all else, so that a folder is found under its own path and not under that of a link to it.
            yield from self._below(self._links.popleft())

    def _below(self, start: str) -> Iterator[Found | Skipped]:
        pending = [iter([start])]  # one listing a level
        while pending:
            relative = next(pending[-1], None)
            if relative is None:
                pending.pop()
                continue
            verdict = self._look_at(relative, follow=relative == start)
            if isinstance(verdict, list):
                pending.append(iter(verdict))
            elif verdict is not None:
                yield verdict

    def _look_at(self, relative: str, *, follow: bool) -> Found | Skipped | list[str] | None:
        """Return a file, a line why it is skipped, the sorted entries of a folder, or None for what comes later."""
        path = self._path(relative)
        if reason := self._unwanted(relative):
            return Skipped(path, reason)
        try:
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                if not follow and os.path.islink(path):
                    self._links.append(relative)
                    return None
                return self._listing(relative, (status.st_dev, status.st_ino))
        except OSError as error:
            return Skipped(path, _why(path, error))
        if kind := kind_of(status.st_mode):
            return Skipped(path, f"{kind}, not a file")
        return Found(path, relative, status.st_size, status.st_mtime_ns)

    def _listing(self, relative: str, identity: tuple[int, int]) -> Skipped | list[str]:
        path = self._path(relative)
        if identity in self._visited:
            return Skipped(path, "a link to a folder that was already visited")
        self._visited.add(identity)
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            return Skipped(path, f"the folder cannot be listed: {error.strerror}")
        if _GALLERY_FILE in names:
            return Skipped(path, "a gallery of lookalike")
        return [os.path.join(relative, name) for name in names]

    def _unwanted(self, relative: str) -> str | None:
        name = os.path.basename(relative)
        if name.startswith(".") and not self._hidden:
            return "hidden; ask for hidden files to be included"
        for pattern in self._exclude:
            if relative and (fnmatchcase(name, pattern) or fnmatchcase(relative, pattern)):
                return f"excluded by {pattern!r}"
        ending = os.path.splitext(name)[1].lower()
        if ending in _NOT_PICTURES and not os.path.isdir(self._path(relative)):
            return f"not a picture ({ending})"
        return None

    def _path(self, relative: str) -> str:
        return os.path.join(self._root, relative) if relative else self._root


def _why(path: str, error: OSError) -> str:
    if os.path.islink(path) and isinstance(error, FileNotFoundError):
        return "a broken link"
    return f"the file cannot be looked at: {error.strerror}"
