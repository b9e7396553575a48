"""Does learning help on classes that nothing was learned from? Ten splits of six sets: numpy, the losses, and peers.

Each split keeps a third of the classes (bccd: slides; scene_pairs: families) apart, as `lookalike train` does in its
first turn. The losses and the plain loop need torch: run it with the Python of .venv-torch for all rows. ``--cost``
measures time, memory and what using a learned encoder costs instead.
"""

from __future__ import annotations

import csv
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.harness import Report, Target, parser, say, subprocess_output
from benchmarks.photos import SHARED
from lookalike import registry
from lookalike.apps.train_loss import learn_heads
from lookalike.calibration.pairs import numbered
from lookalike.evaluation.truth import NONE
from lookalike.learning.choosing import learn
from lookalike.learning.examples import Examples
from lookalike.learning.gain import LEVELS, changes
from lookalike.learning.linear import Linear, unit
from lookalike.learning.splitting import Sides, turns
from lookalike.pipeline import embed_files
from lookalike.training.request import LOSSES, Request
from lookalike.types import Float32, Skipped

SETS = ("grocery", "emoji_vendors", "coil100", "scene_pairs", "clothing", "bccd")
_T_OF_NINE = 2.262
"""Student's t for 95 % and ten splits."""
Apply = Callable[[Float32], Float32]


def main() -> int:
    arguments = parser(__doc__, "learning")
    arguments.add_argument("--splits", type=int, default=10)
    arguments.add_argument("--sets", default=",".join(SETS))
    arguments.add_argument("--losses", default=",".join(LOSSES))
    arguments.add_argument("--cost", action="store_true", help="time, memory and the cost of use alone")
    options = arguments.parse_args()
    sets = [name for name in options.sets.split(",") if (SHARED / name / "groundtruth.csv").is_file()]
    report = Report("Learning", ("numpy", "scikit-learn", "torch", "pytorch-metric-learning"))
    if not sets:
        report.text("The data sets are not at hand.")
    elif options.cost:
        _costs(report, quick=options.quick)
    else:
        splits, losses = (2, ["supcon"]) if options.quick else (options.splits, options.losses.split(","))
        for name in sets[:1] if options.quick else sets:
            _measure(report, name, splits, losses)
    report.print()
    return 0


def examples_of(name: str) -> tuple[Examples, list[str]]:
    """Return a set as examples, and its paths."""
    with (SHARED / name / "groundtruth.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = [str(SHARED / name / row["path"]) for row in rows]
    outcomes = list(embed_files(paths, registry.encoder(registry.DEFAULT_ENCODER)))
    vectors = np.concatenate([one[1].vectors for one in outcomes if not isinstance(one, Skipped)])
    labels = [row["label"] for row in rows]
    everyone = np.ones(len(rows), bool)
    asks = np.array([row.get("kind") == "natural" for row in rows]) if name == "grocery" else everyone
    units = {
        "scene_pairs": [row.get("family", "") for row in rows],
        "bccd": ["_".join(Path(row["path"]).name.split("_")[:2]) for row in rows],
    }.get(name, labels)
    groups = numbered(units) if name == "bccd" else np.full(len(rows), NONE, np.int64)
    answers = ~asks if name == "grocery" else everyone
    return Examples(vectors, numbered(labels), numbered(units), groups, asks, answers), paths


def _measure(report: Report, name: str, count: int, losses: Sequence[str]) -> None:
    examples, paths = examples_of(name)
    names = [os.path.relpath(path, SHARED) for path in paths]
    sides = [turns(examples.units, names, seed)[0] for seed in range(count)]
    ways: dict[str, list[Apply]] = {}
    say(f"{name}: numpy")
    ways["numpy"] = [learn(examples.only(side.known))[0].apply for side in sides]
    say(f"{name}: scikit-learn's NCA")
    ways["NCA of scikit-learn"] = [_nca(examples.only(side.known)) for side in sides]
    if find_spec("torch") is not None:
        with TemporaryDirectory() as place:
            for loss in losses:
                say(f"{name}: {loss}")
                heads = learn_heads(Request(loss, place), examples, sides)
                ways[loss] = [head.apply for head in heads]
        say(f"{name}: a plain loop")
        ways["plain loop, supcon"] = [_plain_loop(examples.only(side.known)) for side in sides]
    _told(report, name, examples, sides, ways)


def _told(report: Report, name: str, examples: Examples, sides: Sequence[Sides], ways: dict[str, list[Apply]]) -> None:
    report.section(f"{name}: {len(examples.labels)} pictures, {len(sides)} splits")
    rows = []
    for way, applied in ways.items():
        found = []
        for side, apply in zip(sides, applied, strict=True):
            held = examples.only(side.test)
            after = held.moved(apply(held.vectors))
            found.append(changes([held.judged(LEVELS)], [after.judged(LEVELS)], held.units[held.asks]))
        cells = [way]
        for place in range(len(found[0])):
            gains = [one[place].difference.estimate for one in found]
            low, high = _interval(gains)
            before, after_mean = (mean(getattr(one[place], at) for one in found) for at in ("before", "after"))
            cells.append(f"{before:.3f} → {after_mean:.3f} ({gains and mean(gains):+.3f}: {low:+.3f} to {high:+.3f})")
            if place == 0 and name == "grocery" and way == "numpy":
                report.target(Target("grocery, numpy: recall@1 gained, mean", mean(gains), 0.2))
                report.target(Target("grocery, numpy: recall@1 gained, lower end", low, 0.1))
        worse = sum(one[1].is_worse or one[0].is_worse for one in found)
        cells += [f"{sum(one[1].is_better for one in found)}", f"{worse}"]
        rows.append(cells)
    report.table(("learned by", "recall@1", "MAP@R", "AUC", "FNR at 1 % FPR", "splits better", "splits worse"), rows)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over splits; they share pictures, so it is rather too narrow."""
    if len(values) < 2:
        return math.nan, math.nan
    half = _T_OF_NINE * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def _nca(known: Examples) -> Apply:
    """scikit-learn's, to 64 numbers; in the first 128 principal directions, else it takes long."""
    from sklearn.decomposition import PCA  # noqa: PLC0415 - a peer
    from sklearn.neighbors import NeighborhoodComponentsAnalysis  # noqa: PLC0415

    dim = min(128, len(known.labels) - 1)
    pca = PCA(dim, random_state=0).fit(known.vectors)
    nca = NeighborhoodComponentsAnalysis(min(64, dim), max_iter=50, random_state=0)
    nca.fit(pca.transform(known.vectors), known.labels)
    return lambda vectors: unit(nca.transform(pca.transform(vectors)).astype(np.float32))


def _plain_loop(known: Examples) -> Apply:
    """What one writes in ten lines: a linear layer on the vectors, the same loss, Adam, 60 epochs, no validation."""
    import torch  # noqa: PLC0415 - a peer
    from pytorch_metric_learning.losses import SupConLoss  # noqa: PLC0415

    torch.manual_seed(0)
    x, y = torch.from_numpy(known.vectors), torch.from_numpy(known.labels)
    layer = torch.nn.Linear(x.shape[1], 128)
    optimizer, loss = torch.optim.Adam(layer.parameters(), 1e-3), SupConLoss(temperature=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(layer(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        weight, bias = layer.weight.numpy().T.copy(), layer.bias.numpy().copy()
    return lambda vectors: unit(vectors @ weight + bias)


def _costs(report: Report, *, quick: bool) -> None:
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        source = place / "labelled.csv"
        count = _write_labelled(source, 200 if quick else 1000)
        how = ["--loss", "supcon"] if find_spec("torch") else []
        say(f"learning from {count} pictures")
        start = time.perf_counter()
        environment = {"LOOKALIKE_CACHE": str(place / "cache"), "LOOKALIKE_ENCODERS": str(place / "encoders")}
        command = [sys.executable, "-m", "lookalike", "train", str(source), "--as", "cost", "--keep-anyway", *how]
        subprocess_output(command, environment)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        report.target(Target(f"{count} pictures, {how[-1] if how else 'numpy'}, all of it", seconds, 180, False, " s"))
        report.target(Target("largest process", peak, 2, False, " GiB"))
    base = registry.encoder(registry.DEFAULT_ENCODER)
    picture = next(iter((SHARED / "grocery" / "iconic").glob("*.jpg")))
    from lookalike.images import read  # noqa: PLC0415

    image = read(picture, base.at_least)
    vector = base.encode([image]).vectors[0]
    linear = Linear(vector, np.eye(len(vector), dtype=np.float32))
    alone = min(_timed(lambda: base.encode([image])) for _ in range(30))
    added = min(_timed(lambda: unit(((vector - linear.mean) @ linear.components)[None])) for _ in range(30))
    report.target(Target("what a learned encoder adds to its base", 100 * added / alone, 5, False, " %"))


def _write_labelled(file: Path, at_most: int) -> int:
    rows = []
    for name in ("grocery", "clothing", "coil100", "emoji_vendors"):
        with (SHARED / name / "groundtruth.csv").open(encoding="utf-8", newline="") as source:
            rows += [(str(SHARED / name / row["path"]), f"{name} {row['label']}") for row in csv.DictReader(source)]
    with file.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows([("path", "label"), *rows[:at_most]])
    return len(rows[:at_most])


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
