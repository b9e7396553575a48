"""Files that get another place: never over another file, and gone from the old one only when they are in the new.

Every step here leaves the bytes under at least one name, so that the process may be killed between any two of them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lookalike.stores.durable import sync_directory

_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CHUNK = 1 << 20
_OURS = ".lookalike-"
_CANNOT_SYNC_NAMES = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # some network file systems


class Changed(Exception):
    """A file is not what it was; the text says what happened to it, in a phrase that follows its name."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A regular file as it was read: the sha256 of its bytes, and what tells that they are still these."""

    sha256: str
    stamp: tuple[int, int, int, int]


def look(path: str) -> Seen:
    """Read a regular file, following no link; raise Changed for what is none, or changes meanwhile."""
    status = os.lstat(path)
    _refuse_what_is_no_file(status)
    with open(os.open(path, _READ), "rb", buffering=0) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        after = _stamp(os.fstat(file.fileno()))
    if _stamp(status) != after:
        raise Changed("changed while it was read")
    return Seen(sha256, after)


def check_still(path: str, seen: Seen) -> None:
    """Raise Changed unless a file is the one that was seen, by its inode, size and time; no byte is read."""
    if _stamp(os.lstat(path)) != seen.stamp:
        raise Changed("changed at the last moment")


def holds(path: str, sha256: str) -> bool:
    """Tell whether a regular file is there with these bytes; what cannot be read does not hold them."""
    try:
        return look(path).sha256 == sha256
    except (OSError, Changed):
        return False


def same_file(a: str, b: str) -> bool:
    """Tell whether two names lead to one file (one inode), links followed; False where one is missing."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def spare_name(beside: str) -> str:
    """Return a new name in the folder of ``beside``; short, since the other may be as long as the system allows."""
    return os.path.join(os.path.dirname(beside), _OURS + secrets.token_hex(8))


def is_spare(path: str) -> bool:
    """Tell whether a name is one that :func:`spare_name` gave."""
    return os.path.basename(path).startswith(_OURS)


def make_folders(path: str) -> None:
    """Make a folder and those above it, for good when this returns."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(folder)
        sync_names(folder)


def move(path: str, target: str, spare: str, seen: Seen) -> None:
    """Move a file; raise FileExistsError where ``target`` exists, Changed where the file is not what was ``seen``.

    Across file systems it is copied to ``spare``, synced and compared before it gets its name. After an error the file
    is where it was.
    """
    _place(path, target, spare, seen)
    try:
        sync_names(target)
        check_still(path, seen)
        os.unlink(path)
    except (OSError, Changed):
        take_back(path, target, seen.sha256)
        raise
    sync_names(path)


def take_back(path: str, target: str, sha256: str) -> None:
    """Remove ``target``, a copy of ``path`` or a second name of it, unless it alone has these bytes."""
    if same_file(path, target) or (holds(path, sha256) and holds(target, sha256)):
        os.unlink(target)


def replace_by_link(path: str, kept: str, spare: str, aside: str, seen: Seen) -> None:
    """Make ``path`` a second name of ``kept``; the old file keeps the name ``aside`` until that is done.

    Raise Changed where the file at ``path`` is not what was ``seen``. After an error the old file is where it was.
    """
    try:
        os.link(path, aside)
        os.link(kept, spare)
        check_still(path, seen)
        os.replace(spare, path)
        check_still(aside, seen)
        sync_names(path)
    except (OSError, Changed):
        remove_spare(spare)
        put_back(aside, path, kept)
        raise
    os.unlink(aside)


def put_back(aside: str, path: str, kept: str) -> None:
    """Give the file at ``aside``, where there is one, its old name ``path``, unless a third file has that by now."""
    if not os.path.lexists(aside):
        return
    if same_file(aside, path):
        os.unlink(aside)  # POSIX: renaming a file to another name of itself does nothing
    elif not os.path.lexists(path) or same_file(path, kept):
        os.replace(aside, path)


def part_from_link(path: str, source: str, spare: str, mode: int, mtime_ns: int) -> None:
    """Make ``path`` a file of its own with the bytes of ``source``, with this mode and time of change."""
    _copy(source, spare, look(source))
    try:
        os.chmod(spare, stat.S_IMODE(mode))
        os.utime(spare, ns=(mtime_ns, mtime_ns))
        if os.path.lexists(path):
            os.replace(spare, path)
        else:
            _name(spare, path)
    except OSError:
        remove_spare(spare)
        raise
    sync_names(path)


def sync_names(path: str) -> None:
    """Put the name of a file, or that it is gone, on the disk, where the file system can."""
    try:
        sync_directory(Path(path).parent)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_NAMES:
            raise


def remove_spare(path: str) -> None:
    """Remove a half-made file of ours, where there is one."""
    if is_spare(path):
        with suppress(FileNotFoundError):
            os.unlink(path)


def remove_reserve(path: str) -> None:
    """Remove an empty file, by which a name was held where there are no hard links."""
    with suppress(FileNotFoundError):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(path)


def _place(path: str, target: str, spare: str, seen: Seen) -> None:
    """Give the file ``target`` as a second name, or its copy where the file system cannot do that."""
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:
        _copy(path, spare, seen)
        _name(spare, target)


def _copy(path: str, spare: str, seen: Seen) -> None:
    """Copy a file to a new one, synced and compared."""
    try:
        _write(path, spare)
        shutil.copystat(path, spare)
        _check_copy(spare, seen)
    except (OSError, Changed):
        remove_spare(spare)
        raise


def _check_copy(spare: str, seen: Seen) -> None:
    if not holds(spare, seen.sha256):
        raise Changed("changed while it was copied")


def _write(path: str, spare: str) -> None:
    descriptor = os.open(spare, _CREATE, 0o600)
    try:
        with open(os.open(path, _READ), "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                write_all(descriptor, chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``: the system may take a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _name(spare: str, target: str) -> None:
    """Rename without overwriting; raise FileExistsError where ``target`` exists."""
    try:
        _link_or_reserve(spare, target)
    except OSError:
        remove_spare(spare)
        raise
    with suppress(OSError):
        remove_spare(spare)


def _link_or_reserve(spare: str, target: str) -> None:
    try:
        os.link(spare, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here: an empty file holds the name until the rename
        os.close(os.open(target, _CREATE, 0o600))
        try:
            os.replace(spare, target)
        except OSError:
            os.unlink(target)
            raise


def _refuse_what_is_no_file(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise Changed("is a link, not a copy")
    if not stat.S_ISREG(status.st_mode):
        raise Changed("is not a file any more")


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def plain(error: OSError | Changed) -> str:
    """Return in a phrase what went wrong with a file, with the way out where there is one."""
    if isinstance(error, Changed):
        return str(error)
    known = _REASONS.get(error.errno or 0)
    return known or error.strerror or str(error)


_REASONS = {
    errno.ENOENT: "is not there any more",
    errno.EEXIST: "another file has that name already, and nothing is overwritten",
    errno.ENOSPC: "the disk is full; make room and run it again",
    getattr(errno, "EDQUOT", errno.ENOSPC): "your share of the disk is used up; make room and run it again",
    errno.EACCES: "the system does not allow it (the file or its folder is read-only)",
    errno.EPERM: "the system does not allow it (the file or its folder is protected, or the file system cannot do it)",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "its new name would be too long; choose a folder with a shorter name",
    errno.EMLINK: "the kept file has as many names as the file system allows",
}
