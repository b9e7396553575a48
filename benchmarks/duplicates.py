"""Edited copies among photos: precision and recall of the links found, edit by edit, and what each stage costs.

A folder is built from photos and a seed (``benchmarks.edited_copies``): every original, a copy of it by each edit, and
other photos. Links are counted in pairs: *recall* is the share of the pairs of an original with one of its copies that
are linked, *precision* the share of the linked pairs that show the same original; where a collage's filler shows in
both, neither counts. The photos are every second one of ``imagenet_photos``: those at odd places, since thresholds were
chosen on those at even ones (``--tuning`` takes these).

*impostors*: how many pairs were linked in sets of pictures that are no copies of one another, though some are taken
from one place within moments. Of ``scene_pairs``, photos of the same scene, ``near`` links none but one picture that
lies there twice, in two sizes.

*mostly distinct*: what each stage costs on all sets at hand, where one photo in ten has two copies.

*growth*: time and memory of all pairs of hashes and of the nearest by embedding, each size in a process of its own;
hashes and vectors are those of the photos at hand, each with much noise, and one in ten of them with little.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import beside_peers
from benchmarks.edited_copies import EDITS, HARD, Copy, build
from benchmarks.harness import Report, Target, parser, peak_memory_mib, say, seconds, subprocess_output
from benchmarks.photos import SHARED, photo_files
from lookalike import registry
from lookalike.copies.candidates import nearest
from lookalike.copies.cascade import DECODED_SIDE, Found, Source, find_links
from lookalike.copies.hashing import Words, fingerprint, pairs_across, pairs_within
from lookalike.copies.links import Kind, Level, Picture
from lookalike.images import read
from lookalike.scanning import HASHED_SIDE
from lookalike.types import Float32

_PHOTOS, _QUICK = 60, 6
_FILLERS = 40
_IMPOSTORS = ("scene_pairs", "coil100", "grocery", "chest_xray", "bccd", "deeppcb", "parking", "clothing")
_AT_MOST = 150
_DISTINCT = (
    "imagenet_photos",
    "grocery",
    "clothing",
    "bccd",
    "chest_xray",
    "scene_pairs",
    "emoji_vendors",
    "textile_sim",
)
_KINDS = {".jpg", ".jpeg", ".png"}
_TWO_EDITS = ("crop 70 %", "JPEG 30")
_JOINS = 9  # seven turns, and of the parts of a picture one or two are worth a hash

Finder = Callable[[Sequence[Path], "Clock"], set[frozenset[int]]]
"""Finds pairs of places in a list of files; a peer is one more of these."""


@dataclass
class Clock:
    """How many seconds of CPU each stage took."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start


def main() -> None:
    arguments = parser(__doc__, "duplicates")
    arguments.add_argument("--photos", type=int, default=_PHOTOS, help=f"how many originals ({_PHOTOS})")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--tuning", action="store_true", help="take the photos that thresholds were chosen on")
    arguments.add_argument("--growth", type=int, nargs="*", default=[10_000, 100_000], help="sizes; 1000000 takes long")
    arguments.add_argument("--peers", metavar="PYTHON", help="of the environment that make_duplicate_peers.sh makes")
    arguments.add_argument("--grow", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.grow:
        _grow(options.grow)
        return
    report = Report("Duplicates: edited copies among photos", ("numpy", "opencv-python-headless", "simplejpeg"))
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        photos = _QUICK if options.quick else options.photos
        _edited(report, Path(scratch), photos, options.seed, options.peers, tuning=options.tuning)
    _impostors(report, 20 if options.quick else _AT_MOST)
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        _mostly_distinct(report, Path(scratch), 60 if options.quick else None, options.peers)
    _growth(report, [1000] if options.quick else options.growth)
    report.print()


def _edited(report: Report, folder: Path, photos: int, seed: int, peers: str | None, *, tuning: bool) -> None:
    originals, fillers, others = _chosen(photos, tuning=tuning)
    copies = build(folder, originals, fillers, seed)
    files = [copy.path for copy in copies] + others
    say(f"{len(files)} files: {len(originals)} originals, {len(EDITS)} copies of each, {len(others)} others")
    clock = Clock()
    found = search(files, clock)
    pairs = {frozenset((link.a, link.b)) for link in found.links}
    near = {frozenset((link.a, link.b)) for link in found.links if link.kind is not Kind.EDITED}
    _recall_table(report, copies, pairs, near)
    wrong = _wrong(copies, pairs)
    precision = 1 - len(wrong) / max(len(pairs), 1)
    report.text(f"{len(pairs)} pairs linked, {len(wrong)} of them wrong; tested: {dict(found.tested)}")
    for a, b in wrong[:5]:
        report.text(f"wrong: {files[a].name} and {files[b].name}")
    report.target(Target("precision of all linked pairs", precision, 0.999))
    _recall_targets(report, copies, pairs)
    _costs(report, clock, len(files), "edited")
    if peers:
        for path in others:
            shutil.copy(path, folder)
        beside_peers.accuracy(report, peers, folder, partial(_judged, copies, others))


def _judged(
    copies: Sequence[Copy], others: Sequence[Path], named: set[frozenset[str]]
) -> tuple[float, float, dict[str, float]]:
    """Return precision, recall and recall by edit of pairs of file names."""
    place = {path.name: row for row, path in enumerate([*(copy.path for copy in copies), *others])}
    pairs = {frozenset(place[name] for name in pair) for pair in named}
    linked = _linked_by_edit(copies, pairs)
    precision = 1 - len(_wrong(copies, pairs)) / max(len(pairs), 1)
    recall = float(np.mean([one for of_edit in linked.values() for one in of_edit]))
    return precision, recall, {edit: float(np.mean(of_edit)) for edit, of_edit in linked.items()}


def _chosen(photos: int, *, tuning: bool) -> tuple[list[Path], list[Path], list[Path]]:
    """Return originals, fillers of collages, and other photos; an original is none of the others."""
    every = [path for path in photo_files() if path.parent.parent.name == "imagenet_photos"] or photo_files()
    ours, rest = every[1 - tuning :: 2], every[int(tuning) :: 2]
    fillers = rest[:_FILLERS] if photos + _FILLERS > len(ours) else ours[photos : photos + _FILLERS]
    if photos > len(ours):
        ours, fillers = every[:photos], every[photos:][:_FILLERS]
    chosen = set(ours[:photos]) | set(fillers)
    return ours[:photos], fillers, [path for path in ours if path not in chosen]


def search(files: Sequence[Path], clock: Clock, level: Level = Level.EDITED) -> Found:
    """Return what the cascade finds among files, in one thread."""
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    parts = level is Level.EDITED
    side = DECODED_SIDE if parts else HASHED_SIDE
    pictures, vectors = [], []
    for path in files:
        with clock.stage("read and decode"):
            data = path.read_bytes()
            image = read(data, at_least=side)
            sha256 = hashlib.sha256(data).hexdigest()
        with clock.stage("hash"):
            pictures.append(Picture(sha256, image.size, fingerprint(image.pixels, parts=parts)))
        if parts:
            with clock.stage("embed"):
                vectors.append(encoder.encode([image]).vectors)
    source = Source(
        lambda row: read(files[row], at_least=DECODED_SIDE).pixels,
        lambda row: hashlib.sha256(read(files[row]).pixels.tobytes()).hexdigest(),
    )
    with clock.stage("candidates and verification"):
        return find_links(pictures, source, np.vstack(vectors) if vectors else None, level=level)


def _sources(copies: Sequence[Copy]) -> Callable[[int], int]:
    return lambda place: copies[place].original if place < len(copies) else -1 - place


def _wrong(copies: Sequence[Copy], pairs: set[frozenset[int]]) -> list[tuple[int, int]]:
    """Return the linked pairs of two originals; of two collages, which may share a filler, nothing is said."""
    source = _sources(copies)
    wrong = []
    for a, b in sorted(tuple(sorted(pair)) for pair in pairs):
        both = [copies[place].edit for place in (a, b) if place < len(copies)]
        if source(a) != source(b) and both != ["collage"] * 2:
            wrong.append((a, b))
    return wrong


def _linked_by_edit(copies: Sequence[Copy], pairs: set[frozenset[int]]) -> dict[str, list[bool]]:
    originals = {copy.original: place for place, copy in enumerate(copies) if not copy.edit}
    linked: dict[str, list[bool]] = defaultdict(list)
    for place, copy in enumerate(copies):
        if copy.edit:
            linked[copy.edit].append(frozenset((originals[copy.original], place)) in pairs)
    return linked


def _recall_table(
    report: Report, copies: Sequence[Copy], pairs: set[frozenset[int]], near: set[frozenset[int]]
) -> None:
    linked, by_near = _linked_by_edit(copies, pairs), _linked_by_edit(copies, near)
    rows = [(edit, f"{np.mean(by_near[edit]):.3f}", f"{np.mean(of_edit):.3f}") for edit, of_edit in linked.items()]
    report.section("Recall of original and copy, by edit")
    report.table(("edit", "near", "edited"), rows)


def _recall_targets(report: Report, copies: Sequence[Copy], pairs: set[frozenset[int]]) -> None:
    linked = _linked_by_edit(copies, pairs)
    easy = [one for edit, of_edit in linked.items() if edit not in HARD for one in of_edit]
    report.target(Target("recall over all edits but the three hard ones", float(np.mean(easy)), 0.97))
    for edit in HARD:
        report.target(Target(f"recall: {edit}", float(np.mean(linked[edit])), 0.6))


def _costs(report: Report, clock: Clock, files: int, what: str) -> None:
    report.section(f"CPU, milliseconds a picture of {files}, one thread: {what}")
    rows = [(stage, f"{1000 * seconds / files:.2f}") for stage, seconds in clock.seconds.items()]
    report.table(("stage", "ms"), [*rows, ("all", f"{1000 * sum(clock.seconds.values()) / files:.2f}")])


def _impostors(report: Report, at_most: int) -> None:
    rows = []
    for name in _IMPOSTORS:
        files = sorted(p for p in (SHARED / name).rglob("*") if p.suffix.lower() in _KINDS)
        files = files if name in {"scene_pairs", "coil100"} else files[:: max(1, len(files) // at_most)]
        if not files:
            report.text(f"{name} is not at hand and was left out.")
            continue
        say(name)
        found = search(files[:at_most], Clock())
        kinds = [sum(link.kind is kind for link in found.links) for kind in Kind]
        shown = [f"{files[link.a].name} {files[link.b].name} ({link.kind})" for link in found.links]
        rows.append((name, str(min(len(files), at_most)), *map(str, kinds), "; ".join(shown[:6])))
    report.section("Pairs linked in sets of pictures that are no copies of one another (some are)")
    report.table(("set", "pictures", *Kind, "such as"), rows)


def _mostly_distinct(report: Report, folder: Path, at_most: int | None, peers: str | None) -> None:
    files = [path for name in _DISTINCT for path in sorted((SHARED / name).rglob("*")) if path.suffix.lower() in _KINDS]
    files = (files or photo_files())[:at_most]
    copies = [copy for copy in build(folder, files[::10], files[1::10], 0) if copy.edit in _TWO_EDITS]
    clock = Clock()
    say(f"mostly distinct: {len(files)} and {len(copies)} copies")
    found = search([*files, *(copy.path for copy in copies)], clock)
    count = len(files) + len(copies)
    _costs(report, clock, count, f"mostly distinct pictures; tested: {dict(found.tested)}")
    near = Clock()
    search([*files, *(copy.path for copy in copies)], near, Level.NEAR)
    _costs(report, near, count, "the same, level near")
    if peers:
        for copy in (path for path in folder.iterdir() if path not in {one.path for one in copies}):
            copy.unlink()
        for number, path in enumerate(files):
            shutil.copy(path, folder / f"{number}-{path.name}")
        beside_peers.costs(report, peers, folder)


def _growth(report: Report, sizes: Sequence[int]) -> None:
    rows = []
    for size in sizes:
        say(f"growth: {size:,}")
        measured = subprocess_output([sys.executable, "-m", "benchmarks.duplicates", "--grow", str(size)])
        rows.append((f"{size:,}", *measured.strip().split("\t")))
    report.section("Growth")
    header = (
        "items",
        "pairs of hashes, s",
        "turned and parts, s",
        "pairs",
        "nearest by embedding, s",
        "peak memory, MiB",
    )
    report.table(header, rows)


def _grow(size: int) -> None:
    """Print what one size costs."""
    rng = np.random.default_rng(0)
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    images = [read(path, at_least=DECODED_SIDE) for path in photo_files()[::2]]
    hashes = np.stack([fingerprint(image.pixels).hashes[0] for image in images])
    vectors = np.vstack([encoder.encode([image]).vectors for image in images])
    every = _noisy_hashes(hashes, size, rng)
    counts: list[int] = []
    upright = seconds(lambda: counts.append(len(pairs_within(every, 31))))
    across = sum(seconds(lambda: pairs_across(every, every[::-1], 15, 31)) for _ in range(_JOINS))
    embedded = _noisy_vectors(vectors, size, rng)
    near = seconds(lambda: nearest(embedded, 0.5))
    figures = f"{upright:.1f}", f"{across:.1f}", f"{counts[0]}", f"{near:.1f}", f"{peak_memory_mib():.0f}"
    print("\t".join(figures))


def _noisy_hashes(hashes: Words, size: int, rng: np.random.Generator) -> Words:
    """Return real hashes with 15 % of the bits flipped; the last tenth are earlier ones with 2 % flipped."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    every = bits[rng.integers(len(bits), size=size)]
    every ^= rng.random(every.shape, np.float32) < 0.15
    copies = size // 10
    every[-copies:] = every[:copies] ^ (rng.random((copies, 256), np.float32) < 0.02)
    return np.packbits(every, axis=1).view(np.uint64)


def _noisy_vectors(vectors: Float32, size: int, rng: np.random.Generator) -> Float32:
    """Return real vectors, each mixed with another one and noise, of length 1; the last tenth are earlier ones."""
    every = vectors[rng.integers(len(vectors), size=size)]
    for start in range(0, size, 1 << 14):
        block = every[start : start + (1 << 14)]
        block += 0.7 * vectors[rng.integers(len(vectors), size=len(block))]
        block += rng.standard_normal(block.shape, np.float32) * np.float32(0.5 / np.sqrt(block.shape[1]))
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    every[-(size // 10) :] = every[: size // 10]
    return every


if __name__ == "__main__":
    main()
