"""A fixed camera's frames, one after another -> what state each place is in, how full, and what changed.

    frame ─ register to the view ─ take back the light ─ cut regions ─ embed ─┬─ discriminant ─ past ─┐
                                  what did not change since keeps its vector ├─ level                ├─ settle ─ event
                                                                             └─ evidence ────────────┘

Everything that is remembered is bounded: of each region two pictures, four looks, 64 differences, 32 margins, and six
vectors a state.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.edits import Edit
from lookalike.errors import ConfigError, InputError
from lookalike.protocols import Encoder
from lookalike.quality import SIDE as QUALITY_SIDE
from lookalike.quality import measure
from lookalike.registration import View
from lookalike.states.discriminant import Discriminant, Told
from lookalike.states.evidence import SIDE as LIGHT_SIDE
from lookalike.states.evidence import Look, Noise, differences, moved, small
from lookalike.states.level import Level, Scale, tiles_of
from lookalike.states.light import NO_LIGHT, Light, light_between
from lookalike.states.past import Drift, Judged, Past, drift, judged
from lookalike.states.regions import Region, faded, whole
from lookalike.states.remembering import (
    VERSION,
    Memory,
    adapted_of,
    look_arrays,
    looks_of,
    past_arrays,
    place_about,
    recall_past,
)  # fmt: skip
from lookalike.states.settling import Reading, Settling
from lookalike.types import Float32, Image, Quality, Registration, Verdict

MOST_REFERENCES = 10
FIRST, OTHER = "first", "other"
"""The states of a place that has no references: as it was first, or not."""
_DARK = 0.06
_LEAST_MARGIN, _MOST_MARGIN, _SIGMAS = 0.02, 0.08, 2.0
_CLEAR, _SURE, _LIKELY = 0.2, 0.5, 0.3
_NOVEL = 0.01
_OLDEST = 60
_ADAPT_EVERY = 12
_LEAST_INSIDE = 0.6
_SAME_LIGHT, _SAME_GAMMA = 0.5, 0.5
_SEARCH_EVERY = 10
_LIGHTS = (
    Edit("gamma", {"exponent": 0.6}),
    Edit("gamma", {"exponent": 1.6}),
    Edit("noise", {"sigma": 8}),
)
"""What is done to each reference, beside mirroring it: states must be known in another light."""
_VIEWS = 2 + len(_LIGHTS)


@dataclass(frozen=True, slots=True)
class Event:
    """A place changed its settled state. The pictures (H, W, 3) uint8 show it as it had settled, and as it is."""

    kind: str
    before: str
    after: str
    picture_before: NDArray[np.uint8]
    picture_after: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one frame says of one region.

    ``state`` is what this frame shows, ``settled`` what it is taken for after hysteresis; ``score`` is the margin by
    which it is told from the next state (0 halfway, 1 as clear as a mean reference), or None without states; ``level``
    lies in [0, 1]; ``change`` is that against the last settled look and ``change_from_first`` that against the first, 1
    being the threshold.
    """

    time: float
    region: str
    state: str
    settled: str | None
    verdict: Verdict
    score: float | None
    level: float | None
    level_interval: tuple[float, float] | None
    change: float | None
    change_from_first: float | None
    quality: Quality
    reason: str
    event: Event | None = None
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class States:
    """The references: pictures by state, in order, and the level of states that have one."""

    pictures: Mapping[str, Sequence[Image]]
    levels: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, pictures in self.pictures.items():
            if not 1 <= len(pictures) <= MOST_REFERENCES:
                raise InputError(
                    f"state {name!r} has {len(pictures)} reference pictures; give each 1 to {MOST_REFERENCES}, "
                    "as different in light and content as they come"
                )
        for name, level in self.levels.items():
            if name not in self.pictures:
                raise ConfigError(f"a level for {name!r}, but the states are {', '.join(self.pictures)}")
            if not 0 <= level <= 1:
                raise ConfigError(f"a level is from 0 to 1, got {name}={level:g}")


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """One region of one frame: as it is, in the view's light, how much of it is in the frame, and its look.

    ``age`` is how many frames ago its vector was taken.
    """

    pixels: NDArray[np.uint8]
    lit: NDArray[np.uint8]
    inside: float
    look: Look
    age: int = 0


@dataclass
class Place:
    """What is remembered of one region."""

    region: Region
    settling: Settling
    noise: Noise = field(default_factory=Noise)
    past: Past = field(default_factory=Past)
    glance: Glance | None = None
    level: tuple[Look, Level] | None = None
    compared: deque[tuple[Look, Look, tuple[float, float, float]]] = field(default_factory=lambda: deque(maxlen=3))

    def differences(self, now: Look, before: Look) -> tuple[float, float, float]:
        """Return how two looks differ; looked up where just these two were compared before."""
        for a, b, found in self.compared:
            if a is now and b is before:
                return found
        found = differences(now, before)
        self.compared.append((now, before, found))
        return found

    first: Look | None = None
    settled: Look | None = None
    proposed: Look | None = None
    learned: Float32 | None = None
    picture: NDArray[np.uint8] | None = None


class Monitor:
    """Watches places in the view of a fixed camera.

    ``states`` None or empty: change against the last settled look and against the first. ``regions`` empty: the whole
    view. A reference as large as ``view`` shows all of it and is cut into regions; any other is a picture of a region,
    and holds for all of them. Without ``view`` the first frame that can be judged is it.
    """

    def __init__(
        self,
        states: States | None = None,
        *,
        encoder: Encoder,
        regions: Sequence[Region] = (),
        view: Image | None = None,
        dwell: int = 3,
        adapt: bool = True,
        register: bool = True,
    ) -> None:
        self._states = states if states is not None and states.pictures else None
        self._encoder, self._given, self._dwell = encoder, tuple(regions), dwell
        self._adapt, self._register = adapt, register
        names = [region.name for region in regions]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"two regions are named {twice!r}; give each a name of its own")
        Settling(dwell)
        self._view: View | None = None
        self._small_view: NDArray[np.uint8] | None = None
        self._places: list[Place] = []
        self._discriminant: Discriminant | None = None
        self._scale: Scale | None = None
        self._last: Registration | None = None
        self._recent: tuple[Image, Registration] | None = None
        self._time: float | None = None
        self._lost = 0
        self._waiting: list[tuple[str, Float32]] = []
        self._given_view = view
        self._apart = 0.0

    def fit(self) -> Monitor:
        """Learn the references; called by the first :meth:`update` where it was not called before."""
        if self._given_view is not None:
            self._look_from(self._given_view)
        if self._states is not None and self._discriminant is None:
            cuts = {name: self._cuts(pictures) for name, pictures in self._states.pictures.items()}
            references = {name: self._views(some) for name, some in cuts.items()}
            self._discriminant = Discriminant(references, _VIEWS)
            self._apart = self._discriminant.apart
            levels: dict[float, list[Float32]] = {}
            for name, level in self._states.levels.items():
                levels.setdefault(level, []).extend(tiles_of(pixels) for pixels in cuts[name])
            self._scale = Scale(levels) if len(levels) > 1 else None
        return self

    def decide(self, picture: Image) -> Told:
        """Return what state a picture of a region shows, by itself."""
        if self._discriminant is None:
            self.fit()
        if self._discriminant is None:
            raise ConfigError("there is nothing to decide between: give a folder of references a state")
        return self._discriminant.tell(self._encode([picture.pixels])[0])

    def update(self, frame: Image, time: float) -> list[Observation]:
        """Return what a frame says of each region; ``time`` is in seconds since 1970."""
        told_back = self._clock(time)
        quality = measure(frame)
        problem = quality.problem or ("the view is dark" if quality.brightness < _DARK else None)
        if self._view is None:
            if problem:
                return [self._blind(Region("view", 0, 0, 1, 1), time, quality, problem, told_back)]
            self._look_from(frame)
        self.fit()
        if problem is None:
            placed, problem = self._placed(frame)
        if problem is not None:
            return [self._blind(place.region, time, quality, problem, told_back) for place in self._places]
        light = self._light(frame, placed)
        glances = self._glances(frame, placed, light, quality)
        told = [None if self._discriminant is None else self._discriminant.tell(one.look.vector) for one in glances]
        common = self._drift(glances, told)
        seen = [
            self._see(place, glance, one, common, quality, time, told_back)
            for place, glance, one in zip(self._places, glances, told, strict=True)
        ]
        self._learn()
        return seen

    def remember(self) -> Memory | None:
        """Return what is known now, for :meth:`recall` after a restart; None before the first frame."""
        if self._view is None:
            return None
        about = {
            "version": VERSION,
            "setting": self._setting(),
            "time": self._time,
            "places": [place_about(p.region, p.settling, p.noise.seen, p.past.margins) for p in self._places],
        }
        arrays: dict[str, NDArray[Any]] = {"view": self._view.image.pixels}
        for number, place in enumerate(self._places):
            looks = {"first": place.first, "settled": place.settled, "proposed": place.proposed}
            arrays.update(look_arrays(number, looks))
            if place.picture is not None:
                arrays[f"{number}/picture"] = place.picture
        if self._discriminant is not None:
            for number, place in enumerate(self._places):
                arrays.update(past_arrays(number, place.past, self._discriminant.states))
            for number, state in enumerate(self._discriminant.states):
                if self._discriminant.adapted[state]:
                    arrays[f"adapted/{number}"] = np.array(self._discriminant.adapted[state])
        return Memory(about, arrays)

    def recall(self, memory: Memory) -> None:
        """Go on where :meth:`remember` was called. Raise InputError where the setting was another."""
        memory.check(self._setting())
        pixels = np.ascontiguousarray(memory.arrays["view"])
        self._given_view = None
        self._look_from(Image(pixels, (pixels.shape[1], pixels.shape[0]), "the view"))
        self._time = memory.about["time"]
        for number, (place, about) in enumerate(zip(self._places, memory.about["places"], strict=True)):
            place.settling = Settling(**{**about["settling"], "dwell": self._dwell})
            place.noise.seen.extend(tuple(row) for row in about["noise"])
            place.past.margins.extend(about["margins"])
            looks = looks_of(number, memory.arrays)
            place.picture = memory.arrays.get(f"{number}/picture")
            place.first, place.settled, place.proposed = looks["first"], looks["settled"], looks["proposed"]
        self.fit()
        if self._discriminant is not None:
            for number, place in enumerate(self._places):
                recall_past(number, place.past, memory.arrays, self._discriminant.states)
            learned = adapted_of(memory.arrays, self._discriminant.states)
            self._discriminant.adapt([(state, vector) for state, vectors in learned.items() for vector in vectors])

    def _setting(self) -> dict[str, Any]:
        states = {} if self._states is None else {n: len(some) for n, some in self._states.pictures.items()}
        return {
            "encoder": str(self._encoder.space),
            "states": states,
            "regions": [asdict(region) for region in self._given],
        }

    # One frame

    def _look_from(self, image: Image) -> None:
        if self._view is not None:
            return
        self._view = View(image)
        self._small_view = small(whole(image.pixels).cut(image.pixels, None, LIGHT_SIDE)[0])
        height, width = image.pixels.shape[:2]
        for region in self._given:
            if not (0 <= region.cx < width and 0 <= region.cy < height):
                raise InputError(
                    f"region {region.name!r} lies at ({region.cx:g}, {region.cy:g}), outside of the view of "
                    f"{width}x{height} pixels; give boxes in pixels of the view"
                )
        self._places = [Place(region, Settling(self._dwell)) for region in self._given or (whole(image.pixels),)]

    def _clock(self, time: float) -> str:
        back = self._time is not None and time < self._time
        told = f"; the clock went back by {self._time - time:.0f} s" if back and self._time is not None else ""
        self._time = time
        return told

    def _placed(self, frame: Image) -> tuple[Registration | None, str | None]:
        """Return how the frame lies on the view, and why it cannot be judged, if so."""
        assert self._view is not None
        shape = self._view.image.pixels.shape
        if not self._register:
            if frame.pixels.shape != shape:
                return None, f"the frame has {_size(frame)} pixels, the view {_size(self._view.image)}"
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

    def _light(self, frame: Image, placed: Registration | None) -> Light:
        """Return what makes the frame's light the view's; nothing where they hardly differ."""
        assert self._view is not None
        assert self._small_view is not None
        cut, _ = whole(self._view.image.pixels).cut(frame.pixels, placed, LIGHT_SIDE)
        light = light_between(small(cut), self._small_view)
        gammas = np.log(light.gammas)
        same = abs(np.log(light.brightness)) < _SAME_LIGHT and np.abs(gammas).max() < _SAME_GAMMA
        return NO_LIGHT if same else light

    def _glances(self, frame: Image, placed: Registration | None, light: Light, quality: Quality) -> list[Glance]:
        """Return what is seen of each place; those that changed since they were last embedded are embedded together."""
        cuts = [place.region.cut(frame.pixels, placed) for place in self._places]
        lit = [pixels if light is NO_LIGHT else light.applied(pixels) for pixels, _ in cuts]
        thumbs = [small(pixels) for pixels in lit]
        noise = quality.noise * max(1.0, max(frame.pixels.shape) / QUALITY_SIDE)
        kept = [_unchanged(place, thumb, noise) for place, thumb in zip(self._places, thumbs, strict=True)]
        vectors = iter(self._encode([pixels for pixels, look in zip(lit, kept, strict=True) if look is None]))
        for place, (pixels, inside), bright, thumb, look in zip(self._places, cuts, lit, thumbs, kept, strict=True):
            if look is None:
                place.glance = Glance(pixels, bright, inside, Look(next(vectors), thumb))
            else:
                assert place.glance is not None
                place.glance = Glance(pixels, bright, inside, look, place.glance.age + 1)
        return [place.glance for place in self._places if place.glance is not None]

    def _drift(self, glances: Sequence[Glance], told: Sequence[Told | None]) -> Drift | None:
        """Return what the frame does to all places alike; None where no past is kept."""
        if self._discriminant is None or len(self._discriminant.states) < 2 or not self._adapt:
            return None
        places = [(place.past, place.settling.settled) for place in self._places]
        seen = [(glance.look.vector, one) for glance, one in zip(glances, told, strict=True) if one is not None]
        return drift(places, seen, self._apart)

    def _see(
        self,
        place: Place,
        glance: Glance,
        told: Told | None,
        common: Drift | None,
        quality: Quality,
        time: float,
        told_back: str,
    ) -> Observation:
        if glance.inside < _LEAST_INSIDE:
            gone = f"{1 - glance.inside:.0%} of it is out of the frame"
            return self._blind(place.region, time, quality, gone, told_back)
        look = glance.look
        if place.first is None:
            place.first = look
        found = None if place.settled is None else place.differences(look, place.settled)
        change = None if found is None else place.noise.change(found)
        from_first = place.noise.change(place.differences(look, place.first))
        both = _together(place, told, look, common)
        state, verdict, reason = self._judged(place, told, both, change)
        level = self._level(place, glance) if self._scale is not None and verdict is not Verdict.UNKNOWN else None
        before = place.picture
        event = self._settle(place, look, state, 1.0 if both is None else min(1.0, both.margin / _CLEAR))
        if event is not None:
            place.picture = glance.lit
        quiet = place.settling.proposed is None
        if quiet and event is None and found is not None and change is not None and change < 1:
            place.noise.learn(found)
        if told is not None and both is not None and verdict is Verdict.MATCH and place.settling.settled == state:
            self._consider(place, told, both, look, event is not None)
        made = (
            Event("changed", event[0], event[1], before, glance.lit)
            if event is not None and event[0] is not None and before is not None
            else None
        )
        return Observation(
            time=time,
            region=place.region.name,
            state=state or "unknown",
            settled=place.settling.settled,
            verdict=verdict,
            score=None if both is None else both.margin,
            level=None if level is None else level.value,
            level_interval=None if level is None else level.interval,
            change=change,
            change_from_first=from_first,
            quality=quality,
            reason=reason + told_back,
            event=made,
            picture=glance.lit,
        )

    def _level(self, place: Place, glance: Glance) -> Level:
        """Return how full a place is; what it was where it looks as it did."""
        assert self._scale is not None
        if place.level is None or place.level[0] is not glance.look:
            place.level = glance.look, self._scale.read(tiles_of(glance.pixels))
        return place.level[1]

    def _judged(
        self, place: Place, told: Told | None, both: Judged | None, change: float | None
    ) -> tuple[str | None, Verdict, str]:
        if told is None or both is None:
            if change is None:
                return FIRST, Verdict.MATCH, "the first look"
            settled = place.settling.settled or FIRST
            if change < 1:
                return settled, Verdict.MATCH, f"as it was settled: change {change:.2f} is below 1"
            other = OTHER if settled == FIRST else FIRST
            return other, Verdict.NO_MATCH, f"it differs from what was settled: change {change:.2f}"
        if told.strangeness > 1:
            return (
                None,
                Verdict.UNKNOWN,
                f"it looks like none of the states: {told.strangeness:.2f} times as far as usual",
            )
        threshold = self._margin_threshold(place)
        if both.margin < threshold:
            return both.state, Verdict.UNSURE, f"margin {both.margin:.2f} is below {threshold:.2f}"
        against = f", though by the references alone {told.state}" if told.state != both.state else ""
        return both.state, Verdict.MATCH, f"{both.state}: margin {both.margin:.2f}, {threshold:.2f} is enough{against}"

    def _margin_threshold(self, place: Place) -> float:
        """Return the margin that is enough: by how much margins jumped from frame to frame while nothing changed."""
        margins = place.past.margins
        jumps = np.abs(np.diff(margins)) if len(margins) > 2 else np.zeros(1)
        return float(np.clip(_SIGMAS * 1.4826 * np.median(jumps), _LEAST_MARGIN, _MOST_MARGIN))

    def _settle(self, place: Place, look: Look, state: str | None, weight: float) -> tuple[str | None, str] | None:
        still = place.proposed is None or Noise(place.noise.seen).change(place.differences(look, place.proposed)) < 1
        event = place.settling.update(Reading(state, weight, still))
        if event is not None:
            place.settled = look
            place.noise.seen.clear()
            place.past.margins.clear()
        if place.settling.proposed is None:
            place.proposed = None
        elif state == place.settling.proposed:
            place.proposed = look
        return event

    def _consider(self, place: Place, told: Told, both: Judged, look: Look, settled_now: bool) -> None:
        """Let a look that is settled be learned: by the place where it is likely, by all where it is sure and new."""
        if not self._adapt or place.settling.proposed is not None:
            return
        agreed = told.state == both.state
        if agreed:
            place.past.margins.append(min(1.0, told.margin))
        if settled_now or (agreed and min(told.margin, both.margin) >= _LIKELY):
            place.past.learn(both.state, look.vector)
        if not agreed or min(told.margin, both.margin) < _SURE:
            return
        if place.learned is None or 1 - float(place.learned @ look.vector) > _NOVEL:
            place.learned = look.vector
            self._waiting.append((told.state, look.vector))

    def _learn(self) -> None:
        if self._discriminant is not None and len(self._waiting) >= _ADAPT_EVERY:
            self._discriminant.adapt(self._waiting)
            self._waiting.clear()

    def _blind(self, region: Region, time: float, quality: Quality, problem: str, told_back: str) -> Observation:
        settled = next((p.settling.settled for p in self._places if p.region is region), None)
        return Observation(
            time, region.name, "unknown", settled, Verdict.UNKNOWN, None, None, None, None, None, quality,
            problem + told_back,
        )  # fmt: skip

    # References

    def _cuts(self, pictures: Sequence[Image]) -> list[NDArray[np.uint8]]:
        cuts = []
        for picture in pictures:
            if self._view is not None and self._given and picture.pixels.shape == self._view.image.pixels.shape:
                placed = self._view.follow(picture) if self._register else None
                cuts += [region.cut(picture.pixels, placed)[0] for region in self._given]
            else:
                cuts.append(whole(picture.pixels).cut(picture.pixels)[0])
        return cuts

    def _views(self, cuts: Sequence[NDArray[np.uint8]]) -> Float32:
        rng = np.random.default_rng(0)
        made = [
            view
            for pixels in cuts
            for view in (pixels, pixels[:, ::-1], *(edit.apply(pixels, rng) for edit in _LIGHTS))
        ]
        return self._encode(made)

    def _encode(self, some: Sequence[NDArray[np.uint8]]) -> Float32:
        """Return the unit vectors (n, D) of n pictures of regions.

        A box has neighbours that reach into it: it is seen twice, as it is and with its border faded, and both count.
        """
        if not some:
            return np.zeros((0, 0), np.float32)
        if not self._given:
            return self._embedded(some)
        both = np.concatenate([self._embedded(some), self._embedded([faded(pixels) for pixels in some])], axis=1)
        return np.asarray(both / math.sqrt(2), np.float32)

    def _embedded(self, some: Sequence[NDArray[np.uint8]]) -> Float32:
        images = [Image(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0])) for pixels in some]
        return np.asarray(self._encoder.encode(images).vectors, np.float32)


def _unchanged(place: Place, thumb: NDArray[np.uint8], noise: float) -> Look | None:
    """Return the look of a place that has not changed beyond the noise since it was embedded; None otherwise."""
    last = place.glance
    if last is None or last.age >= _OLDEST or moved(thumb, last.look.pixels, noise, place.region.area):
        return None
    return last.look


def _together(place: Place, told: Told | None, look: Look, common: Drift | None) -> Judged | None:
    """Return what the references tell, together with the place's own past where one is kept."""
    if told is None:
        return None
    if common is None:
        return Judged(told.state, told.margin)
    noise = [found[0] for found in place.noise.seen]
    return judged(told, look.vector, place.past, place.settling.settled, common, noise)


def _size(image: Image) -> str:
    return f"{image.pixels.shape[1]}x{image.pixels.shape[0]}"
