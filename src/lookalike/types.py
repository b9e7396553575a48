"""The values that flow through lookalike: frozen, checked once when built, trusted afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError, SpaceMismatch

if TYPE_CHECKING:
    import PIL.Image

Float32: TypeAlias = NDArray[np.float32]
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[Any] | PIL.Image.Image | Image"
"""Whatever may stand where a picture is wanted: a path, the bytes of a file, an array, a PIL image, an Image."""

NO_METADATA: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Space:
    """Where a vector lives. Vectors of two spaces are never compared.

    ``version`` is the weights' sha256 and precision, ``preprocess`` the hash of the recipe, ``dim`` the length.
    """

    encoder: str
    version: str
    preprocess: str
    dim: int

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise InputError(f"a space needs at least one dimension, got dim={self.dim}")

    def __str__(self) -> str:
        return f"{self.encoder}:{self.version}:{self.preprocess}:{self.dim}"

    def as_dict(self) -> dict[str, Any]:
        """Return the four fields as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A picture as the encoders see it: upright, sRGB, opaque.

    ``pixels`` is (H, W, 3) uint8, C-contiguous and read-only. ``size`` is the upright (width, height) of the file in
    pixels, which is larger than ``pixels`` where the picture was decoded reduced. ``taken`` is the EXIF date as
    ``YYYY-MM-DDTHH:MM:SS``.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    source: str = "<array>"
    format: str | None = None
    taken: str | None = None

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise InputError(f"an Image needs (H, W, 3) uint8 pixels, got {shape} {dtype} from {self.source}")
        pixels = np.ascontiguousarray(self.pixels).view()
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)

    def crop(self, x: int, y: int, width: int, height: int) -> Image:
        """Return the box whose upper left corner is (x, y), in pixels of ``pixels``; it must lie inside."""
        h, w = self.pixels.shape[:2]
        if width < 1 or height < 1 or x < 0 or y < 0 or x + width > w or y + height > h:
            raise InputError(
                f"crop {x},{y},{width},{height} does not lie inside {self.source}, which is {w}x{h} pixels"
            )
        return Image(self.pixels[y : y + height, x : x + width], (width, height), self.source, self.format, self.taken)


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Vectors of N pictures in one space.

    ``vectors`` is (N, dim) float32, each row of length 1 (a row of zeros stays zeros); ``norms`` is (N,) float32, the
    lengths before normalization. Build from raw vectors with :meth:`from_raw`.
    """

    vectors: Float32
    norms: Float32
    space: Space

    def __post_init__(self) -> None:
        n, dim = self.vectors.shape if self.vectors.ndim == 2 else (-1, -1)
        if dim != self.space.dim:
            raise SpaceMismatch(self.space, f"an array of shape {self.vectors.shape}")
        if self.norms.shape != (n,):
            raise InputError(f"{n} vectors need {n} norms, got shape {self.norms.shape}")
        if self.vectors.dtype != np.float32 or self.norms.dtype != np.float32:
            raise InputError(f"embeddings are float32, got {self.vectors.dtype} vectors and {self.norms.dtype} norms")
        if not (np.isfinite(self.vectors).all() and np.isfinite(self.norms).all()):
            raise InputError(f"embeddings of {self.space.encoder} hold NaN or infinite values")

    @classmethod
    def from_raw(cls, raw: NDArray[np.floating[Any]], space: Space) -> Embeddings:
        """L2-normalize ``raw`` (N, dim); the lengths are kept as ``norms``, and a zero vector stays zero."""
        wide = np.asarray(raw, dtype=np.float64)
        norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
        unit = wide / np.where(norms > 0, norms, 1.0)[:, None]
        return cls(unit.astype(np.float32), norms.astype(np.float32), space)

    @classmethod
    def concatenate(cls, parts: Sequence[Embeddings]) -> Embeddings:
        """Stack embeddings of one space, in order; at least one part."""
        spaces = {part.space for part in parts}
        if len(spaces) != 1:
            raise SpaceMismatch("one space", sorted(map(str, spaces)))
        return cls(
            np.concatenate([part.vectors for part in parts]),
            np.concatenate([part.norms for part in parts]),
            parts[0].space,
        )

    def mean_direction(self) -> Embeddings:
        """Return one embedding that stands for all of these: the normalized mean of the unit vectors."""
        if len(self) == 1:
            return self
        return Embeddings.from_raw(self.vectors.mean(axis=0, dtype=np.float64, keepdims=True), self.space)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice) -> Embeddings:
        return Embeddings(self.vectors[rows], self.norms[rows], self.space)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that bulk work left out: its path as given, and one plain sentence why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Which file an item came from, and how it looked when it was read.

    ``root`` is an absolute folder and ``path`` is relative to it. ``mtime_ns`` is None where the file was so young when
    it was read that a later change might carry the same time: then only the content can tell.
    """

    root: str
    path: str
    size: int
    mtime_ns: int | None

    @property
    def absolute(self) -> str:
        """The file's absolute path."""
        return os.path.join(self.root, self.path)


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a gallery, without its vectors.

    ``metadata`` is all that is known and can be filtered on; ``given`` is the part of it that a person gave (it wins
    over what was read from the file, now and when the file changes). ``content`` is the sha256 of the file's bytes.
    """

    id: str
    metadata: Mapping[str, Any] = field(default_factory=lambda: NO_METADATA)
    given: Mapping[str, Any] = field(default_factory=lambda: NO_METADATA)
    file: FileStamp | None = None
    content: str | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        if not self.id or self.id != self.id.strip() or "\0" in self.id:
            raise InputError(f"an id is a non-empty text without spaces around it, got {self.id!r}")

    @property
    def path(self) -> str | None:
        """The absolute path, or None for a picture that came from memory."""
        return self.file.absolute if self.file else None


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search; ``score`` is in the metric's own units, ``reranked`` how close a re-ranker found it."""

    id: str
    path: str | None
    score: float
    metadata: Mapping[str, Any]
    reranked: float | None = None


@dataclass(frozen=True, slots=True)
class Hits(Sequence[Hit]):
    """The answers to one query, best first, ties by id. ``exact`` says whether every item was compared."""

    hits: tuple[Hit, ...]
    query: str
    metric: str
    space: Space
    exact: bool

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a run over a folder did: items added, updated, found unchanged, removed; files skipped."""

    added: int
    updated: int
    unchanged: int
    removed: int
    skipped: tuple[Skipped, ...] = ()

    @classmethod
    def total(cls, reports: Sequence[IndexReport]) -> IndexReport:
        """Return one report of several runs."""
        return cls(
            sum(r.added for r in reports),
            sum(r.updated for r in reports),
            sum(r.unchanged for r in reports),
            sum(r.removed for r in reports),
            tuple(skipped for r in reports for skipped in r.skipped),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


class Verdict(StrEnum):
    """What a decision says. ``UNSURE``: inside the margin, or not calibrated; ``UNKNOWN``: it cannot be judged."""

    MATCH = "match"
    NO_MATCH = "no_match"
    UNSURE = "unsure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured of a picture, at the size at which encoders look at it.

    ``brightness`` is the mean luma and ``contrast`` its standard deviation, both in [0, 1]; ``noise`` the standard
    deviation of white noise in levels of 0 to 255; ``blur`` the standard deviation, in pixels of the measured picture,
    of the Gaussian blur that would make a typical picture as soft. ``problem`` says in one phrase why the picture
    cannot be judged at all (black, white, one colour, a few pixels), else None.
    """

    brightness: float
    contrast: float
    noise: float
    blur: float
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Usual:
    """How noisy (levels) and how soft (pixels) the pictures of a gallery are: the median, and the worst of 95 %."""

    noise: float
    blur: float
    most_noise: float
    most_blur: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one metric says of a pair: its score, and, where it is calibrated, the threshold and the rate.

    ``false_positive_rate`` is the estimated share of pairs of different things that score as high (as close) as this
    one; ``passed`` whether the score is on the matching side of ``threshold``. All three are None where nothing is
    calibrated.
    """

    metric: str
    score: float
    threshold: float | None = None
    false_positive_rate: float | None = None
    passed: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with what it rests on.

    ``score`` and ``threshold`` are those of the deciding score, in its own units. ``false_positive_rate`` is per pair,
    ``false_alarm_rate`` per query at the gallery's size; None where it is not calibrated. ``reason`` is one plain
    sentence with the numbers.
    """

    verdict: Verdict
    score: float | None
    threshold: float | None
    reason: str
    false_positive_rate: float | None = None
    false_alarm_rate: float | None = None
    evidence: tuple[Evidence, ...] = ()

    def __post_init__(self) -> None:
        if self.verdict in (Verdict.MATCH, Verdict.NO_MATCH) and not self.evidence:
            raise InputError(f"a verdict {self.verdict.value!r} needs evidence, got none")
        if not self.reason:
            raise InputError("a decision needs a reason")


@dataclass(frozen=True, slots=True)
class Context:
    """What a policy knows of a pair besides its scores.

    ``shifts``, by metric, is what the pictures' own level and quality add to the closeness of any pair of theirs (0
    where thresholds are fixed): it moves the threshold. ``problems`` says why a picture cannot be judged. ``items`` is
    the size of the gallery that was searched, None where two given pictures are compared.
    """

    shifts: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    items: int | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """How picture b lies on picture a.

    ``found`` is False where no alignment was found; then ``reason`` says why, and the numbers are None. Else
    ``matrix`` (2 x 3, row-major) takes a pixel (x, y) of a to its place in b, in pixels of the two as compared;
    ``shift`` (x, y) is in pixels of a, ``rotation`` in degrees counter-clockwise, ``scale`` how much larger b shows the
    same thing; ``agreement`` is the correlation in [-1, 1] of the two where they overlap, and ``overlap`` the share of
    a that b covers.
    """

    found: bool
    reason: str
    shift: tuple[float, float] | None = None
    rotation: float | None = None
    scale: float | None = None
    agreement: float | None = None
    overlap: float | None = None
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairScore:
    """What a pair metric gives: one number, and where in the pictures it comes from.

    ``map`` is (H, W) float32, the local scores, or None where the metric has none.
    """

    score: float
    map: Float32 | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures, each a path or the id of an item, and whether they show the same thing.

    ``line`` says where in a file this stands, None where it came from none.
    """

    a: str
    b: str
    same: bool
    line: int | None = None

    def __post_init__(self) -> None:
        if self.a == self.b:
            raise InputError(f"a pair of {self.a} with itself says nothing; name two pictures")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a person said of two pictures: that they show the same thing, or different things.

    ``a`` and ``b`` are the sha256 of their files, the smaller first whichever way they are given, so that a mark
    outlives renames; ``said_at`` is UTC as ``YYYY-MM-DDTHH:MM:SSZ``.
    """

    a: str
    b: str
    same: bool
    said_at: str

    def __post_init__(self) -> None:
        if self.a == self.b and not self.same:
            raise InputError(f"two pictures of one content ({self.a}) cannot be different")
        if self.a > self.b:
            first, second = self.b, self.a
            object.__setattr__(self, "a", first)
            object.__setattr__(self, "b", second)

    def as_dict(self) -> dict[str, Any]:
        """Return the documented JSON shape."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StoredCalibration:
    """A calibration as a gallery keeps it: a JSON ``value`` that holds for one space and metric.

    ``created`` is UTC as ``YYYY-MM-DDTHH:MM:SSZ``.
    """

    space: Space
    metric: str
    name: str
    value: Any
    created: str


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture and the label that it has for sure.

    Pictures of one ``group`` never stand on both sides of a split; ``role`` is ``query`` or ``gallery`` where the file
    says so; ``ignore`` counts neither for nor against. ``line`` says where in a file this stands.
    """

    path: str
    label: str
    group: str | None = None
    role: str | None = None
    ignore: bool = False
    line: int | None = None

    def __post_init__(self) -> None:
        if not self.label:
            raise InputError(f"{self.path} has no label")
        if self.role not in {None, "query", "gallery"}:
            raise InputError(f"a role is 'query' or 'gallery', got {self.role!r}")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures with labels, in the order in which they were found, and what was left out."""

    items: tuple[LabelledPicture, ...]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A region of one picture and that of the other which answers it: boxes (x, y, width, height) in [0, 1] of each.

    ``strength`` is how much of the likeness the two make together, in [0, 1].
    """

    a: tuple[float, float, float, float]
    b: tuple[float, float, float, float]
    strength: float


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Where two pictures are alike: heat (h, w) float32 in [0, 1] over each, and the strongest links, best first."""

    heat_a: Float32
    heat_b: Float32
    links: tuple[Link, ...]

    def __post_init__(self) -> None:
        for heat in (self.heat_a, self.heat_b):
            if heat.ndim != 2 or not (np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1):
                raise InputError(f"heat is a (h, w) array in [0, 1], got shape {heat.shape}")


def display_path(path: str | os.PathLike[str]) -> str:
    """Return ``path`` as text that is safe to print: control characters and undecodable bytes become escapes."""
    return "".join(c if c.isprintable() else _escaped(c) for c in os.fspath(path))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()
