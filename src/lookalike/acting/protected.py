"""Folders that are never touched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lookalike.errors import ConfigError


class Protected:
    """The folders that are never touched, told by what they are and not by how they are written."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._identities = {_identity(folder) for folder in folders}

    def holds(self, path: str) -> bool:
        """Tell whether a path lies in one of them, links followed."""
        if not self._identities:
            return False
        place = Path(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        return any(_identity_or_none(folder) in self._identities for folder in (place, *place.parents))


def _identity(folder: str) -> tuple[int, int]:
    found = _identity_or_none(folder)
    if found is None:
        raise ConfigError(f"the protected folder {folder} is not there; correct its name")
    return found


def _identity_or_none(path: str | Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
