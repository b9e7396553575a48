"""A threshold that a person chose: a plain rule with a margin, and no rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lookalike.errors import ConfigError
from lookalike.policies.scores import checked, turned
from lookalike.types import Context, Decision, Evidence, Verdict


@dataclass(frozen=True, slots=True)
class Threshold:
    """A match at ``threshold`` and closer, in the metric's own units; within ``margin`` on either side it is unsure.

    No rate is known of such a threshold, and it does not adapt; ``lookalike calibrate`` makes one that does.
    """

    metric: str
    threshold: float
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ConfigError(f"a threshold is a number, got {self.threshold}")
        if not 0 <= self.margin < math.inf:
            raise ConfigError(f"a margin is a distance from the threshold, at least 0, got {self.margin}")

    def decide(self, scores: Mapping[str, float], context: Context) -> Decision:
        """Return the verdict on a pair with these scores."""
        score = checked(scores, self.metric)[self.metric]
        beyond = turned(self.metric, score - self.threshold)
        evidence = Evidence(self.metric, score, self.threshold, None, beyond >= 0)
        verdict, reason = self._verdict(score, beyond)
        if context.problems:
            verdict, reason = Verdict.UNKNOWN, "; ".join(context.problems)
        return Decision(verdict, score, self.threshold, reason, evidence=(evidence,))

    def _verdict(self, score: float, beyond: float) -> tuple[Verdict, str]:
        said = (
            f"{self.metric} {score:.4g} against the given threshold {self.threshold:.4g}, whose error rate is not known"
        )
        if abs(beyond) < self.margin:
            return Verdict.UNSURE, f"{said}: inside the margin of {self.margin:.4g}"
        return (Verdict.MATCH if beyond >= 0 else Verdict.NO_MATCH), said
