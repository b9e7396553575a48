"""A fixed camera's frames, one after another -> what state each place is in, how full, and what changed.

    frame ─ register to the view ─ take back the light ─ cut regions ─ embed ─┬─ discriminant ─ past ─┐
                                  what did not change since keeps its vector ├─ level                ├─ settle ─ event
                                                                             └─ evidence ────────────┘

Everything that is remembered is bounded: of each region two pictures, four looks, 64 differences, 32 margins, and six
vectors a state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.edits import Edit
from lookalike.errors import ConfigError, InputError
from lookalike.protocols import Encoder
from lookalike.quality import SIDE as QUALITY_SIDE
from lookalike.quality import measure
from lookalike.robust import deviation
from lookalike.states.discriminant import Discriminant, Told
from lookalike.states.evidence import Look, Noise, small
from lookalike.states.level import Level, Scale, tiles_of
from lookalike.states.light import NO_LIGHT, Light
from lookalike.states.observing import Event, Glance, Observation, Place, States
from lookalike.states.past import Drift, Judged, drift, judged
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
from lookalike.states.standing import StandingView
from lookalike.types import Float32, Image, Quality, Registration, Verdict

FIRST, OTHER = "first", "other"
"""The states of a place that has no references: as it was first, or not."""
_DARK = 0.06
_LEAST_MARGIN, _MOST_MARGIN, _SIGMAS = 0.02, 0.08, 2.0
_CLEAR, _SURE, _LIKELY = 0.2, 0.5, 0.3
_NOVEL = 0.01
_ADAPT_EVERY = 12
_LEAST_INSIDE = 0.6
_LIGHTS = (
    Edit("gamma", {"exponent": 0.6}),
    Edit("gamma", {"exponent": 1.6}),
    Edit("noise", {"sigma": 8}),
)
"""What is done to each reference, beside mirroring it: states must be known in another light."""
_VIEWS = 2 + len(_LIGHTS)


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
        self._view: StandingView | None = None
        self._places: list[Place] = []
        self._discriminant: Discriminant | None = None
        self._scale: Scale | None = None
        self._time: float | None = None
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
        assert self._view is not None
        if problem is None:
            placed, problem = self._view.placed(frame)
        if problem is not None:
            return [self._blind(place.region, time, quality, problem, told_back) for place in self._places]
        light = self._view.light(frame, placed)
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
        self._view = StandingView(image, register=self._register)
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

    def _glances(self, frame: Image, placed: Registration | None, light: Light, quality: Quality) -> list[Glance]:
        """Return what is seen of each place; those that changed since they were last embedded are embedded together."""
        cuts = [place.region.cut(frame.pixels, placed) for place in self._places]
        lit = [pixels if light is NO_LIGHT else light.applied(pixels) for pixels, _ in cuts]
        thumbs = [small(pixels) for pixels in lit]
        noise = quality.noise * max(1.0, max(frame.pixels.shape) / QUALITY_SIDE)
        kept = [place.unchanged(thumb, noise) for place, thumb in zip(self._places, thumbs, strict=True)]
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
        jumps = np.diff(margins) if len(margins) > 2 else np.zeros(1)
        return float(np.clip(_SIGMAS * deviation(jumps, 0.0), _LEAST_MARGIN, _MOST_MARGIN))

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
                cuts += self._view.cuts(picture, self._given)
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


def _together(place: Place, told: Told | None, look: Look, common: Drift | None) -> Judged | None:
    """Return what the references tell, together with the place's own past where one is kept."""
    if told is None:
        return None
    if common is None:
        return Judged(told.state, told.margin)
    noise = [found[0] for found in place.noise.seen]
    return judged(told, look.vector, place.past, place.settling.settled, common, noise)
