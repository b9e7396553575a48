"""The calibration that comes with the default encoder, for those who have none of their own."""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib.resources import files

from lookalike.calibration.calibration import Calibration
from lookalike.types import Space


def built_in(space: Space) -> Calibration | None:
    """Return the calibration that ships for ``space``, or None; ``tools/builtin_calibration.py`` makes it."""
    shipped = _shipped(space.encoder)
    return shipped if shipped is not None and shipped.space == space else None


@cache
def _shipped(encoder: str) -> Calibration | None:
    file = files("lookalike") / "data" / f"{encoder}.calibration.json.gz"
    if not file.is_file():
        return None
    return Calibration.from_dict(json.loads(gzip.decompress(file.read_bytes())))
