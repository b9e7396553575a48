"""Thresholds with stated rates, which adapt to the pictures at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from lookalike import registry
from lookalike.calibration import Calibration
from lookalike.calibration.rates import checked_target
from lookalike.errors import ConfigError
from lookalike.types import Context, Decision, Evidence, Verdict

DEFAULT_FALSE_ALARM_RATE = 0.05


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Decides by a calibration: two given pictures at its false positive rate, a search at a false alarm rate.

    Thresholds in the evidence are those of this very pair, in the metric's own units: what was calibrated is how far a
    pair is above the level that its pictures reach with strangers (``Context.shifts``), and that level is added back.
    """

    calibration: Calibration
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE

    def __post_init__(self) -> None:
        checked_target(self.false_alarm_rate, "a false alarm rate")

    def decide(self, scores: Mapping[str, float], context: Context) -> Decision:
        """Return the verdict of the deciding metric, with what every calibrated metric says."""
        name = self.calibration.decides
        if name not in scores:
            raise ConfigError(f"this calibration decides by {name!r}; there are only {', '.join(scores)}")
        evidence = tuple(self._evidence(metric, score, context) for metric, score in scores.items())
        own = next(one for one in evidence if one.metric == name)
        closeness = _closeness(name, scores[name], context)
        alarm = self._alarm_rate(closeness, context)
        verdict, reason = self._verdict(own, closeness, alarm, context)
        if context.problems:
            verdict, reason = Verdict.UNKNOWN, "; ".join(context.problems)
        return Decision(verdict, own.score, own.threshold, reason, own.false_positive_rate, alarm, evidence)

    def limits(self, items: int | None) -> tuple[float, float]:
        """Return the closeness from which on it is a match, and from which on it is at least unsure."""
        return _limits(self, items)

    def _evidence(self, metric: str, score: float, context: Context) -> Evidence:
        fit = self.calibration.fits.get(metric)
        if fit is None:
            return Evidence(metric, score)
        limit = self.limits(context.items)[0] if metric == self.calibration.decides else fit.threshold
        closeness = _closeness(metric, score, context)
        threshold = _score(metric, limit, context)
        return Evidence(metric, score, threshold, fit.impostors.at(closeness).estimate, closeness >= limit)

    def _alarm_rate(self, closeness: float, context: Context) -> float | None:
        if context.items is None:
            return None
        return self.calibration.alarms[self.calibration.decides].rate(closeness, context.items).estimate

    def _verdict(self, own: Evidence, closeness: float, alarm: float | None, context: Context) -> tuple[Verdict, str]:
        limit, loosest = self.limits(context.items)
        if closeness >= limit:
            return Verdict.MATCH, self._reason(own, "passes", alarm, context)
        if closeness >= loosest:
            return Verdict.UNSURE, (
                f"{self._reason(own, 'is just below', alarm, context)}; the calibration's own pairs would let it pass, "
                "others of the kind might not"
            )
        return Verdict.NO_MATCH, self._reason(own, "does not reach", alarm, context)

    def _reason(self, own: Evidence, how: str, alarm: float | None, context: Context) -> str:
        assert own.threshold is not None
        assert own.false_positive_rate is not None
        if alarm is None:
            target, said = self.calibration.target, "false positive rate"
            seen = f"{percent(own.false_positive_rate)} of pairs of different things come so close"
        else:
            target, said = self.false_alarm_rate, "false alarm rate"
            seen = f"among {context.items} items {percent(alarm)} of queries without a match find one so close"
        return (
            f"{own.metric} {own.score:.4g} {how} {own.threshold:.4g}, the threshold of this pair for a {said} of "
            f"{percent(target)}: {seen}"
        )


@lru_cache(maxsize=64)  # the same for all hits of a search
def _limits(policy: Calibrated, items: int | None) -> tuple[float, float]:
    decides = policy.calibration.decides
    if items is None:
        fit = policy.calibration.fits[decides]
        return fit.threshold, fit.plug_in
    alarms = policy.calibration.alarms[decides]
    return alarms.threshold(policy.false_alarm_rate, items), alarms.plug_in(policy.false_alarm_rate, items)


def _closeness(name: str, score: float, context: Context) -> float:
    return (score if _rises(name) else -score) - context.shifts.get(name, 0.0)


def _score(name: str, closeness: float, context: Context) -> float:
    shifted = closeness + context.shifts.get(name, 0.0)
    return shifted if _rises(name) else -shifted


def _rises(name: str) -> bool:
    """A fused score rises with closeness; a metric says so itself."""
    return name not in registry.names("metric") or registry.metric(name).higher_is_closer


def percent(rate: float) -> str:
    """Return a rate in words: two digits, and none after the point from 10 % up."""
    return f"{100 * rate:.2g} %" if rate < 0.0995 else f"{100 * rate:.0f} %"
