"""Learn what good parts look like, and tell the defects of others: files in, findings out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lookalike import registry
from lookalike.errors import ConfigError, InputError, StoreError
from lookalike.images import Found, read, walk
from lookalike.inspecting import SIZE_SLACK, Finding, Inspector, Proof, from_bytes, to_bytes
from lookalike.pipeline import in_parallel, reason_of
from lookalike.tables import replacing
from lookalike.tabular import at_line, place_of, read_rows
from lookalike.types import Image, Skipped

Progress = Callable[[int], object]

ENDING = ".inspector"
MOST_TEMPLATES = 32
"""So many different templates of a map are kept in the inspector; of more, none: each run names its own."""
_LARGEST_FILE = 200_000_000


@dataclass(frozen=True, slots=True)
class Fitted:
    """What `inspect fit` and `inspect add` came to: the file, its size, what it compares by, and what that rests on.

    ``sizes`` holds the least and the most width and height of the good pictures, ``inspected`` the share of the picture
    that is.
    """

    path: str
    method: str
    bytes: int
    proof: Proof
    skipped: tuple[Skipped, ...]
    sizes: tuple[int, int, int, int]
    inspected: float

    @property
    def several_sizes(self) -> bool:
        """Whether good pictures differ in width or height by more than a picture to be judged may."""
        least_w, most_w, least_h, most_h = self.sizes
        return most_w > least_w * (1 + SIZE_SLACK) or most_h > least_h * (1 + SIZE_SLACK)

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        told = self.proof.as_dict()
        return {
            "inspector": self.path,
            "method": self.method,
            "bytes": self.bytes,
            "inspected": self.inspected,
            "sizes": list(self.sizes),
            **told,
            "skipped": [asdict(one) for one in self.skipped],
        }


@dataclass(frozen=True, slots=True)
class Inspected:
    """What `inspect run` came to: a finding for each picture that could be read, in order, and those that could not."""

    decisions: tuple[Finding, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def defective(self) -> int:
        """How many pictures are defective."""
        return sum(one.defective is True for one in self.decisions)

    @property
    def unknown(self) -> int:
        """How many pictures cannot be judged."""
        return sum(one.defective is None for one in self.decisions)

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return {
            "decisions": [one.as_dict() for one in self.decisions],
            "skipped": [asdict(one) for one in self.skipped],
        }


@dataclass(frozen=True, slots=True)
class Templates:
    """Golden templates: one for all, or by the absolute path of the picture."""

    one: Image | None = None
    by_path: dict[str, str] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def given(cls, template: str | None, template_map: str | None) -> Templates | None:
        """Return what the two options say, None where neither was given; raise ConfigError where both were.

        A map is CSV or JSONL with the columns ``path`` and ``template``, both relative to it.
        """
        if template and template_map:
            raise ConfigError("--template or --template-map: one of the two")
        if template:
            return cls(read(template), source=template)
        if not template_map:
            return None
        file, found = Path(os.path.expanduser(template_map)), {}
        for line, row in read_rows(file, ["path", "template"], what="a map of templates"):
            with at_line(file, line):
                for column in ("path", "template"):
                    if not isinstance(row.get(column), str):
                        raise InputError(f"no value for the column {column!r}")
                found[place_of(file, row["path"])] = place_of(file, row["template"])
        if not found:
            raise InputError(f"{template_map} names no picture")
        return cls(by_path=found, source=template_map)

    def of(self, image: Image) -> Image:
        """Return the template of a picture; raise InputError where none is named."""
        if self.one is not None:
            return self.one
        path = self.by_path.get(os.path.normpath(os.path.abspath(os.path.expanduser(image.source))))
        if path is None:
            raise InputError(f"{self.source} names no template for it")
        return read(path)

    def kept(self) -> list[Image]:
        """Return the templates that an inspector keeps."""
        if self.one is not None:
            return [self.one]
        names = list(dict.fromkeys(self.by_path.values()))
        return [image for name in names if (image := _readable(name))] if len(names) <= MOST_TEMPLATES else []


def fit(
    good: Sequence[str],
    output: str,
    *,
    template: str | None = None,
    template_map: str | None = None,
    mask: str | None = None,
    rate: float | None = None,
    encoder: str = registry.DEFAULT_ENCODER,
    progress: Progress = lambda _: None,
) -> Fitted:
    """Make an inspector of the good pictures in folders and files, and write it to ``output``.

    What is white in ``mask``, which lies over the template, else over each picture, is inspected; None: all. Raise
    InputError where there are too few, ConfigError where they cannot support the rate.
    """
    check_inspector(output)
    templates = Templates.given(template, template_map)
    part = None if mask is None else read(mask)
    skipped: list[Skipped] = []
    pictures = _pictures(good, skipped, progress)
    if templates is None:
        made, proof = Inspector.fit(pictures, encoder=registry.encoder(encoder), rate=rate, mask=part)
    else:
        kept = templates.kept()
        of = None if templates.one is not None else templates.of
        made, proof = Inspector.fit(pictures, templates=kept, template_of=of, rate=rate, mask=part)
    return _written(made, proof, output, skipped)


def add(
    inspector: str, good: Sequence[str], *, template_map: str | None = None, progress: Progress = lambda _: None
) -> Fitted:
    """Add good pictures to an inspector, in its file."""
    known = load(inspector)
    templates = Templates.given(None, template_map)
    skipped: list[Skipped] = []
    made, proof = known.update(_pictures(good, skipped, progress), templates.of if templates else None)
    return _written(made, proof, inspector, skipped)


def run(
    inspector: str,
    images: Sequence[str],
    *,
    template: str | None = None,
    template_map: str | None = None,
    progress: Progress = lambda _: None,
    each: Callable[[Finding], object] = lambda _: None,
    heats: int = 0,
) -> Inspected:
    """Decide on each picture in folders and files, in order; ``each`` is called with every finding as it comes.

    Of what is returned the ``heats`` findings that are worst keep their heat. Raise InputError where no picture can be
    read.
    """
    known = load(inspector)
    templates = Templates.given(template, template_map)
    if templates is not None and known.model is not None:
        raise ConfigError(
            f"{inspector} looks at surfaces, without a template: leave out --template, or fit it with one"
        )
    skipped: list[Skipped] = []

    def decide(path: str) -> Finding | Skipped:
        try:
            image = read(path)
            return known.decide(image, templates.of(image) if templates else None)
        except InputError as error:
            return Skipped(path, reason_of(error))

    findings: list[Finding] = []
    worst: list[Finding] = []
    for found in in_parallel(decide, _paths(images, skipped)):
        progress(1)
        if isinstance(found, Skipped):
            skipped.append(found)
            continue
        each(found)
        worst.append(found)
        if len(worst) > 2 * heats:
            worst = _worst(worst, heats)
        findings.append(replace(found, heat=None))
    if not findings:
        raise InputError(f"no picture to inspect in {', '.join(images)}{_first(skipped)}")
    heated = {one.path: one for one in _worst(worst, heats)}
    return Inspected(tuple(heated.get(one.path, one) for one in findings), tuple(skipped))


def _worst(findings: list[Finding], count: int) -> list[Finding]:
    return sorted(findings, key=lambda one: one.badness)[:count]


def load(path: str) -> Inspector:
    """Return the inspector in a file; raise InputError where it is missing, damaged, or of another encoder."""
    file = Path(os.path.expanduser(path))
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise InputError(f"{path} is no inspector of lookalike: it is too large")
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the inspector {path}: {error.strerror or error}") from error
    return from_bytes(data, path, registry.encoder)


def check_inspector(output: str) -> None:
    """Raise ConfigError unless an inspector can be written there; a slip overwrites no picture."""
    path = Path(output)
    if path.suffix != ENDING:
        raise ConfigError(f"the name of an inspector ends in {ENDING}, got {output}")
    if path.is_dir():
        raise ConfigError(f"cannot write {output}: it is a folder")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot write {output}: its folder is not there")


def _written(made: Inspector, proof: Proof, output: str, skipped: Sequence[Skipped]) -> Fitted:
    data = to_bytes(made)
    try:
        with replacing(Path(output)) as file:
            file.write(data)
    except StoreError as error:
        raise ConfigError(str(error)) from error
    method = "template" if made.model is None else "surface"
    share = 1.0 if made.mask is None else float(made.mask.mean())
    return Fitted(output, method, len(data), proof, (*skipped, *proof.skipped), made.sizes, share)


def _readable(path: str) -> Image | None:
    """Return a template, None where it cannot be read: whoever asks for it is told why."""
    try:
        return read(path)
    except InputError:
        return None


def _pictures(places: Sequence[str], skipped: list[Skipped], progress: Progress) -> Iterator[Image]:
    """Yield the pictures in folders and files, and note those that cannot be read; raise InputError without any."""
    count = 0
    for path in _paths(places, skipped):
        try:
            image = read(path)
        except InputError as error:
            skipped.append(Skipped(path, reason_of(error)))
            continue
        count += 1
        progress(1)
        yield image
    if not count:
        raise InputError(f"no picture in {', '.join(places)}{_first(skipped)}")


def _paths(places: Sequence[str], skipped: list[Skipped]) -> Iterator[str]:
    if not places:
        raise ConfigError("name a folder of pictures, or pictures")
    for place in places:
        # A frame of a DICOM file, `file.dcm#3`, is no file of its own.
        if "#" in place and not os.path.exists(os.path.expanduser(place)):
            yield place
            continue
        for found in _walked(place, alone=len(places) == 1):
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                yield found.path


def _walked(place: str, *, alone: bool) -> Iterator[Found | Skipped]:
    """Yield what lies in a folder, or a file; a line for what is not there, where others are to be looked at too."""
    try:
        yield from walk(place)
    except InputError as error:
        if alone:
            raise
        yield Skipped(place, str(error).removeprefix(f"cannot open {place}: "))


def _first(skipped: Sequence[Skipped]) -> str:
    return f"; left out first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
