"""Indexing: pictures a second, against the limit of this machine and against other ways; a second run; memory.

The files are JPEGs of 640x480 and of 12 megapixels (4000x3000), quality 90, made from real photos (see ``photos``).

- *lookalike*: ``Gallery.index`` of a folder into a new gallery, in this process: hashing, decoding, embedding, writing
  and syncing; the encoder is loaded before, the imports are done. *the command* is the whole process of
  ``lookalike index``, from its start to its end.
- *limit*: cores / (decode + inference), measured on the same files with one thread: ``read_bytes`` at the encoder's
  ``at_least`` and its preprocessing, and the bare ``session.run``. The bytes are in memory, nothing is written.
- *bare threads*: a thread a core, each with the same two steps and nothing else: what the cores give when all are busy.
- *Pillow + ONNX Runtime*: full decode, bicubic to 224, ``session.run`` with one thread, one picture after the other.
- *Pillow + torch eager*: the same network, likewise; with one thread (which the target is about) and with one a core.
- *imagededup*: its CNN (MobileNetV3-small, random weights) over the same folder, as it comes and with a worker process
  a core; the target is about the faster one.

The last two need ``--peers PYTHON``: ``benchmarks/make_peers.sh`` makes that environment.

Memory is VmHWM of a process that does nothing but index.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import PIL.Image

from benchmarks.harness import (
    Report,
    Route,
    Target,
    cores,
    interleaved,
    medians,
    parser,
    peak_memory_mib,
    say,
    seconds,
    spread,
    subprocess_output,
)
from benchmarks.photos import link_some, make_jpegs
from lookalike import registry
from lookalike.encoders.efficientnet_lite import EMBEDDING, LITE0, model
from lookalike.gallery import Gallery
from lookalike.images import read_bytes
from lookalike.preprocess import prepare_one

_PEERS = Path(__file__).with_name("peers.py")
_SMALL, _LARGE = (640, 480), (4000, 3000)
_LIMIT_MEMORY_MIB = 450
_NOISE_MIB = 24  # two runs over the same files differ by up to this


@dataclass(frozen=True)
class Sizes:
    """How many files of each kind, and how often."""

    images: int
    large: int
    memory: int
    repetitions: int


_FULL = Sizes(images=1000, large=64, memory=4000, repetitions=3)
_QUICK = Sizes(images=48, large=8, memory=96, repetitions=1)


class Files:
    """A folder of JPEGs, and the routes that turn them into vectors; each returns pictures a second."""

    def __init__(self, paths: Sequence[Path], scratch: Path) -> None:
        self.paths = list(paths)
        self.folder = self.paths[0].parent
        self._galleries: Iterator[Path] = (scratch / f"{self.folder.name}-{number}.gallery" for number in count())

    def ours(self) -> float:
        with Gallery.open(next(self._galleries)) as gallery:
            took = seconds(lambda: self._added(gallery))
        return len(self.paths) / took

    def _added(self, gallery: Gallery) -> None:
        report = gallery.index(self.folder)
        assert report.added == len(self.paths), report

    def command(self) -> float:
        gallery = str(next(self._galleries))
        took = seconds(lambda: _lookalike("index", str(self.folder), "--gallery", gallery))
        return len(self.paths) / took

    def first_and_second(self) -> tuple[float, float, float, float]:
        """Return the seconds of a first run and of a second, in this process and as commands."""
        with Gallery.open(next(self._galleries)) as gallery:
            first = seconds(lambda: self._added(gallery))
            second = statistics.median(seconds(lambda: gallery.index(self.folder)) for _ in range(3))
        path = str(next(self._galleries))
        index = functools.partial(_lookalike, "index", str(self.folder), "--gallery", path)
        command = seconds(index)
        return first, second, command, statistics.median(seconds(index) for _ in range(3))

    def bare_threads(self) -> float:
        session = _session()
        with ThreadPoolExecutor(cores()) as pool:
            took = seconds(lambda: list(pool.map(lambda path: _embed(session, path.read_bytes()), self.paths)))
        return len(self.paths) / took

    def pillow_onnxruntime(self, share: int) -> float:
        session, some = _session(), self.paths[: max(1, len(self.paths) // share)]
        return len(some) / seconds(lambda: [_embed_by_pillow(session, path) for path in some])

    def by_peer(self, python: str, *arguments: str) -> float:
        result = _peer(python, *arguments)
        return float(result["images"] / result["seconds"])

    def decode_and_inference(self, at_most: int) -> tuple[float, float]:
        """Return the seconds a picture takes to be decoded and prepared, and to go through the network; one thread."""
        session, step = _session(), max(1, len(self.paths) // at_most)
        data = [path.read_bytes() for path in self.paths[::step]]
        inputs = [_prepared(some) for some in data]
        decode = seconds(lambda: [_prepared(some) for some in data])
        inference = seconds(lambda: [_run(session, pixels) for pixels in inputs])
        return decode / len(data), inference / len(data)


def main() -> None:
    arguments = parser(__doc__, "indexing")
    arguments.add_argument("--images", type=int, metavar="N", help="how many files of 640x480 (1000)")
    arguments.add_argument("--large", type=int, metavar="N", help="how many files of 12 megapixels (64)")
    arguments.add_argument("--memory", type=int, metavar="N", help="how many for memory and the second run (4000)")
    arguments.add_argument("--repetitions", type=int, metavar="N", help="how often each is measured (3)")
    arguments.add_argument("--peers", metavar="PYTHON", help="the Python of the environment made by make_peers.sh")
    arguments.add_argument("--peak-memory-of", nargs=2, metavar=("FOLDER", "GALLERY"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.peak_memory_of:
        return _print_peak_memory(*options.peak_memory_of)
    preset = _QUICK if options.quick else _FULL
    sizes = Sizes(**{name: getattr(options, name) or value for name, value in vars(preset).items()})
    report = Report(f"Indexing on {cores()} cores", ("numpy", "onnxruntime", "pillow", "simplejpeg", "cykooz.resizer"))
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as scratch:
        _measure(report, sizes, options.peers, Path(scratch))
    report.print()
    return None


def _measure(report: Report, sizes: Sizes, peers: str | None, scratch: Path) -> None:
    most = max(sizes.images, sizes.memory)
    say(f"making {most} JPEGs of 640x480 and {sizes.large} of 4000x3000")
    many = make_jpegs(scratch / "many", most, _SMALL)
    small = Files(link_some(many[: sizes.images], scratch / "small"), scratch)
    large = Files(make_jpegs(scratch / "large", sizes.large, _LARGE), scratch)
    with Gallery.open(scratch / "warm.gallery") as gallery:
        gallery.embed([small.paths[0]])
    _throughput(report, "640x480", small, sizes, peers)
    _throughput(report, "12 megapixels", large, sizes, None)
    _second_run(report, Files(link_some(many[: sizes.memory], scratch / "again"), scratch))
    _memory(report, many, large, sizes, scratch)
    if peers:
        report.text("Peers: " + json.dumps(_peer(peers, "check")))


# Pictures a second


def _throughput(report: Report, name: str, files: Files, sizes: Sizes, peers: str | None) -> None:
    say(f"throughput, {name}")
    steps: list[tuple[float, float]] = []

    def limit() -> float:
        steps.append(files.decode_and_inference(at_most=200))
        return cores() / sum(steps[-1])

    routes: dict[str, Route] = {
        "lookalike": files.ours,
        "limit": limit,
        "bare threads": files.bare_threads,
        "the command": files.command,
        "Pillow + ONNX Runtime, 1 thread": functools.partial(files.pillow_onnxruntime, 4),
        **(_peer_routes(files, peers) if peers else {}),
    }
    measured = interleaved(routes, sizes.repetitions)
    rate = medians(measured)
    ours = rate["lookalike"]
    bytes_each = statistics.mean(path.stat().st_size for path in files.paths)
    report.section(f"{name}: {len(files.paths)} files of {bytes_each / 1e3:.0f} kB")
    report.table(
        ("route", "images/s, median", "lowest to highest", "lookalike is … times as fast"),
        [(route, f"{rate[route]:.1f}", spread(measured[route]), f"{ours / rate[route]:.2f}") for route in routes],
    )
    decode, inference = (statistics.median(step) * 1000 for step in zip(*steps, strict=True))
    report.text(f"One thread: decode {decode:.1f} ms, inference {inference:.1f} ms a picture.")
    for target in _targets(name, rate, peers):
        report.target(target)


def _peer_routes(files: Files, python: str) -> dict[str, Route]:
    folder, some = str(files.folder), str(max(1, len(files.paths) // 8))
    by = functools.partial(files.by_peer, python)
    return {
        "Pillow + torch eager, 1 thread": functools.partial(by, "torch", folder, some, "1"),
        f"Pillow + torch eager, {cores()} threads": functools.partial(by, "torch", folder, some, str(cores())),
        "imagededup": functools.partial(by, "imagededup", folder, "0"),
        f"imagededup, {cores()} workers": functools.partial(by, "imagededup", folder, str(cores())),
    }


def _targets(name: str, rate: dict[str, float], peers: str | None) -> Iterator[Target]:
    ours = rate["lookalike"]
    serial = ours / rate["Pillow + ONNX Runtime, 1 thread"]
    if name != "640x480":
        yield Target(f"{name}: times serial Pillow + ONNX Runtime", serial, 6, unit="x")
        return
    yield Target(f"{name}: share of the limit", 100 * ours / rate["limit"], 90, unit=" %")
    yield Target(f"{name}: times serial Pillow + ONNX Runtime", serial, 2.1, unit="x")
    why = "not measured: no --peers"
    torch = ours / rate["Pillow + torch eager, 1 thread"] if peers else None
    dedup = ours / max(rate[route] for route in rate if "imagededup" in route) if peers else None
    yield Target(f"{name}: times serial Pillow + torch eager", torch, 5, unit="x", why_not=why)
    yield Target(f"{name}: times imagededup's CNN", dedup, 1, unit="x", why_not=why)


def _embed(session: Any, data: bytes) -> None:
    _run(session, _prepared(data))


def _prepared(data: bytes) -> Any:
    image = read_bytes(data, at_least=registry.encoder(LITE0.name).at_least)
    return prepare_one(image, LITE0.recipe)[None]


def _embed_by_pillow(session: Any, path: Path) -> None:
    side = LITE0.recipe.size
    with PIL.Image.open(path) as picture:
        small = picture.convert("RGB").resize((side, side), PIL.Image.Resampling.BICUBIC)
    pixels = np.asarray(small, np.float32).transpose(2, 0, 1) / 127.5 - 1.0
    _run(session, np.ascontiguousarray(pixels)[None])


def _run(session: Any, pixels: Any) -> None:
    session.run([EMBEDDING], {"pixels": pixels})


@functools.cache
def _session() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model(LITE0, [EMBEDDING]), options, providers=["CPUExecutionProvider"])


def _peer(python: str, *arguments: str) -> dict[str, Any]:
    # The last line: libraries greet on stdout.
    result: dict[str, Any] = json.loads(subprocess_output([python, str(_PEERS), *arguments]).splitlines()[-1])
    return result


def _lookalike(*arguments: str) -> str:
    return subprocess_output([sys.executable, "-m", "lookalike", *arguments])


# A second run


def _second_run(report: Report, files: Files) -> None:
    say("a second run")
    first, second, command, again = files.first_and_second()
    report.section(f"A second run over {len(files.paths)} unchanged files of 640x480")
    report.table(
        ("", "first", "second", "ratio"),
        [
            ("Gallery.index", f"{first:.2f} s", f"{second * 1000:.1f} ms", f"{first / second:.0f}"),
            ("the command", f"{command:.2f} s", f"{again * 1000:.0f} ms", f"{command / again:.0f}"),
        ],
    )
    report.target(Target("second run, times faster than the first (Gallery.index)", first / second, 50, unit="x"))
    report.target(Target("second run, times faster than the first (the command)", command / again, 50, unit="x"))


# Memory


def _memory(report: Report, many: Sequence[Path], large: Files, sizes: Sizes, scratch: Path) -> None:
    few = link_some(list(many[: max(1, sizes.memory // 8)]), scratch / "few")
    most = link_some(list(many[: sizes.memory]), scratch / "most")
    galleries = count()
    routes: dict[str, Route] = {
        name: functools.partial(_peak_memory_of, folder, scratch, galleries)
        for name, folder in (
            (f"{len(few)} of 640x480", few[0].parent),
            (f"{len(most)} of 640x480", most[0].parent),
            (f"{len(large.paths)} of 12 megapixels", large.folder),
        )
    }
    measured = interleaved(routes, min(2, sizes.repetitions))
    report.section("Peak memory of a process that indexes")
    report.table(
        ("files", "MiB, median", "lowest to highest"),
        [(name, f"{statistics.median(values):.0f}", spread(values)) for name, values in measured.items()],
    )
    peak_few, peak_most, peak_large = medians(measured).values()
    what = f"{len(most)} files take at most {_NOISE_MIB} MiB more than {len(few)}"
    report.target(Target(f"memory: {what}", peak_most - peak_few, _NOISE_MIB, at_least=False, unit=" MiB"))
    report.target(Target("memory: 12 megapixels", peak_large, _LIMIT_MEMORY_MIB, at_least=False, unit=" MiB"))


def _peak_memory_of(folder: Path, scratch: Path, galleries: Iterator[int]) -> float:
    gallery = scratch / f"memory-{next(galleries)}.gallery"
    command = [sys.executable, "-m", "benchmarks.indexing", "--peak-memory-of", str(folder), str(gallery)]
    return float(subprocess_output(command))


def _print_peak_memory(folder: str, path: str) -> None:
    with Gallery.open(path) as gallery:
        gallery.index(folder)
    print(peak_memory_mib())


if __name__ == "__main__":
    main()
