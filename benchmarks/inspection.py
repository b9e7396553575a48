"""Inspection: defects found from good pictures alone, on printed circuits and on a simulated texture.

*deeppcb*: boards are split in two by group; on one half the threshold is set, with templates as good pictures, and the
other half is judged. Good pictures are templates, bad ones tests; both are moved by up to 5 pixels, turned by up
to a degree, made lighter or darker (gain .7 to 1.1, offset up to 10), blurred (up to 1.5 pixels) and saved as JPEG
(quality 50 to 95), by Pillow. A defect is *found* where a region has an IoU of .33 or more with its box (as it lies
after the moving); a *false region* touches no box. The two halves change roles; the figures are of both.

*textile_sim*: half of the good pictures is learned, the other half and all bad ones are judged; several draws.

With ``--peer PYTHON`` (`sh benchmarks/make_inspection_peer.sh` makes its environment) anomalib's PatchCore gets the
same files, each way in a process of its own: one draw of the textile; of the circuits one good picture of each board
that is learned, two of each that is judged. It knows no templates: those of what is judged are good pictures to it.
"""

from __future__ import annotations

import csv
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFilter
from numpy.typing import NDArray

from benchmarks.beside_anomalib import Job, auroc, compare
from benchmarks.harness import Report, Target, parser, peak_memory_mib, say
from benchmarks.photos import SHARED
from lookalike import registry
from lookalike.images import read
from lookalike.inspecting import Finding, Inspector, to_bytes
from lookalike.pipeline import in_parallel
from lookalike.types import Image

_PCB, _TEXTILE = SHARED / "deeppcb", SHARED / "textile_sim"
_FOUND = 0.33
_GOOD_COPIES = 4
_DRAWS = 4

Matrix = NDArray[np.float64]
Box = tuple[float, float, float, float]
"""Left, top, right, lower."""


@dataclass
class Judged:
    """What came of many pictures: scores by kind, false alarms beside what was stated, seconds a picture."""

    good: list[float] = field(default_factory=list)
    bad: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    alarms: list[bool] = field(default_factory=list)
    stated: list[tuple[float, float, float]] = field(default_factory=list)
    unknown: int = 0
    fit_s: list[float] = field(default_factory=list)
    run_s: list[float] = field(default_factory=list)
    bytes: int = 0


def main() -> None:
    arguments = parser(__doc__, "inspection")
    arguments.add_argument("--peer", metavar="PYTHON", help="the interpreter of an environment with anomalib")
    options = arguments.parse_args()
    report = Report("Inspection: defects from good pictures alone")
    if (_PCB / "groundtruth.csv").is_file():
        _pcb(report, quick=options.quick)
        if options.peer:
            _pcb_beside(report, options.peer, quick=options.quick)
    else:
        report.text("deeppcb is not at hand and was left out.")
    if (_TEXTILE / "groundtruth.csv").is_file():
        _textile(report, quick=options.quick)
        if options.peer:
            _textile_beside(report, options.peer, quick=options.quick)
    else:
        report.text("textile_sim is not at hand and was left out.")
    if not options.peer:
        report.text("anomalib's PatchCore was not run beside it: see --peer.")
    report.text(f"Peak memory of the whole run: {peak_memory_mib():.0f} MiB.")
    report.print()


# Printed circuits


def _pcb(report: Report, *, quick: bool) -> None:
    rows = [row for row in _rows(_PCB / "groundtruth.csv") if row["label"] == "defective"]
    boxes = defaultdict(list)
    for row in _rows(_PCB / "boxes.csv"):
        x1, y1, x2, y2 = (int(row[name]) for name in ("x1", "y1", "x2", "y2"))
        boxes[row["path"]].append(((x1, y1, x2, y2), row["type"]))
    groups = sorted({row["group"] for row in rows})
    half = set(groups[::2])
    judged, found, false, strict, pictures = Judged(), defaultdict(list), [], [], 0
    for swapped in (False,) if quick else (False, True):
        learned = [row for row in rows if (row["group"] in half) != swapped]
        others = [row for row in rows if (row["group"] in half) == swapped]
        say(f"deeppcb: {len(learned)} boards to learn from, {len(others)} to judge")
        if quick:
            learned, others = learned[:5], others[:3]
        rng = np.random.default_rng([7, swapped])
        good = [_shaken(row["template"], row["template"], rng) for row in learned for _ in range(_GOOD_COPIES)]
        templates = {image.source: template for image, template, _ in good}
        start = time.perf_counter()
        inspector, proof = Inspector.fit(
            (image for image, _, _ in good), template_of=lambda image, of=templates: of[image.source]
        )
        judged.fit_s.append((time.perf_counter() - start) / len(good))
        judged.bytes = max(judged.bytes, len(to_bytes(inspector)))
        judged.stated.append((proof.threshold.rate, *proof.threshold.interval))
        cases = [
            (row, kind, _shaken(row[kind], row["template"], rng)) for row in others for kind in ("template", "path")
        ]
        for row, kind, (image, template, moved) in cases:
            start = time.perf_counter()
            said = inspector.decide(image, template)
            judged.run_s.append(time.perf_counter() - start)
            if said.score is None:
                judged.unknown += 1
                continue
            if kind == "template":
                judged.good.append(said.score)
                judged.alarms.append(bool(said.defective))
                continue
            judged.bad["defective"].append(said.score)
            pictures += 1
            truth = [(_moved(box, moved), kind_of) for box, kind_of in boxes[row["path"]]]
            regions = [_corners(region.box) for region in said.regions]
            for box, kind_of in truth:
                found[kind_of].append(max((_iou(box, one) for one in regions), default=0.0) >= _FOUND)
            false.append(sum(not any(_iou(box, one) > 0 for box, _ in truth) for one in regions))
            strict.append(sum(not any(_iou(box, one) >= _FOUND for box, _ in truth) for one in regions))
    report.section(f"deeppcb: {len(judged.good)} good and {pictures} bad pictures of boards that were not learned")
    rows_ = [(kind, str(len(hits)), f"{np.mean(hits):.3f}") for kind, hits in sorted(found.items())]
    report.table(("defect", "boxes", f"found (IoU ≥ {_FOUND})"), rows_)
    limit = inspector.decide(*cases[0][2][:2]).evidence[0].threshold
    report.text(
        f"False regions a picture: {np.mean(false):.2f} that touch no defect, {np.mean(strict):.2f} that do not lie on "
        f"one with an IoU of {_FOUND}. The last threshold, in levels: {limit:.1f}."
    )
    _tell(report, judged)
    report.target(Target("deeppcb: image AUROC", auroc(judged.good, judged.bad["defective"]), 0.97))
    report.target(Target("deeppcb: worst type's boxes found", min(np.mean(hits) for hits in found.values()), 0.8))
    report.target(Target("deeppcb: false regions a picture", float(np.mean(false)), 1.0, at_least=False))


def _pcb_beside(report: Report, python: str, *, quick: bool) -> None:
    rows = [row for row in _rows(_PCB / "groundtruth.csv") if row["label"] == "defective"]
    half = set(sorted({row["group"] for row in rows})[::2])
    learned, others = ([row for row in rows if (row["group"] in half) == chosen] for chosen in (True, False))
    if quick:
        learned, others = learned[:3], others[:3]
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as place:
        template_of: dict[str, str] = {}

        def written(row: dict[str, str], kind: str) -> str:
            image, _, _ = _shaken(row[kind], row["template"], rng)
            file = str(Path(place, f"{len(template_of)}.png"))
            PIL.Image.fromarray(image.pixels).save(file)
            template_of[file] = str(_PCB / row["template"])
            return file

        good = [written(row, "template") for row in learned]
        judged = [(written(row, kind), kind == "path") for row in others for kind in ("template", "path")]
        job = Job(good, [file for file, _ in judged], [bad for _, bad in judged], template_of)
        compare(report, python, "deeppcb", job, Path(place))


def _shaken(path: str, template: str, rng: np.random.Generator) -> tuple[Image, Image, Matrix]:
    """Return a picture as another camera might have taken it, its template, and where its points went (3, 3)."""
    picture = PIL.Image.fromarray(read(str(_PCB / path)).pixels)
    width, height = picture.size
    angle, (right, down) = np.deg2rad(rng.uniform(-1, 1)), rng.uniform(-5, 5, 2)
    c, s, x, y = np.cos(angle), np.sin(angle), (width - 1) / 2, (height - 1) / 2
    back = np.array([(c, s, x - c * x - s * y + right), (-s, c, y + s * x - c * y + down), (0, 0, 1)])
    # Pillow's points lie half a pixel further: the corner of its first pixel is (0, 0).
    half = np.array([(1, 0, 0.5), (0, 1, 0.5), (0, 0, 1)])
    of_pillow = (half @ back @ np.linalg.inv(half))[:2].ravel()
    picture = picture.transform(
        picture.size, PIL.Image.Transform.AFFINE, tuple(of_pillow), PIL.Image.Resampling.BICUBIC, fillcolor=(255,) * 3
    )
    picture = picture.filter(PIL.ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    light = np.asarray(picture, np.float64) * rng.uniform(0.7, 1.1) + rng.uniform(-10, 10)
    out = io.BytesIO()
    PIL.Image.fromarray(np.clip(light, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=int(rng.integers(50, 95)))
    pixels = np.asarray(PIL.Image.open(io.BytesIO(out.getvalue())))
    name = f"{path}?{rng.integers(1 << 40)}"
    return Image(pixels, (width, height), name), read(str(_PCB / template)), np.linalg.inv(back)


def _moved(box: Sequence[int], moved: Matrix) -> Box:
    x1, y1, x2, y2 = box
    corners = moved @ np.array([(x, y, 1.0) for x in (x1, x2) for y in (y1, y2)]).T
    (left, top), (right, lower) = corners[:2].min(axis=1), corners[:2].max(axis=1)
    return float(left), float(top), float(right), float(lower)


def _corners(box: Sequence[int]) -> Box:
    x, y, width, height = box
    return x, y, x + width, y + height


def _iou(a: Box, b: Box) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, across) * max(0.0, down)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


# Texture


def _textile(report: Report, *, quick: bool) -> None:
    rows = _rows(_TEXTILE / "groundtruth.csv")
    paths = {kind: [str(_TEXTILE / r["path"]) for r in rows if r["label"] == kind] for kind in _KINDS}
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    judged, aurocs = Judged(), defaultdict(list)
    for draw in range(1 if quick else _DRAWS):
        say(f"textile_sim: draw {draw + 1}")
        order = np.random.default_rng([11, draw]).permutation(len(paths["nominal"]))
        half = len(order) // 2
        learned, others = ([paths["nominal"][i] for i in part] for part in (order[:half], order[half:]))
        start = time.perf_counter()
        inspector, proof = Inspector.fit(map(read, learned), encoder=encoder)
        judged.fit_s.append((time.perf_counter() - start) / half)
        judged.bytes = len(to_bytes(inspector))
        judged.stated.append((proof.threshold.rate, *proof.threshold.interval))
        start = time.perf_counter()
        good = _findings(inspector, others)
        judged.run_s.append((time.perf_counter() - start) / len(good))
        judged.alarms += [bool(one.defective) for one in good]
        scores = [one.score or 0.0 for one in good]
        judged.good += scores
        for kind in _KINDS[1:]:
            bad = [one.score or 0.0 for one in _findings(inspector, paths[kind])]
            judged.bad[kind] += [score > inspector.calibrated.value for score in bad]
            aurocs[kind].append(auroc(scores, bad))
    report.section(
        f"textile_sim: {half} good pictures learned, {len(good)} good and {len(rows) - len(order)} bad judged"
    )
    told = [
        (kind, f"{np.mean(values):.4f}", f"{min(values):.4f}", f"{np.mean(judged.bad[kind]):.3f}")
        for kind, values in aurocs.items()
    ]
    report.table(("defect", "AUROC, mean of the draws", "worst draw", "called defective"), told)
    _tell(report, judged)
    report.target(Target("textile_sim: AUROC, global", float(np.mean(aurocs["global"])), 0.98))
    report.target(Target("textile_sim: AUROC, local (as far as it goes)", float(np.mean(aurocs["local"])), 0.5))


def _textile_beside(report: Report, python: str, *, quick: bool) -> None:
    rows = _rows(_TEXTILE / "groundtruth.csv")
    good, bad = (
        [str(_TEXTILE / r["path"]) for r in rows if (r["label"] == "nominal") is kind] for kind in (True, False)
    )
    order = np.random.default_rng([11, 0]).permutation(len(good)).tolist()
    half = len(order) // 2
    learned, others = ([good[i] for i in part] for part in (order[:half], order[half:]))
    if quick:
        learned, others, bad = learned[:4], others[:3], bad[:3]
    job = Job(learned, [*others, *bad], [False] * len(others) + [True] * len(bad))
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as place:
        compare(report, python, "textile_sim", job, Path(place))


_KINDS = ("nominal", "local", "global")


def _findings(inspector: Inspector, paths: Sequence[str]) -> list[Finding]:
    return list(in_parallel(lambda path: inspector.decide(read(path)), paths))


def _tell(report: Report, judged: Judged) -> None:
    rate, low, high = (float(np.mean(values)) for values in zip(*judged.stated, strict=True))
    seen = float(np.mean(judged.alarms))
    report.text(
        f"False alarms: {sum(judged.alarms)} of {len(judged.alarms)} good pictures that were not learned, {seen:.3f}; "
        f"stated {rate:.3f} in the mean, for these pictures {low:.3f} to {high:.3f} (95 %). "
        f"{judged.unknown} pictures could not be judged."
    )
    report.text(
        f"Fit: {1000 * np.mean(judged.fit_s):.0f} ms a picture; decide: {1000 * np.median(judged.run_s):.0f} ms; "
        f"the inspector's file: {judged.bytes / 1e6:.2f} MB (bound: 50)."
    )
    report.target(Target("unseen good pictures: false alarms, at most the stated interval", seen, high, at_least=False))


def _rows(file: object) -> list[dict[str, str]]:
    with open(str(file), encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


if __name__ == "__main__":
    main()
