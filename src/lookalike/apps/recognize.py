"""Recognize what pictures show from a gallery's few labelled references, or say that it is none of what is known."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.apps.learned import learned
from lookalike.calibration.rates import checked_target
from lookalike.deciding import look
from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Gallery
from lookalike.images import read
from lookalike.pipeline import in_parallel, reason_of
from lookalike.policies.calibrated import DEFAULT_FALSE_ALARM_RATE, percent
from lookalike.policies.scores import identical
from lookalike.recognizing import VOTERS, Candidate, Floats, Recognition, Recognized, RecognizeResult, Reference
from lookalike.types import Float32, Image, ImageSource, Quality, Skipped, Verdict

FEWEST_REFERENCES = 5
"""With fewer references in all, nobody can tell how near strangers come: nothing is calibrated then."""
MOST_EACH = 50
"""So many references of a label take part at most, those whose ids come first: ids are as good as a lot."""
_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What was learned of a gallery, at its state ``seq``: ids, paths and the recognition, row by row.

    ``unlabelled`` is how many items have no label and take no part.
    """

    seq: int
    ids: tuple[str, ...]
    paths: tuple[str | None, ...]
    names: tuple[str, ...]
    recognition: Recognition
    unlabelled: int


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    name: str
    vector: Float32
    quality: Quality


class Recognizer:
    """Names what pictures show by the labelled items of a gallery.

    A new label is learned by adding its pictures: what changed in the gallery is noticed at the next decision.
    ``field`` is the metadata field of the label, ``voters`` how many nearest references of a label are averaged.
    """

    def __init__(self, gallery: Gallery, *, field: str = "label", voters: int = VOTERS) -> None:
        if voters < 1:
            raise ConfigError(f"k is how many references of a label have a say, at least 1, got {voters}")
        self._gallery, self._field, self._voters = gallery, field, voters
        self._known: _Known | None = None

    def fit(self) -> Recognizer:
        """Learn the gallery's labels, and how near strangers come to them.

        Raises InputError where the gallery is empty, has no item with the field, or one label only.
        """
        self._known = self._learned()
        return self

    def update(self) -> bool:
        """Learn anew if the gallery has changed since; tell whether it had."""
        changed = self._known is None or self._known.seq != self._seq()
        if changed:
            self.fit()
        return changed

    def decide(self, images: Sequence[ImageSource], unknown_rate: float = DEFAULT_FALSE_ALARM_RATE) -> RecognizeResult:
        """Return a decision for each picture.

        Of pictures of things that are not in the gallery a share of ``unknown_rate`` is named by mistake. A bad
        picture among good ones is skipped with its reason. Raises InputError where no picture can be read, or the
        gallery is too small for the rate.
        """
        checked_target(unknown_rate, "the rate of unknown pictures that are named")
        if not images:
            raise ConfigError("name at least one picture to recognize")
        self.update()
        assert self._known is not None
        if _calibrated(self._known):
            self._known.recognition.alarms.check(unknown_rate)
        seen, skipped = self._looked_at(images)
        decisions = tuple(_decided(one, self._known, unknown_rate) for one in seen)
        return RecognizeResult(decisions, skipped, self._known.unlabelled)

    def _seq(self) -> int:
        return int(self._gallery.info()["seq"])

    def _learned(self) -> _Known:
        seq = self._seq()  # before reading: what is written meanwhile is noticed next time
        of_label: dict[str, list[tuple[str, str | None]]] = {}
        items, fields = 0, set[str]()
        for item in self._gallery.items():
            items += 1
            fields.update(item.metadata)
            label = item.metadata.get(self._field)
            if label is not None:
                of_label.setdefault(str(label), []).append((item.id, item.path))
        _refuse(items, list(of_label), self._field, sorted(fields))
        rows = [
            (number, *one) for number, name in enumerate(sorted(of_label)) for one in sorted(of_label[name])[:MOST_EACH]
        ]
        numbers, ids, paths = zip(*rows, strict=True)
        vectors = self._gallery.embeddings(ids).vectors
        recognition = learned(self._gallery.derived, vectors, np.array(numbers, np.int64), self._voters)
        unlabelled = items - sum(map(len, of_label.values()))
        return _Known(seq, ids, paths, tuple(sorted(of_label)), recognition, unlabelled)

    def _looked_at(self, images: Sequence[ImageSource]) -> tuple[list[_Seen], tuple[Skipped, ...]]:
        encoder = self._gallery.encoder()

        def work(image: ImageSource) -> _Seen | InputError:
            try:
                seen = look(read(image, encoder.at_least), encoder, None)
            except InputError as error:
                return error
            assert seen.qualities[0] is not None
            return _Seen(_name_of(image), seen.embeddings.vectors, seen.qualities[0])

        outcomes = list(zip(images, in_parallel(work, images), strict=True))
        seen = [one for _, one in outcomes if isinstance(one, _Seen)]
        bad = [(image, error) for image, error in outcomes if isinstance(error, InputError)]
        if len(bad) == 1 and not seen:
            raise bad[0][1]
        skipped = tuple(Skipped(_name_of(image), reason_of(error)) for image, error in bad)
        if not seen:
            told = "; ".join(f"{one.path}: {one.reason}" for one in skipped[:_SHOWN])
            more = f"; and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
            raise InputError(f"none of these {len(skipped)} pictures can be read: {told}{more}")
        return seen, skipped


def _refuse(items: int, labels: Sequence[str], field: str, fields: Sequence[str]) -> None:
    if not items:
        raise InputError("this gallery is empty; `lookalike index FOLDER`, with a folder for each label, fills it")
    if not labels:
        others = f"name another field with --label-field (there is {', '.join(fields)}), or " if fields else ""
        raise InputError(
            f"no item of this gallery has metadata {field!r}; {others}index a folder that holds a folder for each "
            "label, or give it with --metadata or --set"
        )
    if len(labels) == 1:
        raise InputError(
            f"this gallery holds one label only, {labels[0]!r}; what is something else can be told only with pictures "
            "of something else: add a second label"
        )


def _calibrated(known: _Known) -> bool:
    return len(known.ids) >= FEWEST_REFERENCES


def _decided(one: _Seen, known: _Known, rate: float) -> Recognized:
    if one.quality.problem:
        reason = f"{one.name} cannot be judged: it is {one.quality.problem}"
        return Recognized(one.name, None, Verdict.UNKNOWN, None, None, None, reason)
    recognition = known.recognition
    similar = recognition.similar(one.vector)
    scores = recognition.scores(similar)[0]
    adapted = scores - recognition.shifts
    best, second = np.argsort(-adapted, kind="stable")[:2].tolist()
    count = len(known.names)
    limit = recognition.alarms.threshold(rate, count) if _calibrated(known) else None
    candidates = tuple(_candidate(number, scores, similar[0], known, limit) for number in (best, second))
    alarm = None if limit is None else recognition.alarms.rate(float(adapted[best]), count).estimate
    verdict, reason = _verdict(candidates, float(adapted[best] - adapted[second]), known, rate, alarm)
    label = None if verdict is Verdict.UNKNOWN else candidates[0].label
    return Recognized(one.name, label, verdict, candidates[0].score, candidates[0].threshold, alarm, reason, candidates)


def _candidate(number: int, scores: Floats, similar: Floats, known: _Known, limit: float | None) -> Candidate:
    recognition = known.recognition
    mine = np.flatnonzero(recognition.numbers == number)
    nearest = mine[np.argsort(-similar[mine], kind="stable")][: max(_SHOWN, recognition.voters)]
    references = tuple(Reference(known.ids[row], known.paths[row], float(similar[row])) for row in nearest)
    # Where strangers come as near as one can, the very picture still has to be recognized.
    own = None if limit is None else min(limit + float(recognition.shifts[number]), identical("cosine"))
    return Candidate(known.names[number], float(scores[number]), own, references)


def _verdict(
    candidates: tuple[Candidate, ...], ahead: float, known: _Known, rate: float, alarm: float | None
) -> tuple[Verdict, str]:
    best, second = candidates
    if best.threshold is None or alarm is None:
        return Verdict.UNSURE, (
            f"not calibrated: {len(known.ids)} references do not tell how near strangers come, {FEWEST_REFERENCES} "
            f"would; {best.label} {best.score:.3f} is the nearest, before {second.label} {second.score:.3f}"
        )
    passes = best.score >= best.threshold
    told = (
        f"{best.label} {best.score:.3f} {'passes' if passes else 'does not reach'} its threshold {best.threshold:.3f} "
        f"(of unknown things {percent(rate)} would): {percent(alarm)} of unknown things come as near"
    )
    if not passes:
        return Verdict.UNKNOWN, told
    if ahead < known.recognition.margin:
        return Verdict.UNSURE, (
            f"{told}; but {second.label} {second.score:.3f} is too near: {ahead:.3f} apart, and below "
            f"{known.recognition.margin:.3f} the gallery's own pictures are named wrongly too often"
        )
    return Verdict.MATCH, f"{told}; {second.label} {second.score:.3f} is next"


def _name_of(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return source.source if isinstance(source, Image) else f"<{type(source).__name__}>"
