"""Retrieval on labelled real photos: recall@1 and recall@10 of both encoders by all three metrics.

Every set is indexed by ``Gallery.index`` with its ground truth as the metadata sidecar; the queries are stored vectors
(``Gallery.embeddings``) or edited copies (``Gallery.embed``), asked by ``Gallery.search_each``.

recall@k is the share of the queries that have at least one relevant item among their first k hits. A query is never
among its own hits, and one without any relevant item in the gallery is not counted.

- *grocery*: shelf photos, among the catalogue pictures (one a class); relevant: the same fine class.
- *coil100*: objects on a turntable, every view among all the other views; relevant: the same object.
- *scene_pairs*: every picture among all others; relevant: the same scene; another scene of the same family is left out
  of the hits, since it may show the same place. Also by kind of change.
- *clothing*: every picture among all others; relevant: the same category.
- *imagenet_photos*: edited copies made here by seed, among all originals; relevant: the original.

The sets are looked for in ``../shared/data`` beside the checkout; one that is missing is left out.
"""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageEnhance

from benchmarks.harness import Report, parser, say
from benchmarks.photos import SHARED
from lookalike import registry
from lookalike.gallery import Gallery
from lookalike.pipeline import in_parallel
from lookalike.types import Embeddings, Hit, Hits, Item

_ENCODERS = ("efficientnet-lite0", "color-histogram")
_METRICS = ("cosine", "euclidean", "manhattan")
_KS = (1, 10)
_QUICK = 40

Picture = PIL.Image.Image
Edit = Callable[[Picture, np.random.Generator], Picture]
Ranks = dict[str, list[int | None]]
"""For each group of queries, the rank (from 1) of the first relevant hit of each; None: none among the first ten."""


@dataclass(frozen=True)
class Question:
    """One stored item as a query: what is relevant to it, and what does not count at all."""

    item: Item
    relevant: frozenset[str]
    ignored: frozenset[str]
    groups: tuple[str, ...]


def main() -> None:
    arguments = parser(__doc__, "retrieval")
    arguments.add_argument("--sets", nargs="+", choices=tuple(_SETS), default=tuple(_SETS), help="which sets (all)")
    options = arguments.parse_args()
    report = Report("Retrieval: recall@1 / recall@10")
    columns: dict[str, dict[str, str]] = {}
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        for name in options.sets:
            if not (SHARED / name / "groundtruth.csv").is_file():
                report.text(f"{name} is not at hand and was left out.")
                continue
            for encoder in _ENCODERS:
                say(f"{name}, {encoder}")
                with Gallery.open(Path(scratch) / f"{name}-{encoder}.gallery", encoder=encoder) as gallery:
                    _index(gallery, name)
                    for metric in _METRICS:
                        ranks = _SETS[name](gallery, metric, _QUICK if options.quick else None)
                        columns[f"{encoder}, {metric}"] = columns.get(f"{encoder}, {metric}", {}) | _cells(ranks)
                        counts |= {group: len(of_group) for group, of_group in ranks.items()}
    rows = [(group, str(count), *(column[group] for column in columns.values())) for group, count in counts.items()]
    report.table(("set", "queries", *columns), rows)
    report.print()


def _index(gallery: Gallery, name: str) -> None:
    report = gallery.index(SHARED / name, metadata=SHARED / name / "groundtruth.csv")
    if report.skipped:
        say(f"skipped {len(report.skipped)}: {report.skipped[0].path}: {report.skipped[0].reason}")


def _cells(ranks: Ranks) -> dict[str, str]:
    return {group: " / ".join(f"{_recall(of_group, k):.3f}" for k in _KS) for group, of_group in ranks.items()}


def _recall(ranks: Sequence[int | None], k: int) -> float:
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks)


# Stored items as queries


def _grocery(gallery: Gallery, metric: str, at_most: int | None) -> Ranks:
    catalogue = list(gallery.items("kind = 'iconic'"))
    questions = _questions(gallery.items("kind = 'natural'"), catalogue, lambda item: ("grocery, shelf to catalogue",))
    return _ranks(gallery, questions[:at_most], metric, where="kind = 'iconic'")


def _coil100(gallery: Gallery, metric: str, at_most: int | None) -> Ranks:
    return _each_among_the_others(gallery, metric, at_most, lambda item: ("coil100, view to other views",))


def _clothing(gallery: Gallery, metric: str, at_most: int | None) -> Ranks:
    return _each_among_the_others(gallery, metric, at_most, lambda item: ("clothing, category",))


def _scene_pairs(gallery: Gallery, metric: str, at_most: int | None) -> Ranks:
    def groups(item: Item) -> tuple[str, ...]:
        return "scene_pairs, all", f"scene_pairs, {item.metadata['change']}"

    return _each_among_the_others(gallery, metric, at_most, groups)


def _each_among_the_others(
    gallery: Gallery, metric: str, at_most: int | None, groups: Callable[[Item], tuple[str, ...]]
) -> Ranks:
    items = list(gallery.items())
    return _ranks(gallery, _questions(items, items, groups)[:at_most], metric)


def _questions(
    queries: Iterable[Item], gallery: Sequence[Item], groups: Callable[[Item], tuple[str, ...]]
) -> list[Question]:
    """Return the queries that have something relevant among ``gallery``."""
    questions = []
    for query in queries:
        others = [item for item in gallery if item.id != query.id]
        relevant = frozenset(item.id for item in others if item.metadata["label"] == query.metadata["label"])
        family = query.metadata.get("family")
        ignored = {item.id for item in others if family is not None and item.metadata.get("family") == family}
        if relevant:
            questions.append(Question(query, relevant, frozenset(ignored - relevant | {query.id}), groups(query)))
    return questions


def _ranks(gallery: Gallery, questions: Sequence[Question], metric: str, where: str | None = None) -> Ranks:
    vectors = gallery.embeddings([question.item.id for question in questions])
    k = max(_KS) + max(len(question.ignored) for question in questions)
    found = gallery.search_each(vectors, k, metric=metric, where=where)
    ranks: Ranks = {}
    for question, hits in zip(questions, found, strict=True):
        counted = [hit for hit in hits if hit.id not in question.ignored]
        rank = _first(counted, question.relevant)
        for group in question.groups:
            ranks.setdefault(group, []).append(rank)
    return ranks


def _first(hits: Sequence[Hit], relevant: frozenset[str]) -> int | None:
    return next((rank for rank, hit in enumerate(hits[: max(_KS)], 1) if hit.id in relevant), None)


# Edited copies as queries


def _imagenet_photos(gallery: Gallery, metric: str, at_most: int | None) -> Ranks:
    originals = sorted(gallery.items(), key=lambda item: item.path or "")[:at_most]
    ranks: Ranks = {}
    for name in _EDITS:
        copies = _copies(gallery, tuple((item.id, item.path or "") for item in originals), name)
        found: list[Hits] = gallery.search_each(copies, max(_KS), metric=metric)
        for item, hits in zip(originals, found, strict=True):
            rank = _first(list(hits), frozenset({item.id}))
            ranks.setdefault(f"imagenet_photos, {name}", []).append(rank)
            ranks.setdefault("imagenet_photos, all edits", []).append(rank)
    return ranks


@functools.lru_cache(maxsize=32)  # the metrics share the copies of an encoder
def _copies(gallery: Gallery, originals: tuple[tuple[str, str], ...], edit: str) -> Embeddings:
    def copy(number: int) -> Embeddings:
        rng = np.random.default_rng([sorted(_EDITS).index(edit), number])
        with PIL.Image.open(originals[number][1]) as picture:
            edited = _EDITS[edit](picture.convert("RGB"), rng)
        return gallery.embed([edited])

    registry.encoder(gallery.space.encoder)  # made before the threads ask for it
    return Embeddings.concatenate(list(in_parallel(copy, range(len(originals)))))


def _half(picture: Picture, _: np.random.Generator) -> Picture:
    return picture.resize((picture.width // 2, picture.height // 2), PIL.Image.Resampling.BICUBIC)


def _jpeg20(picture: Picture, _: np.random.Generator) -> Picture:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=20)
    return PIL.Image.open(file).convert("RGB")


def _flip(picture: Picture, _: np.random.Generator) -> Picture:
    return picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)


def _crop80(picture: Picture, rng: np.random.Generator) -> Picture:
    """Keep 80 % of each side, somewhere."""
    width, height = round(0.8 * picture.width), round(0.8 * picture.height)
    left, top = rng.integers(picture.width - width + 1), rng.integers(picture.height - height + 1)
    return picture.crop((int(left), int(top), int(left) + width, int(top) + height))


def _grey(picture: Picture, _: np.random.Generator) -> Picture:
    return picture.convert("L").convert("RGB")


def _rotate10(picture: Picture, rng: np.random.Generator) -> Picture:
    """Turn by 10 degrees, one way or the other, and fill the corners with black."""
    return picture.rotate(float(rng.choice([-10, 10])), PIL.Image.Resampling.BICUBIC)


def _dark(picture: Picture, _: np.random.Generator) -> Picture:
    return PIL.ImageEnhance.Brightness(picture).enhance(0.5)


_EDITS: Mapping[str, Edit] = {
    "half size": _half,
    "JPEG 20": _jpeg20,
    "flip": _flip,
    "crop 80 %": _crop80,
    "grey": _grey,
    "rotate 10": _rotate10,
    "dark": _dark,
}

_SETS: Mapping[str, Callable[[Gallery, str, int | None], Ranks]] = {
    "grocery": _grocery,
    "coil100": _coil100,
    "scene_pairs": _scene_pairs,
    "clothing": _clothing,
    "imagenet_photos": _imagenet_photos,
}


if __name__ == "__main__":
    main()
