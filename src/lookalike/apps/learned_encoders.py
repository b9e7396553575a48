"""What other verbs make of learned encoders: their thresholds, and what they say beside those of their base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lookalike import installed, registry
from lookalike.apps.calibrate import read_calibration
from lookalike.apps.train_card import CALIBRATION
from lookalike.calibration import Calibration
from lookalike.deciding import Seen, scores_of
from lookalike.encoders.reduced import Reduced
from lookalike.errors import ConfigError
from lookalike.policies.calibrated import Calibrated
from lookalike.policies.uncalibrated import Uncalibrated
from lookalike.protocols import Encoder
from lookalike.types import Embeddings, Evidence, Image, Space

COSINE, MADE = "cosine", "train"


def own_calibration(space: Space) -> Calibration | None:
    """Return the calibration that lies beside a learned encoder, None where there is none of this space.

    Raise InputError where it is damaged.
    """
    file = installed.home() / space.encoder / CALIBRATION
    if space.encoder not in installed.names() or registry.taken(space.encoder) or not file.is_file():
        return None
    found = read_calibration(file)
    return found if found.space == space else None


def learned_evidence(base: Encoder, embeddings: Sequence[Embeddings], images: Sequence[Image]) -> Iterator[Evidence]:
    """Yield what each encoder learned on ``base`` says of two pictures (1, D): its cosine, as ``learned:NAME``.

    A network of its own, and one that looks through a focus of its own, look at the ``images`` anew. With threshold and
    rate by the calibration that lies beside it; without them where there is none.
    """
    for name, encoder in _learned_on(base):
        first, second = (
            Seen.stored(_vectors(encoder, one, image), (None,)) for one, image in zip(embeddings, images, strict=True)
        )
        calibration = own_calibration(encoder.space)
        policy = Uncalibrated() if calibration is None else Calibrated(calibration)
        scores = scores_of(first, second, calibration)
        said = policy.decide(scores.of(0), scores.context(0)).evidence
        cosine = next(one for one in said if one.metric == COSINE)
        yield replace(cosine, metric=f"learned:{name}")


def _vectors(encoder: Encoder, seen: Embeddings, image: Image) -> Embeddings:
    if isinstance(encoder, Reduced) and encoder.base_space == seen.space:
        return encoder.project(seen)
    return encoder.encode([image])


def _learned_on(base: Encoder) -> Iterator[tuple[str, Encoder]]:
    for card in installed.cards()[0]:
        if card.made != MADE or base.space.encoder not in (card.base, card.learned_on):
            continue
        try:
            yield card.name, registry.encoder(card.name)
        except ConfigError:  # its base has changed since: `lookalike encoders verify` says so
            continue
