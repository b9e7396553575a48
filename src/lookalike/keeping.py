"""Which of several copies is kept, and why.

    look_at(paths)            -> candidates: what each file says of itself; decoded only where pixels may decide
    choose(candidates, rule)  -> the one that is kept, and the reason

``best`` asks one question after another, and the first that tells two apart decides: is it more than an enlargement,
has it more pixels, a better format, less compression, sharper edges, its camera's date; is it in a folder and under a
name that people give to what they keep; then the shorter path, then the alphabet.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from lookalike.errors import ConfigError, InputError
from lookalike.fineness import fineness
from lookalike.images import read_bytes, read_file
from lookalike.images.header import read_header
from lookalike.quality import measure

_NOTE = "detail, blur, noise"
RULES = ("best", "largest", "oldest", "newest", "shortest-path")

# How many bytes of JPEG a byte of these is worth: Google's study of WebP (25 to 34 % smaller), and HEVC's usual half.
_WORTH = {"WEBP": 1.4, "HEIC": 2.0, "AVIF": 2.0}
_COMPRESSION_STEP = math.log(1.1)  # a tenth more bytes is no difference
_BLUR_STEP, _NOISE_STEP = 0.25, 2.0

# A picture with less than this share of the finest detail of one that is no larger has been enlarged or blurred.
_MUCH_LESS_DETAIL = 0.8
# Enlarging keeps the detail. A soft original looks the same; that the smaller one alone has its camera's date tells.
_SCARCELY_MORE_DETAIL = 1.2

_PASSING_FOLDERS = re.compile(
    r"(^|[^a-z])(te?mp|temporary|caches?|thumbnails?|downloads?|cop(y|ies)|kopien?|copias?|trash)([^a-z]|$)"
)
_COPY_NAMES = re.compile(r"\(\d+\)\s*$|(^|[^a-z])(copy|kopie|copia|copie|duplicate)([^a-z]|$)")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a file that may be kept; ``mtime`` is in seconds since 1970.

    ``jpeg_quality`` is 1 to 100 for a JPEG. What needs its pixels is None where they were not decoded: ``detail``
    (``fineness``), ``blur`` and ``noise`` (``types.Quality``).
    """

    path: str
    size_bytes: int
    mtime: float
    width: int
    height: int
    format: str
    lossless: bool
    jpeg_quality: int | None = None
    has_exif: bool = False
    taken: str | None = None
    protected: bool = False
    detail: float | None = None
    blur: float | None = None
    noise: float | None = None

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Choice:
    """The path that is kept and the reason; ``stay`` are others that are protected, ``drop`` all that may go."""

    keep: str
    reason: str
    stay: tuple[str, ...]
    drop: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {"keep": self.keep, "reason": self.reason, "stay": list(self.stay), "drop": list(self.drop)}


class Memory(Protocol):
    """Notes on contents (sha256), by name."""

    def note(self, sha256: str, name: str) -> str | None:
        """Return the note of this name on a content, or None."""
        ...

    def put_note(self, sha256: str, name: str, told: str) -> None:
        """Keep a note on a content."""
        ...


def look_at(
    paths: Iterable[str],
    protected: Iterable[str] = (),
    *,
    rule: str = "best",
    contents: Mapping[str, str] | None = None,
    memory: Memory | None = None,
) -> tuple[Candidate, ...]:
    """Return the candidates of one group, in the order given; raise UnreadableImage for a file that cannot be read.

    ``protected`` are those of the paths that must stay. Pixels are decoded only for ``best``, and only where the
    files differ: exact copies are told by their headers; blur and noise are measured only where these may decide. With
    a ``memory``, and the sha256 of each path in ``contents``, no content is measured twice.
    """
    check_rule(rule)
    safe = set(protected)
    found = tuple(_header(path, path in safe) for path in paths)
    if rule == "best" and _pixels_may_decide(found):
        known, whole = contents or {}, _sharpness_may_decide(found)
        return tuple(_measured(one, known.get(one.path), memory, with_sharpness=whole) for one in found)
    return found


def choose(candidates: Sequence[Candidate], rule: str = "best") -> Choice:
    """Return which of the candidates is kept; the same whatever their order.

    Where some are protected, one of these is kept and all of them stay. Raises ConfigError for an unknown rule,
    InputError where there is no candidate.
    """
    check_rule(rule)
    if not candidates:
        raise InputError("no file to choose from; a group has at least one")
    safe = [candidate for candidate in candidates if candidate.protected]
    questions = _questions(rule, candidates)
    ranked = sorted(safe or candidates, key=lambda candidate: [ask(candidate) for ask, _ in questions])
    kept, *others = ranked
    paths = sorted(candidate.path for candidate in candidates if not candidate.protected and candidate is not kept)
    stay = tuple(sorted(candidate.path for candidate in safe if candidate is not kept))
    return Choice(kept.path, _reason(kept, others, questions), stay, tuple(paths))


def check_rule(rule: str) -> None:
    """Raise ConfigError unless the rule is one of ``RULES``."""
    if rule not in RULES:
        raise ConfigError(f"no rule {rule!r} to keep a file by; known: {', '.join(RULES)}")


# A question gives what is sorted by, smallest first, and says how the kept file differs from the next one.
_Ask = Callable[[Candidate], Any]
_Say = Callable[[Candidate, Candidate], str]


def _questions(rule: str, candidates: Sequence[Candidate]) -> list[tuple[_Ask, _Say]]:
    last: list[tuple[_Ask, _Say]] = [(_length, _say_shorter), (lambda c: c.path, lambda a, b: "first by name")]
    size: tuple[_Ask, _Say] = (lambda c: -c.pixels, _say_larger)
    if rule == "largest":
        return [size, (lambda c: -c.size_bytes, _say_bytes), *last]
    if rule == "oldest":
        return [(lambda c: c.mtime, lambda a, b: f"older: {_day(a)} against {_day(b)}"), *last]
    if rule == "newest":
        return [(lambda c: -c.mtime, lambda a, b: f"newer: {_day(a)} against {_day(b)}"), *last]
    if rule == "shortest-path":
        return last
    compression, say_compression = _compression(candidates)
    return [
        (lambda c: _is_enlarged(c, candidates), _say_detail),
        size,
        (_format_rank, _say_format),
        (compression, say_compression),
        (lambda c: round((c.blur or 0) / _BLUR_STEP), lambda a, b: f"sharper: blur {_px(a)} against {_px(b)}"),
        (lambda c: round((c.noise or 0) / _NOISE_STEP), lambda a, b: "less noisy"),
        (lambda c: (c.taken is None, not c.has_exif), _say_exif),
        (_is_passing, lambda a, b: f"the other is in a folder for passing things: {os.path.dirname(b.path)}"),
        (_is_named_copy, lambda a, b: f"the other is named as a copy: {os.path.basename(b.path)}"),
        *last,
    ]


def _reason(kept: Candidate, others: Sequence[Candidate], questions: Sequence[tuple[_Ask, _Say]]) -> str:
    protected = "protected folder" if kept.protected else ""
    if not others:
        return protected or "the only one"
    said = next((say(kept, others[0]) for ask, say in questions if ask(kept) != ask(others[0])), "the same file twice")
    return f"{protected}; {said}" if protected else said


def _is_enlarged(candidate: Candidate, candidates: Sequence[Candidate]) -> bool:
    """Tell whether one that is no larger has clearly more detail: then these pixels were made up, or blurred."""
    return any(_has_better_detail(other, candidate) for other in candidates if other.pixels <= candidate.pixels)


def _has_better_detail(smaller: Candidate, larger: Candidate) -> bool:
    if smaller.detail is None or larger.detail is None:
        return False
    ratio = _finest(larger) / _finest(smaller)
    only_smaller_is_dated = smaller.taken is not None and larger.taken is None and smaller.pixels < larger.pixels
    return ratio <= (_SCARCELY_MORE_DETAIL if only_smaller_is_dated else _MUCH_LESS_DETAIL)


def _finest(candidate: Candidate) -> float:
    return (candidate.detail or 1.0) * math.sqrt(candidate.pixels)


def _format_rank(candidate: Candidate) -> int:
    if candidate.lossless:
        return 0
    return 2 if candidate.format == "GIF" else 1  # 256 colours


def _compression(candidates: Sequence[Candidate]) -> tuple[_Ask, _Say]:
    """Return the question about compression: the quality where all are JPEGs, else bytes a pixel."""
    lossy = [candidate for candidate in candidates if not candidate.lossless]
    if all(candidate.jpeg_quality is not None for candidate in lossy):
        return (
            lambda c: -(c.jpeg_quality or 0),
            lambda a, b: f"less compressed: JPEG quality {a.jpeg_quality} against {b.jpeg_quality}",
        )
    return (
        lambda c: 0 if c.lossless else -round(math.log(_worth(c)) / _COMPRESSION_STEP),
        lambda a, b: f"less compressed: {_worth(a):.2g} against {_worth(b):.2g} bytes a pixel, as JPEG",
    )


def _worth(candidate: Candidate) -> float:
    return max(candidate.size_bytes, 1) * _WORTH.get(candidate.format, 1.0) / candidate.pixels


def _is_passing(candidate: Candidate) -> bool:
    return _PASSING_FOLDERS.search(os.path.dirname(candidate.path).lower()) is not None


def _is_named_copy(candidate: Candidate) -> bool:
    return _COPY_NAMES.search(os.path.splitext(os.path.basename(candidate.path))[0].lower()) is not None


def _length(candidate: Candidate) -> int:
    return len(candidate.path)


def _say_larger(kept: Candidate, other: Candidate) -> str:
    return f"largest picture: {kept.width}x{kept.height} against {other.width}x{other.height}"


def _say_bytes(kept: Candidate, other: Candidate) -> str:
    return f"largest file: {kept.size_bytes} against {other.size_bytes} bytes"


def _say_detail(kept: Candidate, other: Candidate) -> str:
    return f"more detail: {other.width}x{other.height} of the other are enlarged or blurred"


def _say_format(kept: Candidate, other: Candidate) -> str:
    return f"{'lossless ' if kept.lossless else ''}{kept.format} against {other.format}"


def _say_exif(kept: Candidate, other: Candidate) -> str:
    return "has its camera's date" if kept.taken and not other.taken else "has EXIF"


def _say_shorter(kept: Candidate, other: Candidate) -> str:
    return "shorter path"


def _day(candidate: Candidate) -> str:
    return datetime.fromtimestamp(candidate.mtime, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _px(candidate: Candidate) -> str:
    return f"{candidate.blur or 0:.2g}"


def _header(path: str, protected: bool) -> Candidate:
    file = read_file(path)
    head = read_header(file.data, path)
    return Candidate(
        path=path,
        size_bytes=file.size,
        mtime=os.stat(path).st_mtime,
        width=head.width,
        height=head.height,
        format=head.format,
        lossless=head.lossless,
        jpeg_quality=head.jpeg_quality,
        has_exif=head.has_exif,
        taken=head.taken,
        protected=protected,
    )


def _pixels_may_decide(candidates: Sequence[Candidate]) -> bool:
    """Tell whether the files differ; those alike in all this have, in all likelihood, the same bytes."""
    return len({(c.format, c.pixels, c.size_bytes, c.jpeg_quality, c.taken) for c in candidates}) > 1


def _sharpness_may_decide(candidates: Sequence[Candidate]) -> bool:
    """Tell whether two of them, or of some of them, are alike in all that is asked before."""
    all_jpeg = all(c.lossless or c.jpeg_quality is not None for c in candidates)
    alike = {(c.pixels, _format_rank(c), c.jpeg_quality if all_jpeg else None) for c in candidates}
    return len(alike) < len(candidates)


def _measured(candidate: Candidate, sha256: str | None, memory: Memory | None, *, with_sharpness: bool) -> Candidate:
    kept = None if memory is None or sha256 is None else memory.note(sha256, _NOTE)
    detail, blur, noise = (None, None, None) if kept is None else json.loads(kept)
    if detail is not None and (blur is not None or not with_sharpness):
        return replace(candidate, detail=detail, blur=blur, noise=noise)
    image = read_bytes(read_file(candidate.path).data, candidate.path)
    detail = float(fineness(image))
    if with_sharpness:
        quality = measure(image)
        blur, noise = float(quality.blur), float(quality.noise)
    if memory is not None and sha256 is not None:
        memory.put_note(sha256, _NOTE, json.dumps([detail, blur, noise]))
    return replace(candidate, detail=detail, blur=blur, noise=noise)
