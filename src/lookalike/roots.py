"""Which root folder a file belongs to: an item keeps its path relative to one, so that a folder can be moved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from lookalike.stores.sqlite import SqliteStore
from lookalike.types import Item

_SETTING = "roots"


class Roots:
    """The roots that a gallery knows. A folder inside a known root belongs to it, so no file becomes two items."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.known: list[str] = list(store.setting(_SETTING) or [])

    def place(self, absolute: str) -> tuple[str, str] | None:
        """Return (root, relative path) for a file under a known root, else None."""
        return next(((root, absolute[len(_slashed(root)) :]) for root in self._above(absolute)), None)

    def adopt(self, folder: str) -> None:
        """Make ``folder`` a root, unless it lies in one."""
        if folder not in self.known and not self._above(folder):
            self.known.append(folder)
            self._store.set_setting(_SETTING, self.known)

    def add(self, folders: Iterable[str]) -> None:
        """Know these roots, which items came with; also one that lies in another."""
        new = sorted(set(folders) - set(self.known))
        if new:
            self.known += new
            self._store.set_setting(_SETTING, self.known)

    def item_at(self, absolute: str) -> Item | None:
        """Return the item of this file, under whichever root it was indexed."""
        for root in self._above(absolute):
            item = self._store.at_path(root, absolute[len(_slashed(root)) :])
            if item is not None:
                return item
        return None

    def items_under(self, folder: str) -> Iterator[Item]:
        """Yield the items whose files lie (or lay) under ``folder``."""
        within = _slashed(folder)
        for root in self.known:
            slashed = _slashed(root)
            if slashed.startswith(within) or within.startswith(slashed):
                yield from (i for i in self._store.in_root(root) if i.path and i.path.startswith(within))

    def _above(self, absolute: str) -> list[str]:
        return [root for root in self.known if absolute.startswith(_slashed(root))]


def root_of(folder: str | os.PathLike[str]) -> str:
    """Return the absolute path of ``folder``, or of the folder that this file lies in."""
    path = os.path.abspath(os.path.expanduser(os.fspath(folder)))
    return path if os.path.isdir(path) else os.path.dirname(path)


def is_gone(path: str) -> bool:
    """Tell whether there is surely nothing at ``path``; a folder that may not be looked into is no proof."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _slashed(folder: str) -> str:
    return folder if folder.endswith(os.sep) else folder + os.sep
