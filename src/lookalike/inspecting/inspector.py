"""The inspector: learns from good pictures, takes more of them later, and tells defects in new ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import ConfigError, InputError, SpaceMismatch
from lookalike.inspecting import surface
from lookalike.inspecting.aligned import AlignedView, TemplateSet
from lookalike.inspecting.finding import Finding, Measured, Proof, reason_of
from lookalike.inspecting.mask import Mask, filled, inspected, over
from lookalike.inspecting.placing import heat_of, regions_of
from lookalike.inspecting.threshold import Threshold, chance, threshold
from lookalike.pipeline import in_parallel
from lookalike.protocols import Encoder
from lookalike.quality import measure
from lookalike.robust import deviation
from lookalike.types import Float32, Image, Skipped, Space, Verdict

Scores: TypeAlias = NDArray[np.float64]

ALIGNED_TESTS = ("difference",)
LEAST_SURFACE = 2
MOST_AT_ONCE = 300
"""So many good pictures are learned together, which takes a megabyte or two of memory each; more are added to these."""
SUSPECT = 8.0
"""So many times the usual spread above the usual score, a picture among the good is told as an outlier."""
SIZE_SLACK = 0.02
"""A picture may be so much smaller than the smallest of the good ones, or larger than the largest."""
_LEAST_FOR_SUSPECTS = 5
_FLAT = 1e-6
_MOSTLY = 0.9
_CONTENT_DIGITS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Inspector:
    """Tells defects by what good pictures look like.

    Without templates the encoder's ``space`` is that of ``model``; with them there is neither. ``scores`` (n, tests)
    are those of the good pictures, each by what was learned from others; ``names`` are theirs. ``sizes`` holds the
    least and the most width and height of the good pictures. ``mask`` says what of a template, else of a picture, is
    inspected, None all of it. ``contents`` are hashes of the good pictures' pixels: each picture counts once.
    """

    rate: float | None
    scores: Scores
    names: tuple[str, ...]
    sizes: tuple[int, int, int, int]
    space: Space | None = None
    model: surface.Model | None = None
    templates: TemplateSet | None = None
    encoder: Encoder | None = None
    mask: Mask | None = None
    contents: frozenset[str] = frozenset()
    calibrated: Threshold = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "calibrated", threshold(self._joint(self.scores), self.rate))

    @classmethod
    def fit(
        cls,
        good: Iterable[Image],
        *,
        encoder: Encoder | None = None,
        templates: Sequence[Image] = (),
        template_of: Callable[[Image], Image] | None = None,
        rate: float | None = None,
        mask: Image | None = None,
    ) -> tuple[Inspector, Proof]:
        """Return an inspector of good pictures, and what its threshold rests on.

        With ``templates`` (or a ``template_of`` each picture) parts are compared with these; without, ``encoder`` looks
        at surfaces. ``rate`` is the false alarm rate; None: 5 %, or the least that so few pictures support. Of
        ``mask``, which lies over the template, else over each picture, the white part is inspected. Raise InputError
        where there are too few, ConfigError where they cannot support the rate.
        """
        part = None if mask is None else inspected(mask)
        if templates or template_of is not None:
            return _fit_aligned(good, templates, template_of, rate, part)
        if encoder is None:
            raise ConfigError("an inspector needs an encoder, or golden templates")
        return _fit_surface(good, encoder, rate, part)

    def update(
        self, good: Iterable[Image], template_of: Callable[[Image], Image] | None = None
    ) -> tuple[Inspector, Proof]:
        """Return the inspector with more good pictures, each scored by what was known before; this one stays.

        What it was fitted on already is left out, and told.
        """
        after, pictures = self, _Once(good, self.contents)
        skipped: tuple[Skipped, ...] = ()
        while more := list(islice(pictures, MOST_AT_ONCE // 4)):
            after, then = after._grown(more, template_of)
            skipped += then
        skipped = (*skipped, *pictures.repeated)
        if after is self:
            raise InputError(f"there is no good picture to add{_first(skipped)}")
        after = replace(after, contents=frozenset(pictures.seen))
        return after, Proof(after.calibrated, after._suspects(len(self.names)), skipped)

    def _grown(
        self, good: Sequence[Image], template_of: Callable[[Image], Image] | None = None
    ) -> tuple[Inspector, tuple[Skipped, ...]]:
        """Return the inspector with a few more good pictures, and those that could not be judged."""
        looked, skipped = _looked(good, lambda image: self._look(image, template_of))
        if not looked:
            return self, skipped
        sizes = _sizes([image for image, _ in looked], self.sizes)
        names = (*self.names, *(image.source for image, _ in looked))
        if self.model is None:
            new = np.array([[view.score] for _, view in looked])
            return replace(self, scores=np.concatenate([self.scores, new]), names=names, sizes=sizes), skipped
        model, new = surface.grown(self.model, [seen for _, seen in looked])
        scores = np.concatenate([self.scores, new])
        return replace(self, model=model, scores=scores, names=names, sizes=sizes), skipped

    def decide(self, image: Image, template: Image | None = None) -> Finding:
        """Return whether a picture is defective, how sure that is, and where.

        ``template`` is its golden template, where the inspector compares with such and it is none of its own.
        """
        try:
            seen = self._look(image, None if template is None else lambda _: template)
        except SpaceMismatch:
            raise
        except InputError as error:
            return self._unknown(image, str(error))
        if self.model is None:
            raw, heats = np.array([seen.score]), {"difference": seen.heat}
        else:
            raw = self.model.scores(seen)
            patches, detail = self.model.heats(seen)
            heats = {"patches": patches, "detail": detail}
        return self._found(image, seen, raw, heats)

    @property
    def tests(self) -> tuple[str, ...]:
        """The names of the tests, in the order of the scores' columns."""
        return ALIGNED_TESTS if self.model is None else surface.TESTS

    # Looking

    def _look(self, image: Image, template_of: Callable[[Image], Image] | None) -> Any:
        """Return what the tests need of a picture; raise InputError, with a reason alone, where it cannot be judged."""
        self._check_size(image)
        if self.model is None:
            _check(image)
            template = template_of(image) if template_of is not None else None
            if template is None and self.templates is None:
                raise InputError("it has no template; name one with --template or --template-map")
            return _viewed(self.templates, image, template, self.mask)
        if self.encoder is None:
            raise ConfigError("the inspector has no encoder to look with")
        if self.encoder.space != self.space:
            raise SpaceMismatch(self.space, self.encoder.space, "fit the inspector again with this encoder")
        return _seen(image, self.encoder, self.mask)

    def _check_size(self, image: Image) -> None:
        width, height = image.size
        least_w, most_w, least_h, most_h = self.sizes
        fits = least_w * (1 - SIZE_SLACK) <= width <= most_w * (1 + SIZE_SLACK) and least_h * (
            1 - SIZE_SLACK
        ) <= height <= most_h * (1 + SIZE_SLACK)
        if not fits:
            usual = (
                f"{most_w}x{most_h}"
                if (least_w, least_h) == (most_w, most_h)
                else (f"{least_w}x{least_h} to {most_w}x{most_h}")
            )
            raise InputError(f"it is {width}x{height} pixels, and the good pictures are {usual}")

    # Deciding

    def _usual(self) -> tuple[Scores, Scores]:
        """Return the usual score of good pictures by each test, and the usual spread of it."""
        middle = np.median(self.scores, axis=0)
        spread = deviation(self.scores, middle, axis=0)
        # So few pictures, or so alike, that half of them score the same: then a hundredth of the score is much.
        least = 1.0 if self.model is None else np.maximum(0.01 * np.abs(middle), _FLAT)
        return middle, np.maximum(spread, least)

    def _joint(self, scores: Scores) -> Scores:
        """Return (n,) the largest over the tests of how many spreads each score lies above the usual."""
        middle, spread = self._usual()
        return np.asarray(((scores - middle) / spread).max(axis=-1))

    def _found(self, image: Image, seen: Any, raw: Scores, heats: dict[str, Float32]) -> Finding:
        middle, spread = self._usual()
        score, limit = float(self._joint(raw)), self.calibrated.value
        of_good = self._joint(self.scores)
        evidence = tuple(
            Measured(
                name,
                float(value),
                float(middle[column] + limit * spread[column]),
                chance(self.scores[:, column], float(value)),
                bool((value - middle[column]) / spread[column] <= limit),
            )
            for column, (name, value) in enumerate(zip(self.tests, raw, strict=True))
        )
        unit = {
            name: np.asarray((heat - middle[self.tests.index(name)]) / spread[self.tests.index(name)], np.float32)
            for name, heat in heats.items()
        }
        bad = score > limit
        regions = regions_of(image, seen, unit, limit) if bad else ()
        p = chance(of_good, score)
        return Finding(
            image.source,
            Verdict.NO_MATCH if bad else Verdict.MATCH,
            reason_of(evidence, regions, p, len(self.scores), bad) + _in_view(seen),
            score,
            limit,
            self.calibrated.rate,
            regions,
            evidence,
            heat_of(image, seen, unit, limit),
        )

    def _unknown(self, image: Image, why: str) -> Finding:
        return Finding(
            image.source, Verdict.UNKNOWN, f"it cannot be judged: {why}", None, self.calibrated.value,
            self.calibrated.rate,
        )  # fmt: skip

    def _suspects(self, since: int = 0) -> tuple[Skipped, ...]:
        """Return which good pictures, from number ``since`` on, are hardly good, worst first."""
        if len(self.scores) < _LEAST_FOR_SUSPECTS:
            return ()
        middle, spread = self._usual()
        away = (self.scores - middle) / spread
        order = [row for row in np.argsort(-away.max(axis=1), kind="stable").tolist() if row >= since]
        return tuple(
            Skipped(
                self.names[row],
                f"stands out among the good pictures: {self.tests[int(away[row].argmax())]} is "
                f"{away[row].max():.0f} spreads above the usual; "
                "look at it, and fit again without it if it is defective",
            )
            for row in order
            if away[row].max() > SUSPECT
        )


def _fit_surface(
    good: Iterable[Image], encoder: Encoder, rate: float | None, mask: Mask | None
) -> tuple[Inspector, Proof]:
    pictures = _Once(good)
    looked, skipped = _looked(islice(pictures, MOST_AT_ONCE), lambda image: _seen(image, encoder, mask))
    if len(looked) < LEAST_SURFACE:
        raise InputError(
            f"{_counted(len(looked))} too few: it takes two to tell how good ones differ, and 19 for a false "
            f"alarm rate of 5 %{_first(skipped)}"
        )
    threshold(np.zeros(len(looked)), rate)  # before the work: a rate that so few cannot support
    model, scores = surface.fit([seen for _, seen in looked])
    names = tuple(image.source for image, _ in looked)
    sizes = _sizes([image for image, _ in looked])
    made = Inspector(rate, scores, names, sizes, encoder.space, model, encoder=encoder, mask=mask)
    while more := list(islice(pictures, MOST_AT_ONCE // 4)):
        made, then = made._grown(more)
        skipped += then
    made = replace(made, contents=frozenset(pictures.seen))
    return made, Proof(made.calibrated, made._suspects(), (*skipped, *pictures.repeated))


def _fit_aligned(
    good: Iterable[Image],
    templates: Sequence[Image],
    template_of: Callable[[Image], Image] | None,
    rate: float | None,
    mask: Mask | None,
) -> tuple[Inspector, Proof]:
    known = TemplateSet(templates) if templates else None
    if mask is not None:
        _check_masked(templates, mask)

    def look(image: Image) -> float:
        template = template_of(image) if template_of is not None else None
        return _viewed(known, _check(image), template, mask).score

    pictures = _Once(good)
    looked, skipped = _looked(pictures, look)
    if not looked:
        raise InputError(f"there is no good picture to calibrate on{_first(skipped)}")
    scores = np.array([[score] for _, score in looked])
    names = tuple(image.source for image, _ in looked)
    sizes, seen = _sizes([image for image, _ in looked]), frozenset(pictures.seen)
    made = Inspector(rate, scores, names, sizes, templates=known, mask=mask, contents=seen)
    return made, Proof(made.calibrated, made._suspects(), (*skipped, *pictures.repeated))


class _Once:
    """Good pictures, each of which comes once: two of the same pixels say no more than one."""

    def __init__(self, pictures: Iterable[Image], known: Iterable[str] = ()) -> None:
        self._pictures, self.seen = iter(pictures), set(known)
        self.repeated: list[Skipped] = []

    def __iter__(self) -> Iterator[Image]:
        return self

    def __next__(self) -> Image:
        while True:
            image = next(self._pictures)
            content = hashlib.sha256(image.pixels.tobytes()).hexdigest()[:_CONTENT_DIGITS]
            if content not in self.seen:
                self.seen.add(content)
                return image
            self.repeated.append(Skipped(image.source, "the same picture was learned already; it counts once"))


def _seen(image: Image, encoder: Encoder, mask: Mask | None) -> surface.Look:
    """Return what is kept of a picture of a surface."""
    return surface.look(_check(image if mask is None else filled(image, mask)), encoder, mask)


def _viewed(templates: TemplateSet | None, image: Image, template: Image | None, mask: Mask | None) -> AlignedView:
    """Return how a picture differs from its template; raise InputError, with a reason alone, where it fits none."""
    view = (templates or TemplateSet([template] if template else [])).view(image, template, mask)
    if isinstance(view, str):
        raise InputError(view)
    return view


def _check_masked(templates: Sequence[Image], mask: Mask) -> None:
    """Raise InputError where the mask cannot lie over a template."""
    for one in templates:
        try:
            over(mask, one.pixels.shape)
        except InputError as error:
            raise InputError(f"the template {one.source} does not go with the mask: {error}") from error


def _in_view(seen: Any) -> str:
    """Return what to say where a good part of the template is not in the picture, and so was not compared."""
    missing = isinstance(seen, AlignedView) and seen.seen < _MOSTLY
    return f"; only {seen.seen:.0%} of the part is in view" if missing else ""


def _looked(good: Iterable[Image], look: Callable[[Image], Any]) -> tuple[list[tuple[Image, Any]], tuple[Skipped, ...]]:
    """Return what is seen of each picture, without its pixels, and which could not be judged."""

    def work(image: Image) -> tuple[Image, Any] | Skipped:
        try:
            seen = look(image)
        except SpaceMismatch:
            raise
        except InputError as error:
            return Skipped(image.source, str(error))
        return Image(image.pixels[:1, :1], image.size, image.source, image.format), seen

    found = list(in_parallel(work, good))
    return [one for one in found if not isinstance(one, Skipped)], tuple(o for o in found if isinstance(o, Skipped))


def _check(image: Image) -> Image:
    """Return the picture; raise InputError, with a reason alone, where it shows nothing."""
    height, width = image.pixels.shape[:2]
    if min(height, width) < surface.LEAST_SIDE:
        raise InputError(f"only {width}x{height} pixels; at least {surface.LEAST_SIDE} a side are needed")
    if problem := measure(image).problem:
        raise InputError(problem)
    return image


def _counted(pictures: int) -> str:
    return "1 good picture is" if pictures == 1 else f"{pictures} good pictures are"


def _first(skipped: Sequence[Skipped]) -> str:
    return f"; left out first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""


def _sizes(images: Sequence[Image], known: tuple[int, int, int, int] | None = None) -> tuple[int, int, int, int]:
    widths, heights = [image.size[0] for image in images], [image.size[1] for image in images]
    if known is not None:
        widths, heights = [*widths, *known[:2]], [*heights, *known[2:]]
    return min(widths), max(widths), min(heights), max(heights)
