"""Where journals are kept, and that one process at a time acts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lookalike.acting.placing import make_folders
from lookalike.errors import ConfigError, StoreError


class Busy(ConfigError):
    """Another process is acting on files."""


def journal_folder() -> Path:
    """Return where journals are kept; it need not exist."""
    from platformdirs import user_data_dir  # noqa: PLC0415 - only where something is done

    return Path(user_data_dir("lookalike", appauthor=False), "journals")


@contextmanager
def acting_alone() -> Iterator[None]:
    """Let one process of this user act at a time: two might each drop what the other one keeps.

    Raise Busy where another one is at it, StoreError where that cannot be told.
    """
    folder = journal_folder()
    lock = FileLock(folder / "acting.lock", timeout=0)
    try:
        make_folders(str(folder))
        lock.acquire()
    except Timeout as error:
        raise Busy("another lookalike is acting on files; try again when it is done") from error
    except OSError as error:
        raise StoreError(
            f"cannot write in {folder}, where journals are kept: {error.strerror or error}; make it writable"
        ) from error
    try:
        yield
    finally:
        lock.release()
