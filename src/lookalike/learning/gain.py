"""Did it help? Each figure before and after, on the same queries, with the interval of the difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.calibration.pairs import Floats, Ints
from lookalike.evaluation.gate import paired
from lookalike.evaluation.intervals import Interval, percentiles, query_weights
from lookalike.evaluation.judging import Judged
from lookalike.evaluation.verification import Curve, curve_of

RATE = 0.01
LEVELS = np.linspace(1, -1, 1001, dtype=np.float32)
"""The cosines at which pairs are counted, so that what is counted in one turn can be added to another's."""
DECIDES = "map@r"
"""The figure whose rise is the gain: it counts all that should have come, not the first alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """A figure before and after, and the 95 % interval of what changed, on the same draws of labels and queries."""

    figure: str
    before: float
    after: float
    difference: Interval
    higher_is_better: bool = True

    @property
    def is_better(self) -> bool:
        """Tell whether the whole interval is on the good side."""
        return self.difference.low > 0 if self.higher_is_better else self.difference.high < 0

    @property
    def is_worse(self) -> bool:
        """Tell whether the whole interval is on the bad side."""
        return self.difference.high < 0 if self.higher_is_better else self.difference.low > 0

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape; None where there is nothing to count."""
        told = asdict(self)
        told["difference"], told["low"], told["high"] = self.difference
        return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in told.items()}


def changes(before: Sequence[Judged], after: Sequence[Judged], units: Ints, seed: int = 0) -> tuple[Change, ...]:
    """Return recall@1, MAP@R, AUC, and the false negative rate where one impostor of a hundred passes.

    ``before`` and ``after`` are of the queries of one turn after the other, at :data:`LEVELS`; ``units`` (Q,) are those
    of all these queries: whole units are drawn, then queries in them.
    """
    retrieved = []
    for name in ("recall@1", DECIDES):
        old, new = (np.concatenate([one.values[name] for one in some]) for some in (before, after))
        difference = paired(old, new, units, seed).interval
        retrieved.append(Change(name, float(np.nanmean(old)), float(np.nanmean(new)), difference))
    weights = query_weights(units, seed=seed)
    whole = np.ones(len(units))
    curves = [(_curve(some, whole), _curve(some, weights)) for some in (before, after)]
    verified = [
        _verified("auc", Curve.auc, curves, higher_is_better=True),
        _verified("fnr@fpr=0.01", _missed, curves, higher_is_better=False),
    ]
    return (*retrieved, *verified)


def is_gain(found: tuple[Change, ...]) -> bool:
    """Tell whether MAP@R rose beyond chance and no figure fell beyond chance."""
    return any(one.is_better for one in found if one.figure == DECIDES) and not any(one.is_worse for one in found)


def _curve(judged: Sequence[Judged], weights: NDArray[Any]) -> Curve:
    counts = [np.concatenate([getattr(one, kind) for one in judged]) for kind in ("genuine", "impostor")]
    return curve_of(judged[0].levels, counts[0], counts[1], weights)


def _missed(curve: Curve) -> Floats:
    missed: Floats = 1 - curve.true_positives_at(RATE)
    return missed


def _verified(
    name: str,
    figure: Callable[[Curve], Floats],
    curves: list[tuple[Curve, Curve]],
    *,
    higher_is_better: bool,
) -> Change:
    (old, old_draws), (new, new_draws) = curves
    before, after = float(figure(old)), float(figure(new))
    difference = percentiles(after - before, figure(new_draws) - figure(old_draws))
    return Change(name, before, after, difference, higher_is_better)
