"""Make the thresholds of a gallery: from pairs, from labelled pictures, or from the gallery's own pictures alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import registry
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
from lookalike.calibration.background import Mask
from lookalike.calibration.fusion import FUSIONS, Learned
from lookalike.calibration.pairs import AT_MOST_PICTURES, Ints, drawn, numbered, of_closeness
from lookalike.calibration.rates import checked_target
from lookalike.connected import connected
from lookalike.deciding import METRICS
from lookalike.errors import ConfigError, InputError, LookalikeError, UnknownComponent
from lookalike.gallery import Gallery, no_progress
from lookalike.images.files import kind_of
from lookalike.pairs import read_labelled, read_pairs
from lookalike.policies.calibrated import DEFAULT_FALSE_ALARM_RATE
from lookalike.tables import check_output, replacing
from lookalike.types import Embeddings, LabelledPicture, Pair, Skipped

DEFAULT_TARGET = 0.01
_ALL_METRICS = "*"
_NAME = "calibration"
_CLOSEST = 5
_LARGEST_FILE = 16 << 20
_SEAL = "sha256"


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

    @property
    def not_calibrated(self) -> tuple[str, ...]:
        """The metrics and fusions for which these pictures cannot support the target."""
        return tuple(name for name in (*METRICS, *FUSIONS) if name not in self.calibration.fits)

    @property
    def learned(self) -> Learned | None:
        """The combination that was learned, None where there are no pairs of the same thing."""
        return next((one for one in self.calibration.fusions.values() if isinstance(one, Learned)), None)

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
            "not_calibrated": list(self.not_calibrated),
            "false_alarm": {
                "target": DEFAULT_FALSE_ALARM_RATE,
                "items": self.items,
                "threshold": as_score(calibration.decides, alarms.threshold(DEFAULT_FALSE_ALARM_RATE, self.items)),
            },
            "learned": None if self.learned is None else self.learned.as_dict(),
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
    gallery.put([], [])  # where it may not be written, this says so before the work
    gathered = _gather(gallery, request, progress)
    with _naming(gathered.skipped):
        calibration = _calibration_of(gathered, gallery, request.target, decides, request.adapting, progress)
    keep(gallery, calibration)
    if request.output:
        write(calibration, Path(request.output))
    return _report(calibration, gathered, gallery.count())


def _calibration_of(
    gathered: _Gathered, gallery: Gallery, target: float, decides: str, adapting: bool, progress: Progress
) -> Calibration:
    background = None
    if adapting:
        units = gathered.sample.units[gathered.originals]
        background = background_of(
            gathered.pictures, gathered.paths, units, gathered.labels, gallery.encoder(), progress
        )
    return calibration_of(gathered.sample, background, Wanted(target, decides, gathered.source), gallery.space)


@contextmanager
def _naming(skipped: Sequence[Skipped]) -> Iterator[None]:
    """Say in an InputError what was left out: it may be why the rest is not enough."""
    try:
        yield
    except InputError as error:
        if not skipped:
            raise
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise InputError(f"{error}; left out: {skipped[0].path}: {skipped[0].reason}{more}") from error


def keep(gallery: Gallery, calibration: Calibration) -> None:
    """Keep a calibration in the gallery, for its space; the one there was is replaced."""
    gallery.put_calibration(_ALL_METRICS, _NAME, calibration.check(gallery.space).as_dict())


def kept(gallery: Gallery) -> Calibration | None:
    """Return the calibration of the gallery's space, or None."""
    value = gallery.calibration(_ALL_METRICS, _NAME)
    return None if value is None else Calibration.from_dict(value).check(gallery.space)


def write(calibration: Calibration, output: Path) -> None:
    """Write a calibration to a JSON file, sealed: rates that somebody changed by hand are not measured."""
    data = calibration.as_dict()
    with replacing(output) as file:
        file.write(json.dumps({**data, _SEAL: _sealed(data)}, allow_nan=False).encode())


def read_calibration(file: str | os.PathLike[str]) -> Calibration:
    """Read a calibration from a file of :func:`write`; raise InputError where it is none, or damaged."""
    path = Path(file).expanduser()
    try:
        data = _json_object(path)
        seal = data.pop(_SEAL, None)
        if "format" in data and seal != _sealed(data):
            raise InputError("it was changed or damaged since it was written; `lookalike calibrate` writes a new one")
        return Calibration.from_dict(data)
    except LookalikeError as error:
        raise InputError(f"cannot read a calibration from {path}: {error}") from error


def _json_object(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
        if reason := kind_of(status.st_mode):
            raise InputError(f"it is {reason}")
        if status.st_size > _LARGEST_FILE:
            raise InputError(f"no calibration has {status.st_size:,} bytes")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is no JSON ({error})") from error
    return data if isinstance(data, dict) else {}


def _sealed(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def known_metric(name: str) -> str:
    """Return ``name`` if it is a metric or a fusion, calibrated or not; raise UnknownComponent."""
    known = (*registry.names("metric"), *FUSIONS)
    if name not in known:
        raise UnknownComponent("metric or fusion", name, known)
    return name


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
    named = (*found.pairs, *_marked(gallery))
    with _naming(found.skipped):
        _refuse_one_kind(named, file)
    pairs = _at_most(named, AT_MOST_PICTURES)
    pictures = look_at([(path, path) for path in _pictures_of(pairs)], gallery.encoder(), progress)
    row = {name: number for number, name in enumerate(pictures.names)}
    pairs = [pair for pair in pairs if pair.a in row and pair.b in row]
    impostor, genuine = _empty(len(row)), _empty(len(row))
    for pair in pairs:
        _say(impostor, genuine, row[pair.a], row[pair.b], pair.same)
    _apply_marks(gallery, pictures.contents, impostor, genuine)
    units = _groups(pictures.names, [pair for pair in pairs if pair.same])  # what is the same thing belongs together
    labels = (None,) * len(row)
    sample = Sample(pictures.embeddings, pictures.qualities, impostor, genuine, units, labels, np.ones(len(row), bool))
    source = f"{len(pairs)} pairs of {len(row)} pictures, from {os.path.basename(file)}"
    return _Gathered(sample, pictures, pictures.names, labels, source, (*found.skipped, *pictures.skipped))


def _from_labels(gallery: Gallery, source: str, progress: Progress) -> _Gathered:
    labelled = read_labelled(source)
    wanted = [one for one in labelled.items if not one.ignore]
    _refuse_one_label(wanted, source)
    wanted = [wanted[row] for row in drawn(_units_of(wanted))]
    pictures = look_at([(one.path, one.path) for one in wanted], gallery.encoder(), progress)
    by_path = {one.path: one for one in wanted}
    seen = [by_path[name] for name in pictures.names]
    _refuse_one_label(seen, source)
    labels, units = tuple(one.label for one in seen), _units_of(seen)
    same = numbered(labels)[:, None] == numbered(labels)[None]
    impostor, genuine = ~same, same & ~np.eye(len(labels), dtype=bool)
    if any(one.group for one in seen):  # a group is one scene or patient: its own pairs tell nothing of others
        impostor &= units[:, None] != units[None]
    _apply_marks(gallery, pictures.contents, impostor, genuine)
    sample = Sample(
        pictures.embeddings, pictures.qualities, impostor, genuine, units, labels, np.ones(len(labels), bool)
    )
    told = f"{len(labels)} pictures of {len(set(labels))} labels in {os.path.basename(os.path.abspath(source))}"
    return _Gathered(sample, pictures, pictures.names, labels, told, (*labelled.skipped, *pictures.skipped))


def _from_gallery(gallery: Gallery, progress: Progress) -> _Gathered:
    # Of copies byte for byte the first stands for all: they are surely not different things.
    ids: dict[str, str] = {}
    skipped = []
    for item in gallery.items():
        if item.path is None:
            skipped.append(Skipped(item.id, "it came without a picture, only with vectors"))
        else:
            ids.setdefault(item.content or item.id, item.id)
    if not ids:
        raise InputError("this gallery has no picture with a file to calibrate on; index a folder, or use --labels")
    chosen = [list(ids.values())[row] for row in drawn(np.arange(len(ids)), AT_MOST_PICTURES // 2)]
    sources = [(item.id, str(item.path)) for item in gallery.get(chosen)]
    by_id = dict(sources)
    pictures = look_at(sources, gallery.encoder(), progress)
    paths = tuple(by_id[name] for name in pictures.names)
    copies = copies_of(list(zip(pictures.names, paths, strict=True)), gallery.encoder(), 0, progress)
    there = np.flatnonzero([copy is not None for copy in copies])
    count, both = len(paths), len(paths) + len(there)
    impostor, genuine = _empty(both), _empty(both)
    impostor[:count, :count] = ~np.eye(count, dtype=bool)
    genuine[there, count + np.arange(len(there))] = genuine[count + np.arange(len(there)), there] = True
    _apply_marks(gallery, pictures.contents, impostor, genuine)
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
    return _Gathered(sample, pictures, paths, labels[:count], told, (*skipped, *pictures.skipped))


def _say(impostor: Mask, genuine: Mask, i: int, j: int, same: bool) -> None:
    for row, column in ((i, j), (j, i)):
        impostor[row, column], genuine[row, column] = not same, same


def _apply_marks(gallery: Gallery, contents: Sequence[str], impostor: Mask, genuine: Mask) -> None:
    """Let marks have the last word, on pictures of the gallery and on others."""
    rows: dict[str, list[int]] = {}
    for row, content in enumerate(contents):
        rows.setdefault(content, []).append(row)
    for mark in gallery.marks():
        for i in rows.get(mark.a, ()):
            for j in rows.get(mark.b, ()):
                if i != j:
                    _say(impostor, genuine, i, j, mark.same)


def _marked(gallery: Gallery) -> list[Pair]:
    """Return the marks whose pictures have files, as pairs of paths."""
    marked = gallery.marked_pairs()
    ids = sorted({name for pair in marked for name in (pair.a, pair.b)})
    paths = {item.id: item.path for item in gallery.get(ids) if item.path is not None}
    return [Pair(paths[one.a], paths[one.b], one.same) for one in marked if one.a in paths and one.b in paths]


def _pictures_of(pairs: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(name for pair in pairs for name in (pair.a, pair.b)))


def _at_most(pairs: Sequence[Pair], pictures: int) -> list[Pair]:
    """Return pairs of at most so many pictures: all, or by lot, those together that share pictures."""
    names = _pictures_of(pairs)
    if len(names) <= pictures:
        return list(pairs)
    group = dict(zip(names, _groups(names, pairs).tolist(), strict=True))
    rng = np.random.default_rng(0)
    place = rng.permutation(max(group.values()) + 1)
    taken: set[str] = set()
    chosen = []
    for number in sorted(rng.permutation(len(pairs)).tolist(), key=lambda number: place[group[pairs[number].a]]):
        new = {pairs[number].a, pairs[number].b} - taken
        if len(taken) + len(new) <= pictures:
            taken |= new
            chosen.append(number)
    return [pairs[number] for number in sorted(chosen)]


def _groups(names: Sequence[str], pairs: Sequence[Pair]) -> Ints:
    """Return (N,) the number of the group that each belongs to: the two of a pair are in one group."""
    first = connected(names, ((pair.a, pair.b) for pair in pairs))
    return numbered([first[name] for name in names])


def _units_of(labelled: Sequence[LabelledPicture]) -> Ints:
    return numbered([(one.group is None, one.group or one.label) for one in labelled])


def _refuse_one_label(labelled: Sequence[LabelledPicture], source: str) -> None:
    labels = {one.label for one in labelled}
    if not labels:
        raise InputError(f"{source} has every picture ignored (ignore = 1); take that from those to calibrate on")
    if len(labels) == 1:
        raise InputError(
            f"{source} holds one label only, {labels.pop()!r}; calibration needs pictures of different things"
        )


def _refuse_one_kind(pairs: Sequence[Pair], file: str) -> None:
    if all(pair.same for pair in pairs):
        raise InputError(
            f"{file} holds {len(pairs)} pairs of the same thing and none of different ones (same = 0); "
            "a false positive rate is measured on those"
        )


def _empty(count: int) -> Mask:
    return np.zeros((count, count), bool)


def _checked_metric(name: str) -> str:
    if name not in (*METRICS, *FUSIONS):
        known = ", ".join((*METRICS, *FUSIONS))
        raise ConfigError(f"no metric or fusion named {name!r} can be calibrated; known: {known}")
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
        _closest(sample, gathered.paths, impostor),
        gathered.skipped,
    )


def _closest(sample: Sample, paths: Sequence[str], impostor: Any) -> tuple[tuple[str, str, float], ...]:
    """Return the closest pairs of different things, by cosine: if one is no such pair, a mark says so."""
    count = len(paths)
    vectors = sample.embeddings.vectors[:count]
    cosines = np.where(impostor[:count, :count], vectors @ vectors.T, -np.inf)
    best = np.argsort(-cosines, axis=None, kind="stable")[:_CLOSEST]
    pairs = [divmod(int(place), count) for place in best]
    return tuple((paths[i], paths[j], float(cosines[i, j])) for i, j in pairs if np.isfinite(cosines[i, j]))


def _fit_as_dict(calibration: Calibration, name: str) -> dict[str, Any]:
    fit = calibration.fits[name]
    return {
        "threshold": as_score(name, fit.threshold),
        "false_positive_rate": fit.rate._asdict(),
        "false_negative_rate": None if fit.missed is None else fit.missed._asdict(),
        "guaranteed": fit.guaranteed.as_dict(),
    }


def as_score(name: str, closeness: float) -> float:
    """Return a closeness in the units of the metric or fusion of this name."""
    return of_closeness(registry.metric(name), closeness) if name in METRICS else closeness
