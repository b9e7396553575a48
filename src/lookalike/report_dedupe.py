"""The copies that were found, for people: one page (.html), each group side by side with its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lookalike import __version__
from lookalike.duplicates import Copies, Duplicates, Member
from lookalike.pipeline import in_parallel
from lookalike.report import picture_uri, short_name, templates
from lookalike.tables import check_output, replacing
from lookalike.types import display_path

_GROUPS, _MEMBERS = 300, 12
_TOLD = {
    "hamming": "hash: {} of 256 bits differ",
    "cosine": "cosine {}",
    "inliers": "{} features in place",
    "agreement": "agreement {}",
    "score": "score {}",
}

_Drawn = Mapping[str, tuple[str | None, str | None]]


def write_copies(output: Path, found: Duplicates, folders: Sequence[str]) -> None:
    """Write the page; raise ConfigError where it must not be written. Text is escaped, pictures are drawn anew."""
    check_output(output, ".html", ".htm")
    groups = found.groups[:_GROUPS]
    paths = dict.fromkeys(one.path for group in groups for one in group.members[:_MEMBERS])
    drawn = dict(zip(paths, in_parallel(picture_uri, paths), strict=True))
    page = templates().get_template("dedupe.html").render(
        title="Copies",
        summary=display_path(summary(found, folders)),
        groups=[_group(number, group, drawn) for number, group in enumerate(groups, 1)],
        more=len(found.groups) - len(groups),
        skipped=[display_path(f"{one.path}: {one.reason}") for one in found.skipped[:50]],
        more_skipped=max(0, len(found.skipped) - 50),
        thresholds=", ".join(f"{name} {value:g}" for name, value in found.thresholds.as_dict().items()),
        version=__version__,
    )  # fmt: skip
    with replacing(output) as file:
        file.write(page.encode("utf-8", "replace"))


def summary(found: Duplicates, folders: Sequence[str]) -> str:
    """Return in one sentence what was found."""
    return (
        f"{found.pictures:,} pictures in {', '.join(folders)}: {len(found.groups):,} groups of copies, "
        f"{len(found.drop):,} may go, {found.bytes_to_gain / 1e6:,.1f} MB"
    )


def evidence_lines(member: Member) -> list[str]:
    """Return what speaks for a link, in words."""
    told = [str(member.evidence["change"])] if member.evidence.get("change") not in (None, "none") else []
    return told + [text.format(member.evidence[name]) for name, text in _TOLD.items() if name in member.evidence]


def _group(number: int, group: Copies, drawn: _Drawn) -> dict[str, Any]:
    return {
        "number": number,
        "reason": display_path(group.reason),
        "members": [_member(one, group, drawn) for one in group.members[:_MEMBERS]],
        "more": max(0, len(group.members) - _MEMBERS),
    }


def _member(one: Member, group: Copies, drawn: _Drawn) -> dict[str, Any]:
    picture, problem = drawn[one.path]
    return {
        "fate": one.fate,
        "kind": "" if one.path == group.keep else one.kind.value,
        "name": short_name(one.path),
        "path": display_path(one.path),
        "size": f"{one.size[0]}x{one.size[1]}, {one.bytes:,} B",
        "why": display_path(one.why),
        "evidence": [display_path(line) for line in evidence_lines(one)],
        "to": short_name(one.linked_to) if one.linked_to not in (group.keep, one.path) else "",
        "picture": picture,
        "problem": problem,
    }
