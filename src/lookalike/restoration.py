"""A picture that is much noisier or softer than those it is compared with -> what it may have been.

One Wiener filter takes off white noise and Gaussian blur of measured strength (Wiener 1949; Gonzalez and Woods, Digital
Image Processing, 5.8), with the spectrum that photos have on average as its prior: power falling with the square of the
frequency (Field 1987). It works at the size at which quality is measured, which is that at which encoders look.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.quality import reduced
from lookalike.types import Image, Quality, Usual

_LEAST_NOISE = 2.5  # levels; below it the measure itself is as uncertain
_NOISIER = 1.5
_SOFTER = 0.5  # pixels
_QUANTIZATION = 2.0  # levels of noise that any 8-bit JPEG has: what keeps a deblurring from raising nothing but noise
_STRONGEST_GAIN = 3.0
_MARGIN = 16


def usual_of(qualities: Sequence[Quality]) -> Usual:
    """Return what noise and blur are usual among these pictures."""
    noise, blur = [q.noise for q in qualities], [q.blur for q in qualities]
    most_noise, most_blur = (float(np.quantile(values, 0.95)) for values in (noise, blur))
    return Usual(float(np.median(noise)), float(np.median(blur)), most_noise, most_blur)


def excess(quality: Quality, usual: Usual) -> tuple[float, float]:
    """Return the noise (levels) and blur (pixels) to take off a picture; 0 where it is no worse than is usual."""
    noisy = quality.noise > max(_LEAST_NOISE, _NOISIER * usual.most_noise)
    soft = quality.blur > usual.most_blur + _SOFTER
    # Blurs add in squares; noise hides blur, so a noisy picture is not sharpened.
    blur = sqrt(max(0.0, quality.blur**2 - usual.blur**2)) if soft and not noisy else 0.0
    return (quality.noise if noisy else 0.0), blur


def restored(image: Image, quality: Quality, usual: Usual) -> Image:
    """Return the picture without the noise and blur that it has beyond what is usual; the same where it has none."""
    noise, blur = excess(quality, usual)
    if noise == 0 and blur == 0:
        return image
    return Image(wiener(reduced(image), noise, blur), image.size, image.source, image.format, image.taken)


def wiener(pixels: NDArray[np.uint8], noise: float, blur: float) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 with white noise of deviation ``noise`` and Gaussian blur of ``blur`` pixels taken off."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels.astype(np.float32), ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), mode="symmetric")
    mean = padded.mean(axis=(0, 1))
    gain = _gain(padded.shape[:2], float((padded - mean).var()), max(noise, _QUANTIZATION), blur)
    spectrum = np.fft.rfft2(padded - mean, axes=(0, 1)) * gain[..., None]
    plain = np.fft.irfft2(spectrum, s=padded.shape[:2], axes=(0, 1)) + mean
    inside = plain[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
    plain_pixels: NDArray[np.uint8] = np.clip(np.rint(inside), 0, 255).astype(np.uint8)
    return plain_pixels


def _gain(shape: tuple[int, ...], variance: float, noise: float, blur: float) -> NDArray[Any]:
    """Return G S / (G^2 S + n^2) by frequency: S the photo's power, G the blur's response, n^2 the noise's power."""
    height, width = shape
    slowest = 1 / (height * width)
    squared = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.fftfreq(width)[None] ** 2
    of_one = 1 / np.maximum(squared, slowest)
    power = max(variance - noise**2, 25.0) * of_one / of_one.mean()
    half = slice(0, width // 2 + 1)
    response = np.exp(-2 * np.pi**2 * blur**2 * squared[:, half])
    gain = response * power[:, half] / (response**2 * power[:, half] + noise**2)
    return np.asarray(np.minimum(gain, _STRONGEST_GAIN))
