"""Who asks whom: counts by hand, groups that stay together, the same lot whatever the order, and wrong splits."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lookalike.errors import ConfigError
from lookalike.splits import Split
from lookalike.types import LabelledPicture


def pictures(*labels_and_groups: tuple[str, str | None]) -> list[LabelledPicture]:
    return [LabelledPicture(f"/set/{i}.png", label, group) for i, (label, group) in enumerate(labels_and_groups)]


def names(of: list[LabelledPicture]) -> list[str]:
    return [one.path.rpartition("/")[2] for one in of]


def gallery(split: str, of: list[LabelledPicture]) -> set[str]:
    return {one.path for one in Split.parse(split).of(of, names(of)) if one.role == "gallery"}


@pytest.mark.parametrize(("split", "wanted"), [("references:1", 1), ("references:3", 3), ("references:3:9", 3)])
def test_so_many_references_of_each_label_are_the_gallery_and_all_others_ask(split: str, wanted: int) -> None:
    of = pictures(*[(label, None) for label in "abc" for _ in range(5)])
    made = Split.parse(split).of(of, names(of))
    counts = Counter((one.label, one.role) for one in made)
    assert counts == {(label, role): n for label in "abc" for role, n in (("gallery", wanted), ("query", 5 - wanted))}
    assert [one.path for one in made] == [one.path for one in of]


def test_references_come_from_as_many_groups_as_there_are() -> None:
    of = pictures(*[("a", group) for group in "xxxxxxyz"])
    for seed in range(5):
        chosen = gallery(f"references:3:{seed}", of)
        assert {one.group for one in of if one.path in chosen} == {"x", "y", "z"}


def test_half_takes_half_of_the_groups_of_each_label_and_leaves_none_torn() -> None:
    of = pictures(*[(label, f"{label}{n // 3}") for label in "ab" for n in range(12)])
    chosen = gallery("half", of)
    sides: dict[str | None, set[bool]] = {}
    for one in of:
        sides.setdefault(one.group, set()).add(one.path in chosen)
    assert all(len(side) == 1 for side in sides.values())
    assert Counter(one.label for one in of if one.path in chosen) == {"a": 6, "b": 6}


def test_a_group_of_two_labels_stays_together() -> None:
    of = pictures(("a", "g"), ("b", "g"), ("a", None), ("b", None), ("a", None), ("b", None))
    for seed in range(8):
        chosen = gallery(f"half:{seed}", of)
        assert (of[0].path in chosen) == (of[1].path in chosen)


def test_the_lot_hangs_on_the_name_and_the_seed_alone() -> None:
    of = pictures(*[(label, None) for label in "abcd" for _ in range(6)])
    shuffled = random.Random(1).sample(of, len(of))
    for split in ("references:2", "half:3"):
        assert gallery(split, of) == gallery(split, shuffled)
    assert gallery("half:1", of) != gallery("half:2", of)


def test_a_group_is_not_a_picture_of_that_name() -> None:
    of = pictures(("a", "1.png"), ("a", None))
    assert len(gallery("half", of)) == 1


@pytest.mark.parametrize(
    "text", ["", "third", "half:", "half:x", "half:1:2", "references", "references:", "references:1:2:3", "half:-1"]
)
def test_a_split_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"a split is references:N .* or half, .*; got {text!r}"):
        Split.parse(text)


def test_no_reference_is_too_few() -> None:
    with pytest.raises(ConfigError, match="needs at least one a label, got 'references:0'"):
        Split.parse("references:0")


def test_what_has_a_role_already_is_not_split() -> None:
    of = [LabelledPicture("/set/a.png", "a", role="query")]
    with pytest.raises(ConfigError, match=r"/set/a\.png has the role 'query': a split would say otherwise"):
        Split.parse("half").of(of, ["a.png"])
