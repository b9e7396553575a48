"""Scores of good pictures -> a threshold that a good picture exceeds no more often than a stated rate.

Split conformal prediction (Vovk, Gammerman, Shafer 2005): of n + 1 exchangeable scores each is as likely to be any of
the order, so a new good one lies above the l-th highest of n others with probability l / (n + 1) at most. Nothing is
supposed of how scores are distributed. What the rate is for these very n, and not in the mean over such samples, is
distributed as Beta(l, n + 1 - l): that is the interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lookalike.calibration.guarantee import clopper_pearson_upper
from lookalike.errors import ConfigError, InputError

USUAL_RATE = 0.05
_SIDE = 0.975


@dataclass(frozen=True, slots=True)
class Threshold:
    """A good picture scores above ``value`` with probability ``rate`` at most, in the mean over samples of so many.

    ``interval`` holds the rate of this very sample with 95 % confidence; ``smallest`` is the least rate that so many
    pictures support.
    """

    value: float
    rate: float
    interval: tuple[float, float]
    smallest: float
    pictures: int

    def as_dict(self) -> dict[str, object]:
        """Return the documented JSON shape."""
        return {
            "value": self.value,
            "false_alarm_rate": self.rate,
            "interval": list(self.interval),
            "smallest_rate": self.smallest,
            "good_pictures": self.pictures,
        }


def threshold(scores: ArrayLike, rate: float | None = None) -> Threshold:
    """Return the threshold for a false alarm ``rate``; None: 5 %, or the smallest that so few pictures support.

    Raise ConfigError for a rate that is none, or that takes more pictures than there are, InputError without scores.
    """
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    n = len(ordered)
    if not n:
        raise InputError("there is no good picture to calibrate on")
    smallest = 1 / (n + 1)
    wanted = max(USUAL_RATE, smallest) if rate is None else _checked(rate, n)
    # Rounding must not cost a picture: .05 times 100 is 5.
    place = min(n, math.floor(wanted * (n + 1) + 1e-9))
    low = 1 - clopper_pearson_upper(n - place, n, _SIDE)
    return Threshold(
        float(ordered[place - 1]),
        place / (n + 1),
        (low, clopper_pearson_upper(place - 1, n, _SIDE)),
        smallest,
        n,
    )


def chance(scores: ArrayLike, score: float) -> float:
    """Return the rate at which good pictures score as high as ``score`` or higher: the conformal p-value."""
    known = np.asarray(scores, np.float64)
    return float(1 + (known >= score).sum()) / (len(known) + 1)


def pictures_needed(rate: float) -> int:
    """Return the fewest good pictures that support a false alarm rate."""
    return math.ceil(1 / rate - 1e-9) - 1


def _checked(rate: float, n: int) -> float:
    if not 0 < rate < 1:
        raise ConfigError(f"a false alarm rate lies between 0 and 1, got {rate:g}")
    if rate * (n + 1) < 1 - 1e-9:
        raise ConfigError(
            f"{n} good pictures cannot support a false alarm rate of {rate:g}: it takes {pictures_needed(rate)}; "
            f"add pictures, or ask for {math.ceil(1000 / (n + 1)) / 1000:g}"
        )
    return rate
