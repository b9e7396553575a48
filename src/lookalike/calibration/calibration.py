"""What is kept of a calibration: for one space, how scores become rates, and what makes the thresholds adapt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from lookalike.calibration.alarms import AlarmTable
from lookalike.calibration.background import Background
from lookalike.calibration.fitting import Fit
from lookalike.calibration.fusion import Fusion, fusion_from_dict
from lookalike.errors import ConfigError, InputError, LookalikeError, SpaceMismatch
from lookalike.types import Space

FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Thresholds and rates for the metrics (and fusions) of one space.

    ``decides`` is the one whose verdict counts; ``fits`` and ``alarms`` are by metric or fusion. With a ``background``
    the closeness that was calibrated is that above the two pictures' mean level, on vectors of usual quality.
    ``source`` says in one phrase what it was made on, ``created`` when (ISO, UTC).
    """

    space: Space
    decides: str
    fits: Mapping[str, Fit]
    alarms: Mapping[str, AlarmTable]
    source: str
    created: str
    fusions: Mapping[str, Fusion] = field(default_factory=dict)
    background: Background | None = None

    def __post_init__(self) -> None:
        if self.decides not in self.fits:
            raise ConfigError(
                f"this calibration ({self.source}) is for {', '.join(self.fits)}, not for {self.decides!r}; "
                f"`lookalike calibrate --metric {self.decides}` makes one"
            )
        if set(self.alarms) != set(self.fits):
            raise InputError(f"rates a pair are of {', '.join(self.fits)}, rates a query of {', '.join(self.alarms)}")
        if self.background is not None and self.background.vectors.shape[1] != self.space.dim:
            raise SpaceMismatch(self.space, f"a background of {self.background.vectors.shape[1]} dimensions")

    @property
    def target(self) -> float:
        """The false positive rate per pair that the thresholds were set for."""
        return self.fits[self.decides].target

    def decided_by(self, name: str) -> Calibration:
        """Return the same with another metric, or fusion, deciding; raise ConfigError where it was not calibrated."""
        return self if name == self.decides else replace(self, decides=name)

    def check(self, space: Space) -> Self:
        """Return it; raise SpaceMismatch unless it is for ``space``: a threshold means nothing in another."""
        if self.space != space:
            raise SpaceMismatch(space, self.space, f"calibrate for that encoder; this calibration is of {self.source}")
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "format": FORMAT,
            "space": self.space.as_dict(),
            "decides": self.decides,
            "source": self.source,
            "created": self.created,
            "fits": {name: fit.as_dict() for name, fit in self.fits.items()},
            "alarms": {name: table.as_dict() for name, table in self.alarms.items()},
            "fusions": {name: fusion.as_dict() for name, fusion in self.fusions.items()},
            "background": None if self.background is None else self.background.as_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """Return the calibration of such an object; raise InputError where it is none, or of a newer version."""
        if not isinstance(data, Mapping) or "format" not in data:
            raise InputError("this is no calibration of lookalike; `lookalike calibrate --output FILE` writes one")
        if data["format"] != FORMAT:
            raise InputError(
                f"this calibration has format {data['format']!r}, this lookalike reads {FORMAT}; calibrate anew"
            )
        try:
            return cls(
                Space(**data["space"]),
                _text(data["decides"]),
                {name: Fit.from_dict(fit) for name, fit in data["fits"].items()},
                {name: AlarmTable.from_dict(table) for name, table in data["alarms"].items()},
                _text(data["source"]),
                _text(data["created"]),
                {name: fusion_from_dict(fusion) for name, fusion in data["fusions"].items()},
                None if data["background"] is None else Background.from_dict(data["background"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, LookalikeError) as error:
            raise InputError(
                f"this calibration is damaged ({type(error).__name__}: {error}); calibrate anew"
            ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{value!r} is no text")
    return value
