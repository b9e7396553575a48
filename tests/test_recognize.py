"""Recognizing by a few references: the vote against a naive loop, the unknown rate in a known world, the verb."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import fakes
from conftest import Cli
from lookalike import recognizing
from lookalike.apps.recognize import Recognizer
from lookalike.errors import ConfigError, InputError, UnreadableImage
from lookalike.gallery import Gallery
from lookalike.recognizing import Recognition, Whitening, votes
from lookalike.types import Verdict
from synthetic import labelled, picture, save

DIM = 24


def world(seed: int, labels: int, each: int, scatter: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around their label's place, and the labels."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(labels), each)
    vectors = rng.normal(size=(labels, DIM))[of] + scatter * rng.normal(size=(len(of), DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), of


def test_votes_are_those_of_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    numbers = np.array([0, 2, 2, 0, 2, 2, 3])
    similar = rng.normal(size=(5, 7))
    similar[1, 6] = similar[2, 1] = -np.inf
    found = votes(similar, numbers, 4, voters=2)
    for row in range(5):
        for label in range(4):
            mine = sorted((x for x, n in zip(similar[row], numbers, strict=True) if n == label and x > -np.inf))[-2:]
            assert found[row, label] == pytest.approx(sum(mine) / len(mine) if mine else -np.inf)


def test_whitening_is_a_power_of_the_covariance_shrunk_by_half() -> None:
    vectors, numbers = world(1, 6, 4)
    found = Whitening.learn(vectors, numbers)
    wide = vectors.astype(np.float64)
    means = np.stack([wide[numbers == label].mean(axis=0) for label in range(6)])
    apart, between = wide - means[numbers], means - means.mean(axis=0)
    covariance = (apart.T @ apart + between.T @ between) / len(wide)
    shrunk = 0.5 * covariance + 0.5 * np.trace(covariance) / DIM * np.eye(DIM)
    values, directions = np.linalg.eigh(shrunk)
    gains = values ** (-0.5 * 25 / 41)  # of six labels: (6 - 1)^2 / ((6 - 1)^2 + 4^2) of the inverse root
    expected = (wide - means.mean(axis=0) * 25 / 29) @ (directions * gains) @ directions.T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.apply(vectors), expected, atol=1e-5)


def test_one_picture_a_label_is_whitened_by_how_labels_vary() -> None:
    vectors, numbers = world(2, 9, 1)
    out = Whitening.learn(vectors, numbers).apply(vectors)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)


def test_where_there_are_two_labels_nothing_is_shrunk() -> None:
    vectors, numbers = world(3, 2, 4)
    found = Whitening.learn(vectors, numbers)
    apart = vectors - found.mean.astype(np.float32)
    np.testing.assert_allclose(found.apply(vectors), apart / np.linalg.norm(apart, axis=1, keepdims=True), atol=1e-5)


def test_two_labels_are_told_from_a_third_no_worse_than_by_plain_cosine() -> None:
    whitened, plain = [], []
    for seed in range(40):
        vectors, numbers = world(seed, 3, 40, scatter=0.7)
        gallery = (np.arange(120) % 40 < 1 + seed % 3) & (numbers < 2)
        learned = Recognition.learn(vectors[gallery], numbers[gallery])
        ours = (learned.scores(learned.similar(vectors)) - learned.shifts).max(axis=1)
        cosine = (vectors @ vectors[gallery].T).max(axis=1)
        for found, shares in ((ours, whitened), (cosine, plain)):
            known, unknown = found[~gallery & (numbers < 2)], found[numbers == 2]
            shares.append((known[:, None] > unknown).mean())
    assert np.mean(whitened) > np.mean(plain) - 0.005


def test_pictures_all_alike_break_nothing() -> None:
    vectors = np.zeros((6, DIM), np.float32)
    vectors[:, 0] = 1
    learned = Recognition.learn(vectors, np.repeat([0, 1], 3))
    assert np.isfinite(learned.scores(learned.similar(vectors))).all()


@pytest.mark.parametrize("each", [1, 3])
def test_the_promised_share_of_unknown_pictures_is_named(each: int) -> None:
    rates = []
    for seed in range(20):
        vectors, numbers = world(seed, 60, each + 2, scatter=1.0)
        gallery = (np.arange(len(numbers)) % (each + 2) < each) & (numbers < 40)
        learned = Recognition.learn(vectors[gallery], numbers[gallery])
        unknown = vectors[numbers >= 40]
        best = (learned.scores(learned.similar(unknown)) - learned.shifts).max(axis=1)
        rates.append((best >= learned.alarms.threshold(0.1, 40)).mean())
    error = np.std(rates, ddof=1) / np.sqrt(len(rates))
    assert 0.02 < np.mean(rates) < 0.1 + 2 * error


def test_a_label_with_many_pictures_takes_nothing_from_the_others() -> None:
    right: dict[int, list[float]] = {3: [], 40: []}
    taken, taken_by_neighbours = [], []
    for seed in range(10):
        vectors, numbers = world(seed, 12, 60, scatter=1.6)
        place = np.arange(len(numbers)) % 60
        asked = (numbers > 0) & (place >= 50)
        for of_first, shares in right.items():
            gallery = (place < 3) | ((numbers == 0) & (place < of_first))
            learned = Recognition.learn(vectors[gallery], numbers[gallery])
            named = (learned.scores(learned.similar(vectors[asked])) - learned.shifts).argmax(axis=1)
            shares.append((named == numbers[asked]).mean())
        assert learned.shifts[0] > 0  # strangers come nearer to it: its own threshold is higher
        taken.append((named == 0).mean())
        nearest = np.argsort(-vectors[asked] @ vectors[gallery].T, axis=1)[:, :5]
        counts = [np.bincount(row) for row in numbers[gallery][nearest]]
        taken_by_neighbours.append(np.mean([row.argmax() == 0 for row in counts]))
    assert np.mean(right[40]) > np.mean(right[3]) - 0.03
    assert np.mean(taken) < 0.12
    assert np.mean(taken_by_neighbours) > 0.5  # so many would a vote of the five nearest give to it


def test_a_label_with_many_pictures_does_not_stand_for_all_strangers() -> None:
    """Its own pictures never meet it as strangers, and strangers come nearest to it: the rate would be missed."""
    vectors, numbers = world(1, 30, 60, scatter=1.0)
    gallery = (np.arange(len(numbers)) % 60 < 2) | (numbers == 0)
    learned = Recognition.learn(vectors[gallery], numbers[gallery])
    given = np.bincount(learned.alarms.units, minlength=30)
    assert given[0] == 4  # twice the median label's
    assert (given[1:] == 2).all()


def test_a_picture_does_not_vote_for_itself() -> None:
    vectors, numbers = world(4, 8, 2)
    alone = np.delete(np.arange(16), 1)  # label 0 has one picture left
    seen = recognizing._left_out(vectors[alone], numbers[alone], np.arange(15), 3)
    own = seen[np.arange(15), numbers[alone]]
    assert own[0] == -np.inf
    assert np.isfinite(own[1:]).all()
    assert (own[1:] < 0.999).all()


def test_the_margin_is_the_least_at_which_few_are_named_wrongly() -> None:
    rng = np.random.default_rng(3)
    seen = rng.normal(size=(400, 5))
    own = rng.integers(0, 5, 400)
    seen[np.arange(400), own] += 1.5
    margin = recognizing._margin(seen, own)
    two = -np.sort(-seen, axis=1)[:, :2]
    ahead, wrong = two[:, 0] - two[:, 1], seen.argmax(axis=1) != own
    assert wrong.mean() > recognizing.WRONG
    assert wrong[ahead >= margin].mean() <= recognizing.WRONG
    looser = sorted(ahead[ahead < margin], reverse=True)
    assert all(wrong[ahead >= one].mean() > recognizing.WRONG for one in looser)


# With a gallery


@pytest.fixture
def gallery(tmp_path: Path, counting: fakes.Counting) -> Gallery:
    opened = Gallery.open(tmp_path / "g", encoder="counting")
    opened.index(labelled(tmp_path / "known", labels=24, each=3))
    return opened


def test_known_things_match_and_unknown_ones_do_not(gallery: Gallery, tmp_path: Path) -> None:
    known = [str(save(picture(label, 9), tmp_path / f"q{label}.png")) for label in range(24)]
    strange = [str(save(picture(label, 9), tmp_path / f"q{label}.png")) for label in range(100, 140)]
    recognizer = Recognizer(gallery).fit()
    found = recognizer.decide(known)
    matches = [one for one in found.decisions if one.verdict is Verdict.MATCH]
    assert len(matches) >= 20
    assert all(one.label == f"l{known.index(one.path):02}" for one in matches)
    of_strange = recognizer.decide(strange).decisions
    assert sum(one.verdict is Verdict.MATCH for one in of_strange) <= 6  # 5 % of 40, and three deviations
    assert all(one.label is None for one in of_strange if one.verdict is Verdict.UNKNOWN)
    best, second = found.decisions[0].evidence
    assert best.label != second.label
    assert {Path(str(one.path)).parent.name for one in best.references} == {best.label}
    assert [one.score for one in best.references] == sorted((one.score for one in best.references), reverse=True)
    assert found.decisions[0].threshold == best.threshold


def test_a_looser_rate_names_no_fewer(gallery: Gallery, tmp_path: Path) -> None:
    images = [str(save(picture(label, 9), tmp_path / f"q{label}.png")) for label in range(40)]
    recognizer = Recognizer(gallery)
    strict, loose = (recognizer.decide(images, rate).decisions for rate in (0.02, 0.2))
    for a, b in zip(strict, loose, strict=True):
        assert a.threshold is not None
        assert b.threshold is not None
        assert b.threshold <= a.threshold
        assert not (a.verdict is Verdict.MATCH and b.verdict is Verdict.UNKNOWN)


def test_a_label_is_learned_by_adding_its_pictures(gallery: Gallery, tmp_path: Path) -> None:
    query = str(save(picture(50, 9), tmp_path / "query.png"))
    recognizer = Recognizer(gallery).fit()
    assert recognizer.decide([query]).decisions[0].label is None
    assert not recognizer.update()
    for number in range(3):
        gallery.add(save(picture(50, number), tmp_path / f"n{number}.png"), metadata={"label": "new"})
    assert recognizer.decide([query]).decisions[0].label == "new"


def test_what_was_learned_is_kept_and_a_damaged_file_is_made_anew(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = [str(save(picture(5, 9), tmp_path / "q.png"))]
    first = Recognizer(gallery).decide(query)
    (kept,) = gallery.derived.glob("recognition-*")
    with monkeypatch.context() as patch:
        patch.setattr(Recognition, "learn", lambda *_: pytest.fail("it was learned again"))
        assert Recognizer(gallery).decide(query) == first
    whole = kept.read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2]):
        kept.write_bytes(damaged)
        assert Recognizer(gallery).decide(query) == first
        assert kept.read_bytes() == whole
    gallery.add(save(picture(51), tmp_path / "n.png"), metadata={"label": "new"})
    assert len(Recognizer(gallery).decide(query).decisions) == 1
    (other,) = gallery.derived.glob("recognition-*")
    assert other != kept


def test_items_without_a_label_take_no_part_and_are_counted(cli: Cli, tmp_path: Path, counting: fakes.Counting) -> None:
    root = labelled(tmp_path / "known", labels=3, each=2)
    assert cli("index", root, "--encoder", "counting").code == 0
    query = save(picture(1, 9), tmp_path / "q.png")
    before = cli("recognize", query, "--json").json
    assert before["unlabelled"] == 0
    for number in range(2):
        save(picture(1, 9), root / f"loose{number}.png")
    assert cli("index", root).code == 0
    assert cli("recognize", query, "--json").json == before | {"unlabelled": 2}
    assert "2 of the gallery's items have no 'label' and took no part" in cli("recognize", query).err


def test_of_a_label_with_too_many_pictures_those_whose_ids_come_first_take_part(
    tmp_path: Path, counting: fakes.Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.apps.recognize.MOST_EACH", 2)
    with Gallery.open(tmp_path / "g", encoder="counting") as opened:
        opened.index(labelled(tmp_path / "known", labels=3, each=1))
        for number in range(1, 8):
            save(picture(1, number), tmp_path / "known" / "l01" / f"{number}.png")
        opened.index(tmp_path / "known")
        first = sorted(item.id for item in opened.items() if item.metadata["label"] == "l01")[:2]
        best, _ = Recognizer(opened).decide([str(save(picture(1, 9), tmp_path / "q.png"))]).decisions[0].evidence
    assert best.label == "l01"
    assert sorted(one.id for one in best.references) == first


def test_labels_that_vanish_while_it_runs_leave_it_with_a_clear_word(tmp_path: Path, counting: fakes.Counting) -> None:
    with Gallery.open(tmp_path / "g", encoder="counting") as opened:
        opened.index(labelled(tmp_path / "known", labels=2, each=1))
        recognizer = Recognizer(opened).fit()
        opened.remove([item.id for item in opened.items() if item.metadata["label"] == "l01"])
        with pytest.raises(InputError, match="one label only, 'l00'"):
            recognizer.update()


def test_few_references_are_not_calibrated(tmp_path: Path, counting: fakes.Counting) -> None:
    with Gallery.open(tmp_path / "g", encoder="counting") as opened:
        opened.index(labelled(tmp_path / "known", labels=2, each=1))
        found = Recognizer(opened).decide([str(save(picture(1, 9), tmp_path / "q.png"))]).decisions[0]
    assert (found.verdict, found.label) == (Verdict.UNSURE, "l01")
    assert (found.threshold, found.false_alarm_rate) == (None, None)
    assert "not calibrated" in found.reason


def test_a_picture_of_one_colour_is_unknown(gallery: Gallery, tmp_path: Path) -> None:
    black = str(save(np.zeros((32, 32, 3), np.uint8), tmp_path / "black.png"))
    found = Recognizer(gallery).decide([black]).decisions[0]
    assert (found.verdict, found.label, found.score) == (Verdict.UNKNOWN, None, None)
    assert "cannot be judged" in found.reason


def test_a_broken_picture_among_several_is_skipped_and_a_single_one_raises(gallery: Gallery, tmp_path: Path) -> None:
    good = str(save(picture(1, 9), tmp_path / "good.png"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(good).read_bytes()[:60])
    found = Recognizer(gallery).decide([good, str(broken), str(tmp_path / "nowhere.png")])
    assert [one.path for one in found.decisions] == [good]
    assert [one.path for one in found.skipped] == [str(broken), str(tmp_path / "nowhere.png")]
    with pytest.raises(UnreadableImage):
        Recognizer(gallery).decide([str(broken)])
    with pytest.raises(InputError, match=r"none of these 5 pictures.*broken.png: .*nowhere.png: .*; and 2 more"):
        Recognizer(gallery).decide([str(broken), str(tmp_path / "nowhere.png"), *[str(broken)] * 3])


def test_what_cannot_be_asked_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    one = [str(save(picture(1, 9), tmp_path / "q.png"))]
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Recognizer(gallery, voters=0)
    with pytest.raises(InputError, match=r"metadata 'breed'; name another field .*\(there is label\)"):
        Recognizer(gallery, field="breed").fit()
    with pytest.raises(InputError, match="got 0"):
        Recognizer(gallery).decide(one, 0)
    with pytest.raises(InputError, match="smallest they can promise"):
        Recognizer(gallery).decide(one, 1e-6)
    with pytest.raises(ConfigError, match="at least one picture"):
        Recognizer(gallery).decide([])
    with Gallery.open(tmp_path / "other", encoder="counting") as empty:
        with pytest.raises(InputError, match="empty"):
            Recognizer(empty).fit()
        empty.add(one[0])
        with pytest.raises(InputError, match="has metadata 'label'; index a folder that holds a folder for each"):
            Recognizer(empty).fit()
        empty.add(save(picture(3), tmp_path / "a.png"), metadata={"breed": "cat"})
        with pytest.raises(InputError, match="one label only, 'cat'"):
            Recognizer(empty, field="breed").fit()


def test_the_verb_prints_json_and_writes_a_page(cli: Cli, tmp_path: Path, counting: fakes.Counting) -> None:
    root = labelled(tmp_path / "known", labels=24, each=3)
    shutil.move(root / "l03", root / "<b>l03")
    assert cli("index", root, "--encoder", "counting").code == 0
    queries = [save(picture(3, 9), tmp_path / "q.png"), tmp_path / "nowhere.png"]
    page = tmp_path / "page.html"
    ran = cli("recognize", *queries, "--json", "--html", page)
    assert ran.code == 0
    (one,) = ran.json["decisions"]
    assert set(one) == {
        "path", "label", "verdict", "score", "threshold", "false_alarm_rate", "reason", "evidence"
    }  # fmt: skip
    assert (one["path"], one["label"], one["verdict"]) == (str(queries[0]), "<b>l03", "match")
    assert [set(candidate) for candidate in one["evidence"]] == [{"label", "score", "threshold", "references"}] * 2
    assert [skipped["path"] for skipped in ran.json["skipped"]] == [str(queries[1])]
    html = page.read_text()
    assert "&lt;b&gt;l03" in html
    assert "<b>l03" not in html
    assert html.count("<img") == 1 + 6
    assert cli("recognize", queries[0], "--html", tmp_path / "page.txt").code == 2
    assert cli("recognize", queries[0], "--k", 0).code == 2
    assert "match <b>l03" in cli("recognize", queries[0]).out
    assert cli("recognize", queries[0], "-g", tmp_path / "nowhere").code == 3
