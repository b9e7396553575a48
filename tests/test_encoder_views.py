"""What an encoder makes of a recipe's region and test-time views."""

import numpy as np
import skimage.data

from lookalike.encoders.contract import encode_each
from lookalike.preprocess import Recipe, prepare
from lookalike.types import Image, Space

SPACE = Space("pixels", "1", "any", 12)


def pixels_as_vector(batch: np.ndarray) -> np.ndarray:
    assert batch.shape == (1, 3, 2, 2)
    return batch.reshape(1, 12)


def test_the_vectors_of_the_views_of_a_region_are_averaged_and_normalized_again() -> None:
    cat = skimage.data.chelsea()
    recipe = Recipe(2, region=(0, 0, 0.5, 1), augment=("flip", "crops"))
    region = cat[:, :226]
    h, w = 262, 198
    boxes = [(0, 0), (0, 28), (38, 0), (38, 28), (19, 14)]
    seen = [region, region[:, ::-1], *(region[y : y + h, x : x + w] for y, x in boxes)]
    total = np.zeros(12)
    for view in seen:
        vector = prepare([Image(view, (1, 1))], Recipe(2)).reshape(12).astype(float)
        total += vector / np.linalg.norm(vector)
    made = encode_each([Image(cat, (451, 300))], recipe, SPACE, pixels_as_vector)
    np.testing.assert_allclose(made.vectors[0], total / np.linalg.norm(total), atol=1e-6)


def test_a_mirror_image_has_the_vector_of_the_picture_when_both_are_seen_both_ways() -> None:
    cat = skimage.data.chelsea()
    pair = [Image(cat, (451, 300)), Image(cat[:, ::-1], (451, 300))]
    alike = encode_each(pair, Recipe(2, augment=("flip",)), SPACE, pixels_as_vector).vectors
    np.testing.assert_allclose(alike[0], alike[1], atol=1e-6)
    apart = encode_each(pair, Recipe(2), SPACE, pixels_as_vector).vectors
    assert np.abs(apart[0] - apart[1]).max() > 0.01
