import math
from fractions import Fraction
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike import preprocess, retouch
from lookalike.preprocess import RESIZER_TOLERANCE, Recipe, prepare, prepare_one, prepare_views, resize, views
from lookalike.types import Image

SMOOTH = ["bicubic", "bilinear", "lanczos"]
PAD = {"fit": "pad", "fill": (9, 99, 199)}
PHOTOS = ["astronaut", "chelsea", "coffee", "rocket"]
SIZES = [(1, 1), (5, 7), (213, 320), (320, 213), (3, 2000), (2000, 3), (224, 224), (640, 480)]  # width, height


def photo(name: str) -> Image:
    pixels = getattr(skimage.data, name)()
    return Image(pixels, pixels.shape[1::-1], name)


def noise(width: int, height: int, levels: int = 256) -> Image:
    steps = np.random.default_rng(width * height).integers(0, levels, (height, width, 3))
    return Image((steps * (255 // (levels - 1))).astype(np.uint8), (width, height))


def recipe(size: int, **fields: Any) -> Recipe:
    return Recipe(size, **fields)


def flat(width: int, height: int, colour: tuple[int, int, int]) -> Image:
    return Image(np.full((height, width, 3), colour, np.uint8), (width, height))


def pillow(
    image: Image, size: tuple[int, int], box: tuple[float, ...] | None = None, filter_name: str = "bicubic"
) -> np.ndarray:
    """Return Pillow's picture, the order of the two directions fixed: its versions choose it differently."""
    height, width = image.pixels.shape[:2]
    left, top, right, lower = box or (0, 0, width, height)
    picture, kernel = PIL.Image.fromarray(image.pixels), PIL.Image.Resampling[filter_name.upper()]
    if height > size[1] and width < size[0]:
        shorter = picture.resize((width, size[1]), kernel, (0, top, width, lower))
        return np.asarray(shorter.resize(size, kernel, (left, 0, right, size[1]))).astype(int)
    narrower = picture.resize((size[0], height), kernel, (left, 0, right, height))
    return np.asarray(narrower.resize(size, kernel, (0, top, size[0], lower))).astype(int)


def assert_same_picture(a: np.ndarray, b: np.ndarray) -> None:
    difference = np.abs(a.astype(int) - b)
    assert difference.mean() <= RESIZER_TOLERANCE["mean"]
    assert difference.max() <= RESIZER_TOLERANCE["max"]


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("filter_name", SMOOTH)
def test_a_squashed_photo_is_pillows_antialiased_one(name: str, filter_name: str) -> None:
    image = photo(name)
    made = resize(image, recipe(224, filter=filter_name))
    assert_same_picture(made, pillow(image, (224, 224), filter_name=filter_name))


@pytest.mark.parametrize("name", PHOTOS)
def test_a_squashed_photo_is_near_to_what_pillow_does_in_one_step(name: str) -> None:
    image = photo(name)
    pillow = PIL.Image.fromarray(image.pixels).resize((224, 224), PIL.Image.Resampling.BICUBIC)
    difference = np.abs(resize(image, Recipe(224)).astype(int) - np.asarray(pillow))
    assert difference.mean() < 0.5  # where Pillow takes the other direction first, it differs at sharp edges
    assert difference.max() < 16


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("levels", [2, 256])
@pytest.mark.parametrize("filter_name", SMOOTH)
def test_odd_sizes_of_noise_are_pillows_antialiased_ones(
    width: int, height: int, levels: int, filter_name: str
) -> None:
    image = noise(width, height, levels)
    made = resize(image, recipe(224, filter=filter_name))
    assert_same_picture(made, pillow(image, (224, 224), filter_name=filter_name))


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 300))
def test_the_nearest_pixel_is_pillows_but_where_two_are_equally_near(width: int, size: int) -> None:
    # A row in which each pixel tells its place. Pillow adds up rounding errors, which decide there between the two.
    place = np.arange(width)
    image = Image(np.stack([place % 256, place // 256, place * 0], axis=1).astype(np.uint8)[None], (width, 1))
    made = resize(image, recipe(size, filter="nearest"))
    assert (made == made[0]).all()
    expected = [Fraction((2 * i + 1) * width, 2 * size) for i in range(size)]
    assert [r + 256 * g for r, g in made[0, :, :2].astype(int).tolist()] == [math.floor(x) for x in expected]
    theirs = np.asarray(PIL.Image.fromarray(image.pixels).resize((size, 1), PIL.Image.Resampling.NEAREST))[0]
    clear = [x.denominator > 1 for x in expected]
    np.testing.assert_array_equal(made[0, clear], theirs[clear])


both_resizers = pytest.mark.skipif(
    preprocess.cykooz is None, reason="cykooz.resizer has no wheel here: Pillow is the only resizer"
)


@both_resizers
@pytest.mark.parametrize("how", [{"fit": "squash"}, {"fit": "crop", "crop": 0.8}, {"fit": "crop", "resize": 110}, PAD])
@pytest.mark.parametrize("filter_name", [*SMOOTH, "nearest"])
def test_the_fallback_gives_the_same_picture(
    how: dict[str, Any], filter_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(96, filter=filter_name, **how)
    images = [photo(name) for name in PHOTOS] + [noise(w, h) for w, h in SIZES]
    fast = [resize(image, wanted) for image in images]
    monkeypatch.setattr(preprocess, "_Picture", preprocess._Pillow)
    for image, expected in zip(images, fast, strict=True):
        assert_same_picture(resize(image, wanted), expected)


@both_resizers
@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.integers(0, 40), st.floats(0.01, 1))
def test_no_crop_of_any_picture_leaves_it(width: int, height: int, size: int, more: int, crop: float) -> None:
    image = noise(width, height)
    for how in ({"crop": crop}, {"resize": size + more}):
        wanted = recipe(size, fit="crop", **how)
        fast = resize(image, wanted)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preprocess, "_Picture", preprocess._Pillow)
            difference = np.abs(resize(image, wanted).astype(int) - fast)
        assert difference.max() <= RESIZER_TOLERANCE["max"]  # of so few pixels a mean says nothing


def torchvision(image: Image, size: int, shorter: int, filter_name: str) -> np.ndarray:
    """Return what ``Resize(shorter)`` and ``CenterCrop(size)`` of torchvision, timm and open_clip make of a picture."""
    height, width = image.pixels.shape[:2]
    longer = int(shorter * max(width, height) / min(width, height))
    new = (shorter, longer) if width <= height else (longer, shorter)
    picture = PIL.Image.fromarray(image.pixels).resize(new, PIL.Image.Resampling[filter_name.upper()])
    left, top = round((new[0] - size) / 2.0), round((new[1] - size) / 2.0)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of values from -1 to 1: of those from 0 to 255 any two pictures are near each other."""
    a, b = a / 127.5 - 1, b / 127.5 - 1
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("size", "shorter"), [(224, 256), (224, 232), (224, 224), (256, 269), (160, 182)])
@pytest.mark.parametrize("filter_name", SMOOTH)
@pytest.mark.parametrize("trim", [(0, 0), (17, 62), (120, 3)])
def test_resize_and_crop_are_those_of_torchvision(
    name: str, size: int, shorter: int, filter_name: str, trim: tuple[int, int]
) -> None:
    image = Image(photo(name).pixels[trim[0] :, trim[1] :], (1, 1))
    made = resize(image, recipe(size, fit="crop", resize=shorter, filter=filter_name))
    assert cosine(made, torchvision(image, size, shorter, filter_name)) > 0.9999


def test_a_crop_in_shares_is_not_that_of_torchvision_to_a_pixel() -> None:
    # Why ``resize`` is there: 427 x 640 gives 383 x 256, and the middle of 383 is between two pixels.
    made = resize(photo("rocket"), Recipe(224, "crop", 0.875))
    assert cosine(made, torchvision(photo("rocket"), 224, 256, "bicubic")) < 0.9999


def test_a_crop_is_the_middle_square_and_a_pad_is_framed_by_the_fill() -> None:
    image = photo("chelsea")  # 451 x 300
    left = (451 - 0.875 * 300) / 2
    top = (300 - 0.875 * 300) / 2
    box = (left, top, left + 262.5, top + 262.5)
    assert_same_picture(resize(image, Recipe(224, "crop", 0.875)), pillow(image, (224, 224), box))
    padded = resize(image, Recipe(224, "pad", fill=(1, 2, 3)))
    assert_same_picture(padded[37:186], pillow(image, (224, 149)))  # 300 * 224 / 451 = 149.0
    assert (padded[:37] == (1, 2, 3)).all()
    assert (padded[186:] == (1, 2, 3)).all()


def test_a_flat_colour_is_normalized_by_the_formula() -> None:
    recipe = Recipe(8, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    made = prepare([flat(30, 20, (255, 128, 0))], recipe)
    assert made.shape == (1, 3, 8, 8)
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    expected = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(made[0].mean(axis=(1, 2)), expected, atol=1e-6)
    np.testing.assert_allclose(made[0].std(axis=(1, 2)), 0, atol=1e-6)


def test_a_batch_is_its_pictures_in_order_whatever_their_sizes() -> None:
    images = [noise(w, h) for w, h in SIZES]
    batch = prepare(images, Recipe(32))
    assert batch.shape == (len(SIZES), 3, 32, 32)
    for row, image in zip(batch, images, strict=True):
        np.testing.assert_array_equal(row, prepare_one(image, Recipe(32)))
    assert prepare([], Recipe(32)).shape == (0, 3, 32, 32)


PHOTO = photo("chelsea")


def naive_input(image: Image, recipe: Recipe) -> np.ndarray:
    """Return the input value by value, from the pixels that ``resize`` gives."""
    pixels = resize(image, recipe)
    side = recipe.size
    made = np.empty((3, side, side) if recipe.layout == "nchw" else (side, side, 3), recipe.dtype)
    for y in range(side):
        for x in range(side):
            for c in range(3):
                value: float = int(pixels[y, x, c if recipe.order == "rgb" else 2 - c])
                if recipe.dtype == "float32":
                    value = (value / recipe.scale - recipe.mean[c]) / recipe.std[c]
                made[(c, y, x) if recipe.layout == "nchw" else (y, x, c)] = value
    return made


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    "values",
    [
        {"dtype": "uint8"},
        {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        {"scale": 1.0, "mean": (103.939, 116.779, 123.68), "std": (1, 1, 1)},
        {"scale": 1.0, "mean": (127, 127, 127), "std": (128, 128, 128)},
        {"mean": (0, 0, 0), "std": (1, 1, 1)},
    ],
)
def test_order_layout_dtype_and_scale_are_those_of_a_naive_loop(
    order: str, layout: str, values: dict[str, Any]
) -> None:
    wanted = recipe(11, order=order, layout=layout, **values)
    made = prepare([flat(5, 7, (255, 128, 0)), PHOTO], wanted)
    assert made.dtype == wanted.dtype
    assert made.flags.c_contiguous
    for row, image in zip(made, [flat(5, 7, (255, 128, 0)), PHOTO], strict=True):
        np.testing.assert_allclose(row, naive_input(image, wanted), rtol=1e-6, atol=2e-5)
    assert prepare([], wanted).shape == (0, *made.shape[1:])


def test_a_region_is_cut_before_all_else() -> None:
    cut = Image(PHOTO.pixels[75:225, 45:406], (1, 1))  # of 451 x 300: .1 and .9 of the width, .25 and .75 of the height
    for fit in ("squash", "crop", "pad"):
        made = resize(PHOTO, recipe(64, fit=fit, region=(0.1, 0.25, 0.9, 0.75)))
        np.testing.assert_array_equal(made, resize(cut, recipe(64, fit=fit)))


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.tuples(*[st.floats(0, 0.49)] * 2, *[st.floats(0.5, 1)] * 2))
def test_a_region_of_a_tiny_picture_holds_at_least_a_pixel(
    width: int, height: int, region: tuple[float, float, float, float]
) -> None:
    assert resize(noise(width, height), recipe(4, region=region)).shape == (4, 4, 3)


def test_the_views_are_those_of_the_region_in_their_order() -> None:
    wanted = recipe(32, region=(0, 0, 0.5, 1), augment=("crops", "flip", "rotations"))
    seen = [view.pixels for view in views(PHOTO, wanted)]
    region = PHOTO.pixels[:, :226]  # round(451 / 2), to even
    h, w = 262, 198  # 7/8 of 300 and 226, to even
    expected = [
        region,
        region[:h, :w],
        region[:h, -w:],
        region[-h:, :w],
        region[-h:, -w:],
        region[19 : 19 + h, 14 : 14 + w],
        region[:, ::-1],
    ]
    for made, view in zip(seen[:7], expected, strict=True):
        np.testing.assert_array_equal(made, view)
    assert len(seen) == 9
    rows = prepare_views(PHOTO, wanted)
    assert rows.shape == (9, 3, 32, 32)
    for row, view in zip(rows, seen, strict=True):
        np.testing.assert_array_equal(row, prepare_one(Image(view, (1, 1)), recipe(32)))


def test_a_recipe_without_views_has_the_picture_alone() -> None:
    for wanted in (recipe(32), recipe(32, region=(0.2, 0.2, 0.7, 0.9), dtype="uint8", layout="nhwc")):
        np.testing.assert_array_equal(prepare_views(PHOTO, wanted), prepare([PHOTO], wanted))
    only = views(PHOTO, recipe(32))
    assert len(only) == 1
    np.testing.assert_array_equal(only[0].pixels, PHOTO.pixels)
    assert only[0].source == PHOTO.source


def test_retouching_spares_the_frame_and_grey_takes_all() -> None:
    image = photo("chelsea")
    plain = resize(image, recipe(64, **PAD))
    for name, how, expected in [
        ("denoise", "median", retouch.median),
        ("denoise", "gaussian", retouch.gaussian),
        ("white_balance", "grey-world", retouch.grey_world),
        ("equalize", "clahe", retouch.clahe),
    ]:
        made = resize(image, recipe(64, **PAD, **{name: how}))
        frame = [*range(10), *range(53, 64)]  # 300 * 64 / 451 = 42.6, that is 43 rows from row 10
        assert (made[frame] == PAD["fill"]).all()
        np.testing.assert_array_equal(made[10:53], expected(plain[10:53]))
    grey = resize(image, recipe(64, **PAD, colour="grey"))
    np.testing.assert_array_equal(grey, np.asarray(PIL.Image.fromarray(plain).convert("L"))[..., None].repeat(3, 2))


def test_retouching_goes_from_noise_to_light_to_contrast_to_colour() -> None:
    image = photo("coffee")
    made = resize(image, recipe(48, denoise="median", white_balance="grey-world", equalize="clahe", colour="grey"))
    expected = retouch.grey(retouch.clahe(retouch.grey_world(retouch.median(resize(image, recipe(48))))))
    np.testing.assert_array_equal(made, expected)
