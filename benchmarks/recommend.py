"""Recommend: are recommendations of the liked kinds, as varied as plain search, and free of near copies.

A draw likes two pictures of each of two labels by lot. *precision@10*: the share of ten recommendations that are of a
liked label. *both*: the share of draws in which both labels are among them. *ILD*: the mean of 1 - cosine over all
pairs of the ten (intra-list diversity). *copies*: pairs of near copies among them and the likes, by
``doctoring.near_copies``.

Compared with plain cosine: the ten nearest to the mean of the likes; the ten nearest to any like; and the ten that
maximal marginal relevance picks from the 200 nearest to that mean. At equal diversity: precision is read off, between
two settings of ``--diversity``, where ILD is that of a plain way; where diversity 0 is more varied already, there. The
gain is that less the plain way's own, with an interval of 95 % by bootstrap over draws, which both ways share.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.encoders import rows_of
from benchmarks.harness import Report, Target, parser, say
from benchmarks.photos import SHARED
from lookalike.apps.recommend import Recommender
from lookalike.condition import PRINT_SIDE, print_of
from lookalike.doctoring import near_copies
from lookalike.gallery import Gallery
from lookalike.images import read
from lookalike.recommending import intra_list_diversity, varied
from lookalike.types import Embeddings, Float32

SETS = ("clothing", "grocery")
SETTINGS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
K = 10
_LABELS, _LIKES = 2, 2
_POOL = 200
_RESAMPLED = 1000
_MEAN, _ANY = "cosine to the mean", "cosine to any like"

Way = Callable[[Gallery, Sequence[str]], list[str]]


def main() -> None:
    arguments = parser(__doc__, "recommend")
    arguments.add_argument("--draws", type=int, default=60, help="how many (60)")
    options = arguments.parse_args()
    draws = 3 if options.quick else options.draws
    report = Report("Recommend: two pictures of each of two labels are liked")
    sets = [name for name in SETS if (SHARED / name / "groundtruth.csv").is_file()]
    if not sets:
        report.text("The labelled sets are not at hand (../shared/data); nothing was measured.")
        return report.print()
    for name in sets:
        with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as place:
            _measure(report, name, Path(place, "gallery"), draws)
    return report.print()


def _measure(report: Report, name: str, place: Path, draws: int) -> None:
    label_of = {str((SHARED / name / row["path"]).resolve()): row["label"] for row in rows_of(name)}
    with Gallery.open(place) as gallery:
        gallery.index(SHARED / name / "images")
        labels = {item.id: label_of[str(Path(str(item.path)).resolve())] for item in gallery.items()}
        looks = {item.id: print_of(read(str(item.path), PRINT_SIDE)) for item in gallery.items()}
        ways: dict[str, Way] = {_MEAN: _plain, _ANY: _plain_any}
        ways |= {f"cosine and MMR, diversity {d:g}": _marginal(d) for d in SETTINGS[1:]}
        ways |= {f"recommend, diversity {d:g}": _recommend(d) for d in SETTINGS}
        found = {}
        for way, work in ways.items():
            say(f"{name}, {way}")
            found[way] = np.array([_judged(gallery, labels, looks, work, seed) for seed in range(draws)])
    report.section(name)
    report.table(
        ("way", "precision@10", "both", "ILD", "pairs of copies a list"),
        [(way, *(f"{value:.3f}" for value in values.mean(axis=0))) for way, values in found.items()],
    )
    ours = np.stack([values for way, values in found.items() if way.startswith("recommend")])
    gains = []
    for plain, values in found.items():
        if plain.startswith("recommend"):
            continue
        precision, _, diversity, _ = values.mean(axis=0)
        reached = _at(ours.mean(axis=1), diversity)
        gains.append(
            (plain, f"{diversity:.3f}", "not reached" if reached is None else f"{reached:.3f}", _gain(ours, values))
        )
        if plain in (_MEAN, _ANY):
            what = f"{name}: precision@10 at the ILD of {plain} ({diversity:.3f}) or above"
            report.target(Target(what, reached, round(float(precision), 3), why_not="ILD not reached"))
    report.table(("beside", "its ILD", "precision@10 of recommend there", "gain (95 %)"), gains)
    copies = ours[..., 3].mean(axis=1).max()
    report.target(Target(f"{name}: pairs of copies in a list", float(copies), 0, at_least=False))


def _judged(
    gallery: Gallery, labels: dict[str, str], looks: dict[str, Float32], way: Way, seed: int
) -> tuple[float, float, float, float]:
    rng = np.random.default_rng(seed)
    names = sorted(set(labels.values()))
    liked = [names[number] for number in rng.permutation(len(names))[:_LABELS]]
    likes = [
        str(id_)
        for label in liked
        for id_ in rng.permutation(sorted(one for one, name in labels.items() if name == label))[:_LIKES]
    ]
    found = way(gallery, likes)
    vectors = gallery.embeddings([*found, *likes]).vectors
    pairs = near_copies(vectors, np.stack([looks[id_] for id_ in (*found, *likes)]))
    copies = sum(i < len(found) for i, _, _ in pairs)
    right = [labels[id_] in liked for id_ in found]
    both = len({labels[id_] for id_ in found} & set(liked)) == len(liked)
    return float(np.mean(right)), float(both), intra_list_diversity(vectors[: len(found)]), float(copies)


def _plain(gallery: Gallery, likes: Sequence[str]) -> list[str]:
    return _nearest(gallery, likes, K)


def _plain_any(gallery: Gallery, likes: Sequence[str]) -> list[str]:
    best: dict[str, float] = {}
    for hits in gallery.search_each(gallery.embeddings(likes), K + len(likes)):
        for hit in hits:
            best[hit.id] = max(hit.score, best.get(hit.id, -1.0))
    return sorted((id_ for id_ in best if id_ not in likes), key=lambda id_: (-best[id_], id_))[:K]


def _marginal(diversity: float) -> Way:
    def way(gallery: Gallery, likes: Sequence[str]) -> list[str]:
        ids = _nearest(gallery, likes, _POOL)
        vectors = gallery.embeddings(ids).vectors
        relevant = (vectors @ _mean(gallery, likes).vectors[0]).astype(np.float64)
        picked = varied(relevant, vectors, diversity, lambda _place, _chosen: False)
        return [ids[place] for place, _ in zip(picked, range(K), strict=False)]

    return way


def _recommend(diversity: float) -> Way:
    return lambda gallery, likes: [
        hit.id for hit in Recommender(gallery, diversity=diversity).fit(likes).decide(K).hits
    ]


def _nearest(gallery: Gallery, likes: Sequence[str], count: int) -> list[str]:
    hits = gallery.search_each(_mean(gallery, likes), count + len(likes))[0]
    return [hit.id for hit in hits if hit.id not in likes][:count]


def _mean(gallery: Gallery, likes: Sequence[str]) -> Embeddings:
    return gallery.embeddings(likes).mean_direction()


def _gain(ours: np.ndarray, plain: np.ndarray) -> str:
    """Return what precision recommend gains at a plain way's ILD, of (settings, draws, 4) and (draws, 4)."""
    rng, gains = np.random.default_rng(0), []
    for sample in [np.arange(len(plain)), *(rng.integers(len(plain), size=len(plain)) for _ in range(_RESAMPLED))]:
        precision, _, diversity, _ = plain[sample].mean(axis=0)
        reached = _at(ours[:, sample].mean(axis=1), diversity)
        gains.append(np.nan if reached is None else reached - precision)
    if np.isnan(gains).any():
        return "-"
    low, high = np.quantile(gains[1:], (0.025, 0.975))
    return f"{gains[0]:+.3f} ({low:+.3f} to {high:+.3f})"


def _at(found: np.ndarray, diversity: float) -> float | None:
    """Return the precision where ILD is ``diversity``, between the settings; at the least varied
    setting where that is more varied; None beyond the most varied one."""
    ordered = sorted((float(values[2]), float(values[0])) for values in found)
    diversities, precisions = zip(*ordered, strict=True)
    return None if diversity > diversities[-1] else float(np.interp(diversity, diversities, precisions))


if __name__ == "__main__":
    main()
