"""Does learning help on classes that nothing was learned from? Ten splits of six sets: numpy, the losses, and peers.

Each split keeps a third of the classes (bccd: slides; scene_pairs: families) apart, as `lookalike train` does in its
first turn; ``--share half`` keeps half of them apart. The losses and the plain loop need torch: run it with the Python
of .venv-torch for all rows. ``--parts`` tells what the numpy learner owes to what instead; ``--cost`` measures time,
memory and what using a learned encoder costs.
"""

from __future__ import annotations

import csv
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.harness import Report, Target, parser, say, subprocess_output
from benchmarks.photos import SHARED
from lookalike import registry
from lookalike.apps.train_focus import FOCUSES, best_focus
from lookalike.apps.train_loss import Head, learn_heads
from lookalike.apps.training_pictures import Asked, Looked, look
from lookalike.calibration.pairs import Ints, numbered
from lookalike.encoders.focused import PLAIN, Focus, focused
from lookalike.encoders.head import applied
from lookalike.evaluation.truth import NONE
from lookalike.learning.choosing import learn
from lookalike.learning.examples import Examples
from lookalike.learning.gain import LEVELS, changes
from lookalike.learning.linear import RANK, unit
from lookalike.learning.splitting import Sides, turns
from lookalike.protocols import Encoder
from lookalike.training.request import LOSSES, Request
from lookalike.types import Float32, Image, LabelledPicture

SETS = ("grocery", "emoji_vendors", "coil100", "scene_pairs", "clothing", "bccd")
_T_OF_NINE = 2.262
"""Student's t for 95 % and ten splits."""
Apply = Callable[[Float32], Float32]


def main() -> int:
    arguments = parser(__doc__, "learning")
    arguments.add_argument("--splits", type=int, default=10)
    arguments.add_argument("--first", type=int, default=0, help="seed of the first split")
    arguments.add_argument("--sets", default=",".join(SETS))
    arguments.add_argument("--losses", default=",".join(LOSSES))
    arguments.add_argument("--share", choices=("third", "half"), default="third", help="of the classes, to judge by")
    arguments.add_argument("--parts", action="store_true", help="the numpy learner through some focuses alone")
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
            measured = _Measured(name, range(options.first, options.first + splits), options.share)
            ways = measured.by_parts() if options.parts else measured.by_all(losses)
            _told(report, measured, ways)
    report.print()
    return 0


def examples_of(name: str) -> tuple[Examples, Looked]:
    """Return a set as examples, and as it is seen through each focus."""
    with (SHARED / name / "groundtruth.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = [str(SHARED / name / row["path"]) for row in rows]
    labels = [row["label"] for row in rows]
    pictures = tuple(LabelledPicture(path, label) for path, label in zip(paths, labels, strict=True))
    looked = look(Asked(name, pictures, ()), registry.encoder(registry.DEFAULT_ENCODER), focuses=FOCUSES)
    everyone = np.ones(len(rows), bool)
    asks = np.array([row.get("kind") == "natural" for row in rows]) if name == "grocery" else everyone
    units = {
        "scene_pairs": [row.get("family", "") for row in rows],
        "bccd": ["_".join(Path(row["path"]).name.split("_")[:2]) for row in rows],
    }.get(name, labels)
    groups = numbered(units) if name == "bccd" else np.full(len(rows), NONE, np.int64)
    answers = ~asks if name == "grocery" else everyone
    return Examples(looked.vectors, numbered(labels), numbered(units), groups, asks, answers), looked


class _Measured:
    """A set in its splits; each way to learn gives what becomes of the examples that judge, a split after the other."""

    def __init__(self, name: str, seeds: Sequence[int], share: str) -> None:
        self.name, self.share = name, share
        self.examples, self._looked = examples_of(name)
        names = [os.path.relpath(one.path, SHARED) for one in self._looked.pictures]
        split = _half if share == "half" else lambda *of: turns(*of)[0]
        self.sides = [split(self.examples.units, names, seed) for seed in seeds]

    def by_parts(self) -> dict[str, list[Examples]]:
        """Return what the numpy learner does where it is given some focuses alone."""
        given = {
            "the picture as it is": (PLAIN,),
            "its middle": (Focus(FOCUSES[-1].cut),),
            "colours beside": tuple(one for one in FOCUSES if one.colours and not one.cut),
            "both": tuple(one for one in FOCUSES if one.colours and one.cut),
            "chosen among all": FOCUSES,
        }
        return {way: self._numpy(focuses) for way, focuses in given.items()}

    def by_all(self, losses: Sequence[str]) -> dict[str, list[Examples]]:
        """Return what the numpy learner, the losses and peers do."""
        say(f"{self.name}: numpy")
        ways = {"numpy": self._numpy(FOCUSES)}
        say(f"{self.name}: scikit-learn's NCA")
        ways["NCA of scikit-learn"] = self._plain(_nca)
        if find_spec("torch") is not None:
            seen = [best_focus(self._looked, self.examples, side.train, FOCUSES, 0)[1] for side in self.sides]
            with TemporaryDirectory() as place:
                for loss in losses:
                    say(f"{self.name}: {loss}")
                    heads = learn_heads(Request(loss, place), seen, self.sides)
                    ways[loss] = [
                        _moved(one.only(side.test), head.apply)
                        for one, side, head in zip(seen, self.sides, heads, strict=True)
                    ]
            say(f"{self.name}: a plain loop")
            ways["plain loop, supcon"] = self._plain(_plain_loop)
        return ways

    def _numpy(self, focuses: Sequence[Focus]) -> list[Examples]:
        found = []
        for side in self.sides:
            seen = best_focus(self._looked, self.examples, side.known, focuses, 0)[1]
            head = Head(learn(seen.only(side.known))[0], None, ())
            found.append(_moved(seen.only(side.test), head.apply))
        return found

    def _plain(self, learned: Callable[[Examples], Apply]) -> list[Examples]:
        return [_moved(self.examples.only(side.test), learned(self.examples.only(side.known))) for side in self.sides]


def _moved(held: Examples, apply: Apply) -> Examples:
    return held.moved(apply(held.vectors))


def _half(units: Ints, _: Sequence[str], seed: int) -> Sides:
    """Return a split that keeps half of the units apart, by lot; a quarter of the others stops learning."""
    order = np.random.default_rng(seed).permutation(np.unique(units))
    known = order[: len(order) // 2]
    judged, stopped = ~np.isin(units, known), np.isin(units, known[::4])
    return Sides(np.flatnonzero(~judged & ~stopped), np.flatnonzero(stopped), np.flatnonzero(judged))


def _told(report: Report, measured: _Measured, ways: dict[str, list[Examples]]) -> None:
    name, examples, sides = measured.name, measured.examples, measured.sides
    report.section(f"{name}: {len(examples.labels)} pictures, {len(sides)} splits, judged by a {measured.share}")
    rows = []
    for way, moved in ways.items():
        found = []
        for side, after in zip(sides, moved, strict=True):
            held = examples.only(side.test)
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

    image = read(picture)
    seen = focused(base, FOCUSES[-1])
    some = np.random.default_rng(0).normal(size=(RANK, seen.space.dim)).astype(np.float32)
    numbers = {"mean": some[0], "into": np.ascontiguousarray(some.T), "back": some}
    width = Request("supcon", "").hidden
    layer = np.random.default_rng(0).normal(size=(width, seen.space.dim)).astype(np.float32)
    hidden = {"a": np.ascontiguousarray(layer.T), "bias": layer[0, :width], "b": layer}
    for what, made in (("the middle and colours", numbers), ("these and a hidden layer", {**numbers, **hidden})):
        added = _added(base, seen, image, made)
        report.target(Target(f"what a learned encoder adds to its base, {what}", added, 5, False, " %"))


def _added(base: Encoder, seen: Encoder, image: Image, numbers: Mapping[str, Float32]) -> float:
    """Return the percentage by which a head on ``seen`` takes longer than the base alone."""
    times = [
        (_timed(lambda: base.encode([image])), _timed(lambda: applied(seen.encode([image]).vectors[0], numbers)))
        for _ in range(300)
    ]
    # Each pair is one after the other, so that what else the machine does is in both.
    return 100 * median(learned / alone - 1 for alone, learned in times)


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
