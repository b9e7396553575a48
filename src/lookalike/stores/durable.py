"""Files that are on the disk in full or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any


def sync_file(file: IO[Any]) -> None:
    """Put what was written to ``file`` on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Put the names in ``path`` on the disk, where the system knows such a thing."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(new: Path, path: Path) -> None:
    """Give the synced file ``new`` the name ``path``, for good when this returns."""
    new.replace(path)
    sync_directory(path.parent)
