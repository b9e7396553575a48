"""What a monitor knows at a moment, as plain numbers: to be written to a file and taken up again after a restart."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.states.evidence import Look
from lookalike.states.past import Past
from lookalike.states.regions import Region
from lookalike.states.settling import Settling
from lookalike.types import Float32

VERSION = 3
_LOOKS = ("first", "settled", "proposed")


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """``about`` is JSON, ``arrays`` are numbers by name. A memory holds for the setting that is in ``about``."""

    about: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    def check(self, setting: Mapping[str, Any]) -> None:
        """Raise InputError where this is the memory of another setting."""
        if self.about.get("version") != VERSION:
            raise InputError(f"it is of version {self.about.get('version')}, this program writes {VERSION}")
        for name, value in setting.items():
            if self.about.get("setting", {}).get(name) != value:
                raise InputError(f"its {name} is {self.about.get('setting', {}).get(name)!r}, now it is {value!r}")


def place_about(
    region: Region, settling: Settling, seen: deque[tuple[float, float, float]], margins: deque[float]
) -> dict[str, Any]:
    """Return what is remembered of a place as JSON."""
    return {
        "region": asdict(region),
        "settling": asdict(settling),
        "noise": [list(map(float, row)) for row in seen],
        "margins": list(map(float, margins)),
    }


def look_arrays(number: int, looks: Mapping[str, Look | None]) -> dict[str, NDArray[Any]]:
    """Return the looks of a place as arrays."""
    return {
        f"{number}/{name}/{part}": value
        for name, look in looks.items()
        if look is not None
        for part, value in (("vector", look.vector), ("pixels", look.pixels))
    }


def looks_of(number: int, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Look | None]:
    """Return the looks of a place by name."""
    return {
        name: Look(arrays[f"{number}/{name}/vector"], arrays[f"{number}/{name}/pixels"])
        if f"{number}/{name}/vector" in arrays
        else None
        for name in _LOOKS
    }


def past_arrays(number: int, past: Past, states: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Return the looks that a place had in each state as arrays."""
    return {
        f"{number}/past/{k}": np.array(past.looks[state]) for k, state in enumerate(states) if past.looks.get(state)
    }


def recall_past(number: int, past: Past, arrays: Mapping[str, NDArray[Any]], states: tuple[str, ...]) -> None:
    """Give a place the looks back that it had."""
    for k, state in enumerate(states):
        if f"{number}/past/{k}" in arrays:
            past.looks[state] = list(np.asarray(arrays[f"{number}/past/{k}"], np.float32))


def adapted_of(arrays: Mapping[str, NDArray[Any]], states: tuple[str, ...]) -> dict[str, list[Float32]]:
    """Return what each state had learned."""
    return {
        state: list(np.asarray(arrays[f"adapted/{number}"], np.float32))
        for number, state in enumerate(states)
        if f"adapted/{number}" in arrays
    }
