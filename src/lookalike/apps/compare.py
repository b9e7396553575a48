"""Compare two pictures by every metric, and decide whether they show the same thing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import registry
from lookalike.apps.calibrate import kept, known_metric, read_calibration
from lookalike.apps.learned_encoders import learned_evidence, own_calibration
from lookalike.calibration import Calibration
from lookalike.calibration.builtin import built_in
from lookalike.deciding import METRICS, Seen, look, scores_of
from lookalike.errors import SpaceMismatch
from lookalike.explain import explain
from lookalike.gallery import Gallery
from lookalike.images import read
from lookalike.medical import notice
from lookalike.pipeline import in_parallel
from lookalike.policies.calibrated import Calibrated
from lookalike.policies.uncalibrated import Uncalibrated
from lookalike.protocols import Encoder, Policy
from lookalike.registration import StructuralComparison, compare_structure
from lookalike.report_pair import ENDINGS, PairView, in_common, write_explanation
from lookalike.restoration import excess
from lookalike.tables import check_output
from lookalike.types import Decision, Evidence, Image, ImageSource, Quality

# Beyond these lies one photo in a hundred.
_NOISY, _SOFT = 8.0, 1.7
_DARK, _BRIGHT = 0.15, 0.9
_DULL = 0.08


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two pictures, their scores by every metric, the verdict, and what it rests on.

    A score is None where the metric cannot be had (SSIM of pictures that cannot be aligned). ``calibration`` is what
    the verdict was made by, None where there is none; ``built_in`` tells whether it came with lookalike. ``encoder`` is
    what looked at the pictures.
    """

    a: Image
    b: Image
    scores: Mapping[str, float | None]
    decision: Decision
    quality: tuple[Quality, Quality]
    structure: StructuralComparison
    calibration: Calibration | None
    built_in: bool
    encoder: Encoder

    @property
    def verdict(self) -> str:
        """``match``, ``no_match``, ``unsure`` or ``unknown``."""
        return self.decision.verdict.value

    @property
    def reason(self) -> str:
        """One plain sentence with the numbers."""
        return self.decision.reason

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is remarkable of the pictures' quality: one plain sentence each."""
        usual = self.calibration.background.usual if self.calibration and self.calibration.background else None
        return tuple(
            f"{image.source} {' and '.join(_remarkable(quality))}"
            + (": it was restored first" if usual is not None and any(excess(quality, usual)) else "")
            for image, quality in zip((self.a, self.b), self.quality, strict=True)
            if _remarkable(quality)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "a": self.a.source,
            "b": self.b.source,
            "scores": dict(self.scores),
            "verdict": self.verdict,
            "score": self.decision.score,
            "threshold": self.decision.threshold,
            "false_positive_rate": self.decision.false_positive_rate,
            "evidence": [evidence.as_dict() for evidence in self.decision.evidence],
            "quality": {"a": self.quality[0].as_dict(), "b": self.quality[1].as_dict()},
            "reason": self.reason,
            "registration": self.structure.registration.as_dict(),
            "structure": self.structure.reason,
            "calibration": self._calibration(),
        }

    @property
    def origin(self) -> str:
        """By which calibration the verdict is, in one phrase."""
        if self.calibration is None:
            return "none"
        made_on = f"made on {self.calibration.source}, {self.calibration.created}"
        if self.built_in:
            return f"the one that comes with lookalike, which knows nothing of your pictures; {made_on}"
        return made_on

    def _calibration(self) -> dict[str, Any] | None:
        if self.calibration is None:
            return None
        return {
            "source": self.calibration.source,
            "created": self.calibration.created,
            "metric": self.calibration.decides,
            "target_fpr": self.calibration.target,
            "adapting": self.calibration.background is not None,
            "built_in": self.built_in,
        }


def compare(
    a: ImageSource,
    b: ImageSource,
    *,
    gallery: Gallery | str | os.PathLike[str] | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    encoder: str | None = None,
    metric: str | None = None,
    policy: Policy | None = None,
) -> Comparison:
    """Compare two pictures: a path, the bytes of a file, an array or a PIL image each.

    The verdict is by ``policy``; else by the calibration given (or its file); else by the gallery's; else by the one
    that comes with the default encoder. Without any it is ``unsure``. ``metric`` says which calibrated metric or fusion
    decides. ``encoder`` is that of the gallery or of the calibration unless it is named. Raises UnreadableImage for a
    picture that cannot be read, SpaceMismatch for a calibration of another encoder.
    """
    if metric is not None:
        known_metric(metric)
    part, found, built = _calibration_for(gallery, calibration, encoder)
    if found is not None and metric is not None:
        found = found.decided_by(metric)
    first, second = in_parallel(read, (a, b))
    images = (first, second)
    background = found.background if found is not None else None
    seen = list(in_parallel(lambda image: look(image, part, background), images))
    structure = compare_structure(*images)
    scores, context = _scored(images, seen, found)
    decided_by = policy or (Uncalibrated() if found is None else Calibrated(found))
    learned = tuple(learned_evidence(part, [one.embeddings for one in seen], images))
    decided = decided_by.decide(scores, context)
    decision = _with_structure(replace(decided, evidence=(*decided.evidence, *learned)), structure)
    qualities = (_quality(seen[0]), _quality(seen[1]))
    named = {
        **scores,
        **{one.metric: one.score for one in learned},
        **_raw(seen),
        "ssim": None,
        "ms_ssim": structure.ms_ssim,
    }
    if structure.structural is not None:
        named["ssim"] = structure.structural.score
    return Comparison(*images, named, decision, qualities, structure, found, built, part)


def write_why(found: Comparison, output: Path, *, medical: bool = False) -> None:
    """Draw why the two are alike, or not: a .png, or a self-contained .html, by the ending of ``output``.

    Shows which regions answer which, the evidence, and where they can be laid on each other the SSIM map and the
    difference. It says that it is no diagnosis where a picture is DICOM, or ``medical`` is asked for.
    """
    check_output(output, *ENDINGS)
    write_explanation(
        output,
        PairView(
            (found.a.source, found.b.source),
            (found.a, found.b),
            found.decision,
            found.quality,
            found.structure.registration,
            found.structure.reason,
            found.origin,
            in_common(found.a, found.b, found.structure),
            found.scores["ssim"],
            found.scores["ms_ssim"],
            explain(found.a, found.b, found.encoder),
            notes=(*found.remarks, *notice((found.a.source, found.b.source), asked=medical)),
        ),
    )


def _calibration_for(
    gallery: Gallery | str | os.PathLike[str] | None,
    calibration: Calibration | str | os.PathLike[str] | None,
    encoder: str | None,
) -> tuple[Encoder, Calibration | None, bool]:
    """Return the encoder, the calibration (checked to be of its space), and whether that is the built-in one."""
    if isinstance(gallery, str | os.PathLike):
        with Gallery.open(gallery, encoder=encoder, create=False) as opened:
            return _calibration_for(opened, calibration, encoder)
    given = read_calibration(calibration) if isinstance(calibration, str | os.PathLike) else calibration
    if gallery is not None:
        part, own = gallery.encoder(), kept(gallery)
        if encoder is not None and encoder != part.space.encoder:
            raise SpaceMismatch(part.space.encoder, encoder, "open the gallery with that encoder")
    else:
        part = registry.encoder(encoder or (given.space.encoder if given is not None else registry.DEFAULT_ENCODER))
        own = None
    if given is not None:
        return part, given.check(part.space), False
    if own is not None:
        return part, own, False
    shipped = built_in(part.space)
    if shipped is None and (learned := own_calibration(part.space)) is not None:
        return part, learned, False
    return part, shipped, shipped is not None


def _scored(images: tuple[Image, Image], seen: list[Seen], calibration: Calibration | None) -> Any:
    found = scores_of(seen[0], seen[1], calibration)
    return found.of(0), found.context(0, _problems(images, seen))


def _problems(images: tuple[Image, Image], seen: list[Seen]) -> list[str]:
    problems = [
        f"{image.source} cannot be judged: it is {quality.problem}"
        for image, quality in zip(images, map(_quality, seen), strict=True)
        if quality.problem
    ]
    if problems and np.array_equal(images[0].pixels, images[1].pixels):
        problems.append("the two are the same pixel by pixel")
    return list(dict.fromkeys(problems))  # the two may have one name


def _raw(seen: list[Seen]) -> dict[str, float]:
    """Return the distances of the vectors before they are normalized, and how much longer the longer one is."""
    vectors = [one.embeddings.vectors * one.embeddings.norms[:, None] for one in seen]
    distances = {f"{name}_raw": float(registry.metric(name).matrix(*vectors)[0, 0]) for name in METRICS[1:]}
    short, long = sorted(float(one.embeddings.norms[0]) for one in seen)
    return {**distances, "norm_ratio": long / short if short > 0 else 1.0}


def _with_structure(decision: Decision, structure: StructuralComparison) -> Decision:
    """Add what SSIM says, of which no rate is known, to the evidence."""
    rows = []
    if structure.structural is not None:
        rows.append(Evidence("ssim", structure.structural.score))
    if structure.ms_ssim is not None:
        rows.append(Evidence("ms_ssim", structure.ms_ssim))
    return replace(decision, evidence=(*decision.evidence, *rows))


def _quality(seen: Seen) -> Quality:
    quality = seen.qualities[0]
    assert quality is not None
    return quality


def _remarkable(quality: Quality) -> list[str]:
    if quality.problem:
        return [f"is {quality.problem}"]
    told = {
        f"is noisy (deviation {quality.noise:.0f} of 255 levels)": quality.noise >= _NOISY,
        f"is blurred (by {quality.blur:.1f} pixels at the encoder's size)": quality.blur >= _SOFT,
        f"is dark (brightness {quality.brightness:.2f})": quality.brightness <= _DARK,
        f"is very bright (brightness {quality.brightness:.2f})": quality.brightness >= _BRIGHT,
        f"has little contrast ({quality.contrast:.2f})": quality.contrast <= _DULL,
    }
    return [words for words, holds in told.items() if holds]
