"""Make the thresholds of a gallery: from pairs, from labelled pictures, or from the gallery's own pictures alone."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.calibrating import (
    Pictures,
    Progress,
    Sample,
    Wanted,
    background_of,
    calibration_of,
    copies_of,
    look_at,
)
from lookalike.calibration import Calibration
from lookalike.calibration.fusion import FUSIONS, Learned
from lookalike.calibration.pairs import AT_MOST_PICTURES, drawn, numbered, of_closeness
from lookalike.calibration.rates import checked_target
from lookalike.deciding import METRICS
from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Gallery, no_progress
from lookalike.pairs import read_labelled, read_pairs
from lookalike.policies.calibrated import DEFAULT_FALSE_ALARM_RATE
from lookalike.registry import metric as metric_named
from lookalike.tables import check_output, replacing
from lookalike.types import Embeddings, Item, Pair, Skipped

DEFAULT_TARGET = 0.01
_ALL_ROWS = "*"
_NAME = "calibration"
_CLOSEST = 5


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a calibration. Exactly one of ``pairs``, ``labels`` (files or a folder) and ``unlabeled``.

    ``adapting`` False makes fixed thresholds. ``output`` also writes it to a JSON file, for ``compare --calibration``.
    """

    target: float = DEFAULT_TARGET
    metric: str | None = None
    pairs: str | None = None
    labels: str | None = None
    unlabeled: bool = False
    adapting: bool = True
    output: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationReport:
    """A calibration, what it was made of, the closest pairs that it took for different things, what was left out."""

    calibration: Calibration
    items: int
    pictures: int
    units: int
    impostor_pairs: int
    genuine_pairs: int
    closest: tuple[tuple[str, str, float], ...]
    skipped: tuple[Skipped, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        calibration = self.calibration
        alarms = calibration.alarms[calibration.decides]
        return {
            "space": calibration.space.as_dict(),
            "metric": calibration.decides,
            "target_fpr": calibration.target,
            "adapting": calibration.background is not None,
            "metrics": {name: _fit_as_dict(calibration, name) for name in calibration.fits},
            "false_alarm": {
                "target": DEFAULT_FALSE_ALARM_RATE,
                "items": self.items,
                "threshold": alarms.threshold(DEFAULT_FALSE_ALARM_RATE, self.items),
            },
            "learned": next((f.as_dict() for f in calibration.fusions.values() if isinstance(f, Learned)), None),
            "pictures": self.pictures,
            "units": self.units,
            "impostor_pairs": self.impostor_pairs,
            "genuine_pairs": self.genuine_pairs,
            "closest_different": [{"a": a, "b": b, "score": score} for a, b, score in self.closest],
            "source": calibration.source,
            "created": calibration.created,
            "skipped": [asdict(skipped) for skipped in self.skipped],
        }


def calibrate(gallery: Gallery, request: Request, progress: Progress = no_progress) -> CalibrationReport:
    """Calibrate the gallery's space, keep the result in the gallery, and report it.

    Marks count in every way of doing it: pairs that a person called the same are no impostors. Raises InputError where
    the pictures cannot support the target; then nothing is kept and the calibration there was stays.
    """
    checked_target(request.target)
    decides = _checked_metric(request.metric or gallery.metric)
    if request.output:
        check_output(Path(request.output), ".json")
    gathered = _gather(gallery, request, progress)
    encoder = gallery.encoder()
    background = None
    if request.adapting:
        rows = gathered.originals
        background = background_of(
            gathered.pictures, gathered.paths, gathered.sample.units[rows], gathered.labels, encoder, progress
        )
    wanted = Wanted(request.target, decides, gathered.source)
    calibration = calibration_of(gathered.sample, background, wanted, gallery.space)
    keep(gallery, calibration)
    if request.output:
        write(calibration, Path(request.output))
    return _report(calibration, gathered, gallery.count())


def keep(gallery: Gallery, calibration: Calibration) -> None:
    """Keep a calibration in the gallery, for its space; the one there was is replaced."""
    gallery.put_calibration(_ALL_ROWS, _NAME, calibration.check(gallery.space).as_dict())


def kept(gallery: Gallery) -> Calibration | None:
    """Return the calibration of the gallery's space, or None."""
    value = gallery.calibration(_ALL_ROWS, _NAME)
    return None if value is None else Calibration.from_dict(value).check(gallery.space)


def write(calibration: Calibration, output: Path) -> None:
    """Write a calibration to a JSON file."""
    with replacing(output) as file:
        file.write(json.dumps(calibration.as_dict(), allow_nan=False).encode())


def read_calibration(file: str | os.PathLike[str]) -> Calibration:
    """Read a calibration from a JSON file; raise InputError where it is none."""
    try:
        data = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read a calibration from {os.fspath(file)}: {error}") from error
    return Calibration.from_dict(data)


# The three ways to gather pairs


@dataclass(frozen=True, slots=True, eq=False)
class _Gathered:
    """A sample; the pictures that it was made of come first in it, in their order, with their paths and labels."""

    sample: Sample
    pictures: Pictures
    paths: tuple[str, ...]
    labels: tuple[str | None, ...]
    source: str
    skipped: tuple[Skipped, ...]

    @property
    def originals(self) -> slice:
        return slice(0, len(self.pictures.names))


def _gather(gallery: Gallery, request: Request, progress: Progress) -> _Gathered:
    ways = [request.pairs is not None, request.labels is not None, request.unlabeled]
    if sum(ways) != 1:
        raise ConfigError("calibrate on one of: --pairs FILE, --labels FOLDER or FILE, --unlabeled")
    if request.pairs is not None:
        return _from_pairs(gallery, request.pairs, progress)
    if request.labels is not None:
        return _from_labels(gallery, request.labels, progress)
    return _from_gallery(gallery, progress)


def _from_pairs(gallery: Gallery, file: str, progress: Progress) -> _Gathered:
    found = read_pairs(file).without_missing()
    pairs = (*found.pairs, *_marked(gallery))
    _refuse_one_kind(pairs, file)
    paths = tuple(dict.fromkeys(path for pair in pairs for path in (pair.a, pair.b)))
    pictures = look_at([(path, path) for path in paths], gallery.encoder(), progress)
    row = {name: number for number, name in enumerate(pictures.names)}
    impostor, genuine = _empty(len(row)), _empty(len(row))
    for pair in pairs:
        if pair.a in row and pair.b in row:
            mask = genuine if pair.same else impostor
            mask[row[pair.a], row[pair.b]] = mask[row[pair.b], row[pair.a]] = True
    units = _joined(genuine)  # what is the same thing belongs together
    labels = (None,) * len(row)
    sample = Sample(pictures.embeddings, pictures.qualities, impostor, genuine, units, labels, np.ones(len(row), bool))
    source = f"{len(pairs)} pairs of {os.path.basename(file)}"
    return _Gathered(sample, pictures, pictures.names, labels, source, (*found.skipped, *pictures.skipped))


def _from_labels(gallery: Gallery, source: str, progress: Progress) -> _Gathered:
    labelled = read_labelled(source)
    wanted = [one for one in labelled.items if not one.ignore]
    units = numbered([one.group or one.label for one in wanted])
    wanted = [wanted[row] for row in drawn(units)]
    pictures = look_at([(one.path, one.path) for one in wanted], gallery.encoder(), progress)
    by_path = {one.path: one for one in wanted}
    read_ones = [by_path[name] for name in pictures.names]
    labels = tuple(one.label for one in read_ones)
    units = numbered([one.group or one.label for one in read_ones])
    same = numbered(labels)[:, None] == numbered(labels)[None]
    if same.all():
        raise InputError(
            f"{source} holds one label only, {labels[0]!r}; calibration needs pictures of different things"
        )
    impostor, genuine = ~same, same & ~np.eye(len(labels), dtype=bool)
    if any(one.group for one in read_ones):  # a group is one scene or patient: its own pairs tell nothing of others
        apart = units[:, None] != units[None]
        impostor &= apart
    _apply_marks(gallery, pictures.names, impostor, genuine)
    sample = Sample(
        pictures.embeddings, pictures.qualities, impostor, genuine, units, labels, np.ones(len(labels), bool)
    )
    told = f"{len(labels)} pictures of {len(set(labels))} labels in {os.path.basename(os.path.abspath(source))}"
    return _Gathered(sample, pictures, pictures.names, labels, told, (*labelled.skipped, *pictures.skipped))


def _from_gallery(gallery: Gallery, progress: Progress) -> _Gathered:
    items = [item for item in gallery.items() if item.path is not None]
    if not items:
        raise InputError("this gallery has no picture with a file to calibrate on; index a folder, or use --labels")
    items = _once_each(items)
    items = [items[row] for row in drawn(np.arange(len(items)), AT_MOST_PICTURES // 2)]
    by_id = {item.id: item for item in items}
    sources = [(item.id, str(item.path)) for item in items]
    pictures = look_at(sources, gallery.encoder(), progress)
    paths = tuple(str(by_id[name].path) for name in pictures.names)
    copies = copies_of(list(zip(pictures.names, paths, strict=True)), gallery.encoder(), 0, progress)
    there = np.flatnonzero([copy is not None for copy in copies])
    count, both = len(paths), len(paths) + len(there)
    impostor, genuine = _empty(both), _empty(both)
    impostor[:count, :count] = ~np.eye(count, dtype=bool)
    genuine[there, count + np.arange(len(there))] = genuine[count + np.arange(len(there)), there] = True
    _apply_marks(gallery, pictures.names, impostor, genuine)
    labels = (None,) * both
    sample = Sample(
        Embeddings.concatenate([pictures.embeddings, *(copy for copy in copies if copy is not None)]),
        (*pictures.qualities, *(None,) * len(there)),
        impostor,
        genuine,
        np.concatenate([np.arange(count), there]),
        labels,
        np.arange(both) < count,
    )
    told = f"{count} pictures of the gallery, taken to show different things, and an edited copy of each"
    return _Gathered(sample, pictures, paths, labels[:count], told, pictures.skipped)


def _once_each(items: Sequence[Item]) -> list[Item]:
    """Leave out copies byte for byte: they are surely not different things."""
    return list({item.content or item.id: item for item in reversed(items)}.values())[::-1]


def _apply_marks(gallery: Gallery, names: Sequence[str], impostor: Any, genuine: Any) -> None:
    row = {name: number for number, name in enumerate(names)}
    items = _marked_items(gallery)
    for pair in gallery.marked_pairs():
        places = [row.get(name, row.get(items.get(name, ""), -1)) for name in (pair.a, pair.b)]
        if min(places) >= 0 and places[0] != places[1]:
            for i, j in (places, places[::-1]):
                impostor[i, j], genuine[i, j] = not pair.same, pair.same


def _marked_items(gallery: Gallery) -> dict[str, str]:
    """Return id -> path of the items that marks are about."""
    ids = {name for pair in gallery.marked_pairs() for name in (pair.a, pair.b)}
    return {item.id: item.path for item in gallery.get(sorted(ids)) if item.path is not None}


def _marked(gallery: Gallery) -> list[Pair]:
    """Return the marks whose pictures have files, as pairs of paths."""
    paths = _marked_items(gallery)
    return [
        Pair(paths[pair.a], paths[pair.b], pair.same)
        for pair in gallery.marked_pairs()
        if pair.a in paths and pair.b in paths and paths[pair.a] != paths[pair.b]
    ]


def _refuse_one_kind(pairs: Sequence[Pair], file: str) -> None:
    if all(pair.same for pair in pairs):
        raise InputError(
            f"{file} holds {len(pairs)} pairs of the same thing and none of different ones (same = 0); "
            "a false positive rate is measured on those"
        )


def _joined(genuine: Any) -> Any:
    """Return (N,) the number of the group that each belongs to, where whoever shows the same thing is in one group."""
    units = np.arange(len(genuine))
    for i, j in zip(*np.nonzero(np.triu(genuine, 1)), strict=True):
        low, high = sorted((units[i], units[j]))
        units[units == high] = low
    return numbered(units.tolist())


def _empty(count: int) -> Any:
    return np.zeros((count, count), bool)


def _checked_metric(name: str) -> str:
    if name not in (*METRICS, *FUSIONS):
        raise ConfigError(
            f"no metric or fusion named {name!r} can be calibrated; known: {', '.join((*METRICS, *FUSIONS))}"
        )
    return name


# The report


def _report(calibration: Calibration, gathered: _Gathered, items: int) -> CalibrationReport:
    sample = gathered.sample
    impostor, genuine = np.triu(sample.impostor, 1), np.triu(sample.genuine, 1)
    return CalibrationReport(
        calibration,
        items,
        len(gathered.pictures.names),
        len(np.unique(sample.units)),
        int(impostor.sum()),
        int(genuine.sum()),
        _closest(sample, gathered.pictures.names, impostor),
        gathered.skipped,
    )


def _closest(sample: Sample, names: Sequence[str], impostor: Any) -> tuple[tuple[str, str, float], ...]:
    """Return the closest pairs of different things, by cosine: if one is no such pair, a mark says so."""
    vectors = sample.embeddings.vectors[: len(names)]
    cosines = np.where(impostor[: len(names), : len(names)], vectors @ vectors.T, -np.inf)
    best = np.argsort(-cosines, axis=None)[:_CLOSEST]
    pairs = [divmod(int(place), len(names)) for place in best]
    return tuple((names[i], names[j], float(cosines[i, j])) for i, j in pairs if np.isfinite(cosines[i, j]))


def _fit_as_dict(calibration: Calibration, name: str) -> dict[str, Any]:
    fit = calibration.fits[name]
    of_metric = name in METRICS
    threshold = of_closeness(metric_named(name), fit.threshold) if of_metric else fit.threshold
    return {
        "threshold": threshold,
        "false_positive_rate": fit.rate._asdict(),
        "false_negative_rate": None if fit.missed is None else fit.missed._asdict(),
        "guaranteed": fit.guaranteed.as_dict(),
    }
