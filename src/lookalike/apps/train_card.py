"""The card that lies beside a learned encoder, for people: what it was made of, how it was judged, what it may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lookalike.encoders.catalog import Entry
from lookalike.types import display_path

if TYPE_CHECKING:
    from lookalike.apps.train_request import Trained

CARD = "MODEL_CARD.md"
REPORT = "report.json"
PAGE = "report.html"
CALIBRATION = "calibration.json"
FIGURES_HEAD = ("figure", "before", "after", "difference", "95 % interval")


def card_text(trained: Trained, base: Entry, versions: Mapping[str, str]) -> str:
    """Return the card as markdown."""
    of, split = trained.found, trained.sides
    rows = "\n".join(
        f"| {' | '.join(row)} |" for row in (FIGURES_HEAD, ("---",) * len(FIGURES_HEAD), *figure_rows(trained))
    )
    notes = "".join(f"- {display_path(line)}\n" for line in (*trained.notes, *trained.advice))
    return f"""# {trained.request.name}

Learned by `lookalike train` on the {_state(trained)} encoder {trained.request.encoder}: {trained.learned}.

## Data

{of.pictures} pictures of {of.labels} labels, from {display_path(trained.source)}. The {of.units} classes or groups
(near duplicates belong to one) were never torn apart. {split["train"] + split["validation"]} pictures were learned from
or helped to choose, {split["test"]} judged. Seed {trained.request.seed}.

{notes}
## Figures

{_judged_how(trained)} Differences with their 95 % interval, classes (groups) and then queries drawn anew.

{rows}

{_verdict(trained.gained)}
What it does on pictures of another kind was not measured.

## Licence

{base.licence or "That of the base is not known"}: that of the backbone, {trained.request.encoder} ({base.source}). The
pictures that it was learned from may set terms of their own.

Made with {", ".join(f"{name} {version}" for name, version in versions.items())}.
"""


def _state(trained: Trained) -> str:
    return "frozen" if trained.request.mode == "head" else "whole"


def _judged_how(trained: Trained) -> str:
    if trained.request.mode != "head":
        return "On the third of the classes or groups that nothing was learned from."
    return (
        "Of three encoders that were learned so, this one the first, each on the third of the classes or groups "
        "that it never saw; `report.html` shows this one alone."
    )


def _verdict(gained: bool) -> str:
    if gained:
        return "It helped."
    return "No gain: the interval includes zero, or a figure fell. It was kept because that was asked for."


def figure_rows(trained: Trained) -> list[tuple[str, ...]]:
    """Return for each figure: name, before, after, difference, interval."""
    return [
        (
            one.figure,
            f"{one.before:.3f}",
            f"{one.after:.3f}",
            f"{one.difference.estimate:+.3f}",
            f"{one.difference.low:+.3f} to {one.difference.high:+.3f}",
        )
        for one in trained.changes
    ]
