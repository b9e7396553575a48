"""What a recognizer learned, kept beside the gallery: learning takes seconds, and most galleries rarely change.

The file goes by the content of what was learned from, so it can never serve another gallery, or a restored one.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from lookalike.calibration.alarms import AlarmTable
from lookalike.errors import LookalikeError
from lookalike.recognizing import Ints, Recognition, Whitening
from lookalike.tables import replacing
from lookalike.types import Float32

_VERSION = 4
"""Goes up whenever the same references teach something else."""
_PREFIX = "recognition-"


def learned(folder: Path, vectors: Float32, numbers: Ints, voters: int) -> Recognition:
    """Return what references teach: as it was kept in ``folder``, else learned now, and kept if that can be."""
    file = folder / f"{_PREFIX}{_digest(vectors, numbers, voters)}.npz"
    found = _read(file, vectors, numbers, voters)
    if found is None:
        found = Recognition.learn(vectors, numbers, voters)
        _write(file, found)
    return found


def _digest(vectors: Float32, numbers: Ints, voters: int) -> str:
    said = hashlib.sha256(f"{_VERSION} {voters} {vectors.shape}".encode())
    said.update(np.ascontiguousarray(numbers).tobytes())
    said.update(np.ascontiguousarray(vectors).tobytes())
    return said.hexdigest()[:32]


def _read(file: Path, vectors: Float32, numbers: Ints, voters: int) -> Recognition | None:
    try:
        with np.load(file, allow_pickle=False) as kept:
            whitening = Whitening(kept["mean"], kept["directions"], kept["gains"])
            alarms = AlarmTable(kept["best"], kept["gaps"], kept["sizes"], kept["units"], float(kept["spacing"]))
            shifts, margin = kept["shifts"], float(kept["margin"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, LookalikeError):
        return None  # there is none, or it is damaged: it is made anew
    return Recognition(whitening, whitening.apply(vectors), numbers, shifts, alarms, margin, voters)


def _write(file: Path, found: Recognition) -> None:
    """Keep it in place of what was kept of other states; a gallery that may not be written does without."""
    alarms, whitening = found.alarms, found.whitening
    try:
        file.parent.mkdir(exist_ok=True)
        for old in file.parent.glob(f"{_PREFIX}*.npz"):
            old.unlink(missing_ok=True)
        with replacing(file) as opened:
            np.savez(
                opened,
                mean=whitening.mean,
                directions=whitening.directions,
                gains=whitening.gains,
                shifts=found.shifts,
                best=alarms.best,
                gaps=alarms.gaps,
                sizes=alarms.sizes,
                units=alarms.units,
                spacing=alarms.spacing,
                margin=found.margin,
            )
    except (OSError, LookalikeError):
        return
