"""What a picture is like, as an encoder sees it: Image -> brightness, contrast, noise, blur.

Measured on the picture reduced to 224 pixels on its longer side (a smaller one is taken as it is): noise and blur that
vanish there do not matter to an encoder.
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.preprocess import Recipe, resize
from lookalike.types import Float32, Image, Quality

Pixels: TypeAlias = NDArray[np.uint8]

SIDE = 224
"""The longer side, in pixels, at which a picture is measured."""
FEWEST_PIXELS = 8
"""A picture with fewer pixels on a side cannot be judged."""
LEAST_CONTRAST = 0.005
"""A picture whose channels all vary less (standard deviation in [0, 1]; 1.3 levels) cannot be judged."""
BLURRIEST = 8.0
"""The largest blur that is told, in pixels."""

_BLACK, _WHITE = 0.05, 0.95


def measure(image: Image) -> Quality:
    """Return brightness, contrast, noise and blur of a picture, and what keeps it from being judged, if anything does.

    ``noise`` takes it that noise was white in ``image.pixels``, in each channel on its own; it is what is left of it at
    the measured size. Noise that is the same in all channels is told 8 % low. ``blur`` is that of the sharpest edges,
    beyond what a typical sharp photo has; 0 where no edge rises above the noise, at most ``BLURRIEST``.
    """
    pixels = reduced(image)
    reduction = max(image.pixels.shape) / max(pixels.shape)
    colors = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)
    luma = _luma(colors)
    noise, luma_noise = _noise(colors, reduction)
    blur = _blur(luma, luma_noise, is_reduced=reduction > 1)
    brightness, contrast = float(luma.mean()) / 255, float(luma.std()) / 255
    return Quality(brightness, contrast, noise, blur, _problem(image, colors, brightness))


def _luma(planes: Float32) -> Float32:
    red, green, blue = planes
    luma: Float32 = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
    return luma


def reduced(image: Image) -> Pixels:
    """Return the pixels at the size at which a picture is measured: at most ``SIDE`` on the longer side."""
    height, width = image.pixels.shape[:2]
    longer = max(height, width)
    if longer <= SIDE:
        return image.pixels
    scale = SIDE / longer
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (SIDE - h) // 2, (SIDE - w) // 2
    return resize(image, Recipe(SIDE, "pad"))[top : top + h, left : left + w]


def _problem(image: Image, colors: Float32, brightness: float) -> str | None:
    height, width = image.pixels.shape[:2]
    if min(height, width) < FEWEST_PIXELS:
        return f"only {width}x{height} pixels"
    if max(float(plane.std()) for plane in colors) / 255 >= LEAST_CONTRAST:
        return None
    if brightness <= _BLACK:
        return "nearly all black"
    return "nearly all white" if brightness >= _WHITE else "nearly one colour"


# Noise: the filter of Immerkaer (Fast Noise Variance Estimation, 1996), which is blind to planes and straight edges,
# in the quietest blocks instead of everywhere, since a photo that was reduced is full of texture. Blocks near black or
# white tell nothing: there noise is cut off.

_SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0])
_BLOCK = 8
_QUIET = 0.1
_QUIETEST_COLORS, _QUIETEST_LUMA = 0.88, 0.80  # the tenth quantile over blocks of pure noise of deviation 1: measured
_ROUNDS = 3
_NOISIEST = 127.5  # no values of 0 to 255 vary more


def _noise(colors: Float32, reduction: float) -> tuple[float, float]:
    """Return the standard deviation of the noise in a channel and in luma, in levels; 0 where no block fits in."""
    if min(colors.shape[1:]) < _BLOCK + 2:
        return 0.0, 0.0
    response = _second_differences(colors)
    of_one = _energy(_SECOND_DIFFERENCE, reduction > 1) ** 2  # down and across
    in_colors = _block_means(response * response).mean(axis=0) / of_one
    in_luma = _block_means(_luma(response) ** 2) / of_one
    room = _room(colors[:, 1:-1, 1:-1])
    most_room, sigma = _quantile(room, 1 - _QUIET), 0.0
    for _ in range(_ROUNDS):  # noise that is cut off looks smaller: once the worst blocks are out, it grows
        unclipped = room >= min(max(2 * sigma * reduction, 2.0), most_room)
        sigma = _quietest(in_colors[unclipped]) / _QUIETEST_COLORS
    return min(sigma, _NOISIEST), min(_quietest(in_luma[unclipped]) / _QUIETEST_LUMA, _NOISIEST)


def _second_differences(x: Float32) -> Float32:
    down = x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]
    across: Float32 = down[:, :, :-2] - 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return across


def _block_means(values: Float32, block: int = _BLOCK) -> Float32:
    """Return the means over blocks along the last two axes; the rows and columns beyond the last block are left out."""
    rows, columns = (length // _BLOCK * (_BLOCK // block) for length in values.shape[-2:])
    whole = values[..., : rows * block, : columns * block]
    strips = whole.reshape(*values.shape[:-2], rows, block, columns * block).sum(axis=-2)
    means: Float32 = strips.reshape(*values.shape[:-2], rows, columns, block).sum(axis=-1) / np.float32(block * block)
    return means


def _quietest(variances: Float32) -> float:
    return math.sqrt(_quantile(variances, _QUIET))


def _quantile(values: Float32, share: float) -> float:
    """Return the value below which ``share`` of the values lie; five times faster than numpy's, which interpolates."""
    k = round(share * (values.size - 1))
    return float(np.partition(values, k, axis=None)[k])


def _room(colors: Float32) -> Float32:
    """Return how far the means in a block are from black and white, (rows, columns): of its quarters, the nearest."""
    means = _block_means(colors, _BLOCK // 2)
    quarters = np.minimum(means, 255 - means).min(axis=0)
    rows, columns = quarters.shape
    room: Float32 = quarters.reshape(rows // 2, 2, columns // 2, 2).min(axis=(1, 3))
    return room


# Blur: the step edge under Gaussians of two widths, as in Zhuo and Sim (Defocus Map Estimation, 2011). The gradient of
# a step that was blurred by s and then by a has the peak c / sqrt(s^2 + a^2): the ratio r of two such peaks, squared,
# gives s^2 = (b^2 - r a^2) / (r - 1). The energy that the noise adds to the two is known and taken off. The edges are
# looked for at a third, coarser width: at their own, they would be found where the noise happens to add to them.

_SHARP = 1.1  # the edges of typical sharp photos of 224 pixels look as if blurred by this much
_STEEPEST = 0.02
_FINE = (1, 1, 1, 1)  # spacings of [1 2 1] / 4, one after another: each adds half its square to the variance
_COARSE = (3,)
_COARSER = (3,)
_SLOPE = np.array([-1.0, 0.0, 1.0])  # averages over two pixels: variance 1/3
_FINE_VARIANCE = sum(s * s for s in _FINE) / 2 + 1 / 3
_COARSE_VARIANCE = _FINE_VARIANCE + sum(s * s for s in _COARSE) / 2


def _blur(luma: Float32, noise: float, is_reduced: bool) -> float:
    fine = _smooth(np.pad(luma, sum(_FINE + _COARSE + _COARSER) + 1, mode="edge"), _FINE)
    coarse = _smooth(fine, _COARSE)
    coarser_slopes = _squared_slopes(_smooth(coarse, _COARSER))
    steep = coarser_slopes >= _quantile(coarser_slopes, 1 - _STEEPEST)
    at_fine, at_coarse = (float(_middle(_squared_slopes(x), steep.shape)[steep].mean()) for x in (fine, coarse))
    noise_at_fine, noise_at_coarse = (noise * noise * of_one for of_one in _noise_in_slopes(is_reduced))
    if at_coarse <= noise_at_coarse:
        return 0.0
    return _beyond_sharp((at_fine - noise_at_fine) / (at_coarse - noise_at_coarse))


def _middle(x: Float32, shape: tuple[int, ...]) -> Float32:
    top, left = (x.shape[0] - shape[0]) // 2, (x.shape[1] - shape[1]) // 2
    return x[top : top + shape[0], left : left + shape[1]]


def _smooth(x: Float32, spacings: tuple[int, ...]) -> Float32:
    for s in spacings:
        across: Float32 = x[:, : -2 * s] + 2 * x[:, s:-s] + x[:, 2 * s :]
        x = (across[: -2 * s] + 2 * across[s:-s] + across[2 * s :]) * np.float32(1 / 16)
    return x


def _squared_slopes(x: Float32) -> Float32:
    across, down = x[1:-1, 2:] - x[1:-1, :-2], x[2:, 1:-1] - x[:-2, 1:-1]
    slopes: Float32 = across * across + down * down
    return slopes


def _beyond_sharp(ratio: float) -> float:
    if ratio <= 1:
        return BLURRIEST
    variance = (_COARSE_VARIANCE - ratio * _FINE_VARIANCE) / (ratio - 1)
    return min(math.sqrt(max(0.0, variance - _SHARP**2)), BLURRIEST)


@functools.cache
def _noise_in_slopes(is_reduced: bool) -> tuple[float, float]:
    """Return the mean of the squared slopes of noise of variance 1, at the fine and at the coarse width."""
    return _slope_energy(_FINE, is_reduced), _slope_energy(_FINE + _COARSE, is_reduced)


def _slope_energy(spacings: tuple[int, ...], is_reduced: bool) -> float:
    kernel = np.ones(1)
    for s in spacings:
        taps = np.zeros(2 * s + 1)
        taps[[0, s, -1]] = 0.25, 0.5, 0.25
        kernel = np.convolve(kernel, taps)
    return 2 * _energy(kernel, is_reduced) * _energy(np.convolve(kernel, _SLOPE), is_reduced)


# White noise is no longer white when a picture was reduced: neighbours share source pixels. This is the autocorrelation
# of the Catmull-Rom kernel, at 0, 1, 2 and 3 pixels; it does not depend on by how much the picture is reduced.
_CORRELATION = {False: (1.0,), True: (1.0, 71 / 456, -20 / 456, 1 / 456)}


def _energy(kernel: NDArray[np.float64], is_reduced: bool) -> float:
    """Return the variance of what a kernel (length,) makes, along one direction, of noise of variance 1."""
    overlap = np.correlate(kernel, kernel, "full")[len(kernel) - 1 :]
    both_sides = [c if lag == 0 else 2 * c for lag, c in enumerate(_CORRELATION[is_reduced])]
    return float(sum(c * o for c, o in zip(both_sides, overlap, strict=False)))
