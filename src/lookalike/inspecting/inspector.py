"""The inspector: learns from good pictures, takes more of them later, and tells defects in new ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import ConfigError, InputError, SpaceMismatch
from lookalike.inspecting import surface
from lookalike.inspecting.aligned import AlignedView, TemplateSet
from lookalike.inspecting.mask import Mask, filled, inspected, over
from lookalike.inspecting.planes import enlarged
from lookalike.inspecting.regions import Region, Spot, spots
from lookalike.inspecting.threshold import Threshold, chance, threshold
from lookalike.pipeline import in_parallel
from lookalike.protocols import Encoder
from lookalike.quality import measure
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
_SPREAD = 1.4826  # of a normal distribution: its deviation in median absolute deviations
_FLAT = 1e-6
_WHERE = 0.5
_HEAT_SIDE = 256
_MOST_REGIONS = 100
_MOSTLY = 0.9
_CONTENT_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Measured:
    """What one test says: its own score and threshold, and how often good pictures score as high."""

    metric: str
    score: float
    threshold: float
    false_alarm_rate: float
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What was decided on one picture.

    ``defective`` is None where it cannot be judged; then there is no score. ``score`` is in multiples of the usual
    spread of good pictures above their usual score, and so is ``threshold``. ``heat`` (h, w) in [0, 1] lies over the
    whole picture, .5 at the threshold.
    """

    path: str
    verdict: Verdict
    reason: str
    score: float | None
    threshold: float
    false_alarm_rate: float
    regions: tuple[Region, ...] = ()
    evidence: tuple[Measured, ...] = ()
    heat: Float32 | None = None

    @property
    def defective(self) -> bool | None:
        """Whether there is a defect; None where it cannot be judged."""
        return None if self.verdict is Verdict.UNKNOWN else self.verdict is Verdict.NO_MATCH

    @property
    def badness(self) -> tuple[int, float, str]:
        """What puts the worst first: defective, then what cannot be judged, then the good, each by score."""
        order = {True: 0, None: 1, False: 2}[self.defective]
        return order, -(self.score or 0.0), self.path

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "path": self.path,
            "defective": self.defective,
            "verdict": self.verdict.value,
            "score": self.score,
            "threshold": self.threshold,
            "false_alarm_rate": self.false_alarm_rate,
            "reason": self.reason,
            "regions": [region.as_dict() for region in self.regions],
            "evidence": [test.as_dict() for test in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """What learning came to: the threshold, the pictures it rests on, those that stand out, those left out."""

    threshold: Threshold
    suspects: tuple[Skipped, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            **self.threshold.as_dict(),
            "suspects": [asdict(one) for one in self.suspects],
            "skipped": [asdict(one) for one in self.skipped],
        }


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
        spread = _SPREAD * np.median(np.abs(self.scores - middle), axis=0)
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
        regions = self._regions(image, seen, unit) if bad else ()
        p = chance(of_good, score)
        return Finding(
            image.source,
            Verdict.NO_MATCH if bad else Verdict.MATCH,
            _reason(evidence, regions, p, len(self.scores), bad) + _in_view(seen),
            score,
            limit,
            self.calibrated.rate,
            regions,
            evidence,
            _heat(image, seen, unit, limit),
        )

    def _regions(self, image: Image, seen: Any, unit: dict[str, Float32]) -> tuple[Region, ...]:
        limit = self.calibrated.value
        found = []
        for name, heat in unit.items():
            # Where the defect ends: half way from the usual to the threshold, or to the strongest where that is more.
            low = max(_WHERE * limit, 0.0)
            for spot in spots(heat, low, limit):
                found.append(Region(_box(image, seen, spot, heat.shape), spot.score, name))
        ordered = sorted(found, key=lambda region: (-region.score, region.box))
        return tuple(_apart(ordered)[:_MOST_REGIONS])

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


def _reason(evidence: Sequence[Measured], regions: Sequence[Region], p: float, good: int, bad: bool) -> str:
    worst = max(evidence, key=lambda test: (not test.passed, test.score / test.threshold if test.threshold > 0 else 0))
    numbers = f"{_WORDS[worst.metric]} {worst.score:.3g}, at most {worst.threshold:.3g} passes"
    if not bad:
        return f"like the good pictures: {numbers}; {p:.0%} of {good} good ones score as high"
    failed = [test.metric for test in evidence if not test.passed]
    where = f"{len(regions)} region{'' if len(regions) == 1 else 's'}" if regions else "all over the picture"
    return f"unlike the good pictures by {' and '.join(failed)}, {where}: {numbers}"


_WORDS = {
    "patches": "its strangest patch is away from all good ones by",
    "whole": "its mean features are away from the good ones' by",
    "detail": "detail that its surroundings do not explain, in levels:",
    "difference": "it differs from its template, in levels, by",
}


def _box(image: Image, seen: Any, spot: Spot, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the box in pixels of the picture's file."""
    if isinstance(seen, AlignedView):
        height, width = image.pixels.shape[:2]
        box = seen.box(spot, (width, height))
        return _scaled(box, image)
    across, down = seen.size[0] / shape[1], seen.size[1] / shape[0]
    margin = 0 if shape == seen.patches.shape[:2] else surface.detail_margin(seen.box)
    left, width = _shrunk(spot.left * across, spot.right * across, margin)
    top, height = _shrunk(spot.top * down, spot.bottom * down, margin)
    return _scaled((left, top, width, height), image)


def _shrunk(first: float, last: float, margin: int) -> tuple[int, int]:
    """Return where a span begins and how long it is, without the margin on both sides, as far as a third is left."""
    inner = min(margin, int((last - first) / 3))
    start = round(first) + inner
    return start, max(1, round(last) - inner - start)


def _scaled(box: tuple[int, int, int, int], image: Image) -> tuple[int, int, int, int]:
    """Return a box in pixels of the picture as it was decoded in those of its file."""
    x = image.size[0] / image.pixels.shape[1]
    y = image.size[1] / image.pixels.shape[0]
    return round(box[0] * x), round(box[1] * y), max(1, round(box[2] * x)), max(1, round(box[3] * y))


def _apart(regions: Sequence[Region]) -> list[Region]:
    """Return the regions without those that two tests tell alike: the middle of one lies in a stronger one."""
    kept: list[Region] = []
    for region in regions:
        x, y = region.box[0] + region.box[2] / 2, region.box[1] + region.box[3] / 2
        covered = any(
            one.test != region.test
            and one.box[0] <= x <= one.box[0] + one.box[2]
            and one.box[1] <= y <= one.box[1] + one.box[3]
            for one in kept
        )
        if not covered:
            kept.append(region)
    return kept


def _heat(image: Image, seen: Any, unit: dict[str, Float32], limit: float) -> Float32:
    """Return the heat over the picture (h, w), .5 at the threshold, 0 at the usual and below, 1 at twice and above."""
    height, width = image.pixels.shape[:2]
    share = min(1.0, _HEAT_SIDE / max(height, width))
    h, w = max(1, round(height * share)), max(1, round(width * share))
    total = np.zeros((h, w), np.float32)
    for plane in unit.values():
        scaled = np.clip(plane / (2 * max(limit, _FLAT)), 0, 1)
        laid = _laid(scaled, seen.matrix, (h, w), share) if isinstance(seen, AlignedView) else _resized(scaled, h, w)
        np.maximum(total, laid, out=total)
    return total


def _resized(plane: Float32, height: int, width: int) -> Float32:
    """Return the plane at another size: what becomes smaller keeps its peaks."""
    rows, columns = (max(1, -(-n // m)) for n, m in zip(plane.shape, (height, width), strict=True))
    if rows > 1 or columns > 1:
        padded = np.pad(plane, ((0, -plane.shape[0] % rows), (0, -plane.shape[1] % columns)), mode="edge")
        blocks = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns)
        plane = blocks.max(axis=(1, 3))
    return enlarged(plane, height, width)


def _laid(plane: Float32, matrix: NDArray[np.float64], shape: tuple[int, int], share: float) -> Float32:
    """Return heat in the template's frame as it lies over the picture, nearest pixel by nearest pixel."""
    inverse = np.linalg.inv(matrix)
    y, x = (np.indices(shape) + 0.5) / share - 0.5
    to_x, to_y = (np.rint(row[0] * x + row[1] * y + row[2]).astype(np.intp) for row in inverse[:2])
    inside = (to_x >= 0) & (to_y >= 0) & (to_x < plane.shape[1]) & (to_y < plane.shape[0])
    found = plane[np.clip(to_y, 0, plane.shape[0] - 1), np.clip(to_x, 0, plane.shape[1] - 1)]
    return np.where(inside, found, np.float32(0)).astype(np.float32)
