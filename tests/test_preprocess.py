import itertools

import numpy as np
import PIL.Image
import pytest
import skimage.data

from lookalike import preprocess
from lookalike.preprocess import RESIZER_TOLERANCE, Recipe, prepare, prepare_one, resize
from lookalike.types import Image

PHOTOS = ["astronaut", "chelsea", "coffee", "rocket"]
SIZES = [(1, 1), (5, 7), (213, 320), (320, 213), (3, 2000), (2000, 3), (224, 224), (640, 480)]  # width, height


def photo(name: str) -> Image:
    pixels = getattr(skimage.data, name)()
    return Image(pixels, pixels.shape[1::-1], name)


def noise(width: int, height: int, levels: int = 256) -> Image:
    steps = np.random.default_rng(width * height).integers(0, levels, (height, width, 3))
    return Image((steps * (255 // (levels - 1))).astype(np.uint8), (width, height))


def flat(width: int, height: int, colour: tuple[int, int, int]) -> Image:
    return Image(np.full((height, width, 3), colour, np.uint8), (width, height))


def pillow_bicubic(image: Image, size: tuple[int, int], box: tuple[float, ...] | None = None) -> np.ndarray:
    """Return Pillow's picture, the order of the two directions fixed: its versions choose it differently."""
    height, width = image.pixels.shape[:2]
    left, top, right, lower = box or (0, 0, width, height)
    picture, bicubic = PIL.Image.fromarray(image.pixels), PIL.Image.Resampling.BICUBIC
    if height > size[1] and width < size[0]:
        shorter = picture.resize((width, size[1]), bicubic, (0, top, width, lower))
        return np.asarray(shorter.resize(size, bicubic, (left, 0, right, size[1]))).astype(int)
    narrower = picture.resize((size[0], height), bicubic, (left, 0, right, height))
    return np.asarray(narrower.resize(size, bicubic, (0, top, size[0], lower))).astype(int)


def assert_same_picture(a: np.ndarray, b: np.ndarray) -> None:
    difference = np.abs(a.astype(int) - b)
    assert difference.mean() <= RESIZER_TOLERANCE["mean"]
    assert difference.max() <= RESIZER_TOLERANCE["max"]


@pytest.mark.parametrize("name", PHOTOS)
def test_a_squashed_photo_is_pillows_antialiased_bicubic(name: str) -> None:
    image = photo(name)
    assert_same_picture(resize(image, Recipe(224)), pillow_bicubic(image, (224, 224)))


@pytest.mark.parametrize("name", PHOTOS)
def test_a_squashed_photo_is_near_to_what_pillow_does_in_one_step(name: str) -> None:
    image = photo(name)
    pillow = PIL.Image.fromarray(image.pixels).resize((224, 224), PIL.Image.Resampling.BICUBIC)
    difference = np.abs(resize(image, Recipe(224)).astype(int) - np.asarray(pillow))
    assert difference.mean() < 0.5  # where Pillow takes the other direction first, it differs at sharp edges
    assert difference.max() < 16


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("levels", [2, 256])
def test_odd_sizes_of_noise_are_pillows_antialiased_bicubic(width: int, height: int, levels: int) -> None:
    image = noise(width, height, levels)
    assert_same_picture(resize(image, Recipe(224)), pillow_bicubic(image, (224, 224)))


@pytest.mark.skipif(preprocess.cykooz is None, reason="cykooz.resizer has no wheel here: Pillow is the only resizer")
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("filter_name", ["bicubic", "bilinear"])
def test_the_fallback_gives_the_same_picture(fit: str, filter_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(96, fit=fit, crop=0.8, filter=filter_name)  # type: ignore[arg-type]
    images = [photo(name) for name in PHOTOS] + [noise(w, h) for w, h in SIZES]
    fast = [resize(image, recipe) for image in images]
    monkeypatch.setattr(preprocess, "_Picture", preprocess._Pillow)
    for image, expected in zip(images, fast, strict=True):
        assert_same_picture(resize(image, recipe), expected)


def test_a_crop_is_the_middle_square_and_a_pad_is_framed_by_the_fill() -> None:
    image = photo("chelsea")  # 451 x 300
    left = (451 - 0.875 * 300) / 2
    top = (300 - 0.875 * 300) / 2
    box = (left, top, left + 262.5, top + 262.5)
    assert_same_picture(resize(image, Recipe(224, "crop", 0.875)), pillow_bicubic(image, (224, 224), box))
    padded = resize(image, Recipe(224, "pad", fill=(1, 2, 3)))
    assert_same_picture(padded[37:186], pillow_bicubic(image, (224, 149)))  # 300 * 224 / 451 = 149.0
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


def test_the_digest_tells_recipes_apart_and_does_not_change() -> None:
    # Written down: galleries on disk carry it, so that it may change only where the pixels do.
    assert Recipe(224).digest == "squash224-2be2413c"
    recipes = [
        Recipe(224),
        Recipe(240),
        Recipe(224, "crop"),
        Recipe(224, "crop", 0.875),
        Recipe(224, "pad"),
        Recipe(224, filter="bilinear"),
        Recipe(224, mean=(0, 0, 0)),
        Recipe(224, std=(1, 1, 1)),
        Recipe(224, "pad", fill=(255, 255, 255)),
    ]
    assert all(a.digest != b.digest for a, b in itertools.combinations(recipes, 2))
    assert Recipe(224).digest == Recipe(size=224, fit="squash").digest


def test_a_reduced_picture_keeps_twice_what_is_taken_from_it() -> None:
    assert Recipe(224).at_least == 448
    assert Recipe(224, "pad").at_least == 448
    assert Recipe(224, "crop", 0.875).at_least == 512  # 2 * 224 / .875
