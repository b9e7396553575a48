"""Fetches one known file on a user's word: goes on where it stopped, and keeps only what has the right sha256.

What has come so far lies beside the target as ``TARGET.part``; the target itself is whole or not there.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from lookalike.errors import ConfigError

Progress = Callable[[int], None]
"""Is told how many more bytes have come; fewer than none where a server starts anew."""

_SCHEMES = ("https", "http", "file")
_CHUNK = 1 << 18
_TIMEOUT_S = 30.0
_PAUSE_S = 1.0
_FRUITLESS = 3
"""So many connections in a row may bring nothing before we give up."""
_PARTIAL = http.HTTPStatus.PARTIAL_CONTENT
_PAST_THE_END = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def fetch(url: str, sha256: str, size: int, target: Path, progress: Progress = lambda _: None) -> Path:
    """Return ``target``, which holds the ``size`` bytes at ``url`` that have this sha256.

    A target that is already right is left alone. Raise ConfigError where the address cannot be reached or answers
    with an error, where the disk is full, where another process fetches the same file, and where what came is another
    file: that is removed. After all others the next call goes on with what has come.
    """
    if urlsplit(url).scheme not in _SCHEMES:
        raise ConfigError(f"{url} cannot be fetched; an address begins with one of {', '.join(_SCHEMES)}")
    if _sha256(target) == sha256:
        return target
    part = target.with_name(f"{target.name}.part")
    with _alone(part):
        _check_room(part, size)
        _complete(url, part, size, progress)
        _check(url, part, sha256)
        part.replace(target)
    return target


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Keep other processes away from the part meanwhile."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - only where something is fetched

    lock = FileLock(f"{part}.lock", timeout=0)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ConfigError(f"{part} is being fetched by another process; wait for it") from error
    except OSError as error:
        raise ConfigError(f"cannot write {part}: {error.strerror}; set LOOKALIKE_CACHE to another folder") from error
    try:
        yield
    finally:
        lock.release()


def _check_room(part: Path, size: int) -> None:
    missing = size - _size(part)
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise ConfigError(f"no room for {part}: {missing:,} bytes are to come and {free:,} are free")


def _complete(url: str, part: Path, size: int, progress: Progress) -> None:
    """Fetch what is missing of the part; a connection that breaks off is opened again where it brought something."""
    have, fruitless = _size(part), 0
    progress(have)
    while have < size:
        lost = _go_on(url, part, size, progress)
        before, have = have, _size(part)
        if have >= size:
            return
        fruitless = 0 if have > before else fruitless + 1
        if fruitless == _FRUITLESS:
            raise ConfigError(
                f"the connection to {_host(url)} broke off at {have:,} of {size:,} bytes ({lost}); "
                "the same command goes on from there"
            )
        time.sleep(_PAUSE_S)


def _go_on(url: str, part: Path, size: int, progress: Progress) -> str:
    """Append to the part what one connection brings; return how it ended."""
    have = _size(part)
    try:
        answer = _opened(url, part, have)
    except (http.client.HTTPException, OSError) as error:  # it broke off before it answered
        return _told(error)
    with answer:
        start = have if _starts_at(answer) == have else 0
        if not start:
            progress(-have)
            _check_length(url, answer, part, size)
        with _writing(part, start, size) as file:
            return _copy(answer, file, size, progress)


def _opened(url: str, part: Path, have: int) -> Any:
    headers = {"User-Agent": "lookalike", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _PAST_THE_END:
            part.unlink()
            raise ConfigError(f"{url} is shorter than what has come of it, which was removed; try again") from error
        raise ConfigError(
            f"{url} answers {error.code} {error.reason}; if that lasts the file has moved: fetch it by hand and run "
            "lookalike encoders add"
        ) from error
    except urllib.error.URLError as error:
        raise ConfigError(
            f"cannot reach {_host(url)}: {error.reason}; with a network the same command goes on, "
            "and without one `lookalike encoders add` takes a file that was fetched elsewhere"
        ) from error


def _starts_at(answer: Any) -> int:
    """Return at which byte the answer starts; 0 where it is the whole file."""
    span = str(answer.headers.get("Content-Range", ""))  # such as: bytes 1000-4999/5000
    start = span.removeprefix("bytes ").partition("-")[0]
    return int(start) if getattr(answer, "status", None) == _PARTIAL and start.isdecimal() else 0


def _check_length(url: str, answer: Any, part: Path, size: int) -> None:
    told = str(answer.headers.get("Content-Length"))
    if told.isdecimal() and int(told) != size:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{url} gives {int(told):,} bytes, expected {size:,}: it is another file, and was not kept")


def _copy(answer: Any, file: IO[bytes], size: int, progress: Progress) -> str:
    """Write what comes, and no more than belongs to the file; return how it ended."""
    while (missing := size - file.tell()) > 0:
        try:
            chunk = answer.read(min(_CHUNK, missing))
        except (http.client.HTTPException, OSError) as error:
            return _told(error)
        if not chunk:
            return "the server closed it"
        file.write(chunk)
        progress(len(chunk))
    return "it was complete"


@contextmanager
def _writing(part: Path, start: int, size: int) -> Iterator[IO[bytes]]:
    """Open the part to write from ``start`` on; what has been written is synced however that ends."""
    try:
        part.touch()
        with part.open("rb+") as file:
            file.seek(start)
            file.truncate()
            try:
                yield file
            finally:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(
            f"cannot write {part}: {error.strerror}; {_size(part):,} of {size:,} bytes have come, "
            "and the same command goes on from there"
        ) from error


def _check(url: str, part: Path, sha256: str) -> None:
    found = _sha256(part)
    if found != sha256:
        part.unlink()
        raise ConfigError(
            f"what came from {url} has sha256 {found}, expected {sha256}: it is another file, and was removed; "
            "try again, and if that lasts the file was changed: a newer lookalike may know it"
        )


def _sha256(path: Path) -> str | None:
    """Return the file's sha256, or None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _host(url: str) -> str:
    return urlsplit(url).netloc or url
