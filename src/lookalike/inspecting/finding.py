"""What an inspector says: what each test measured, what was decided on a picture, and what learning came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lookalike.inspecting.regions import Region
from lookalike.inspecting.threshold import Threshold
from lookalike.types import Float32, Skipped, Verdict


@dataclass(frozen=True, slots=True)
class Measured:
    """What one test says: its own score and threshold, and how often good pictures score as high."""

    metric: str
    score: float
    threshold: float
    false_alarm_rate: float
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What was decided on one picture.

    ``defective`` is None where it cannot be judged; then there is no score. ``score`` is in multiples of the usual
    spread of good pictures above their usual score, and so is ``threshold``. ``heat`` (h, w) in [0, 1] lies over the
    whole picture, .5 at the threshold.
    """

    path: str
    verdict: Verdict
    reason: str
    score: float | None
    threshold: float
    false_alarm_rate: float
    regions: tuple[Region, ...] = ()
    evidence: tuple[Measured, ...] = ()
    heat: Float32 | None = None

    @property
    def defective(self) -> bool | None:
        """Whether there is a defect; None where it cannot be judged."""
        return None if self.verdict is Verdict.UNKNOWN else self.verdict is Verdict.NO_MATCH

    @property
    def badness(self) -> tuple[int, float, str]:
        """What puts the worst first: defective, then what cannot be judged, then the good, each by score."""
        order = {True: 0, None: 1, False: 2}[self.defective]
        return order, -(self.score or 0.0), self.path

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "path": self.path,
            "defective": self.defective,
            "verdict": self.verdict.value,
            "score": self.score,
            "threshold": self.threshold,
            "false_alarm_rate": self.false_alarm_rate,
            "reason": self.reason,
            "regions": [region.as_dict() for region in self.regions],
            "evidence": [test.as_dict() for test in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """What learning came to: the threshold, the pictures it rests on, those that stand out, those left out."""

    threshold: Threshold
    suspects: tuple[Skipped, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            **self.threshold.as_dict(),
            "suspects": [asdict(one) for one in self.suspects],
            "skipped": [asdict(one) for one in self.skipped],
        }


def reason_of(evidence: Sequence[Measured], regions: Sequence[Region], p: float, good: int, bad: bool) -> str:
    """Return one sentence with the numbers of the test that is nearest to its threshold, or farthest beyond."""
    worst = max(evidence, key=lambda test: (not test.passed, test.score / test.threshold if test.threshold > 0 else 0))
    numbers = f"{_WORDS[worst.metric]} {worst.score:.3g}, at most {worst.threshold:.3g} passes"
    if not bad:
        return f"like the good pictures: {numbers}; {p:.0%} of {good} good ones score as high"
    failed = [test.metric for test in evidence if not test.passed]
    where = f"{len(regions)} region{'' if len(regions) == 1 else 's'}" if regions else "all over the picture"
    return f"unlike the good pictures by {' and '.join(failed)}, {where}: {numbers}"


_WORDS = {
    "patches": "its strangest patch is away from all good ones by",
    "whole": "its mean features are away from the good ones' by",
    "detail": "detail that its surroundings do not explain, in levels:",
    "difference": "it differs from its template, in levels, by",
}
