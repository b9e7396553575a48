"""Make the calibration that ships with the default encoder, from the freely licensed photos of ``free_photos.csv``.

    python tools/free_photos.py --download packages photos
    python tools/builtin_calibration.py photos

Different groups (a place, a series, a motif) are different things; a photo and edited copies of it are the same. Only
numbers are kept: no picture, but the vectors of a cohort of them. ``NOTICE`` names the sources.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gzip
import json
import sys
from pathlib import Path

import numpy as np

from lookalike import registry
from lookalike.calibrating import Sample, Wanted, background_of, calibration_of, copies_of, look_at
from lookalike.calibration.pairs import numbered
from lookalike.types import Embeddings

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tools" / "free_photos.csv"
OUTPUT = ROOT / "src" / "lookalike" / "data"
TARGET = 0.001


def main() -> int:
    """Make the file from the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="the folder that free_photos.py wrote")
    folder = parser.parse_args().photos
    encoder = registry.encoder(registry.DEFAULT_ENCODER)
    with LIST.open(encoding="utf-8", newline="") as file:
        groups = {row["file"]: row["group"] for row in csv.DictReader(file)}
    sources = [(name, str(folder / name)) for name in groups]
    pictures = look_at(sources, encoder, lambda _done: None)
    if pictures.skipped:
        print(f"{pictures.skipped[0].path}: {pictures.skipped[0].reason}", file=sys.stderr)
        return 1
    paths = [str(folder / name) for name in pictures.names]
    units = numbered([groups[name] for name in pictures.names])
    named = list(zip(pictures.names, paths, strict=True))
    copies = [copy for copy in copies_of(named, encoder, 0, lambda _done: None) if copy is not None]
    unknown = (None,) * len(paths)
    background = background_of(pictures, paths, units, unknown, encoder, lambda _done: None)
    wanted = Wanted(
        TARGET, source=f"{len(paths)} freely licensed photos of {units.max() + 1} motifs, and an edited copy of each"
    )
    calibration = calibration_of(
        _sample(pictures.embeddings, pictures.qualities, copies, units), background, wanted, encoder.space
    )
    OUTPUT.mkdir(exist_ok=True)
    file = OUTPUT / f"{encoder.space.encoder}.calibration.json.gz"
    # The date of making would change the file each time; that of the list is what counts.
    data = dataclasses.replace(calibration, created="2026-11-25T00:00:00Z").as_dict()
    file.write_bytes(gzip.compress(json.dumps(data, allow_nan=False).encode(), mtime=0))
    for name, fit in calibration.fits.items():
        print(
            f"{name}: {fit.threshold:.4f}, rate {fit.rate}, missed {fit.missed}, guaranteed {fit.guaranteed.rate:.3g}"
        )
    print(f"{file}: {file.stat().st_size} bytes")
    return 0


def _sample(originals: Embeddings, qualities, copies: list[Embeddings], units: np.ndarray) -> Sample:  # type: ignore[no-untyped-def, type-arg]
    count = len(originals)
    both = np.concatenate([units, units])
    impostor = both[:, None] != both[None]
    impostor[count:, count:] = False  # two copies tell what their originals tell
    genuine = np.zeros((2 * count, 2 * count), bool)
    genuine[np.arange(count), count + np.arange(count)] = genuine[count + np.arange(count), np.arange(count)] = True
    return Sample(
        Embeddings.concatenate([originals, *copies]),
        (*qualities, *(None,) * count),
        impostor,
        genuine,
        both,
        (None,) * (2 * count),
        np.arange(2 * count) < count,
    )


if __name__ == "__main__":
    sys.exit(main())
