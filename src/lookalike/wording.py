"""What the apps found -> lines of text for people. The lines may hold file names: who prints them makes them safe."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from lookalike.apps.benchmark import BenchmarkReport
from lookalike.apps.calibrate import CalibrationReport, as_score
from lookalike.apps.compare import Comparison
from lookalike.apps.decide import DecidedHits
from lookalike.benchmarking import Configuration
from lookalike.calibration import Calibration, Fit
from lookalike.calibration.rates import Rate
from lookalike.copies.links import Level
from lookalike.duplicates import Duplicates
from lookalike.policies.calibrated import DEFAULT_FALSE_ALARM_RATE, percent
from lookalike.report import Said
from lookalike.report_benchmark import COST_NAMES, compared_row, costs_row, figures_row
from lookalike.report_pair import as_number, as_rate, evidence_row
from lookalike.types import Decision, Evidence, Registration

_PASSED = {True: "passes", False: "does not pass", None: ""}


def table(rows: Sequence[Sequence[str]], aligned: str) -> list[str]:
    """Return one line a row, the columns aligned as ``aligned`` says of each: ``<`` left or ``>`` right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(format, row, map("{}{}".format, aligned, widths))).rstrip() for row in rows]


# compare


def comparison(found: Comparison) -> list[str]:
    """Return the verdict and why; what each metric says; quality, alignment, and by which calibration."""
    head = ("metric", "score", "threshold", "false positive rate", "")
    return [
        f"{found.verdict}: {found.reason}",
        "",
        *table([head, *map(_evidence, found.decision.evidence)], "<>>><"),
        "",
        *(f"quality: {remark}" for remark in found.remarks),
        f"structure: {found.structure.reason}{_alignment(found.structure.registration)}",
        f"calibration: {found.origin}",
    ]


def _evidence(one: Evidence) -> tuple[str, ...]:
    return *evidence_row(one), _PASSED[one.passed]


def _alignment(registration: Registration) -> str:
    if registration.shift is None:
        return ""
    x, y = (round(side, 1) + 0.0 for side in registration.shift)  # no -0.0
    return (
        f"; b lies on a by a shift of {x:.1f}, {y:.1f} pixels, a rotation of {registration.rotation:.1f} degrees and "
        f"a scale of {registration.scale:.3f}, with an agreement of {registration.agreement:.2f}"
    )


# search --decide


def decided(found: DecidedHits) -> list[str]:
    """Return what was decided on a query and why; the hits that are left: rank, verdict, score, rate, id, path."""
    rows = [
        (f"{rank:4}", one.verdict.value, f"{hit.score:.4f}", as_rate(one.false_positive_rate), hit.id, hit.path or "-")
        for rank, (hit, one) in enumerate(zip(found.hits, found.decisions, strict=True), 1)
    ]
    return [
        f"{found.hits.query}: {said_of(found).of_query}",
        f"      {found.decision.reason}",
        *(table(rows, "><>><<") if rows else ["      nothing matches"]),
    ]


def said_of(found: DecidedHits) -> Said:
    """Return verdict and rate of a query and of each of its hits, in a few words."""
    alarm = found.decision.false_alarm_rate
    of_query = found.decision.verdict.value + ("" if alarm is None else f", false alarm rate {percent(alarm)}")
    return Said(of_query, tuple(map(_said_of_hit, found.decisions)))


def _said_of_hit(decision: Decision) -> str:
    rate = decision.false_positive_rate
    return decision.verdict.value + ("" if rate is None else f", false positive rate {percent(rate)}")


# calibrate


def calibration(report: CalibrationReport, gallery: str) -> list[str]:
    """Return what was used; the thresholds, with what is estimated and what is guaranteed; what to look at."""
    made = report.calibration
    head = ("metric", "threshold", "false positives, estimated", "guaranteed", "misses, estimated")
    items, alarm = report.items, DEFAULT_FALSE_ALARM_RATE
    per_query = as_score(made.decides, made.alarms[made.decides].threshold(alarm, items))
    return [
        f"calibrated on {made.source}: {report.impostor_pairs:,} pairs of different things, "
        f"{report.genuine_pairs:,} of the same",
        f"{made.decides} decides, at a false positive rate of {percent(made.target)} a pair",
        _how(made),
        "",
        *table([head, *(_fit(name, fit) for name, fit in made.fits.items())], "<>>>>"),
        "",
        "estimated: the mean over other things and pictures of this kind, and where 95 % of those lie; no proof",
        _guaranteed(made.fits[made.decides]),
        *_left_out(report),
        *_learned(report),
        f"for search --decide: {made.decides} {as_number(per_query)}, at a false alarm rate of {percent(alarm)} "
        f"a query among {items:,} items",
        *_closest(report, gallery),
    ]


def _how(made: Calibration) -> str:
    if made.background is None:
        return "thresholds are fixed"
    return "thresholds adapt: they count from the level that the two pictures of a pair reach with strangers"


def _fit(name: str, fit: Fit) -> tuple[str, ...]:
    proven = fit.guaranteed.rate
    return (
        name,
        as_number(as_score(name, fit.threshold)),
        _interval(fit.rate),
        f"at most {percent(proven)}" if proven < 1 else "nothing",
        _interval(fit.missed),
    )


def _interval(rate: Rate | None) -> str:
    return "-" if rate is None else f"{percent(rate.estimate)} ({percent(rate.low)} to {percent(rate.high)})"


def _guaranteed(fit: Fit) -> str:
    proof = fit.guaranteed
    told = (
        f"guaranteed: with {percent(proof.confidence)} confidence, by {proof.disjoint_pairs} pairs that share nothing"
    )
    if proof.smallest < 1:
        told += f", which can guarantee {percent(proof.smallest)} at the least"
    return f"{told}; {percent(fit.target)} takes {proof.pairs_needed} such pairs"


def _left_out(report: CalibrationReport) -> list[str]:
    missing = ", ".join(report.not_calibrated)
    return [f"not calibrated, since these pictures cannot support it: {missing}"] if missing else []


def _learned(report: CalibrationReport) -> list[str]:
    if report.learned is None:
        return []
    terms = " + ".join(f"{value:.3g} {name}" for name, value in report.learned.coefficients.items())
    return [f"learned: {terms} {report.learned.intercept:+.3g}, the log odds, of standardized closeness"]


def _closest(report: CalibrationReport, gallery: str) -> list[str]:
    if not report.closest:
        return []
    return [
        "",
        "the closest pairs taken for different things, by cosine; if one is the same thing, say so and calibrate anew:",
        *(
            f"{score:8.4f}  lookalike mark same {shlex.quote(a)} {shlex.quote(b)} -g {shlex.quote(gallery)}"
            for a, b, score in report.closest
        ),
    ]


# benchmark

_RETRIEVAL = ("recall@1", "recall@10", "map@10")
_VERIFICATION = ("precision@5", "auc", "eer")


def benchmark(report: BenchmarkReport) -> list[str]:
    """Return what was measured: figures with intervals, costs, differences, what is to be known, the gate."""
    of, ran = report.of, report.configurations
    return [
        f"{len(of.queries):,} queries in a gallery of {len(of.gallery):,}, {len(of.labels):,} labels: {of.source}",
        "",
        *_benchmark_table(_RETRIEVAL, ran, lambda one: figures_row(one, _RETRIEVAL)),
        "",
        *_benchmark_table(_VERIFICATION, ran, lambda one: figures_row(one, _VERIFICATION)),
        "",
        *_benchmark_table(COST_NAMES, ran, lambda one: costs_row(one.costs)),
        "",
        "(low high): the 95 % interval on other labels and queries of this kind",
        "*: no other row is at least as good in map@10, query time, vector and model size, and better in one",
        *_compared(report),
        *(f"note: {note}" for note in of.notes),
        *(["", *report.gate.lines()] if report.gate else []),
    ]


def _benchmark_table(
    names: Sequence[str], ran: Sequence[Configuration], row: Callable[[Configuration], Sequence[str]]
) -> list[str]:
    rows = [("*" if one.pareto else "", one.encoder, one.way, *row(one)) for one in ran]
    return table([("", "encoder", "metric", *names), *rows], "<<<" + ">" * len(names))


def _compared(report: BenchmarkReport) -> list[str]:
    if not report.differences:
        return []
    head = (f"against {report.configurations[0].name}", "", "difference", "won", "lost")
    return ["", *table([head, *map(compared_row, report.differences)], "<<>>>"), ""]


# dedupe

_GROUPS_SHOWN = 50


def copies(found: Duplicates) -> list[str]:
    """Return each group: what is kept and why, what may go and what stays, with the change; then the sums."""
    lines: list[str] = []
    for number, group in enumerate(found.groups[:_GROUPS_SHOWN], 1):
        lines.append(f"group {number}: keep {group.keep} ({group.reason})")
        lines += [
            f"    {one.fate:4}  {one.path}  {one.kind.value}{_change(one.evidence.get('change'))}"
            + (f"; stays: {one.why}" if one.fate == "stay" else "")
            for one in group.members[1:]
        ]
    if len(found.groups) > _GROUPS_SHOWN:
        lines.append(f"… and {len(found.groups) - _GROUPS_SHOWN} more groups; --csv, --json and --html list them")
    lines.append(
        f"{found.pictures:,} pictures, {len(found.groups):,} groups of copies; {len(found.drop):,} may go, "
        f"{found.bytes_to_gain / 1e6:,.1f} MB"
    )
    if found.recalibration:
        made = found.recalibration
        lines.append(
            f"edited copies from a score of {made.thresholds.edited_score:g} on: expected precision "
            f"{made.expected_precision:.4f}, finding {made.recall:.1%} of the copies that were tried "
            f"({made.copies} copies, {made.impostors} pairs of different pictures)"
        )
    elif found.level is Level.EDITED:
        lines.append(
            f"edited copies from a score of {found.thresholds.edited_score:g} on: no wrong pair among 97,561 on photos "
            "(docs/duplicates.md); --precision sets it on these folders"
        )
    if found.crowded:
        lines.append(f"{len(found.crowded):,} pictures hash alike with so many that they were compared with some only")
    return lines


def _change(change: object) -> str:
    return "" if change in (None, "none") else f": {change}"
