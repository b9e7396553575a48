"""The threshold for a folder of one's own: against a naive search over scores, and on photos."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from lookalike.copies import precision
from lookalike.copies.cascade import Source
from lookalike.copies.hashing import fingerprint
from lookalike.copies.links import Kind, Link, Picture
from lookalike.copies.precision import recalibrated
from lookalike.errors import ConfigError, InputError

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def tiles() -> list[Pixels]:
    """Fifty different pictures: parts of photos that do not overlap."""
    photos = [
        np.asarray(getattr(skimage.data, name)()) for name in ("astronaut", "coffee", "chelsea", "retina", "rocket")
    ]
    size = 128
    every = [
        photo[top : top + size, left : left + size]
        for photo in photos
        for top in range(0, photo.shape[0] - size, size)
        for left in range(0, photo.shape[1] - size, size)
    ]
    return sorted(every, key=lambda tile: -float(np.abs(np.diff(tile.astype(int), axis=0)).mean()))[:50]


def asked(tiles: list[Pixels], wanted: float, links: list[Link] | None = None) -> precision.Recalibration:
    pictures = [Picture(f"{k:064x}", (128, 128), fingerprint(tile)) for k, tile in enumerate(tiles)]
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(tiles), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return recalibrated(pictures, Source(lambda row: tiles[row], str), vectors, links or [], wanted)


def test_the_threshold_lies_between_the_impostors_and_most_copies(tiles: list[Pixels]) -> None:
    found = asked(tiles, 0.999)
    assert found.expected_precision >= 0.998
    assert found.highest_impostor < found.thresholds.edited_score
    assert found.recall > 0.6
    assert (found.copies, found.impostors) == (50, 400)


def test_it_is_the_same_every_time(tiles: list[Pixels]) -> None:
    assert asked(tiles, 0.99) == asked(tiles, 0.99)


def test_linked_pairs_are_no_impostors(tiles: list[Pixels]) -> None:
    every = [Link(a, b, Kind.EDITED) for a in range(50) for b in range(a + 1, 50) if a > 4]
    assert 40 <= asked(tiles, 0.9, every).impostors < 100


def test_more_precision_is_never_a_looser_threshold() -> None:
    rng = np.random.default_rng(3)
    copies, impostors = rng.beta(9, 1, 300).astype(np.float32), rng.beta(2, 6, 2000).astype(np.float32)
    tail = precision._Tail.of(impostors)
    thresholds = [precision._threshold(tail, copies, wanted) for wanted in (0.9, 0.99, 0.999, 0.9999)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]


def test_never_fewer_false_links_are_expected_than_there_were() -> None:
    scores = np.concatenate([np.linspace(0, 0.3, 995), np.full(5, 0.9)]).astype(np.float32)
    tail = precision._Tail.of(scores)
    assert tail.above(0.9) == 5
    assert tail.score_with(4.0) > 0.9


@pytest.mark.parametrize("wanted", [0.9, 0.99])
def test_the_precision_promised_is_that_of_fresh_scores(wanted: float) -> None:
    rng = np.random.default_rng(4)
    reached = []
    for _ in range(20):
        # Scores with an exponential tail, and copies all above: what is promised can be counted.
        impostors = (0.2 + rng.exponential(0.05, 3000)).astype(np.float32)
        copies = np.ones(1000, np.float32)
        threshold = precision._threshold(precision._Tail.of(impostors), copies, wanted)
        false = (0.2 + rng.exponential(0.05, 300_000) >= threshold).mean() * 3000
        reached.append(1000 / (1000 + false))
    assert np.mean(reached) == pytest.approx(wanted, abs=(1 - wanted) * 0.35)


@pytest.mark.parametrize("wanted", [0.2, 1.0])
def test_a_precision_that_cannot_be_had_is_refused(tiles: list[Pixels], wanted: float) -> None:
    with pytest.raises(ConfigError, match=r"a precision is from 0\.5 to below 1"):
        asked(tiles, wanted)


def test_too_few_pictures_are_refused_with_the_way_out(tiles: list[Pixels]) -> None:
    with pytest.raises(InputError, match=r"too few pictures to set a threshold for a precision of 0\.99: 6 copies"):
        asked(tiles[:6], 0.99)


def test_copies_of_one_copy_are_of_one_family() -> None:
    links = [Link(0, 1, Kind.NEAR), Link(1, 2, Kind.EDITED), Link(4, 5, Kind.EXACT)]
    found = precision._families(6, links)
    assert found[0] == found[1] == found[2] != found[3]
    assert found[4] == found[5]
    assert len(set(found)) == 3


def test_what_the_pictures_do_not_allow_is_refused(tiles: list[Pixels], monkeypatch: pytest.MonkeyPatch) -> None:
    alike = np.full(50, 0.99, np.float32)
    monkeypatch.setattr(precision, "_scores", lambda *_: (alike, alike))
    with pytest.raises(InputError, match=r"0\.999 is not to be had on these pictures: .* 0\.[45]\d* is expected"):
        asked(tiles, 0.999)
