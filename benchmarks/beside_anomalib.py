"""anomalib's PatchCore beside us, for ``benchmarks.inspection --peer PYTHON``: AUROC, CPU time, memory.

``python -m benchmarks.beside_anomalib JOB`` is what runs us, in a process of its own, so that its peak is its own. A
job is a JSON file: what is good, what is judged, and the golden template of each. PatchCore knows no templates: those
of what is judged are good pictures to it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import REPOSITORY, Report, peak_memory_mib, say, subprocess_output
from lookalike import registry
from lookalike.images import read
from lookalike.inspecting import Inspector, to_bytes
from lookalike.types import Image

_PEER = str(REPOSITORY / "benchmarks" / "inspection_peer.py")


@dataclass(frozen=True)
class Job:
    """Paths of good and of judged pictures, whether each of these is bad, and the template of each that has one."""

    good: list[str]
    judged: list[str]
    bad: list[bool]
    template_of: dict[str, str] = field(default_factory=dict)

    def write(self, file: Path) -> Path:
        """Write what both sides are told."""
        told = asdict(self) | {"templates": sorted({self.template_of[one] for one in self.judged if self.template_of})}
        file.write_text(json.dumps(told))
        return file


def compare(report: Report, python: str, name: str, job: Job, folder: Path) -> None:
    """Tell what both make of a job."""
    file = job.write(folder / "job.json")
    able = json.loads(subprocess_output([python, _PEER, "check"]).splitlines()[-1])
    say(f"{name}: lookalike beside anomalib {able['version']}")
    found = {"lookalike": json.loads(subprocess_output([sys.executable, "-m", __name__, str(file)]).splitlines()[-1])}
    for backbone, trained in able["trained"].items():
        say(f"{name}: PatchCore, {backbone}")
        title = f"PatchCore, {backbone}" + ("" if trained else ", random weights")
        found[title] = json.loads(subprocess_output([python, _PEER, backbone, str(file)]).splitlines()[-1])
    good, judged = len(job.good), len(job.judged)
    report.section(f"{name}: beside anomalib {able['version']}, {good} good pictures, {judged} judged")
    report.table(
        ("", "AUROC", "fit, CPU ms a picture", "judge, CPU ms a picture", "peak, MiB", "what is kept, MB"),
        [
            (
                title, _auroc(one["scores"], job.bad), f"{1000 * one['fit'] / good:.0f}",
                f"{1000 * one['run'] / judged:.0f}", f"{one['peak']:.0f}", f"{one['bank']:.2f}",
            )
            for title, one in found.items()
        ],
    )  # fmt: skip


def auroc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Return the share of pairs of a good and a bad picture in which the bad one scores higher; ties count half."""
    apart = np.subtract.outer(np.asarray(bad), np.asarray(good))
    return float((apart > 0).mean() + (apart == 0).mean() / 2)


def _auroc(scores: Sequence[float | None], bad: Sequence[bool]) -> str:
    pairs = [(score, ill) for score, ill in zip(scores, bad, strict=True) if score is not None]
    told = auroc([s for s, ill in pairs if not ill], [s for s, ill in pairs if ill])
    unknown = len(scores) - len(pairs)
    return f"{told:.4f}" + (f" ({unknown} not judged)" if unknown else "")


def _ours(job: dict[str, Any]) -> dict[str, Any]:
    template_of = job["template_of"]
    encoder = None if template_of else registry.encoder(registry.DEFAULT_ENCODER)
    if encoder is not None:
        encoder.encode([read(job["good"][0], encoder.at_least)])  # loads the model: only the work is timed

    def template(image: Image) -> Image:
        return read(template_of[image.source])

    started = time.process_time()
    inspector, _ = Inspector.fit(map(read, job["good"]), encoder=encoder, template_of=template if template_of else None)
    fitted = time.process_time()
    found = [inspector.decide(one, template(one) if template_of else None) for one in map(read, job["judged"])]
    return {
        "scores": [one.score for one in found],
        "fit": fitted - started,
        "run": time.process_time() - fitted,
        "peak": peak_memory_mib(),
        "bank": len(to_bytes(inspector)) / 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(_ours(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
