"""What an inspector found, for people: one page (.html), worst first, and a picture with its heat for each finding."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import __version__
from lookalike.errors import ConfigError, InputError
from lookalike.images import read
from lookalike.images.drawing import as_jpeg, fitted, framed, overlaid
from lookalike.inspecting import Finding
from lookalike.medical import notice
from lookalike.pipeline import in_parallel
from lookalike.report import short_name, templates
from lookalike.tables import check_output, replacing
from lookalike.types import Skipped, display_path

_SIDE = 640
_PAGE_SIDE = 420
SHOWN = 200
"""So many findings stand on a page, the worst."""
_BOXES = 30
_COLOR = "#ffd400"
_GREYED_BELOW = 0.25
_ENDING = ".heat.jpg"


class Heatmaps:
    """Writes each finding's picture with its heat and its regions into a folder, as they come.

    They are called as the picture, with .heat.jpg behind; pictures of one name from several folders get a number.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is missing; raise ConfigError where that cannot be."""
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"cannot write heatmaps to {folder}: it is no folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        self._folder = folder
        self._taken: set[str] = set()

    def write(self, finding: Finding) -> None:
        """Write one finding; nothing where the picture was not judged or cannot be read any more."""
        pixels = None if finding.heat is None else drawing(finding, _SIDE)
        if pixels is not None:
            with replacing(self._folder / self._name(finding)) as file:
                file.write(as_jpeg(pixels))

    def _name(self, finding: Finding) -> str:
        stem = Path(finding.path).name
        name, number = f"{stem}{_ENDING}", 2
        while name in self._taken:
            name, number = f"{stem}-{number}{_ENDING}", number + 1
        self._taken.add(name)
        return name


def write_findings(
    output: Path, findings: Sequence[Finding], skipped: Sequence[Skipped], inspector: str, *, medical: bool = False
) -> None:
    """Write the page; raise ConfigError where it must not be written. Text is escaped, pictures are drawn anew.

    It says that it is no diagnosis where a picture is DICOM, or ``medical`` is asked for.
    """
    check_output(output, ".html", ".htm")
    ordered = sorted(findings, key=lambda one: one.badness)[:SHOWN]
    pictures = [_uri(pixels) for pixels in in_parallel(lambda one: drawing(one, _PAGE_SIDE), ordered)]
    page = templates().get_template("inspection.html").render(
        title="Inspection",
        summary=display_path(_summary(findings, inspector)),
        notes=notice((one.path for one in ordered), asked=medical),
        findings=[_told(one, picture) for one, picture in zip(ordered, pictures, strict=True)],
        more=len(findings) - len(ordered),
        skipped=[display_path(f"{one.path}: {one.reason}") for one in skipped[:50]],
        version=__version__,
    )  # fmt: skip
    with replacing(output) as file:
        file.write(page.encode("utf-8", "replace"))


def drawing(finding: Finding, side: int) -> np.ndarray | None:
    """Return the picture (H, W, 3), at most ``side`` a side, with its heat and boxes; None where it cannot be read."""
    try:
        image = read(finding.path)
    except InputError:
        return None
    pixels = fitted(image.pixels, side, side)
    if finding.heat is not None:
        # What is far below the threshold shows as the plain picture.
        heat = np.clip((finding.heat - _GREYED_BELOW) / (1 - _GREYED_BELOW), 0, 1).astype(np.float32)
        pixels = overlaid(pixels, heat, "inferno")
    share_x, share_y = pixels.shape[1] / image.size[0], pixels.shape[0] / image.size[1]
    boxes = [
        (x * share_x, y * share_y, width * share_x, height * share_y)
        for x, y, width, height in (region.box for region in finding.regions[:_BOXES])
    ]
    return framed(pixels, boxes, _COLOR) if boxes else pixels


def _summary(findings: Sequence[Finding], inspector: str) -> str:
    bad = sum(one.defective is True for one in findings)
    unknown = sum(one.defective is None for one in findings)
    rate = f"{findings[0].false_alarm_rate:.1%}" if findings else "an unknown share"
    return (
        f"{inspector}: {bad} of {len(findings)} pictures are defective"
        + (f", {unknown} cannot be judged" if unknown else "")
        + f". Of good pictures like those that it was fitted on, {rate} are called defective in the mean."
    )


def _told(finding: Finding, picture: str | None) -> dict[str, Any]:
    said = {True: "defective", False: "good", None: "unknown"}[finding.defective]
    return {
        "said": said,
        "name": short_name(finding.path),
        "path": display_path(finding.path),
        "reason": display_path(finding.reason),
        "score": "" if finding.score is None else f"{finding.score:.2f} (threshold {finding.threshold:.2f})",
        "picture": picture,
    }


def _uri(pixels: np.ndarray | None) -> str | None:
    return None if pixels is None else "data:image/jpeg;base64," + base64.b64encode(as_jpeg(pixels)).decode()
