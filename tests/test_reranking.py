"""One contract over all re-rankers; each against its published definition; and in searches and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data

from conftest import Cli
from lookalike import registry
from lookalike.benchmarking import evaluated
from lookalike.errors import UnknownComponent
from lookalike.evaluation.truth import Truth
from lookalike.gallery import Gallery
from lookalike.protocols import Reranker
from lookalike.reranking.k_reciprocal import KReciprocal
from lookalike.reranking.query_expansion import QueryExpansion
from lookalike.types import Float32

RERANKERS = ["k-reciprocal", "query-expansion"]  # a line for each


@pytest.fixture(params=RERANKERS)
def reranker(request: pytest.FixtureRequest) -> Reranker:
    return registry.reranker(request.param)


def unit(rows: np.ndarray) -> Float32:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def world(seed: int, count: int, dim: int = 12) -> tuple[Float32, Float32]:
    """Return a query and candidates in a few clumps, best first."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, dim))
    rows = unit(centres[rng.integers(0, 4, count + 1)] + 0.6 * rng.normal(size=(count + 1, dim)))
    query, candidates = rows[0], rows[1:]
    return query, candidates[np.argsort(-(candidates @ query), kind="stable")]


@pytest.fixture
def classes(tmp_path: Path, crops: Path) -> Path:
    """Return a folder with four folders of ten crops each."""
    root = tmp_path / "classes"
    for number, path in enumerate(sorted(crops.iterdir())):
        (root / f"label{number % 4}").mkdir(parents=True, exist_ok=True)
        path.rename(root / f"label{number % 4}" / path.name)
    return root


# The contract


def test_every_reranker_is_under_contract(reranker: Reranker) -> None:
    assert set(registry.names("reranker")) == set(RERANKERS)
    assert isinstance(reranker, Reranker)
    assert reranker.name in RERANKERS


@pytest.mark.parametrize("count", [0, 1, 2, 5, 100])
def test_a_closeness_for_each_candidate(reranker: Reranker, count: int) -> None:
    closeness = reranker.rerank(*world(0, count))
    assert closeness.shape == (count,)
    assert np.isfinite(closeness).all()


def test_what_is_the_query_itself_comes_first(reranker: Reranker) -> None:
    query, candidates = world(1, 20)
    assert reranker.rerank(query, np.vstack([query, candidates])).argmax() == 0


def test_black_pictures_and_copies_break_nothing(reranker: Reranker) -> None:
    query, candidates = world(2, 6)
    rows = np.vstack([candidates, candidates, np.zeros((3, 12), np.float32)])
    assert np.isfinite(reranker.rerank(query, rows)).all()
    assert np.isfinite(reranker.rerank(np.zeros(12, np.float32), rows)).all()


def test_the_same_again(reranker: Reranker) -> None:
    query, candidates = world(3, 50)
    np.testing.assert_array_equal(reranker.rerank(query, candidates), reranker.rerank(query, candidates))


# By definition


def zhong(rows: Float32, k1: int, k2: int, distance: float) -> list[float]:
    """Return the closeness of rows 1.. to row 0 by sets and loops, as sections 3.2 to 3.4 of the paper say it."""
    count = len(rows)
    apart = [[float(((a.astype(float) - b) ** 2).sum()) for b in rows] for a in rows]

    def nearest(i: int, k: int) -> list[int]:
        return [i, *[j for j in sorted(range(count), key=lambda j: (apart[i][j], j)) if j != i][:k]]

    def mutual(i: int, k: int) -> set[int]:
        return {j for j in nearest(i, k) if i in nearest(j, k)}

    def encoded(i: int) -> list[float]:
        members = mutual(i, k1)
        for j in mutual(i, k1):
            theirs = mutual(j, round(k1 / 2))
            if len(theirs & mutual(i, k1)) > 2 / 3 * len(theirs):
                members |= theirs
        weights = [math.exp(-apart[i][j]) if j in members else 0.0 for j in range(count)]
        return [weight / sum(weights) for weight in weights]

    alone = [encoded(i) for i in range(count)]
    sets = [[sum(alone[n][j] for n in nearest(i, k2 - 1)) / k2 for j in range(count)] for i in range(count)]

    def jaccard(a: Sequence[float], b: Sequence[float]) -> float:
        return 1 - sum(map(min, a, b)) / sum(map(max, a, b))

    return [-((1 - distance) * jaccard(sets[0], sets[i]) + distance * apart[0][i]) for i in range(1, count)]


@pytest.mark.parametrize(("k1", "k2", "distance"), [(6, 3, 0.5), (4, 2, 0.3), (20, 6, 0.3), (3, 1, 0.0)])
@pytest.mark.parametrize("seed", range(3))
def test_k_reciprocal_is_what_the_paper_says(seed: int, k1: int, k2: int, distance: float) -> None:
    query, candidates = world(seed, 30)
    found = KReciprocal(k1, k2, distance).rerank(query, candidates)
    np.testing.assert_allclose(found, zhong(np.vstack([query, candidates]), k1, k2, distance), atol=1e-5)


def test_k_reciprocal_by_hand() -> None:
    # Of two that are as near to the query, the one that has nobody nearer than it wins: the other has its own crowd.
    angle = [0.0, 0.5, -0.5, -0.55, -0.6, -0.65]
    rows = np.array([[math.cos(a), math.sin(a)] for a in angle], np.float32)
    found = KReciprocal(k1=2, k2=1, distance=0.0).rerank(rows[0], rows[1:])
    assert found[0] > found[1]


def test_query_expansion_by_hand() -> None:
    # cosines .8 and .6: expanded = q + .8^2 a + .6^2 b = (1 + .512 + .216, .384, .288), and a, b, c against that
    query = np.array([1, 0, 0], np.float32)
    candidates = np.array([[0.8, 0.6, 0], [0.6, 0, 0.8], [0, 1, 0]], np.float32)
    expanded = np.array([1.728, 0.384, 0.288])
    expanded /= np.linalg.norm(expanded)
    found = QueryExpansion(count=2, alpha=2).rerank(query, candidates)
    np.testing.assert_allclose(found, candidates @ expanded, atol=1e-6)


def test_what_points_away_is_not_added() -> None:
    query = np.array([1, 0], np.float32)
    away = np.array([[-1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(QueryExpansion(2, 3).rerank(query, away), [-1, 0], atol=1e-7)


# In a benchmark


def naive_top(queries: Float32, gallery: Float32, truth: Truth, reranker: Reranker, q: int) -> list[int]:
    allowed = [g for g in range(len(gallery)) if g not in set(truth.excluded(q).tolist())]
    allowed.sort(key=lambda g: (-float(queries[q] @ gallery[g]), g))
    front, rest = allowed[:100], allowed[100:]
    again = reranker.rerank(queries[q], gallery[front]) if front else np.empty(0)
    order = sorted(range(len(front)), key=lambda n: (-np.float32(again[n]), front[n]))
    return [*(front[n] for n in order), *rest][:10]


def test_a_benchmark_reranks_candidates_only_and_keeps_the_rest_behind(reranker: Reranker) -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 12, 150)
    rows = unit(rng.normal(size=(12, 8))[labels] + 0.5 * rng.normal(size=(150, 8)))
    groups = np.where(rng.random(150) < 0.5, rng.integers(0, 40, 150), -1)
    truth = Truth(labels, labels, np.arange(150), groups, groups)
    metric = registry.metric("cosine")
    plain = evaluated(metric, rows, rows, truth)
    found = evaluated(metric, rows, rows, truth, reranker=reranker)
    for query in range(150):
        assert found.judged.top[query].tolist() == naive_top(rows, rows, truth, reranker, query)
    # Thresholds are the metric's own, whatever the order.
    np.testing.assert_array_equal(found.judged.genuine, plain.judged.genuine)
    assert found.figures["auc"] == plain.figures["auc"]
    assert found.figures["map@10"] != plain.figures["map@10"]


def test_the_command_measures_each_configuration_as_it_is_and_reranked(cli: Cli, classes: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    how = ("--rerank", "k-reciprocal,query-expansion", "--split", "references:2")
    told = cli("benchmark", classes, "--encoder", "color-histogram", *how, "--save", kept, "--json").json
    assert [one["rerank"] for one in told["configurations"]] == [None, *RERANKERS]
    assert {one["rerank"] for one in told["differences"]} == set(RERANKERS)
    assert told["command"].endswith("--rerank k-reciprocal,query-expansion --split references:2")
    assert told["gallery"] == 2 * told["labels"]
    again = cli("benchmark", classes, "--encoder", "color-histogram", *how, "--against", kept)
    assert again.code == 0
    assert "held: color-histogram, cosine + k-reciprocal: recall@1" in again.out
    other = cli("benchmark", classes, "--encoder", "color-histogram", "--rerank", "k-reciprocal", "--against", kept)
    assert (other.code, "is of another set than" in other.err) == (2, True)
    assert "no reranker named 'magic'" in cli("benchmark", classes, "--rerank", "magic").err
    assert "a split is references:N" in cli("benchmark", classes, "--split", "magic").err
    assert (
        "reranker 'k-reciprocal' is named twice"
        in cli("benchmark", classes, "--rerank", "k-reciprocal,k-reciprocal").err
    )


# In a search


def test_a_search_reranks_its_nearest_hundred(cli: Cli, classes: Path, tmp_path: Path, reranker: Reranker) -> None:
    place = tmp_path / "gallery"
    with Gallery.open(place, encoder="color-histogram") as gallery:
        gallery.index(classes)
        items = list(gallery.items())
        query = gallery.embeddings([items[0].id])
        plain = gallery.search_each(query, len(items))[0]
        candidates = gallery.embeddings([hit.id for hit in plain]).vectors
        closeness = reranker.rerank(query.vectors[0], candidates)
        want = [plain[int(row)].id for row in np.argsort(-closeness, kind="stable")[:3]]
        found = gallery.search_each(query, 3, rerank=reranker.name)[0]
        assert [hit.id for hit in found] == want
        assert [hit.reranked for hit in found] == sorted(closeness.tolist(), reverse=True)[:3]
        assert {hit.id: hit.score for hit in plain}.items() >= {hit.id: hit.score for hit in found}.items()
        with pytest.raises(UnknownComponent, match="no reranker named 'magic'"):
            gallery.search(items[0].path or "", rerank="magic")
    told = cli("search", items[0].path or "", "-g", place, "-k", "3", "--rerank", reranker.name, "--json").json
    assert [hit["id"] for hit in told["queries"][0]["hits"]] == want
    assert all("reranked" in hit for hit in told["queries"][0]["hits"])
    assert "no --rerank" in cli("search", items[0].path or "", "-g", place, "--rerank", "k-reciprocal", "--decide").err


def test_local_finds_the_picture_that_holds_the_query(cli: Cli, photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "gallery"
    big = PIL.Image.new("RGB", (640, 480), "gray")
    whole = PIL.Image.fromarray(skimage.data.astronaut())
    big.paste(whole.resize((300, 300)), (20, 150))
    big.paste(PIL.Image.fromarray(skimage.data.coffee()).resize((300, 200)), (330, 20))
    big.save(photos / "holds.png")
    for name in ("astronaut.jpg", "coffee.jpg"):
        (photos / name).unlink(missing_ok=True)
    query = tmp_path / "query.png"
    whole.crop((100, 0, 400, 300)).save(query)
    cli("index", photos, "-g", place, "--encoder", "color-histogram")
    plain = cli("search", query, "-g", place, "-k", "20", "--json").json["queries"][0]["hits"]
    told = cli("search", query, "-g", place, "-k", "20", "--rerank", "local", "--json").json["queries"][0]["hits"]
    assert Path(told[0]["path"]).name == "holds.png"
    assert told[0]["reranked"] > 3
    assert Path(plain[0]["path"]).name != "holds.png"
    # The others keep their order.
    rest = [hit["id"] for hit in told if hit["reranked"] < 3]
    assert rest == [hit["id"] for hit in plain if hit["id"] in rest]
    like = cli("search", "--like", told[0]["id"], "-g", place, "-k", "1", "--rerank", "local", "--json").json
    assert like["queries"][0]["hits"][0]["id"] == told[0]["id"]
    cropped = cli(
        "search", photos / "holds.png", "--crop", "330,20,300,200", "-g", place, "--rerank", "local", "--json"
    )
    assert Path(cropped.json["queries"][0]["hits"][0]["path"]).name == "holds.png"
    (photos / "holds.png").unlink()
    gone = cli("search", query, "-g", place, "-k", "20", "--rerank", "local", "--json").json["queries"][0]["hits"]
    assert [hit["id"] for hit in gone] == [hit["id"] for hit in plain]
    assert "leave out --together" in cli("search", query, query, "--together", "-g", place, "--rerank", "local").err
