"""What is to be done to files, and what came of it: frozen, with a documented JSON shape."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from lookalike.errors import ConfigError, InputError
from lookalike.types import Skipped

TRASH, MOVE, HARDLINK = "trash", "move", "hardlink"
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Action:
    """What is done to the files that are not kept; ``folder`` is where ``move`` puts them, absolute."""

    kind: str
    folder: str | None = None

    @classmethod
    def parse(cls, text: str) -> Action:
        """Return the action of ``trash``, ``hardlink`` or ``move:DIR``; raise ConfigError for another text."""
        kind, _, folder = text.partition(":")
        if kind == MOVE and folder:
            return cls(MOVE, os.path.abspath(os.path.expanduser(folder)))
        if text in (TRASH, HARDLINK):
            return cls(text)
        raise ConfigError(f"no action {text!r}; known: trash, move:DIR (a folder), hardlink")

    def __str__(self) -> str:
        return f"{self.kind}:{self.folder}" if self.folder else self.kind


@dataclass(frozen=True, slots=True)
class Drop:
    """A file that is not wanted, the one that is kept instead, and the sha256 of both when they were compared."""

    path: str
    sha256: str
    keep_path: str
    keep_sha256: str
    group: int | str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    ``roots`` are the folders that were searched: ``move`` keeps the paths relative to them (to what they have in
    common, where there are several). Nothing in the folders ``protected`` is ever touched.
    """

    drops: tuple[Drop, ...]
    action: Action
    roots: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        dropped = Counter(os.path.abspath(drop.path) for drop in self.drops)
        if twice := sorted(path for path, times in dropped.items() if times > 1):
            raise InputError(f"{twice[0]} is to be dropped twice; name each file once")
        kept = {os.path.abspath(drop.keep_path) for drop in self.drops}
        if both := sorted(kept & dropped.keys()):
            raise InputError(f"{both[0]} is to be kept and dropped; choose one of the two")

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {"action": str(self.action), "drops": [drop.as_dict() for drop in self.drops]}


@dataclass(frozen=True, slots=True)
class Done:
    """A file that was acted on; ``where`` it is now, None where only the system's trash knows."""

    path: str
    where: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did, what it left alone and why, and the journal that takes it back (None where nothing was tried)."""

    done: tuple[Done, ...]
    left: tuple[Skipped, ...]
    journal: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "done": [one.as_dict() for one in self.done],
            "left": [asdict(one) for one in self.left],
            "journal": self.journal,
        }


@dataclass(frozen=True, slots=True)
class Undone:
    """The files that are back in their places, those that are not and why, and how many were back already."""

    restored: tuple[str, ...]
    left: tuple[Skipped, ...]
    earlier: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {"restored": list(self.restored), "left": [asdict(one) for one in self.left], "earlier": self.earlier}


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that was cut off; ``told`` says in a few sentences what had happened, and what to do."""

    journal: str
    told: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {"journal": self.journal, "told": list(self.told)}
