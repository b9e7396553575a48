"""Through which focus a base is learned on: all are tried, by cross-validation among what may be learned from."""

from __future__ import annotations

from collections.abc import Sequence

from lookalike.apps.training_pictures import Looked
from lookalike.calibration.pairs import Ints
from lookalike.encoders.focused import PLAIN, Focus
from lookalike.learning.choosing import choose_vectors
from lookalike.learning.examples import Examples
from lookalike.protocols import Encoder, TextEncoder

_HALF = 0.3
"""Of either side: the middle that is left is half of the picture's area."""
FOCUSES = tuple(Focus(cut, colours) for cut in (0.0, _HALF) for colours in (0.0, 0.3, 1.0))
"""The plainest first: it is taken where others are not better."""


def focuses_of(base: Encoder) -> tuple[Focus, ...]:
    """Return what is tried on a base: words have neither a middle nor colours, so a base that has words stays plain."""
    return (PLAIN,) if isinstance(base, TextEncoder) else FOCUSES


def best_focus(
    looked: Looked, examples: Examples, rows: Ints, focuses: Sequence[Focus], seed: int
) -> tuple[Focus, Examples]:
    """Return the focus that is best for the ``rows`` of the examples, and all examples as they are seen through it."""
    ways = [examples.only(rows).moved(looked.through(focus)[rows]) for focus in focuses]
    focus = focuses[choose_vectors(ways, seed) if len(ways) > 1 else 0]
    return focus, examples.moved(looked.through(focus))
