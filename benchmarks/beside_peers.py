"""Peers beside us, for ``benchmarks.duplicates --peers PYTHON``: what they find in the same folder, and their CPU time.

``python -m benchmarks.beside_peers LEVEL ENCODER FOLDER`` is what runs us, as the verb does, in a process of its own.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import REPOSITORY, Report, Target, say, subprocess_output
from lookalike import registry
from lookalike.apps.dedupe import Request, find_duplicates
from lookalike.apps.encoders import quantize
from lookalike.copies.links import Level
from lookalike.images import read

_PEERS = str(REPOSITORY / "benchmarks" / "duplicate_peers.py")
_INT8 = "efficientnet-lite0-int8"
_OURS = {
    "lookalike exact": ("exact", registry.DEFAULT_ENCODER),
    "lookalike near": ("near", registry.DEFAULT_ENCODER),
    "lookalike edited": ("edited", registry.DEFAULT_ENCODER),
    "lookalike edited, int8 encoder": ("edited", _INT8),
}

Pair = frozenset[str]
Judge = Callable[[set[Pair]], tuple[float, float, dict[str, float]]]
"""Pairs of names -> precision, recall over all, recall by edit."""


def accuracy(report: Report, python: str, folder: Path, judge: Judge) -> None:
    """Tell what everyone finds in a folder of originals and edited copies."""
    rows, able = [], _able(report, python)
    precisions: dict[str, tuple[float, float]] = {}
    for name, found in _all(python, able, folder).items():
        precision, recall, by_edit = judge({frozenset(pair) for pair in found["pairs"]})
        precisions[name] = precision, recall
        worst = sorted(by_edit.items(), key=lambda item: item[1])[:6]
        rows.append(
            (name, f"{precision:.4f}", f"{recall:.3f}", ", ".join(f"{edit} {share:.2f}" for edit, share in worst))
        )
    report.section("Beside peers, on the same files: all pairs of an original and its edits")
    report.table(("", "precision", "recall", "the worst edits"), rows)
    ours = precisions["lookalike edited"]
    others = [one for name, one in precisions.items() if not name.startswith("lookalike")]
    report.target(Target("recall above the best peer, by", ours[1] - max(recall for _, recall in others), 0.0))


def costs(report: Report, python: str, folder: Path) -> None:
    """Tell what everyone's CPU time is, on a folder of mostly distinct pictures."""
    count = sum(path.is_file() for path in folder.iterdir())
    able = _able(report, python)
    took = {name: 1000 * found["cpu"] / count for name, found in _all(python, able, folder).items()}
    report.section(f"CPU time beside peers, {count:,} mostly distinct pictures")
    pdq = took.get("immaculate pdq")
    report.table(
        ("", "ms a picture", "times pdq"),
        [(name, f"{ms:.2f}", f"{ms / pdq:.2f}" if pdq else "-") for name, ms in took.items()],
    )
    for level in ("exact", "near"):
        _ratio(report, took, f"lookalike {level}", "immaculate pdq", 1.2)
        _ratio(report, took, f"lookalike {level}", "imagehash phash", 1.0)
    _ratio(report, took, "lookalike edited", "immaculate sscd_distilled", 1.0)
    _ratio(report, took, "lookalike edited", "immaculate sscd", 1 / 2)
    _ratio(report, took, "lookalike edited, int8 encoder", "immaculate sscd", 1 / 3)


def _ratio(report: Report, took: dict[str, float], ours: str, peer: str, bound: float) -> None:
    if ours in took and peer in took:
        report.target(Target(f"CPU: {ours} in times of {peer}", took[ours] / took[peer], bound, at_least=False))


def _able(report: Report, python: str) -> list[str]:
    told = json.loads(subprocess_output([python, _PEERS, "check"]).splitlines()[-1])
    for name, why in told["missing"].items():
        report.text(f"{name} could not be run: {why}")
    return list(told["able"])


def _all(python: str, able: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as home:
        env = {"LOOKALIKE_ENCODERS": home}
        before = os.environ.get("LOOKALIKE_ENCODERS")
        os.environ.update(env)
        try:
            quantize(registry.DEFAULT_ENCODER, str(folder), _INT8)
        finally:
            os.environ.pop("LOOKALIKE_ENCODERS")
            if before is not None:
                os.environ["LOOKALIKE_ENCODERS"] = before
        for name, (level, encoder) in _OURS.items():
            say(name)
            command = [sys.executable, "-m", "benchmarks.beside_peers", level, encoder, str(folder)]
            found[name] = json.loads(subprocess_output(command, env).splitlines()[-1])
    for name in able:
        say(name)
        found[name] = json.loads(subprocess_output([python, _PEERS, name, str(folder)]).splitlines()[-1])
    return found


def _ours(level: str, encoder: str, folder: str) -> dict[str, Any]:
    first = next(path for path in sorted(Path(folder).iterdir()) if path.is_file())
    if level == "edited":
        registry.encoder(encoder).encode([read(first, 256)])  # loads the model: only the work is timed
    before = resource.getrusage(resource.RUSAGE_SELF)
    found = find_duplicates(folder, request=Request(Level(level), encoder=encoder))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"pairs": [[Path(pair.a).name, Path(pair.b).name] for pair in found.pairs], "cpu": cpu}


if __name__ == "__main__":
    print(json.dumps(_ours(*sys.argv[1:])))
