"""The threshold of ``edited`` for a folder of its own: set where its own pictures would be linked wrongly hardly ever.

    impostors   a picture, or an edited copy of it, and one of its four nearest other pictures, if they are not linked
    copies      a picture and an edited copy of it (``lookalike.edits``)

The impostors' scores above their 90 % quantile are taken to fall off exponentially (the tail of Pickands, Balkema and
de Haan, with shape 0), which says how many of as many pairs would pass a threshold beyond the highest score seen. Where
hardly any pair of different pictures has a score at all, a few imagined ones, as on photos, are added to these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lookalike.connected import connected
from lookalike.copies import candidates, local_features
from lookalike.copies.cascade import DEFAULTS, Source, Thresholds
from lookalike.copies.links import Link, Picture
from lookalike.copies.local_features import Features
from lookalike.edits import random_copy
from lookalike.errors import ConfigError, InputError
from lookalike.types import Float32

_SAMPLE = 300
_NEAREST = 4
_TAIL = 0.1
_IMAGINED, _IMAGINED_SCALE = 10, 0.06
_FEWEST = 40
_LOOSEST, _STRICTEST = 0.5, 0.98
_NO_GEOMETRY = 0.0


@dataclass(frozen=True, slots=True)
class Recalibration:
    """Thresholds for a folder, and what was measured on it.

    ``expected_precision``: of the links of as many copies and as many impostors as were tried; ``recall``: of those
    copies. ``impostors`` and ``copies`` are how many pairs were tried, ``highest_impostor`` the highest score of the
    first.
    """

    thresholds: Thresholds
    expected_precision: float
    recall: float
    impostors: int
    copies: int
    highest_impostor: float


def recalibrated(
    pictures: Sequence[Picture],
    source: Source,
    vectors: Float32,
    links: Iterable[Link],
    precision: float,
    *,
    thresholds: Thresholds = DEFAULTS,
    seed: int = 0,
) -> Recalibration:
    """Return the loosest thresholds with which ``precision`` is expected among up to 300 of ``pictures``.

    ``links`` are those found among them before; linked pairs count neither as impostors nor as copies. Raises
    ConfigError for a precision that is no share below 1, InputError where too few pictures can be tried or it cannot be
    had.
    """
    if not 0.5 <= precision < 1:
        raise ConfigError(f"a precision is from 0.5 to below 1, got {precision:g}")
    copies, impostors = _scores(pictures, source, vectors, links, seed)
    if min(len(copies), len(impostors)) < _FEWEST:
        raise InputError(
            f"too few pictures to set a threshold for a precision of {precision:g}: {len(copies)} copies and "
            f"{len(impostors)} pairs of different pictures could be tried, {_FEWEST} of each are needed; leave it out"
        )
    tail = _Tail.of(impostors)
    threshold = min(max(_threshold(tail, copies, precision), _LOOSEST), _STRICTEST)
    true, false = float((copies >= threshold).sum()), tail.above(threshold)
    if threshold == _STRICTEST and true < precision * (true + false):
        raise InputError(
            f"a precision of {precision:g} is not to be had on these pictures: different ones are so alike that at the "
            f"strictest threshold {true / (true + false):.4f} is expected; ask for that, or for less"
        )
    return Recalibration(
        replace(thresholds, edited_score=round(threshold, 3)),
        true / (true + false) if true else 0.0,
        true / len(copies),
        len(impostors),
        len(copies),
        float(impostors.max()),
    )


@dataclass(frozen=True, slots=True)
class _Tail:
    """How many of the impostors tried are expected above a score: ``beyond`` of them above ``begin``, fewer further."""

    begin: float
    beyond: float
    scale: float
    scores: Float32

    @classmethod
    def of(cls, scores: Float32) -> _Tail:
        begin = max(float(np.quantile(scores, 1 - _TAIL)), _NO_GEOMETRY)
        excess = scores[scores > begin] - begin
        scale = (float(excess.sum()) + _IMAGINED * _IMAGINED_SCALE) / (len(excess) + _IMAGINED)
        return cls(begin, len(excess) + 1.0, scale, np.sort(scores)[::-1])

    def above(self, score: float) -> float:
        """Return how many are expected at a score or above; never fewer than there were."""
        seen = int((self.scores >= score).sum())
        return max(seen, self.beyond * math.exp(-max(0.0, score - self.begin) / self.scale))

    def score_with(self, allowed: float) -> float:
        """Return from which score on no more than ``allowed`` are expected."""
        by_tail = self.begin + self.scale * max(0.0, math.log(self.beyond / allowed))
        seen = self.scores[int(allowed) :]
        return max(by_tail, float(seen[0]) + 1e-3 if len(seen) else 0.0)


def _threshold(tail: _Tail, copies: Float32, precision: float) -> float:
    """Return the lowest score above which false links are a share of ``1 - precision`` of all, to a thousandth."""
    threshold = tail.begin
    for _ in range(20):  # the stricter, the fewer copies pass, of which false links are a share
        passing = max(1.0, float((copies >= threshold).sum()))
        stricter = tail.score_with(passing * (1 - precision) / precision)
        if stricter <= threshold + 1e-3:
            return max(threshold, stricter)
        threshold = stricter
    return threshold


def _scores(
    pictures: Sequence[Picture],
    source: Source,
    vectors: Float32,
    links: Iterable[Link],
    seed: int,
) -> tuple[Float32, Float32]:
    """Return the scores of copies and of impostors."""
    family = _families(len(pictures), links)
    order = sorted(
        (row for row, picture in enumerate(pictures) if not picture.fingerprint.flat), key=lambda r: pictures[r].order
    )
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.permutation(len(order))[:_SAMPLE].tolist())
    near = candidates.nearest(np.ascontiguousarray(vectors[order]), -1.0, _NEAREST)
    copies: list[float] = []
    impostors: list[float] = []
    for place in chosen:
        row = order[place]
        others = [order[other] for other in near.rows[place] if other >= 0]
        try:
            pixels = source.pixels(row)
            edited, _ = random_copy(pixels, np.random.default_rng([seed, int(pictures[row].sha256[:8], 16)]))
            own, copy = local_features.extract(pixels), local_features.extract(edited)
            copies.append(_score(own, copy))
            for other in _readable(source, [other for other in others if family[other] != family[row]]):
                impostors += [_score(own, other), _score(copy, other)]
        except InputError:  # gone meanwhile: the search told so
            continue
    return np.array(copies, np.float32), np.array(impostors, np.float32)


def _families(count: int, links: Iterable[Link]) -> list[int]:
    """Return a number for each picture: the same for all that links lead to. Copies of one copy are no impostors."""
    return list(connected(range(count), ((link.a, link.b) for link in links)).values())


def _readable(source: Source, rows: Iterable[int]) -> Iterator[Features]:
    for row in rows:
        yield local_features.extract(source.pixels(row))


def _score(a: Features, b: Features) -> float:
    geometry = local_features.compare(a, b)
    return _NO_GEOMETRY if geometry is None else geometry.score
