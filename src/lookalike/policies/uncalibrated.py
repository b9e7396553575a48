"""What decides where nothing was calibrated: nobody. The scores are told, the verdict is unsure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lookalike.policies.scores import checked
from lookalike.types import Context, Decision, Evidence, Verdict


@dataclass(frozen=True, slots=True)
class Uncalibrated:
    """Tells the scores and decides nothing: a cosine of .9 is a match in one space and chance in another."""

    why: str = "`lookalike calibrate` makes thresholds with stated rates"

    def decide(self, scores: Mapping[str, float], context: Context) -> Decision:
        """Return unsure, or unknown where a picture cannot be judged."""
        evidence = tuple(Evidence(name, score) for name, score in checked(scores).items())
        if context.problems:
            return Decision(Verdict.UNKNOWN, None, None, "; ".join(context.problems), evidence=evidence)
        return Decision(Verdict.UNSURE, None, None, f"not calibrated: {self.why}", evidence=evidence)
