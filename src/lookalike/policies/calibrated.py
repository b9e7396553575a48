"""Thresholds with stated rates, which adapt to the pictures at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from lookalike.calibration import Calibration
from lookalike.calibration.rates import checked_target
from lookalike.policies.scores import checked, identical, rises, turned
from lookalike.types import Context, Decision, Evidence, Verdict

DEFAULT_FALSE_ALARM_RATE = 0.05


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Decides by a calibration: two given pictures at its false positive rate, a search at a false alarm rate.

    Thresholds in the evidence are those of this very pair, in the metric's own units: what was calibrated is how far a
    pair is above the level that its pictures reach with strangers (``Context.shifts``), and that level is added back.
    Where that would be more than a picture can reach with itself, as among near copies, identical ones still match.
    """

    calibration: Calibration
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE

    def __post_init__(self) -> None:
        checked_target(self.false_alarm_rate, "a false alarm rate")

    def decide(self, scores: Mapping[str, float], context: Context) -> Decision:
        """Return the verdict of the deciding metric, with what every calibrated metric says.

        Raises InputError for the hit of a search where the calibration's queries cannot support the false alarm rate.
        """
        name = self.calibration.decides
        if context.items is not None:
            self.calibration.alarms[name].check(self.false_alarm_rate)
        evidence = {metric: self._evidence(metric, score, context) for metric, score in checked(scores, name).items()}
        own = evidence[name]
        alarm = self._alarm_rate(own, context)
        verdict, reason = self._verdict(own, alarm, context)
        if context.problems:
            verdict, reason = Verdict.UNKNOWN, "; ".join(context.problems)
        all_of_it = tuple(evidence.values())
        return Decision(verdict, own.score, own.threshold, reason, own.false_positive_rate, alarm, all_of_it)

    def _evidence(self, metric: str, score: float, context: Context) -> Evidence:
        fit = self.calibration.fits.get(metric)
        if fit is None:
            return Evidence(metric, score)
        level = context.shifts.get(metric, 0.0)
        limit = min(_limits(self, metric, context.items)[0] + level, identical(metric))
        rising = turned(metric, score)
        rate = fit.impostors.at(rising - level).estimate
        return Evidence(metric, score, turned(metric, limit), rate, rising >= limit)

    def _alarm_rate(self, own: Evidence, context: Context) -> float | None:
        if context.items is None:
            return None
        closeness = turned(own.metric, own.score) - context.shifts.get(own.metric, 0.0)
        return self.calibration.alarms[own.metric].rate(closeness, context.items).estimate

    def _verdict(self, own: Evidence, alarm: float | None, context: Context) -> tuple[Verdict, str]:
        loosest = _limits(self, own.metric, context.items)[1] + context.shifts.get(own.metric, 0.0)
        just_misses, misses = (
            ("is just below", "does not reach") if rises(own.metric) else ("is just above", "is above")
        )
        if own.threshold is not None and own.passed and turned(own.metric, own.threshold) >= identical(own.metric):
            reason = self._reason(own, "passes", alarm, context)
            return Verdict.MATCH, f"{reason}; to the encoder the two are identical"
        if own.passed:
            return Verdict.MATCH, self._reason(own, "passes", alarm, context)
        if turned(own.metric, own.score) >= loosest:
            return Verdict.UNSURE, (
                f"{self._reason(own, just_misses, alarm, context)}; the calibration's own pairs would let it pass, "
                "others of the kind might not"
            )
        return Verdict.NO_MATCH, self._reason(own, misses, alarm, context)

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
def _limits(policy: Calibrated, name: str, items: int | None) -> tuple[float, float]:
    """Return the closeness from which on it is a match, and from which on it is at least unsure."""
    if items is None:
        fit = policy.calibration.fits[name]
        return fit.threshold, fit.plug_in
    alarms = policy.calibration.alarms[name]
    return alarms.threshold(policy.false_alarm_rate, items), alarms.plug_in(policy.false_alarm_rate, items)


def percent(rate: float) -> str:
    """Return a rate in words: two digits, and none after the point from 10 % up."""
    return f"{100 * rate:.2g} %" if rate < 0.0995 else f"{100 * rate:.0f} %"
