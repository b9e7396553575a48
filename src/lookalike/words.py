"""What is looked for in words, alone or beside pictures: sums of unit vectors in the one space that holds both."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.errors import ConfigError, InputError
from lookalike.protocols import TextEncoder
from lookalike.types import Embeddings

_TAKEN_AWAY = re.compile(r"(?<!\S)-(?=[^\W\d_])(\S+)")
_CANCELLED = 1e-6


@dataclass(frozen=True, slots=True)
class Words:
    """Texts that are added to a query and texts that are taken from it, each with ``weight``; a picture counts 1."""

    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ConfigError(f"the weight of words is a number above 0 (a picture counts 1), got {self.weight}")
        if not (self.plus or self.minus):
            raise ConfigError("a search with words needs at least one, got none")
        for text in (*self.plus, *self.minus):
            if not text.strip():
                raise InputError(f"a text to look for says something, got {text!r}")

    @classmethod
    def parse(cls, text: Sequence[str], minus: Sequence[str] = (), weight: float = 1.0) -> Words:
        """Return what texts say; a word of ``text`` that begins with "-" is taken away, as ``minus`` is."""
        kept = [" ".join(_TAKEN_AWAY.sub(" ", one).split()) for one in text]
        taken = [word for one in text for word in _TAKEN_AWAY.findall(one)]
        # A text of nothing but such words is no mistake; one that was empty from the start is, and is refused.
        plus = [said for one, said in zip(text, kept, strict=True) if said or not one.strip()]
        return cls(tuple(plus), (*taken, *minus), weight)

    @property
    def name(self) -> str:
        """How the query is called: ``red bicycle - snow``."""
        return " - ".join([" + ".join(self.plus), *self.minus]).strip()

    def combined(self, encoder: TextEncoder, pictures: Embeddings | None) -> Embeddings:
        """Return the queries (N, dim), N that of ``pictures``, or 1 without: the normalized weighted sums.

        Raise ConfigError where words are only taken away, and from no picture; InputError where nothing is left.
        """
        if pictures is None and not self.plus:
            raise ConfigError(f"{self.name!r} only takes away: say also what to look for, in words or by a picture")
        texts = encoder.encode_text([*self.plus, *self.minus])
        signs = self.weight * np.array([1.0] * len(self.plus) + [-1.0] * len(self.minus))
        total = (signs @ texts.vectors.astype(np.float64))[None]
        if pictures is not None:
            total = pictures.vectors + total
        if np.linalg.norm(total, axis=1).min() < _CANCELLED:
            raise InputError(f"nothing is left to look for: {self.name!r} cancels out")
        return Embeddings.from_raw(total, texts.space)
