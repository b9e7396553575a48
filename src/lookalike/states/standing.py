"""How a frame lies on the view that a camera had at first, and in how different a light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lookalike.registration import View
from lookalike.states.evidence import SIDE, small
from lookalike.states.light import NO_LIGHT, Light, light_between
from lookalike.states.regions import Region, whole
from lookalike.types import Image, Registration

_SAME_LIGHT, _SAME_GAMMA = 0.5, 0.5
_SEARCH_EVERY = 10


class StandingView:
    """The first look ``image`` of a fixed camera. ``register`` False: frames are taken to lie on it as they are."""

    def __init__(self, image: Image, *, register: bool) -> None:
        self.image = image
        self._view, self._register = View(image), register
        self._small = small(whole(image.pixels).cut(image.pixels, None, SIDE)[0])
        self._last: Registration | None = None
        self._recent: tuple[Image, Registration] | None = None
        self._lost = 0

    def placed(self, frame: Image) -> tuple[Registration | None, str | None]:
        """Return how the frame lies on the view, and why it cannot be judged, if so."""
        shape = self.image.pixels.shape
        if not self._register:
            if frame.pixels.shape != shape:
                return None, f"the frame has {_size(frame)} pixels, the view {_size(self.image)}"
            return None, None
        other_size = frame.pixels.shape != shape
        start = self._last if not other_size else None
        placed = self._view.follow(frame, start, search=False)
        if placed.found and not other_size:
            self._recent = frame, placed
        elif not placed.found:
            placed = self._placed_on_recent(frame) or self._view.follow(
                frame, start, search=self._lost % _SEARCH_EVERY == 0
            )
        if placed.found:
            self._lost = 0
            self._last = placed if not other_size else None
            return placed, None
        self._lost += 1
        return None, f"the view is blocked, or the camera was turned: {placed.reason}"

    def _placed_on_recent(self, frame: Image) -> Registration | None:
        """Return how a frame lies on the view by way of the last one that lay on it for itself.

        A view fills, and its light moves on: what is too unlike the first frame may still be quite like the last one.
        """
        if self._recent is None:
            return None
        recent, placed = self._recent
        found = View(recent).follow(frame, search=False)
        if not found.found or found.matrix is None or placed.matrix is None:
            return None
        (a, b, c), (d, e, f) = np.array(found.matrix) @ np.vstack([placed.matrix, [0.0, 0.0, 1.0]])
        matrix = ((float(a), float(b), float(c)), (float(d), float(e), float(f)))
        return replace(found, reason=f"by way of the last frame: {found.reason}", matrix=matrix)

    def light(self, frame: Image, placed: Registration | None) -> Light:
        """Return what makes the frame's light the view's; nothing where they hardly differ."""
        cut, _ = whole(self.image.pixels).cut(frame.pixels, placed, SIDE)
        light = light_between(small(cut), self._small)
        gammas = np.log(light.gammas)
        same = abs(np.log(light.brightness)) < _SAME_LIGHT and np.abs(gammas).max() < _SAME_GAMMA
        return NO_LIGHT if same else light

    def cuts(self, picture: Image, regions: Sequence[Region]) -> list[NDArray[np.uint8]]:
        """Return the regions (H, W, 3) of another picture of the same size."""
        placed = self._view.follow(picture) if self._register else None
        return [region.cut(picture.pixels, placed)[0] for region in regions]


def _size(image: Image) -> str:
    return f"{image.pixels.shape[1]}x{image.pixels.shape[0]}"
