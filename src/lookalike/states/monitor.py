"""A fixed camera's frames, one after another -> what state each place is in, how full, and what changed.

    frame ─ register to the view ─ take back the light ─ cut regions ─ embed ─┬─ discriminant ─┐
                                                                             ├─ level          ├─ settle ─ event
                                                                             └─ evidence ──────┘

Everything that is remembered is bounded: of each region a picture, three looks, 64 differences, 32 margins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.edits import Edit
from lookalike.errors import ConfigError, InputError
from lookalike.protocols import Encoder
from lookalike.quality import measure
from lookalike.registration import View
from lookalike.states.discriminant import Discriminant, Told
from lookalike.states.evidence import SIDE as LIGHT_SIDE
from lookalike.states.evidence import Look, Noise, differences, small
from lookalike.states.level import Scale, tiles_of
from lookalike.states.light import NO_LIGHT, Light, light_between
from lookalike.states.regions import Region, whole
from lookalike.states.remembering import VERSION, Memory, adapted_of, look_arrays, looks_of, place_about
from lookalike.states.settling import Reading, Settling
from lookalike.types import Float32, Image, Quality, Registration, Verdict

MOST_REFERENCES = 10
FIRST, OTHER = "first", "other"
"""The states of a place that has no references: as it was first, or not."""
_DARK = 0.06
_LEAST_MARGIN, _MOST_MARGIN, _SIGMAS = 0.02, 0.08, 2.0
_SURE = 0.5
_QUIET = 0.5
_NOVEL = 0.01
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


@dataclass
class Place:
    """What is remembered of one region."""

    region: Region
    settling: Settling
    noise: Noise = field(default_factory=Noise)
    margins: deque[float] = field(default_factory=lambda: deque(maxlen=32))
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
        self._time: float | None = None
        self._lost = 0
        self._waiting: list[tuple[str, Float32]] = []
        self._given_view = view

    def fit(self) -> Monitor:
        """Learn the references; called by the first :meth:`update` where it was not called before."""
        if self._given_view is not None:
            self._look_from(self._given_view)
        if self._states is not None and self._discriminant is None:
            cuts = {name: self._cuts(pictures) for name, pictures in self._states.pictures.items()}
            self._discriminant = Discriminant({name: self._views(some) for name, some in cuts.items()})
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
        return self._discriminant.tell(self._encode(picture.pixels))

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
        seen = [self._see(place, frame, placed, light, quality, time, told_back) for place in self._places]
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
            "places": [place_about(p.region, p.settling, p.noise.seen, p.margins) for p in self._places],
        }
        arrays: dict[str, NDArray[Any]] = {"view": self._view.image.pixels}
        for number, place in enumerate(self._places):
            looks = {"first": place.first, "settled": place.settled, "proposed": place.proposed}
            arrays.update(look_arrays(number, looks))
            if place.picture is not None:
                arrays[f"{number}/picture"] = place.picture
        if self._discriminant is not None:
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
            place.margins.extend(about["margins"])
            looks = looks_of(number, memory.arrays)
            place.picture = memory.arrays.get(f"{number}/picture")
            place.first, place.settled, place.proposed = looks["first"], looks["settled"], looks["proposed"]
        self.fit()
        if self._discriminant is not None:
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
        search = self._lost % _SEARCH_EVERY == 0
        start = self._last if not other_size else None
        placed = self._view.follow(frame, start, search=search)
        if placed.found:
            self._lost = 0
            self._last = placed if not other_size else None
            return placed, None
        self._lost += 1
        return None, f"the view is blocked, or the camera was turned: {placed.reason}"

    def _light(self, frame: Image, placed: Registration | None) -> Light:
        """Return what makes the frame's light the view's; nothing where they hardly differ."""
        assert self._view is not None
        assert self._small_view is not None
        cut, _ = whole(self._view.image.pixels).cut(frame.pixels, placed, LIGHT_SIDE)
        light = light_between(small(cut), self._small_view)
        gammas = np.log(light.gammas)
        same = abs(np.log(light.brightness)) < _SAME_LIGHT and np.abs(gammas).max() < _SAME_GAMMA
        return NO_LIGHT if same else light

    def _see(
        self,
        place: Place,
        frame: Image,
        placed: Registration | None,
        light: Light,
        quality: Quality,
        time: float,
        told_back: str,
    ) -> Observation:
        pixels, inside = place.region.cut(frame.pixels, placed)
        if inside < _LEAST_INSIDE:
            return self._blind(place.region, time, quality, f"{1 - inside:.0%} of it is out of the frame", told_back)
        lit = pixels if light is NO_LIGHT else light.applied(pixels)
        look = Look(self._encode(lit), small(lit))
        if place.first is None:
            place.first = look
        found = None if place.settled is None else differences(look, place.settled)
        change = None if found is None else place.noise.change(found)
        from_first = place.noise.change(differences(look, place.first))
        told = self._discriminant.tell(look.vector) if self._discriminant else None
        state, verdict, reason = self._judged(place, told, change)
        level = self._scale.read(tiles_of(pixels)) if self._scale and verdict is not Verdict.UNKNOWN else None
        before = place.picture
        believed = change is None or change >= (1 if told is None else _QUIET)
        clear = told is not None and told.margin >= _SURE
        event = self._settle(place, look, state if verdict is not Verdict.UNSURE else None, believed or clear)
        if event is not None:
            place.picture = lit
        quiet = event is None and place.settling.proposed is None
        if quiet and found is not None and change is not None and change < 1:
            place.noise.learn(found)
        if told is not None and verdict is Verdict.MATCH:
            self._consider(place, told, look)
        made = (
            Event("changed", event[0], event[1], before, lit)
            if event is not None and event[0] is not None and before is not None
            else None
        )
        return Observation(
            time=time,
            region=place.region.name,
            state=state or "unknown",
            settled=place.settling.settled,
            verdict=verdict,
            score=None if told is None else told.margin,
            level=None if level is None else level.value,
            level_interval=None if level is None else level.interval,
            change=change,
            change_from_first=from_first,
            quality=quality,
            reason=reason + told_back,
            event=made,
            picture=lit,
        )

    def _judged(self, place: Place, told: Told | None, change: float | None) -> tuple[str | None, Verdict, str]:
        if told is None:
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
        if change is not None and change < _QUIET and told.state == place.settling.settled:
            place.margins.append(told.margin)
        if told.margin < threshold:
            return told.state, Verdict.UNSURE, f"margin {told.margin:.2f} is below {threshold:.2f}"
        return told.state, Verdict.MATCH, f"{told.state}: margin {told.margin:.2f}, {threshold:.2f} is enough"

    def _margin_threshold(self, place: Place) -> float:
        """Return the margin that is enough: by how much margins jumped from frame to frame while nothing changed."""
        jumps = np.abs(np.diff(place.margins)) if len(place.margins) > 2 else np.zeros(1)
        return float(np.clip(_SIGMAS * 1.4826 * np.median(jumps), _LEAST_MARGIN, _MOST_MARGIN))

    def _settle(self, place: Place, look: Look, state: str | None, changed: bool) -> tuple[str | None, str] | None:
        still = place.proposed is None or Noise(place.noise.seen).change(differences(look, place.proposed)) < 1
        event = place.settling.update(Reading(state, changed, still))
        place.proposed = look if place.settling.proposed is not None else None
        if event is not None:
            place.settled = look
            place.noise.seen.clear()
        return event

    def _consider(self, place: Place, told: Told, look: Look) -> None:
        """Let a look that was told for sure, and is settled, be learned; once for each new look of the place."""
        if not self._adapt or told.margin < _SURE or place.settling.settled != told.state or place.settling.proposed:
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
        return np.array([self._encode(view) for view in made])

    def _encode(self, pixels: NDArray[np.uint8]) -> Float32:
        pixels = np.ascontiguousarray(pixels)
        image = Image(pixels, (pixels.shape[1], pixels.shape[0]))
        return np.asarray(self._encoder.encode([image]).vectors[0], np.float32)


def _size(image: Image) -> str:
    return f"{image.pixels.shape[1]}x{image.pixels.shape[0]}"
