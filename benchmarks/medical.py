"""Medical pictures: are DICOM files read, do copies of one picture agree, and what do neighbours say of chest X-rays.

*dicom_samples*: files that hold one picture in several encodings form a group; the least cosine within each, of the
pictures as they are shown (with their window), and by how many levels the two that agree least differ. Of a file that
is not at .99 to the typical one it is told how far the *stored values* of the two are apart, as pydicom reads them, by
nothing of ours, and what the header says of loss before it was stored.

*chest_xray*: pictures of children, normal or pneumonia. Each asks all pictures of other patients. Precision@5 is the
share of the five nearest with its label, the mean over queries; AUROC is that of the share of pneumonia among the 15
nearest, weighted by cosine, as a score. Intervals of 95 % are by bootstrap over patients.

None of this is a diagnosis, nor a test of one.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from benchmarks.harness import Report, Target, parser, say
from benchmarks.photos import SHARED
from lookalike import registry
from lookalike.errors import InputError
from lookalike.images import read
from lookalike.images.dicom import fields
from lookalike.pipeline import embed_files
from lookalike.types import Skipped

_DICOM, _CHEST = SHARED / "dicom_samples", SHARED / "chest_xray"
_NEIGHBOURS, _DRAWS = 15, 1000


def main() -> None:
    arguments = parser(__doc__, "medical")
    arguments.add_argument("--encoders", nargs="+", default=["efficientnet-lite0", "color-histogram"], help="which")
    options = arguments.parse_args()
    report = Report("Medical pictures", packages=("numpy", "onnxruntime", "pydicom", "python-gdcm"))
    for folder, measure in ((_DICOM, _read), (_CHEST, _neighbours)):
        if (folder / "groundtruth.csv").is_file():
            measure(report, options.encoders, quick=options.quick)
        else:
            report.text(f"{folder.name} is not at hand and was left out.")
    report.print()


def _read(report: Report, encoders: list[str], *, quick: bool) -> None:
    say("dicom_samples")
    groups, refused, rows = defaultdict(list), [], _rows(_DICOM)
    for row in rows:
        try:
            groups[row["same_picture_group"]].append((row["path"], read(str(_DICOM / row["path"]))))
        except InputError as error:
            refused.append((row["path"], str(error)))
    readable = {row["path"] for row in rows if row["pydicom_numpy_pillow_status"] == "ok"}
    count = sum(map(len, groups.values()))
    encoder, told, agree, lossless, odd = registry.encoder(encoders[0]), [], [], [], []
    for name, members in groups.items():
        if len(members) < 2:
            continue
        vectors = encoder.encode([image for _, image in members]).vectors.astype(np.float64)
        cosines = vectors @ vectors.T
        i, j = np.unravel_index(cosines.argmin(), cosines.shape)
        apart = np.abs(members[i][1].pixels.astype(int) - members[j][1].pixels).max()
        typical = np.argmax(cosines.sum(axis=0))
        below = [members[k][0] for k in np.flatnonzero(cosines[typical] <= 0.99)]
        odd += [(path, _stored(members[typical][0], path)) for path in below]
        others = [k for k in range(len(members)) if k != typical]
        agree += [cosines[typical, k] > 0.99 for k in others]
        lossless += [cosines[typical, k] > 0.99 for k in others if not _loss(members[k][0])]
        told.append((name, str(len(members)), f"{cosines.min():.4f}", str(apart), str(len(below))))
    report.section(f"dicom_samples: {count} of {len(rows)} files read, {len(readable)} of them without extra codecs")
    report.table(("group", "files", "least cosine", "and their pixels differ by", "below .99"), told)
    report.table(
        ("below .99", "its stored values are off by, in the mean", "at most", "loss that its header tells"),
        [(Path(path).name, mean, most, _loss(path) or "none") for path, (mean, most) in odd],
    )
    report.text("Not read: " + ("; ".join(f"{path}: {why}" for path, why in refused) or "none") + ".")
    missed = sum(path in readable for path, _ in refused)
    report.target(Target("dicom_samples: readable files that were not read", missed, 0, at_least=False))
    report.target(
        Target("dicom_samples: share of files at a cosine > .99 to their group's typical one", np.mean(agree), 1)
    )
    report.target(Target("dicom_samples: the same of files that were never compressed with loss", np.mean(lossless), 1))


def _stored(typical: str, path: str) -> tuple[str, str]:
    """Return how far the stored values of two files are apart, in the mean and at most, in shares of their range."""
    first, second = (pydicom.dcmread(_DICOM / one).pixel_array.astype(np.float64) for one in (typical, path))
    apart = np.abs(first - second) / (first.max() - first.min())
    return f"{apart.mean():.1%}", f"{apart.max():.0%}"


def _loss(path: str) -> str:
    """Return what a header says of lossy compression, "" where it says nothing."""
    said = fields((_DICOM / path).read_bytes(), ["LossyImageCompression", "LossyImageCompressionRatio"], path)
    return f"{said.get('LossyImageCompressionRatio', '?')} to 1" if said.get("LossyImageCompression") == "01" else ""


def _neighbours(report: Report, encoders: list[str], *, quick: bool) -> None:
    rows = _rows(_CHEST)[:: 4 if quick else 1]
    paths = [str(_CHEST / row["path"]) for row in rows]
    told = []
    for name in encoders:
        say(f"chest_xray, {name}")
        found = list(embed_files(paths, registry.encoder(name)))
        kept = [i for i, one in enumerate(found) if not isinstance(one, Skipped)]
        vectors = np.concatenate([found[i][1].vectors for i in kept])
        ill = np.array([rows[i]["label"] == "pneumonia" for i in kept])
        patients = np.unique([rows[i]["patient"] for i in kept], return_inverse=True)[1]
        precision, score = _asked(vectors, ill, patients)
        low, high, auroc, low_a, high_a = _intervals(precision, score, ill, patients)
        chance = np.mean([(ill == one).mean() for one in ill])
        told.append((
            name, f"{precision.mean():.3f} ({low:.3f} to {high:.3f})", f"{chance:.3f}",
            f"{auroc:.3f} ({low_a:.3f} to {high_a:.3f})",
        ))  # fmt: skip
    report.section(f"chest_xray: {len(kept)} pictures of {len(set(patients))} patients, {ill.mean():.0%} pneumonia")
    report.table(("encoder", "precision@5", "by chance", "AUROC, normal against pneumonia"), told)


def _asked(
    vectors: NDArray[np.float32], ill: NDArray[np.bool_], patients: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the precision@5 and the weighted share of pneumonia among the nearest, for each picture."""
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    cosines[patients[:, None] == patients[None]] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :_NEIGHBOURS]
    weights = np.take_along_axis(cosines, order, axis=1)
    return (ill[order[:, :5]] == ill[:, None]).mean(axis=1), (weights * ill[order]).sum(axis=1) / weights.sum(axis=1)


def _intervals(
    precision: NDArray[np.float64], score: NDArray[np.float64], ill: NDArray[np.bool_], patients: NDArray[np.intp]
) -> tuple[float, float, float, float, float]:
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(patients == one) for one in range(patients.max() + 1)]
    precisions, aurocs = [], []
    for _ in range(_DRAWS):
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        precisions.append(precision[drawn].mean())
        aurocs.append(_auroc(score[drawn], ill[drawn]))
    low, high = np.quantile(precisions, (0.025, 0.975))
    low_a, high_a = np.nanquantile(aurocs, (0.025, 0.975))
    return float(low), float(high), _auroc(score, ill), float(low_a), float(high_a)


def _auroc(score: NDArray[np.float64], ill: NDArray[np.bool_]) -> float:
    if ill.all() or not ill.any():
        return float("nan")
    apart = np.subtract.outer(score[ill], score[~ill])
    return float((apart > 0).mean() + (apart == 0).mean() / 2)


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "groundtruth.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
