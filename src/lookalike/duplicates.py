"""What a search for copies found: groups with the fate of each picture, linked pairs, leaks; with their JSON shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lookalike.copies.cascade import Thresholds
from lookalike.copies.links import Kind, Level
from lookalike.copies.precision import Recalibration
from lookalike.types import Skipped

KEEP, DROP, STAY = "keep", "drop", "stay"


@dataclass(frozen=True, slots=True)
class Member:
    """A picture of a group: how it is linked to the kept one (or to the group's first), and what becomes of it.

    ``fate`` is "keep", "drop" or "stay", and ``why`` says so in words; ``linked_to`` is the picture that ``evidence``
    speaks of.
    """

    path: str
    kind: Kind
    evidence: Mapping[str, Any]
    linked_to: str
    fate: str
    why: str
    sha256: str
    bytes: int
    size: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "path": self.path,
            "kind": self.kind.value,
            "evidence": dict(self.evidence),
            "linked_to": self.linked_to,
            "fate": self.fate,
            "why": self.why,
            "bytes": self.bytes,
            "width": self.size[0],
            "height": self.size[1],
        }


@dataclass(frozen=True, slots=True)
class Copies:
    """A group of copies: the path that is kept and why, and all members, the kept one first."""

    keep: str
    reason: str
    members: tuple[Member, ...]

    @property
    def drop(self) -> tuple[Member, ...]:
        """The members that may go."""
        return tuple(one for one in self.members if one.fate == DROP)

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {"keep": self.keep, "reason": self.reason, "members": [one.as_dict() for one in self.members]}


@dataclass(frozen=True, slots=True)
class LinkedPair:
    """Two pictures that are copies, how that was proven, and how b differs from a."""

    a: str
    b: str
    kind: Kind
    evidence: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {"a": self.a, "b": self.b, "kind": self.kind.value, "evidence": dict(self.evidence)}


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found among ``pictures`` pictures, of which ``decoded`` had to be decoded.

    ``flat`` and ``crowded`` were compared by bytes and pixels only, or with some only: nearly uniform pictures, and
    those of which very many hash alike. ``recalibration`` is what a precision that was asked for made of the
    thresholds.
    """

    groups: tuple[Copies, ...]
    pairs: tuple[LinkedPair, ...]
    skipped: tuple[Skipped, ...]
    pictures: int
    decoded: int
    flat: tuple[str, ...]
    crowded: tuple[str, ...]
    level: Level
    thresholds: Thresholds
    tested: Mapping[str, int] = field(default_factory=dict)
    recalibration: Recalibration | None = None

    @property
    def keep(self) -> tuple[str, ...]:
        """The kept picture of each group."""
        return tuple(group.keep for group in self.groups)

    @property
    def drop(self) -> tuple[str, ...]:
        """All pictures that may go."""
        return tuple(one.path for group in self.groups for one in group.drop)

    @property
    def bytes_to_gain(self) -> int:
        """How many bytes the files take that may go."""
        return sum(one.bytes for group in self.groups for one in group.drop)

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "groups": [group.as_dict() for group in self.groups],
            "pairs": [pair.as_dict() for pair in self.pairs],
            "skipped": [asdict(one) for one in self.skipped],
            "keep": list(self.keep),
            "drop": list(self.drop),
            "pictures": self.pictures,
            "decoded": self.decoded,
            "flat": list(self.flat),
            "crowded": list(self.crowded),
            "level": self.level.value,
            "thresholds": self.thresholds.as_dict(),
            "tested": dict(self.tested),
            "recalibration": None if self.recalibration is None else asdict(self.recalibration),
        }


@dataclass(frozen=True, slots=True)
class Leaks:
    """The pictures of ``test`` that have a copy in ``train``: all pairs, a of ``train`` and b of ``test``."""

    train: str
    test: str
    pairs: tuple[LinkedPair, ...]
    pictures: tuple[int, int]
    skipped: tuple[Skipped, ...]

    @property
    def leaked(self) -> tuple[str, ...]:
        """The pictures of ``test`` that leak, by name."""
        return tuple(sorted({pair.b for pair in self.pairs}))

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "pairs": [pair.as_dict() for pair in self.pairs],
            "leaked": list(self.leaked),
            "train": self.train,
            "test": self.test,
            "pictures": {"train": self.pictures[0], "test": self.pictures[1]},
            "skipped": [asdict(one) for one in self.skipped],
        }
