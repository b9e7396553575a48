"""What other verbs make of learned encoders: their thresholds, and their scores beside those of their base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lookalike import installed, registry
from lookalike.apps.calibrate import read_calibration
from lookalike.apps.train_card import CALIBRATION
from lookalike.calibration import Calibration
from lookalike.encoders.reduced import Reduced
from lookalike.errors import ConfigError
from lookalike.protocols import Encoder
from lookalike.types import Embeddings, Space

MADE = "train"


def own_calibration(space: Space) -> Calibration | None:
    """Return the calibration that lies beside a learned encoder, None where there is none of this space.

    Raise InputError where it is damaged.
    """
    file = installed.home() / space.encoder / CALIBRATION
    if space.encoder not in installed.names() or registry.taken(space.encoder) or not file.is_file():
        return None
    found = read_calibration(file)
    return found if found.space == space else None


def learned_scores(base: Encoder, embeddings: Sequence[Embeddings]) -> dict[str, float]:
    """Return the cosine of two pictures (1, D) by each encoder that was learned on ``base``, as ``learned:NAME``."""
    cosine = registry.metric("cosine")
    return {
        f"learned:{name}": float(cosine.matrix(*(encoder.project(one).vectors for one in embeddings))[0, 0])
        for name, encoder in _learned_on(base)
    }


def _learned_on(base: Encoder) -> Iterator[tuple[str, Reduced]]:
    for card in installed.cards()[0]:
        if card.made != MADE or card.base != base.space.encoder:
            continue
        try:
            encoder = registry.encoder(card.name)
        except ConfigError:  # its base has changed since: `lookalike encoders verify` says so
            continue
        if isinstance(encoder, Reduced):
            yield card.name, encoder
