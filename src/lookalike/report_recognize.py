"""What was recognized, for people: one page (.html), each picture beside the references of its label and the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lookalike import __version__
from lookalike.medical import notice
from lookalike.pipeline import in_parallel
from lookalike.recognizing import Candidate, Recognized, RecognizeResult
from lookalike.report import picture_uri, short_name, templates
from lookalike.tables import check_output, replacing
from lookalike.types import display_path

_CASES = 300

_Drawn = Mapping[str, tuple[str | None, str | None]]


def write_recognized(output: Path, found: RecognizeResult, *, medical: bool = False) -> None:
    """Write the page; raise ConfigError where it must not be written. Text is escaped, pictures are drawn anew.

    It says that it is no diagnosis where a picture is DICOM, or ``medical`` is asked for.
    """
    check_output(output, ".html", ".htm")
    cases = found.decisions[:_CASES]
    shown = dict.fromkeys(path for one in cases for path in _pictures_of(one))
    drawn = dict(zip(shown, in_parallel(picture_uri, shown), strict=True))
    page = templates().get_template("recognize.html").render(
        title="Recognized",
        notes=notice(shown, asked=medical),
        cases=[_case(one, drawn) for one in cases],
        more=len(found.decisions) - len(cases),
        skipped=[display_path(f"{one.path}: {one.reason}") for one in found.skipped],
        version=__version__,
    )  # fmt: skip
    with replacing(output) as file:
        file.write(page.encode("utf-8", "replace"))


def _pictures_of(one: Recognized) -> list[str]:
    references = (reference.path for candidate in one.evidence for reference in candidate.references)
    return [one.path, *(path for path in references if path is not None)]


def _case(one: Recognized, drawn: _Drawn) -> dict[str, Any]:
    return {
        "name": short_name(one.path),
        "path": display_path(one.path),
        "verdict": one.verdict.value,
        "label": "" if one.label is None else display_path(one.label),
        "reason": display_path(one.reason),
        "picture": _picture(one.path, drawn),
        "candidates": [_candidate(candidate, drawn) for candidate in one.evidence],
    }


def _candidate(one: Candidate, drawn: _Drawn) -> dict[str, Any]:
    limit = "not calibrated" if one.threshold is None else f"threshold {one.threshold:.3f}"
    return {
        "label": display_path(one.label),
        "told": f"{one.score:.3f}, {limit}",
        "references": [
            {
                "path": display_path(reference.path or reference.id),
                "score": f"{reference.score:.3f}",
                "picture": _picture(reference.path, drawn),
            }
            for reference in one.references
        ],
    }


def _picture(path: str | None, drawn: _Drawn) -> tuple[str | None, str | None]:
    return drawn.get(path or "", (None, "no file"))
