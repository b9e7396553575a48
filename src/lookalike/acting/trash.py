"""The platform's trash. This module alone imports send2trash.

On Linux and other freedesktop systems it also finds again what was trashed, by the notes that the trash itself keeps
(Trash specification 1.0: ``info/NAME.trashinfo`` says where ``files/NAME`` came from, and when).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from importlib.util import find_spec
from urllib.parse import unquote_to_bytes

from lookalike.acting.placing import holds, plain
from lookalike.errors import MissingDependency

_INFO_ENDING = ".trashinfo"


class NotTrashed(Exception):
    """The trash did not take a file; the text says why and what to do instead."""


def require() -> None:
    """Raise MissingDependency unless send2trash is installed."""
    if find_spec("send2trash") is None:
        raise MissingDependency("moving files to the trash", "dedupe")


def send(path: str) -> str | None:
    """Put a file into the trash; return where it is now, None where the system does not tell.

    Raise NotTrashed where the trash does not take it.
    """
    from send2trash import send2trash  # noqa: PLC0415 - an extra

    before = os.lstat(path)
    try:
        send2trash(path)
    except Exception as error:  # each platform has its own: OSError, GLib.Error, com_error
        reason = plain(error) if isinstance(error, OSError) else str(error)
        if os.path.lexists(path):
            raise NotTrashed(
                f"there is no trash that takes it ({reason}); move files to a folder instead: --action move:DIR"
            ) from error
    return _just_sent(path, before)


def find(path: str, sha256: str, when: float) -> str | None:
    """Return which file of the trash came from ``path`` and has these bytes; of several, that of the time ``when``.

    ``when`` is in seconds since 1970. None where the system's trash cannot be looked into, or holds no such file.
    """
    fitting = [(abs(deleted - when), name) for origin, deleted, name in _notes(path) if _same_place(origin, path)]
    return next((name for _, name in sorted(fitting) if holds(name, sha256)), None)


def forget(trashed: str) -> None:
    """Remove the note about a file that is no longer in the trash."""
    folder, name = os.path.split(trashed)
    if os.path.basename(folder) == "files" and not os.path.lexists(trashed):
        with suppress(OSError):
            os.unlink(os.path.join(os.path.dirname(folder), "info", name + _INFO_ENDING))


def can_be_searched() -> bool:
    """Tell whether what is in the trash can be found again on this system."""
    return sys.platform not in ("win32", "darwin")


def _just_sent(path: str, before: os.stat_result) -> str | None:
    # The newest of a name has its highest number: no need to read all notes of a full trash.
    stem, ending = os.path.splitext(os.path.basename(path))
    for trash, _ in _folders(path):
        number, name = 0, os.path.join(trash, "files", stem + ending)
        while os.path.lexists(name):
            if os.path.samestat(os.lstat(name), before):
                return name
            number += 1
            name = os.path.join(trash, "files", f"{stem} {number}{ending}")
    return None


def _notes(path: str) -> Iterator[tuple[str, float, str]]:
    """Yield (where from, when in seconds since 1970, the file in the trash) of all that ``path`` may be among."""
    for trash, top in _folders(path):
        info = os.path.join(trash, "info")
        with suppress(OSError):
            for entry in sorted(os.listdir(info)):
                note = _note(os.path.join(info, entry))
                if note is not None and entry.endswith(_INFO_ENDING):
                    origin, deleted = note
                    yield os.path.join(top, origin), deleted, os.path.join(trash, "files", entry[: -len(_INFO_ENDING)])


def _note(path: str) -> tuple[str, float] | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        deleted = datetime.fromisoformat(fields["DeletionDate"]).timestamp()
        return os.fsdecode(unquote_to_bytes(fields["Path"].encode("utf-8", "surrogateescape"))), deleted
    except (OSError, KeyError, ValueError, OverflowError):
        return None


def _folders(path: str) -> Iterator[tuple[str, str]]:
    """Yield the trash folders that a file may go to, each with the folder from which its relative paths count."""
    if not can_be_searched():
        return
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    yield os.path.join(data, "Trash"), data
    top = os.path.realpath(os.path.dirname(path))
    while not os.path.ismount(top):
        top = os.path.dirname(top)
    user = str(os.getuid())
    yield os.path.join(top, ".Trash", user), top
    yield os.path.join(top, ".Trash-" + user), top


def _same_place(a: str, b: str) -> bool:
    return _place(a) == _place(b)


def _place(path: str) -> str:
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
