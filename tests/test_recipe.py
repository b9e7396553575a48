"""A recipe as data: what is refused, TOML in and out, digests that stay."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.errors import ConfigError
from lookalike.recipe import Recipe

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

# Written down before the fields after ``fill`` were there: galleries on disk carry these.
OLD_DIGESTS = [
    (Recipe(224), "squash224-2be2413c"),
    (Recipe(64, filter="bilinear"), "squash64-737f6914"),
    (Recipe(240), "squash240-66e8ede5"),
    (Recipe(224, "crop"), "crop224-ffa6969c"),
    (Recipe(224, "crop", 0.875), "crop224-1952dcbc"),
    (Recipe(224, "crop", 1), "crop224-a75b79c9"),
    (Recipe(224, "pad", fill=(255, 255, 255)), "pad224-54c8bcad"),
    (Recipe(224, mean=(0, 0, 0), std=(1, 1, 1)), "squash224-0f2c14b2"),
    (Recipe(224, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), "squash224-3d5b60a6"),
    (Recipe(224, "crop", 0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), "crop224-f81a31cf"),
]

ONE_CHANGE: list[dict[str, Any]] = [
    {},
    {"size": 240},
    {"fit": "crop"},
    {"fit": "pad"},
    {"fit": "crop", "crop": 0.875},
    {"fit": "crop", "resize": 256},
    {"filter": "bilinear"},
    {"filter": "lanczos"},
    {"filter": "nearest"},
    {"mean": (0.0, 0.0, 0.0)},
    {"std": (1.0, 1.0, 1.0)},
    {"fit": "pad", "fill": (255, 255, 255)},
    {"scale": 1.0},
    {"order": "bgr"},
    {"layout": "nhwc"},
    {"dtype": "uint8"},
    {"colour": "grey"},
    {"denoise": "median"},
    {"denoise": "gaussian"},
    {"white_balance": "grey-world"},
    {"equalize": "clahe"},
    {"region": (0.0, 0.0, 0.5, 1.0)},
    {"augment": ("flip",)},
    {"augment": ("flip", "crops")},
    {"augment": ("rotations",)},
]


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"size": 224, **changes})


@pytest.mark.parametrize(("old", "digest"), OLD_DIGESTS)
def test_the_digests_of_old_recipes_stay(old: Recipe, digest: str) -> None:
    assert old.digest == digest


def test_every_field_is_part_of_the_digest() -> None:
    digests = [recipe(**change).digest for change in ONE_CHANGE]
    assert all(a != b for a, b in itertools.combinations(digests, 2))
    assert {key for change in ONE_CHANGE for key in change} == {field.name for field in dataclasses.fields(Recipe)}
    assert recipe(scale=1).digest == recipe(scale=1.0).digest
    assert recipe(region=(0, 0, 1, 1)).digest == "squash224-2be2413c"


def test_a_reduced_picture_keeps_twice_what_is_taken_from_it() -> None:
    assert Recipe(224).at_least == 448
    assert Recipe(224, "pad").at_least == 448
    assert Recipe(224, "crop", 0.875).at_least == 512  # 2 * 224 / .875
    assert Recipe(224, "crop", resize=256).at_least == 512
    assert Recipe(224, region=(0.25, 0, 0.75, 1)).at_least == 896
    assert Recipe(224, augment=("crops",)).at_least == 512
    assert Recipe(224, augment=("flip", "rotations")).at_least == 448


@pytest.mark.parametrize("change", ONE_CHANGE)
def test_toml_holds_only_what_differs_and_gives_the_recipe_back(change: dict[str, Any]) -> None:
    made = recipe(**change)
    text = made.to_toml()
    assert {line.split(" = ")[0] for line in text.splitlines()} == {"size", *change}
    assert Recipe.from_toml(text) == made
    assert Recipe.from_toml(text).digest == made.digest


def test_toml_is_what_a_person_would_write() -> None:
    text = """
    # ResNet-50 of torchvision, IMAGENET1K_V2
    size = 224
    fit = "crop"
    resize = 232
    filter = "bilinear"
    mean = [0.485, 0.456, 0.406]
    std = [0.229, 0.224, 0.225]
    augment = ["flip"]
    """
    made = Recipe.from_toml(text)
    assert made == recipe(fit="crop", resize=232, filter="bilinear", augment=("flip",), **IMAGENET)
    assert made.to_toml() == (
        "size = 224\n"
        'fit = "crop"\n'
        'filter = "bilinear"\n'
        "mean = [0.485, 0.456, 0.406]\n"
        "std = [0.229, 0.224, 0.225]\n"
        "resize = 232\n"
        'augment = ["flip"]\n'
    )
    assert hash(made) == hash(Recipe.from_toml(made.to_toml()))


def share(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most)


def three(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(values, values, values)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    fields: dict[str, Any] = {
        "size": st.integers(1, 8192),
        "filter": st.sampled_from(["bicubic", "bilinear", "lanczos", "nearest"]),
        "fill": three(st.integers(0, 255)),
        "order": st.sampled_from(["rgb", "bgr"]),
        "layout": st.sampled_from(["nchw", "nhwc"]),
        "colour": st.sampled_from(["rgb", "grey"]),
        "denoise": st.sampled_from(["none", "median", "gaussian"]),
        "white_balance": st.sampled_from(["none", "grey-world"]),
        "equalize": st.sampled_from(["none", "clahe"]),
        "region": st.tuples(share(0, 0.4), share(0, 0.4), share(0.5, 1), share(0.5, 1)),
        "augment": st.permutations(["flip", "crops", "rotations"]).flatmap(
            lambda order: st.integers(0, 3).map(lambda n: tuple(order[:n]))
        ),
    }
    fields |= draw(
        st.sampled_from(
            [
                {"mean": three(share(-300, 300) | st.integers(-300, 300)), "std": three(share(1e-3, 300))},
                {"scale": share(1e-3, 300)},
                {"dtype": st.just("uint8")},
            ]
        )
    )
    fields |= draw(
        st.sampled_from([{"fit": st.sampled_from(["squash", "pad"])}, {"fit": st.just("crop"), "crop": share(0.1, 1)}])
    )
    chosen = draw(st.sets(st.sampled_from(sorted(set(fields) - {"size"}))))
    return Recipe(**{name: draw(fields[name]) for name in ["size", *sorted(chosen)]})


@settings(deadline=None)
@given(recipes())
def test_any_recipe_goes_through_toml_unchanged(made: Recipe) -> None:
    back = Recipe.from_toml(made.to_toml())
    assert back == made
    assert back.digest == made.digest
    assert all(np.isfinite(part).all() for part in back.affine)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": 0}, r"size is a whole number of pixels, 1 to 8192, got 0"),
        ({"size": 10**9}, "size .* got 1000000000"),
        ({"size": 224.0}, r"size .* got 224\.0"),
        ({"size": True}, "size .* got True"),
        ({"size": "224"}, "size .* got '224'"),
        ({"fit": "stretch"}, "fit is one of 'squash', 'crop', 'pad', got 'stretch'"),
        ({"fit": 1}, "fit is one of .* got 1"),
        ({"fit": ["crop"]}, "fit is one of .* got "),
        ({"crop": 1.5}, r"crop .* got 1\.5"),
        ({"crop": 0}, "crop .* got 0"),
        ({"crop": float("nan")}, "crop .* got nan"),
        ({"filter": "box"}, "filter is one of 'bicubic', 'bilinear', 'lanczos', 'nearest', got 'box'"),
        ({"mean": 0.5}, r"mean is three times a number.* got 0\.5"),
        ({"mean": (0.5, 0.5)}, "mean .* got"),
        ({"mean": (0.5, 0.5, float("inf"))}, "mean .* inf"),
        ({"mean": (0.5, 0.5, "0.5")}, "mean .* got"),
        ({"std": (0.5, 0.0, 0.5)}, r"std is three times a positive number.* got \(0\.5, 0\.0, 0\.5\)"),
        ({"std": (0.5, -1, 0.5)}, "std .* got"),
        ({"std": (0.5, 10**400, 0.5)}, "std .* got"),
        ({"fill": (0, 0, 256)}, "fill .* 0 to 255, got"),
        ({"fill": (0, 0, 0.5)}, "fill .* got"),
        ({"resize": 0}, "resize .* got 0"),
        ({"resize": "256"}, "resize .* got '256'"),
        ({"resize": 256}, "resize is the shorter side .* needs fit 'crop'.*fit 'squash'"),
        ({"fit": "crop", "resize": 200}, "at least size pixels; got resize 200"),
        ({"fit": "crop", "resize": 256, "crop": 0.875}, r"crop 1 .* crop 0\.875"),
        ({"scale": 0}, "scale .* got 0"),
        ({"scale": None}, "scale .* got None"),
        ({"order": "RGB"}, "order is one of 'rgb', 'bgr', got 'RGB'"),
        ({"layout": "chw"}, "layout is one of 'nchw', 'nhwc', got 'chw'"),
        ({"dtype": "float16"}, "dtype is one of 'float32', 'uint8', got 'float16'"),
        ({"dtype": "uint8", "scale": 1.0}, "uint8.* leave out 'scale'"),
        ({"dtype": "uint8", **IMAGENET}, "uint8.* leave out 'mean'"),
        ({"colour": "gray"}, "colour is one of 'rgb', 'grey', got 'gray'"),
        ({"denoise": True}, "denoise is one of .* got True"),
        ({"white_balance": "auto"}, "white_balance is one of 'none', 'grey-world', got 'auto'"),
        ({"equalize": "global"}, "equalize is one of 'none', 'clahe', got 'global'"),
        ({"region": (0, 0, 1)}, "region is left, top, right, lower .* got"),
        ({"region": (0.5, 0, 0.5, 1)}, "region .* got"),
        ({"region": (0, 0, 1.5, 1)}, "region .* got"),
        ({"region": "left"}, "region .* got 'left'"),
        ({"augment": ("flip", "flip")}, "augment is a list without repeats of 'flip', 'crops', 'rotations', got"),
        ({"augment": ("mirror",)}, "augment .* got"),
        ({"augment": "flip"}, "augment .* got 'flip'"),
        ({"augment": ([],)}, "augment .* got"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_may_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recipe(**wrong)
    with pytest.raises(ConfigError, match=said.replace(r"\(", r"[(\[]").replace(r"\)", r"[)\]]")):
        Recipe.from_table({"size": 224, **wrong})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size = 224\nsice = 3", "no key 'sice'; known: size, fit, crop, .*augment"),
        ("[recipe]\nsize = 224", "no key 'recipe'"),
        ("", "needs a size"),
        ('fit = "crop"', "needs a size"),
        ("size: 224", "not TOML"),
        ("size = 224\nsize = 224", "not TOML"),
        ("size = " + "9" * 5000, "not TOML"),
        ("size = " + "[" * 5000, "not TOML"),
        ("size = 224\nmean = [nan, 0, 0]", r"mean .* got \[nan"),
        ("size = 224\nstd = [0.5, 0.5, 0.5, 0.5]", "std .* got"),
        ("size = 224\nregion = 2026-11-25", "region .* got"),
    ],
)
def test_toml_that_is_no_recipe_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Recipe.from_toml(text)
