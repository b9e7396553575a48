"""Robustness: what no change is, what an encoder cannot see, hand-worked recall, refusals, the verb."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from conftest import Cli
from lookalike import registry
from lookalike.apps.robustness import CHANGES, _point, robustness
from lookalike.edits import Edit
from lookalike.errors import InputError, UnknownComponent
from lookalike.types import Embeddings, Image, Space


def test_recall_and_scores_by_hand() -> None:
    originals = np.eye(3, dtype=np.float32)
    changed = np.array([[0.8, 0.6, 0], [0.6, 0.8, 0], [0.8, 0, 0.6]], np.float32)
    found = _point("x", 1, originals, changed)
    assert found.recall == pytest.approx(2 / 3)
    assert found.score == pytest.approx((0.8 + 0.8 + 0.6) / 3)
    assert found.margin == pytest.approx((0.2 + 0.2 - 0.2) / 3)
    same = _point("x", 1, np.ones((2, 1), np.float32), np.ones((2, 1), np.float32))
    assert same.recall == 0  # equally near is not found


class MeanBrightness:
    """Sees how light a picture is, and nothing else."""

    space = Space("mean", "1", "none", 2)
    at_least = None

    def encode(self, images: Sequence[Image]) -> Embeddings:
        angles = np.array([image.pixels.mean() / 255 for image in images])
        return Embeddings.from_raw(np.stack([np.cos(angles), np.sin(angles)], axis=1), self.space)


def test_what_an_encoder_cannot_see_does_not_move_it(crops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "encoder", lambda _name: MeanBrightness())
    found = {(one.change, one.strength): one for one in robustness(str(crops), ["mean"]).points["mean"]}
    assert found["mirror", 1].score == pytest.approx(1, abs=1e-6)
    assert found["mirror", 1].recall > 0.9  # two crops are all but equally light
    assert found["darker", 2.5].recall < 0.5
    assert found["darker", 2.5].score < found["darker", 1.3].score < 1


def test_a_real_encoder_loses_more_the_stronger_a_change_is(crops: Path) -> None:
    result = robustness(str(crops), ["color-histogram", "efficientnet-lite0"])
    assert result.pictures == 40
    for name, points in result.points.items():
        assert [(one.change, one.strength) for one in points] == [
            (change, strength) for change, steps in CHANGES.items() for strength, _ in steps
        ]
        by = {(one.change, one.strength): one for one in points}
        for change, mild, severe in (("noise", 5, 40), ("blur", 0.5, 4), ("crop", 0.9, 0.25), ("occlusion", 0.1, 0.5)):
            assert by[change, mild].score > by[change, severe].score
        assert -1 <= result.different[name] < min(by["jpeg", 80].score, by["noise", 5].score)
    assert result.as_dict() == robustness(str(crops), ["color-histogram", "efficientnet-lite0"]).as_dict()


def test_new_edits_do_what_they_say() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    assert Edit("scale", {"share": 0.25}).apply(pixels, np.random.default_rng(0)).shape == (10, 15, 3)
    hidden = Edit("occlusion", {"area": 0.25}).apply(pixels, np.random.default_rng(0))
    changed = (hidden != pixels).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 30)
    assert (hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 127).all()


def test_too_few_pictures_and_unknown_encoders_are_refused(tmp_path: Path, crops: Path) -> None:
    with pytest.raises(InputError, match=r"0 pictures in .* are too few"):
        robustness(str(_empty(tmp_path)))
    with pytest.raises(InputError, match="nowhere"):
        robustness(str(tmp_path / "nowhere"))
    with pytest.raises(UnknownComponent, match="nothing"):
        robustness(str(crops), ["nothing"])


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_the_verb(cli: Cli, crops: Path) -> None:
    (crops / "broken.png").write_bytes(b"no picture")
    found = cli("robustness", crops, "--encoder", "color-histogram", "--json").json
    assert (found["pictures"], len(found["skipped"])) == (40, 1)
    (encoder,) = found["encoders"]
    assert {"change", "strength", "recall@1", "score", "margin"} == set(encoder["points"][0])
    text = cli("robustness", crops, "--encoder", "color-histogram")
    assert "rotation" in text.out
    assert "broken.png" in text.err
    assert cli("robustness", crops / "nowhere").code == 2
