"""The monitor: states and levels from few references, events in a mixed stream, and what a frame costs.

Parking: 5 (10) references a state, drawn from the patches of one sequence, 20 draws; the frames of the other sequences
go through :class:`lookalike.states.monitor.Monitor` in their order, 40 slots each; a slot is right where its state is
the true one and its verdict ``match``. "Alone": each patch is decided by itself, nothing is learned meanwhile.

Levels: ``pet_bowl``, scale from thumb_03 (0) to thumb_07 (1): the order of 03 to 07. ``food_trays``: of each tray the
picture before is level 1, and leftover3 has its true level; error of the other two, and the order of all pairs that
differ by 15 points. "Unmeasured low end": leftover3 is said to be .15, whatever it is.

Cups and cats: 5 references a state, 20 draws, the rest decided alone: accuracy and AUROC by position on the scale.

Events: frames of parking, each held a while, under light steps (brightness .5 to 1.5, gamma .4 to 2.5, colour casts),
noise, nudges (up to 8 pixels, 1 degree) and things that pass before the camera. An event is right where its slot truly
changed at the last change of frames, and it comes within its dwell and the frames in which the slot was hidden.
"""

from __future__ import annotations

import csv
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.harness import Report, Target, parser, peak_memory_mib, say, subprocess_output
from benchmarks.photos import SHARED
from lookalike import registry
from lookalike.edits import Edit
from lookalike.images import read
from lookalike.images.reencode import resized
from lookalike.states.level import Scale, tiles_of
from lookalike.states.monitor import Monitor
from lookalike.states.observing import States
from lookalike.states.regions import Region, whole
from lookalike.types import Embeddings, Image, Verdict

_DRAWS = 20
_DWELL = 3
_ENCODER = "efficientnet-lite0"


@dataclass
class Memo:
    """An encoder that knows what it encoded before: the draws see the same pictures."""

    inner: object
    known: dict[bytes, np.ndarray] = field(default_factory=dict)

    @property
    def space(self):
        return self.inner.space

    @property
    def at_least(self):
        return self.inner.at_least

    def encode(self, images: Sequence[Image]) -> Embeddings:
        rows = []
        for image in images:
            key = hashlib.sha1(image.pixels.tobytes()).digest()
            if key not in self.known:
                self.known[key] = self.inner.encode([image]).vectors[0]
            rows.append(self.known[key])
        return Embeddings.from_raw(np.array(rows, np.float64), self.space)


def main() -> int:
    options = parser(__doc__, "monitor")
    options.add_argument("--only", metavar="A,B", help="parking, levels, pairs, events, edge, regions")
    options.add_argument("--edge-loop", action="store_true", help="(a process of its own) frames of one region")
    chosen = options.parse_args()
    if chosen.edge_loop:
        return _edge_loop(600 if chosen.quick else 3600)
    if not SHARED.is_dir():
        print(f"needs the data sets in {SHARED}", file=sys.stderr)
        return 2
    report = Report("Monitor")
    parts = {
        "parking": parking,
        "levels": levels,
        "pairs": pairs,
        "events": events,
        "edge": edge,
        "regions": many_regions,
    }
    for name in chosen.only.split(",") if chosen.only else parts:
        parts[name](report, chosen.quick)
    report.print()
    return 0


def _rows(name: str) -> list[dict[str, str]]:
    with open(SHARED / name / "groundtruth.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Parking


def _regions(rows: Sequence[dict[str, str]]) -> list[Region]:
    first = {}
    for row in rows:
        first.setdefault(row["slot"], row)
    return [Region(slot, *(float(row[k]) for k in ("cx", "cy", "w", "h", "angle"))) for slot, row in first.items()]


def parking(report: Report, quick: bool) -> None:
    rows, root = _rows("parking"), SHARED / "parking"
    patches = {row["path"]: read(root / row["path"]) for row in rows}
    frames = {row["frame"]: read(root / row["frame"]) for row in rows}
    truth = {(row["frame"], row["slot"]): row["label"] for row in rows}
    regions, encoder = _regions(rows), Memo(registry.encoder(_ENCODER))
    report.section("Parking: right of all slots, `unsure` and `unknown` counted as wrong")
    lines = []
    for count in (5, 10):
        running, alone = [], []
        for draw in range(2 if quick else _DRAWS):
            rng = np.random.default_rng(draw)
            states, sequence = _drawn(rows, patches, count, rng)
            rest = [row for row in rows if row["sequence"] != sequence]
            still = Monitor(states, encoder=encoder, adapt=False).fit()
            alone.append(np.mean([still.decide(patches[row["path"]]).state == row["label"] for row in rest]))
            monitor = Monitor(states, encoder=encoder, regions=regions, dwell=1)
            right = [
                one.state == truth[name, one.region] and one.verdict is Verdict.MATCH
                for name in dict.fromkeys(row["frame"] for row in rest)
                for one in monitor.update(frames[name], 0.0)
            ]
            running.append(np.mean(right))
            say(f"{count} references, draw {draw}: running {running[-1]:.3f}, alone {alone[-1]:.3f}")
        for what, values in (("running", running), ("alone", alone)):
            lines.append((f"{count}", what, f"{np.mean(values):.3f}", f"{np.min(values):.3f}"))
        if count == 5:
            report.target(Target("parking, 5 references: mean", float(np.mean(running)), 0.98))
            report.target(Target("parking, 5 references: worst draw", float(np.min(running)), 0.95))
        else:
            report.target(Target("parking, 10 references: mean", float(np.mean(running)), 0.99))
    report.table(("references a state", "", "mean", "worst draw"), lines)


def _drawn(rows, patches, count, rng) -> tuple[States, str]:
    full = sorted({row["sequence"] for row in rows if row["occupied"] == "1"})
    sequence = str(rng.choice(full))
    pictures = {}
    for label in ("empty", "occupied"):
        of_label = [row["path"] for row in rows if row["sequence"] == sequence and row["label"] == label]
        pictures[label] = [patches[path] for path in rng.choice(of_label, count, replace=False)]
    return States(pictures), sequence


# Levels


def _tiles(path: Path) -> np.ndarray:
    pixels = read(path).pixels
    return tiles_of(whole(pixels).cut(pixels)[0])


def levels(report: Report, quick: bool) -> None:
    bowl = [_tiles(SHARED / "pet_bowl" / "images" / f"thumb_0{k}.png") for k in range(3, 8)]
    scale = Scale({0.0: [bowl[0]], 1.0: [bowl[-1]]})
    found = [scale.read(tiles).raw for tiles in bowl]
    report.section("Levels")
    report.text("pet_bowl 03 to 07: " + ", ".join(f"{x:.2f}" for x in found))
    report.target(Target("pet_bowl: neighbours ordered rightly, of 4", float(np.sum(np.diff(found) > 0)), 4))
    rows = _rows("food_trays")
    lines = []
    for name, low in (("leftover3 at its true level", None), ("leftover3 said to be .15", 0.15)):
        error, wrong, pairs_, inside = _trays(rows, low)
        lines.append((name, f"{error:.3f}", f"{wrong} of {pairs_}", f"{inside:.2f}"))
        if low is None:
            report.target(Target("food_trays: mean absolute error of the level", error, 0.10, at_least=False))
            report.target(Target("food_trays: pairs ordered wrongly", wrong, 0, at_least=False))
    report.table(("food_trays", "mean absolute error", "pairs ordered wrongly", "truth inside of the interval"), lines)


def _trays(rows, low):
    errors, inside, wrong, pairs_ = [], [], 0, 0
    for tray in dict.fromkeys(row["group"] for row in rows):
        own = [row for row in rows if row["group"] == tray]
        truth = [float(row["food_px_vs_before"]) for row in own]
        tiles = [_tiles(SHARED / "food_trays" / row["path"]) for row in own]
        scale = Scale({1.0: [tiles[0]], (truth[3] if low is None else low): [tiles[3]]})
        read_ = [scale.read(one) for one in tiles]
        for k in (1, 2):
            wanted = min(1.0, truth[k])
            errors.append(abs(read_[k].value - wanted))
            inside.append(read_[k].interval[0] <= wanted <= read_[k].interval[1])
        for a in range(4):
            for b in range(a):
                if abs(truth[a] - truth[b]) >= 0.15:
                    pairs_ += 1
                    wrong += (truth[a] - truth[b]) * (read_[a].raw - read_[b].raw) <= 0
    return float(np.mean(errors)), wrong, pairs_, float(np.mean(inside))


# Two states, decided alone


def _of(rows: Sequence[dict[str, str]], label: str) -> list[str]:
    return [row["path"] for row in rows if row["label"] == label]


def pairs(report: Report, quick: bool) -> None:
    encoder = Memo(registry.encoder(_ENCODER))
    lines = []
    cups = [row for row in _rows("coffee_cups") if row["label"] != "milk_or_residue"]
    for name, rows, states in (
        ("coffee_cups, full or partial", cups, ("partial", "full")),
        ("cat_feeding_cam, cat or not", _rows("cat_feeding_cam"), ("no_cat", "cat")),
    ):
        folder = SHARED / name.partition(",")[0]
        pictures = {row["path"]: read(folder / row["path"]) for row in rows}
        rights, areas = [], []
        for draw in range(3 if quick else _DRAWS):
            rng = np.random.default_rng(draw)
            chosen = {s: list(rng.choice(_of(rows, s), 5, replace=False)) for s in states}
            used = {path for paths in chosen.values() for path in paths}
            monitor = Monitor(
                States({s: [pictures[p] for p in paths] for s, paths in chosen.items()}), encoder=encoder, adapt=False
            ).fit()
            rest = [row for row in rows if row["path"] not in used]
            told = [monitor.decide(pictures[row["path"]]) for row in rest]
            second = np.array([row["label"] == states[1] for row in rest])
            rights.append(np.mean([t.state == row["label"] for t, row in zip(told, rest, strict=True)]))
            areas.append(_auroc(np.array([t.position for t in told]), second))
        lines.append((name, f"{np.mean(rights):.3f}", f"{np.mean(areas):.3f}", f"{np.min(areas):.3f}"))
        report.target(Target(f"{name}: mean AUROC", float(np.mean(areas)), 0.9))
    report.section("Two states from 5 references each, decided alone")
    report.table(("set", "right", "AUROC", "worst draw"), lines)


def _auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    above = (scores[positive][:, None] > scores[~positive][None]).mean()
    return float(above + 0.5 * (scores[positive][:, None] == scores[~positive][None]).mean())


# Events


@dataclass(frozen=True)
class Shot:
    """A frame of the stream: which real frame it shows, and which slots something hides."""

    image: Image
    name: str
    hidden: frozenset[str]


def stream(frames: dict[str, Image], regions: Sequence[Region], hold: int, rng: np.random.Generator) -> Iterator[Shot]:
    """Yield each frame ``hold`` times, in changing light, nudged, noisy, and with things that pass."""
    for name, image in frames.items():
        light = _light(rng)
        for k in range(hold):
            if k and rng.random() < 0.15:
                light = _light(rng)
            pixels = _nudged(image.pixels, rng)
            for edit in light:
                pixels = edit.apply(pixels, rng)
            hidden: frozenset[str] = frozenset()
            if rng.random() < 0.15:
                pixels, hidden = _passed(pixels, regions, rng)
            pixels = Edit("noise", {"sigma": float(rng.uniform(2, 8))}).apply(pixels, rng)
            yield Shot(Image(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0]), name), name, hidden)


def _light(rng: np.random.Generator) -> list[Edit]:
    kind = rng.integers(4)
    if kind == 0:
        return []
    if kind == 1:
        return [Edit("brightness", {"factor": float(rng.uniform(0.5, 1.5))})]
    if kind == 2:
        return [Edit("gamma", {"exponent": float(np.exp(rng.uniform(np.log(0.4), np.log(2.5))))})]
    red, blue = (float(x) for x in rng.uniform(0.75, 1.25, 2))
    return [Edit("color cast", {"red": red, "green": 1.0, "blue": blue})]


def _nudged(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from lookalike.registration import align  # noqa: PLC0415
    from lookalike.types import Registration  # noqa: PLC0415

    angle, (dx, dy) = np.radians(rng.uniform(-1, 1)), rng.uniform(-8, 8, 2)
    height, width = pixels.shape[:2]
    c, s, mx, my = np.cos(angle), np.sin(angle), width / 2, height / 2
    matrix = ((c, -s, mx - c * mx + s * my + dx), (s, c, my - s * mx - c * my + dy))
    image = Image(np.ascontiguousarray(pixels), (width, height))
    moved, _ = align(image, Registration(True, "nudged", (dx, dy), 0.0, 1.0, 1.0, 1.0, matrix), (height, width))
    return moved


def _passed(
    pixels: np.ndarray, regions: Sequence[Region], rng: np.random.Generator
) -> tuple[np.ndarray, frozenset[str]]:
    """Lay a blurred ellipse of one colour over a part of the frame: a cat, a hand, a bird before the lens."""
    height, width = pixels.shape[:2]
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    a, b = rng.uniform(0.08, 0.25, 2) * width
    rows, columns = np.mgrid[:height, :width]
    mask = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 < 1
    changed = pixels.copy()
    texture = rng.integers(-20, 20, (height // 8 + 1, width // 8 + 1, 1)).repeat(8, 0).repeat(8, 1)[:height, :width]
    coat = np.clip(rng.integers(20, 220, 3) + texture, 0, 255).astype(np.uint8)
    changed[mask] = coat[mask]
    hidden = frozenset(r.name for r in regions if ((r.corners - (x, y)) ** 2 / (a**2, b**2)).sum(axis=1).min() < 1.3)
    return changed, hidden


def events(report: Report, quick: bool) -> None:
    rows, root = _rows("parking"), SHARED / "parking"
    patches = {row["path"]: read(root / row["path"]) for row in rows}
    truth = {(row["frame"], row["slot"]): row["label"] for row in rows}
    regions, encoder = _regions(rows), registry.encoder(_ENCODER)
    lines = []
    for seed, references in ((7, "1"),) if quick else ((7, "1"), (8, "2")):
        for sequences in (("0",), ("1", "2", "4")):
            frames = {r["frame"]: read(root / r["frame"]) for r in rows if r["sequence"] in sequences}
            if quick:
                frames = dict(list(frames.items())[:2])
            rng = np.random.default_rng(seed)
            of = [row for row in rows if row["sequence"] == references]
            pictures = {
                s: [patches[p] for p in rng.choice(_of(of, s), 5, replace=False)] for s in ("empty", "occupied")
            }
            monitor = Monitor(States(pictures), encoder=encoder, regions=regions, dwell=_DWELL)
            right, false, missed, late = _score(stream(frames, regions, 8, rng), monitor, truth, regions)
            precision = right / (right + false) if right + false else 1.0
            recall = right / (right + missed) if right + missed else 1.0
            name = f"references of {references}, sequences {'+'.join(sequences)}"
            lines.append((name, f"{right}", f"{false}", f"{missed}", f"{late}", f"{precision:.3f}", f"{recall:.3f}"))
            say(str(lines[-1]))
            if sequences == ("0",):
                report.target(Target(f"events, {name}: none", false, 0, at_least=False))
            else:
                report.target(Target(f"events, {name}: precision", precision, 0.95))
                report.target(Target(f"events, {name}: recall", recall, 0.95))
    report.section(f"Events, dwell {_DWELL}")
    report.table(("stream", "right", "false", "missed", "of these late", "precision", "recall"), lines)


def _score(shots: Iterator[Shot], monitor: Monitor, truth, regions) -> tuple[int, int, int, int]:
    """Count events that are right, false, missed, and right but after their dwell (which count as missed)."""
    right = false = missed = late = 0
    open_: dict[str, list] = {}
    name = None
    for number, shot in enumerate(shots):
        if shot.name != name:
            missed += sum(not done for _, _, done in open_.values())
            changed = [r.name for r in regions if name is not None and truth[name, r.name] != truth[shot.name, r.name]]
            open_ = {slot: [truth[shot.name, slot], 0, False] for slot in changed}
            name = shot.name
        for slot in shot.hidden:
            if slot in open_:
                open_[slot][1] -= 1
        for entry in open_.values():
            entry[1] += 1
        for one in monitor.update(shot.image, float(number)):
            if one.event is None:
                continue
            wanted = open_.get(one.region)
            if wanted is None or wanted[2] or one.event.after != wanted[0]:
                false += 1
            elif wanted[1] > _DWELL + 1:
                late += 1
                missed += 1
                wanted[2] = True
            else:
                right += 1
                wanted[2] = True
    missed += sum(not done for _, _, done in open_.values())
    return right, false, missed, late


# Edge


def edge(report: Report, quick: bool) -> None:
    import json  # noqa: PLC0415

    command = [sys.executable, "-m", "benchmarks.monitor", "--edge-loop", *(["--quick"] if quick else [])]
    found = json.loads(subprocess_output(command, {"OMP_NUM_THREADS": "1"}).splitlines()[-1])
    report.section("Edge: one region, 640x480, states, level and registration; decoding included")
    report.table(tuple(found), [tuple(f"{value:.4g}" for value in found.values())])
    report.target(Target("CPU a frame", found["ms a frame"], 40, at_least=False, unit=" ms"))
    report.target(Target("peak memory", found["peak MiB"], 200, at_least=False, unit=" MiB"))
    report.target(Target("memory gained over the run", found["gained MiB"], 5, at_least=False, unit=" MiB"))


def _edge_loop(count: int) -> int:
    """Print what ``count`` frames cost: CPU a frame, peak memory, and what memory grew by after the first tenth."""
    import json  # noqa: PLC0415

    from lookalike.images import read_bytes, thumbnail  # noqa: PLC0415

    rows, root = _rows("parking"), SHARED / "parking"
    pixels = [resized(read(root / name).pixels, 640, 480) for name in sorted({r["frame"] for r in rows})[5:9]]
    files = [thumbnail(Image(p, (640, 480)), 640) for p in pixels]
    states = States({"a": [Image(pixels[0], (640, 480))], "b": [Image(pixels[3], (640, 480))]}, {"a": 0.0, "b": 1.0})
    monitor = Monitor(states, encoder=registry.encoder(_ENCODER))
    early, spent = 0.0, 0.0
    for k in range(count):
        began = time.process_time()
        monitor.update(read_bytes(files[k % len(files)]), float(k))  # each unlike the one before: none is kept
        spent += time.process_time() - began
        if k == count // 10:
            early = _resident_mib()
    gained = _resident_mib() - early
    print(
        json.dumps(
            {"frames": count, "ms a frame": 1000 * spent / count, "peak MiB": peak_memory_mib(), "gained MiB": gained}
        )
    )
    return 0


def many_regions(report: Report, quick: bool) -> None:
    """Tell what a frame of 40 regions costs where nothing but noise changes, and where all of them are embedded."""
    rows, root = _rows("parking"), SHARED / "parking"
    of = [row for row in rows if row["sequence"] == "1"]
    rng = np.random.default_rng(0)
    pictures = {s: [read(root / p) for p in rng.choice(_of(of, s), 5, replace=False)] for s in ("empty", "occupied")}
    still = read(root / of[0]["frame"]).pixels
    lines = []
    for name, kept in (("regions that stand still, noise of 3 levels", True), ("each embedded in each frame", False)):
        monitor = Monitor(States(pictures), encoder=registry.encoder(_ENCODER), regions=_regions(rows))
        spent, frames = 0.0, 4 if quick else 20
        for k in range(frames + 1):
            pixels = Edit("noise", {"sigma": 3.0}).apply(still, rng)
            if not kept:
                for place in monitor._places:
                    place.glance = None
            began = time.process_time()
            monitor.update(Image(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0])), float(k))
            spent += (time.process_time() - began) * (k > 0)
        lines.append((name, f"{1000 * spent / frames:.0f}"))
    report.section("40 regions of 1280x720, registration included")
    report.table(("", "CPU a frame, ms"), lines)


def _resident_mib() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) / 1024


if __name__ == "__main__":
    sys.exit(main())
