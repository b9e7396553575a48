"""Recommending: marginal relevance against a naive loop, two tastes, no copies, and what cannot be asked."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from conftest import Cli
from lookalike.apps.recommend import Recommender
from lookalike.condition import print_of
from lookalike.doctoring import near_copies
from lookalike.errors import ConfigError, InputError, UnknownId
from lookalike.gallery import Gallery
from lookalike.images import read
from lookalike.recommending import intra_list_diversity, relevance, tastes, varied
from lookalike.types import Embeddings, FileStamp, Item, Space
from synthetic import picture, save


def unit(rng: np.random.Generator, count: int, dim: int = 8) -> np.ndarray:
    vectors = rng.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.8, 1.0])
def test_marginal_relevance_is_that_of_a_naive_loop(diversity: float) -> None:
    rng = np.random.default_rng(1)
    vectors, scores = unit(rng, 20), rng.uniform(size=20)
    left, chosen = list(range(20)), []
    while left:

        def value(place: int) -> float:
            if not chosen:
                return float(scores[place])
            nearest = max(float(vectors[place] @ vectors[other]) for other in chosen)
            return (1 - diversity) * float(scores[place]) - diversity * nearest

        best = max(left, key=value)
        left.remove(best)
        if best % 5:  # every fifth is refused
            chosen.append(best)
    found = list(varied(scores, vectors, diversity, lambda place, _: place % 5 == 0))
    assert found == chosen


def test_relevance_is_a_soft_maximum_less_half_of_that_of_dislikes() -> None:
    likes, dislikes = np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([[0.2], [0.8]])
    plain = relevance(likes, np.zeros((2, 0)))
    expected = [math.log((math.exp(20 * a) + math.exp(20 * b)) / 2) / 20 for a, b in likes]
    np.testing.assert_allclose(plain, expected)
    np.testing.assert_allclose(relevance(likes, dislikes), plain - 0.5 * dislikes[:, 0])


def test_tastes_make_the_nearest_ten_of_each_like_equally_close_on_average() -> None:
    rng = np.random.default_rng(2)
    candidates, likes = unit(rng, 60), unit(rng, 3)
    found = tastes(candidates, likes)
    levels = [np.mean(sorted(column)[-10:]) for column in found.T]
    assert levels == pytest.approx([levels[0]] * 3)
    plain = candidates @ likes.T
    assert (np.argsort(found, axis=0) == np.argsort(plain, axis=0)).all()


def test_diversity_of_a_list_is_the_mean_over_pairs() -> None:
    vectors = unit(np.random.default_rng(3), 5)
    pairs = [1 - float(vectors[i] @ vectors[j]) for i in range(5) for j in range(i)]
    assert intra_list_diversity(vectors) == pytest.approx(sum(pairs) / len(pairs))
    assert intra_list_diversity(vectors[:1]) == 0


SPACE = Space("tests", "1", "none", 32)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """Twelve labels of eight pictures, ``known/l00/0.png`` up: vectors around that of their label, unlike pictures."""
    opened = Gallery.for_spaces(tmp_path / "g", [SPACE])
    rng = np.random.default_rng(5)
    places = rng.normal(size=(12, SPACE.dim))
    for label in range(12):
        for number in range(8):
            save(picture(100 * label + number), Path(at(tmp_path, label, number)))
            add(opened, at(tmp_path, label, number), places[label] + 0.6 * rng.normal(size=SPACE.dim))
    return opened


def add(gallery: Gallery, path: str, vector: np.ndarray) -> None:
    """Put a picture file with a vector that no encoder made into a gallery."""
    folder, name = Path(path).parent, Path(path).name
    item = Item(f"{folder.name}-{name}", {"label": folder.name}, file=FileStamp(str(folder), name, 1, 1))
    gallery.put([item], [Embeddings.from_raw(vector[None], SPACE)])


def at(tmp_path: Path, label: int, number: int) -> str:
    return str(tmp_path / "known" / f"l{label:02}" / f"{number}.png")


def test_two_tastes_are_both_served_and_each_hit_tells_its_like(gallery: Gallery, tmp_path: Path) -> None:
    likes = [at(tmp_path, 2, 0), at(tmp_path, 7, 0)]
    found = Recommender(gallery).fit(likes).decide(6)
    assert len(found.hits) == 6
    labels = [Path(str(hit.path)).parent.name for hit in found.hits]
    assert {"l02", "l07"} <= set(labels)
    for hit, label in zip(found.hits, labels, strict=True):
        if label in {"l02", "l07"}:
            assert Path(str(hit.because.path)).parent.name == label
        vectors = gallery.embeddings([hit.id, hit.because.id]).vectors
        assert hit.because.score == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-6)
    assert not {hit.path for hit in found.hits} & set(likes)
    assert found.copies == 0


def test_no_two_near_copies_among_hits_and_likes(gallery: Gallery, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for number in range(5):  # to the eye copies of a like, and of one that will be recommended; not to the encoder
        original = picture(200 + number % 2).astype(int) + rng.integers(-3, 4, (32, 32, 3))
        path = str(save(np.clip(original, 0, 255).astype(np.uint8), tmp_path / f"eye{number}.png"))
        vector = gallery.embeddings([at(tmp_path, 2, number % 2)]).vectors[0]
        add(gallery, path, vector + 0.1 * rng.normal(size=SPACE.dim))
    path = str(save(picture(200), tmp_path / "far.png"))  # to the eye, of the like; less near than others
    add(gallery, path, gallery.embeddings([at(tmp_path, 2, 3)]).vectors[0] + 0.1 * rng.normal(size=SPACE.dim))
    for number in range(2):  # to the encoder
        path = str(save(picture(5000 + number), tmp_path / f"encoder{number}.png"))
        add(gallery, path, gallery.embeddings([at(tmp_path, 2, 1)]).vectors[0])
    likes = [at(tmp_path, 2, 0)]
    found = Recommender(gallery, diversity=0).fit(likes).decide(8)
    ids = [hit.id for hit in found.hits] + [gallery.get(likes)[0].id]
    looks = np.stack([print_of(read(str(item.path))) for item in gallery.get(ids)])
    assert near_copies(gallery.embeddings(ids).vectors, looks) == []
    assert found.copies >= 6
    assert len(found.hits) == 8


def test_a_crowd_of_copies_does_not_hide_what_lies_behind_it(gallery: Gallery, tmp_path: Path) -> None:
    like = at(tmp_path, 2, 0)
    vector = gallery.embeddings([like]).vectors[0]
    for number in range(60):
        add(gallery, str(tmp_path / "crowd" / f"{number}.png"), vector)
    found = Recommender(gallery).fit([like]).decide(3)
    assert found.copies == 60
    assert len(found.hits) == 3
    everything = Recommender(gallery).fit([like]).decide(200)
    assert len(everything.hits) == 12 * 8 - 1


def test_a_dislike_pushes_its_kind_down(gallery: Gallery, tmp_path: Path) -> None:
    like, less = at(tmp_path, 2, 0), at(tmp_path, 7, 1)
    plain, without = (
        {hit.id: hit.score for hit in Recommender(gallery, diversity=0).fit([like], named).decide(60).hits}
        for named in ([], [less])
    )
    vectors = gallery.embeddings([*plain]).vectors
    to_less = dict(zip(plain, vectors @ gallery.embeddings([less]).vectors[0], strict=True))
    shared = [id_ for id_ in plain if id_ in without]
    assert gallery.get([less])[0].id not in without
    np.testing.assert_allclose(
        [plain[id_] - without[id_] for id_ in shared], [0.5 * to_less[id_] for id_ in shared], atol=1e-5
    )


def test_a_filter_holds_and_nothing_is_made_up(gallery: Gallery, tmp_path: Path) -> None:
    found = Recommender(gallery, where='label = "l05"').fit([at(tmp_path, 2, 0)]).decide(20)
    assert {Path(str(hit.path)).parent.name for hit in found.hits} == {"l05"}
    assert len(found.hits) + found.copies == 8
    assert Recommender(gallery, where='label = "none"').fit([at(tmp_path, 2, 0)]).decide().hits == ()


def test_likes_come_one_by_one_and_the_last_word_counts(gallery: Gallery, tmp_path: Path) -> None:
    one, other = at(tmp_path, 2, 0), at(tmp_path, 7, 0)
    step_by_step = Recommender(gallery).fit([one]).update([other]).update(less=[one])
    assert step_by_step.decide() == Recommender(gallery).fit([other], [one]).decide()


def test_candidates_are_few_whatever_the_gallery(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    search = Gallery.search_each

    def counted(self, queries, k=10, **options):  # type: ignore[no-untyped-def]
        asked.append(k)
        return search(self, queries, k, **options)

    monkeypatch.setattr(Gallery, "search_each", counted)
    monkeypatch.setattr(Gallery, "items", lambda *_: pytest.fail("the whole gallery was read"))
    Recommender(gallery).fit([at(tmp_path, 2, 0)]).decide(3)
    assert asked == [51]


def test_what_cannot_be_asked_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    like = at(tmp_path, 2, 0)
    for diversity in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match="diversity is from 0"):
            Recommender(gallery, diversity=diversity)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Recommender(gallery).fit([like]).decide(0)
    with pytest.raises(ConfigError, match="at least one item"):
        Recommender(gallery).decide()
    with pytest.raises(UnknownId):
        Recommender(gallery).fit([like, "nobody"])
    with pytest.raises(InputError, match="both liked and disliked"):
        Recommender(gallery).fit([like], [gallery.get([like])[0].id])


def test_a_missing_file_is_recommended_all_the_same(gallery: Gallery, tmp_path: Path) -> None:
    like = at(tmp_path, 2, 0)
    for number in range(1, 8):
        Path(at(tmp_path, 2, number)).unlink()
    assert any(hit.path == at(tmp_path, 2, 3) for hit in Recommender(gallery).fit([like]).decide(20).hits)


def test_the_verb_prints_json(cli: Cli, tmp_path: Path, gallery: Gallery) -> None:
    like, less, where = at(tmp_path, 1, 0), at(tmp_path, 2, 0), ("-g", tmp_path / "g")
    ran = cli("recommend", like, "--less", less, "-k", 3, "--json", *where)
    assert ran.code == 0
    assert len(ran.json["hits"]) == 3
    for hit in ran.json["hits"]:
        assert set(hit) == {"id", "path", "score", "because"}
        assert set(hit["because"]) == {"id", "path", "score"}
        assert hit["because"]["path"] == like
    assert "because of" in cli("recommend", like, *where).out
    for wrong in ([like, "--less", like], ["nobody"], [like, "-k", 0], [like, "--diversity", 2], []):
        assert cli("recommend", *wrong, *where).code == 2
    assert cli("recommend", like, "-g", tmp_path / "nowhere").code == 3
