"""Keep what a benchmark measured, and tell whether a later one is worse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from lookalike.benchmarking import COMPARED, Configuration, LabelledSet
from lookalike.calibration.pairs import Floats
from lookalike.errors import ConfigError, InputError
from lookalike.evaluation.gate import Difference, gated, is_regression
from lookalike.tables import replacing
from lookalike.types import display_path

_FORMAT = "lookalike benchmark 1"
_WAY_OUT = "save a new one with --save"


@dataclass(frozen=True, slots=True)
class Check:
    """One figure of one configuration, before and now, over the queries that have an answer."""

    encoder: str
    metric: str
    rerank: str | None
    figure: str
    before: float
    after: float
    difference: Difference
    regression: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "encoder": self.encoder,
            "metric": self.metric,
            "rerank": self.rerank,
            "figure": self.figure,
            "before": self.before,
            "after": self.after,
            **self.difference.as_dict(),
            "regression": self.regression,
        }

    @property
    def classname(self) -> str:
        """What JUnit calls it: encoder, metric and re-ranker with dots between them."""
        return ".".join(filter(None, (self.encoder, self.metric, self.rerank)))

    def told(self) -> str:
        """Return it in one line."""
        found, name = self.difference, _named(self.encoder, self.metric, self.rerank)
        return (
            f"{name}: {self.figure} {self.before:.4f} -> {self.after:.4f}, a difference of "
            f"{found.interval.estimate:+.4f} ({found.interval.low:+.4f} to {found.interval.high:+.4f}); of "
            f"{found.queries} queries {found.lost} lost, {found.won} won"
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """What became of each figure since the baseline; ``notes`` say in what else the two runs differ."""

    baseline: str
    margin: float
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def regression(self) -> bool:
        """Tell whether anything is worse, beyond chance and the margin."""
        return any(check.regression for check in self.checks)

    def lines(self) -> tuple[str, ...]:
        """Return it in words: one line a check, and one a note."""
        return (
            f"against {self.baseline}, with a margin of {self.margin:g} and the 90 % interval:",
            *(f"{'WORSE' if check.regression else 'held'}: {check.told()}" for check in self.checks),
            *(f"note: {note}" for note in self.notes),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "baseline": self.baseline,
            "margin": self.margin,
            "regression": self.regression,
            "checks": [check.as_dict() for check in self.checks],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """A kept run: its file, what set it was (``digest``, sha256 of each picture by name), the values of each query."""

    file: str
    digest: str
    contents: Mapping[str, str]
    queries: tuple[str, ...]
    configurations: Sequence[Mapping[str, Any]]

    def of(self, encoder: str, metric: str, rerank: str | None = None) -> Mapping[str, Any]:
        """Return what is kept of a configuration; raise ConfigError where nothing is."""
        known = {(kept["encoder"], kept["metric"], kept.get("rerank")): kept for kept in self.configurations}
        if (encoder, metric, rerank) not in known:
            names = "; ".join(_named(*of) for of in known)
            raise ConfigError(
                f"{self.file} holds nothing of {_named(encoder, metric, rerank)}; it holds: {names}; measure those, or "
                f"{_WAY_OUT}"
            )
        return known[encoder, metric, rerank]


def _named(encoder: str, metric: str, rerank: str | None) -> str:
    return f"{encoder}, {metric}" if rerank is None else f"{encoder}, {metric} + {rerank}"


def write_baseline(
    output: Path,
    of: LabelledSet,
    contents: Sequence[str],
    configurations: Sequence[Configuration],
    versions: Mapping[str, str],
) -> None:
    """Keep a run in a JSON file: each query's values of what is gated, and which set it was."""
    kept = {
        "format": _FORMAT,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": dict(versions),
        "digest": digest(of),
        "contents": dict(zip(of.names, contents, strict=True)),
        "queries": [of.names[place] for place in of.queries],
        "configurations": [
            {
                "encoder": one.encoder,
                "metric": one.metric,
                "rerank": one.rerank,
                "space": one.space.as_dict(),
                "values": {name: _as_json(one.measured.judged.values[name]) for name in COMPARED},
            }
            for one in configurations
        ],
    }
    with replacing(output) as file:
        file.write(json.dumps(kept, indent=1, allow_nan=False).encode())


def read_baseline(file: str) -> Baseline:
    """Read what :func:`write_baseline` kept; raise InputError where the file is missing, damaged, or another thing."""
    try:
        kept = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the baseline {file}: {error.strerror}; make one with --save") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no baseline: it is no JSON ({error}); {_WAY_OUT}") from error
    try:
        if kept["format"] != _FORMAT:
            raise InputError(f"{file} is no baseline that this version reads: its format is {kept['format']!r}")
        made = Baseline(
            file, kept["digest"], dict(kept["contents"]), tuple(kept["queries"]), list(kept["configurations"])
        )
        _check(made)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is no baseline, or a damaged one ({error!r}); {_WAY_OUT}") from error
    return made


def _check(made: Baseline) -> None:
    for kept in made.configurations:
        for name in COMPARED:
            values = np.array(kept["values"][name], np.float64)
            if values.shape != (len(made.queries),):
                raise ValueError(f"{len(made.queries)} queries, and {values.shape} values of {name}")


def check_against(
    before: Baseline,
    of: LabelledSet,
    contents: Sequence[str],
    configurations: Sequence[Configuration],
    margin: float,
) -> Gate:
    """Compare a run with a baseline of the same set, query by query; raise InputError where it is another set."""
    _same_set(before, of)
    checks = tuple(_compared(before, one, figure, of, margin) for one in configurations for figure in COMPARED)
    return Gate(before.file, margin, checks, tuple(_notes(before, of, contents, configurations)))


def _compared(before: Baseline, one: Configuration, figure: str, of: LabelledSet, margin: float) -> Check:
    old = np.array(before.of(one.encoder, one.metric, one.rerank)["values"][figure], np.float64)
    new = one.measured.judged.values[figure]
    found = gated(old, new, of.truth.labels)
    known = ~np.isnan(old - new)
    return Check(
        one.encoder,
        one.metric,
        one.rerank,
        figure,
        float(old[known].mean()),
        float(new[known].mean()),
        found,
        is_regression(found, margin),
    )


def _same_set(before: Baseline, of: LabelledSet) -> None:
    if before.digest == digest(of):
        return
    known, here = set(before.contents), set(of.names)
    gone, new = sorted(known - here), sorted(here - known)
    told = [
        f"{what}: {len(names)} (the first: {display_path(names[0])})"
        for what, names in (("not here", gone), ("new", new))
        if names
    ]
    what = f"pictures {', '.join(told)}" if told else "labels, groups or roles of its pictures changed"
    raise InputError(f"the baseline {before.file} is of another set than {of.source}: {what}; {_WAY_OUT}")


def _notes(
    before: Baseline, of: LabelledSet, contents: Sequence[str], configurations: Sequence[Configuration]
) -> list[str]:
    changed = [name for name, content in zip(of.names, contents, strict=True) if before.contents[name] != content]
    notes = []
    if changed:
        notes.append(f"pictures whose file changed: {len(changed)} (the first: {changed[0]})")
    for one in configurations:
        space = before.of(one.encoder, one.metric, one.rerank)["space"]
        if space != one.space.as_dict():
            notes.append(f"{one.encoder} is not what it was: its space was {space}, and is {one.space.as_dict()}")
    return list(dict.fromkeys(notes))


def digest(of: LabelledSet) -> str:
    """Return the sha256 of what the set asks: names, labels, groups and roles, whatever their order."""
    rows = sorted(
        json.dumps([name, picture.label, picture.group, picture.role])
        for name, picture in zip(of.names, of.pictures, strict=True)
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def write_junit(output: Path, gate: Gate) -> None:
    """Write the gate as JUnit's XML: a case for each figure of each configuration."""
    failures = sum(check.regression for check in gate.checks)
    suite = ElementTree.Element(
        "testsuite", name="lookalike benchmark", tests=str(len(gate.checks)), failures=str(failures), errors="0"
    )
    for check in gate.checks:
        case = ElementTree.SubElement(suite, "testcase", classname=display_path(check.classname), name=check.figure)
        told = display_path(check.told())
        if check.regression:
            ElementTree.SubElement(case, "failure", message=told).text = f"{told}; margin {gate.margin:g}"
        else:
            ElementTree.SubElement(case, "system-out").text = told
    with replacing(output) as file:
        ElementTree.ElementTree(suite).write(file, encoding="utf-8", xml_declaration=True)


def _as_json(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
