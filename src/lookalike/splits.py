"""Who asks and who answers, where a set of labelled pictures does not say: drawn by lot, whole groups on one side.

The lot of a picture hangs on its name and the seed alone, so that a split is the same on every machine and whatever
the order of the files.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lookalike.errors import ConfigError
from lookalike.types import LabelledPicture

_KINDS = "references:N (N pictures a label are the gallery) or half, both with :SEED if wanted, such as half:7"


@dataclass(frozen=True, slots=True)
class Split:
    """``references`` pictures of each label are the gallery and all others ask; 0: half of the groups are."""

    references: int
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Split:
        """Return the split of "references:N", "references:N:SEED", "half" or "half:SEED"; raise ConfigError."""
        kind, *numbers = text.split(":")
        expected = {"references": (1, 2), "half": (0, 1)}.get(kind, ())
        if len(numbers) not in expected or not all(number.isascii() and number.isdecimal() for number in numbers):
            raise ConfigError(f"a split is {_KINDS}; got {text!r}")
        if kind == "half":
            return cls(0, int(numbers[0]) if numbers else 0)
        if int(numbers[0]) < 1:
            raise ConfigError(f"a split of references needs at least one a label, got {text!r}")
        return cls(int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0)

    def of(self, pictures: Sequence[LabelledPicture], names: Sequence[str]) -> tuple[LabelledPicture, ...]:
        """Return the pictures with a role each, query or gallery; ``names`` are what their lots hang on.

        Raise ConfigError where a picture has a role already.
        """
        if declared := next((one for one in pictures if one.role is not None), None):
            raise ConfigError(
                f"{declared.path} has the role {declared.role!r}: a split would say otherwise; leave out one of the two"
            )
        chosen = self._references(pictures, names) if self.references else self._half(pictures, names)
        return tuple(replace(one, role="gallery" if place in chosen else "query") for place, one in enumerate(pictures))

    def _references(self, pictures: Sequence[LabelledPicture], names: Sequence[str]) -> set[int]:
        """Return the places of the first few of each label by lot, of as many groups as there are."""
        of_label: dict[str, list[int]] = defaultdict(list)
        for place in sorted(range(len(pictures)), key=lambda place: self._lot(names[place])):
            of_label[pictures[place].label].append(place)
        chosen: set[int] = set()
        for places in of_label.values():
            seen: dict[str, int] = defaultdict(int)
            turns = []
            for place in places:
                unit = _unit(pictures[place], names[place])
                turns.append((seen[unit], place))
                seen[unit] += 1
            # Stable: the first of each group come first, in the order of their lots.
            chosen.update(place for _, place in sorted(turns, key=lambda turn: turn[0])[: self.references])
        return chosen

    def _half(self, pictures: Sequence[LabelledPicture], names: Sequence[str]) -> set[int]:
        """Return the places of every second group: of the groups of each label, by lot."""
        units = [_unit(one, name) for one, name in zip(pictures, names, strict=True)]
        first: dict[str, str] = {}
        for unit, one in sorted(zip(units, pictures, strict=True), key=lambda pair: (pair[0], pair[1].label)):
            first.setdefault(unit, one.label)
        order = sorted(first, key=lambda unit: (first[unit], self._lot(unit)))
        gallery: set[str] = set()
        count: dict[str, int] = defaultdict(int)
        for unit in order:
            if count[first[unit]] % 2 == 0:
                gallery.add(unit)
            count[first[unit]] += 1
        return {place for place, unit in enumerate(units) if unit in gallery}

    def _lot(self, name: str) -> bytes:
        return hashlib.sha256(f"{self.seed}\0{name}".encode("utf-8", "surrogateescape")).digest()


def _unit(picture: LabelledPicture, name: str) -> str:
    # A picture without a group is a group of its own; the mark keeps it apart from a group of its name.
    return f"picture {name}" if picture.group is None else f"group {picture.group}"
