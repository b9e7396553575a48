"""Index one folder or several, and perhaps with one more encoder."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lookalike.errors import InputError
from lookalike.gallery import Gallery, Settling
from lookalike.indexing import Progress
from lookalike.metadata import Given
from lookalike.types import IndexReport


def check_folders(folders: Sequence[str]) -> None:
    """Raise InputError unless all are there: a slip makes no gallery, and stops no long run half-way."""
    for folder in folders:
        if not os.path.exists(os.path.expanduser(folder)):
            raise InputError(f"{folder} is not there; name a folder of pictures, or a picture")


def index(
    gallery: Gallery,
    folders: Sequence[str],
    *,
    given: Given,
    prune: bool,
    hidden: bool,
    exclude: Sequence[str],
    add_encoder: str | None,
    progress: Progress,
    settling: Settling | None = None,
) -> IndexReport:
    """Bring the gallery up to date with each folder in turn, and return one report of all."""
    reports = [
        gallery.index(
            folder,
            metadata=given,
            prune=prune,
            hidden=hidden,
            exclude=exclude,
            progress=progress,
            settling=settling,
        )
        for folder in folders
    ]
    if add_encoder:
        embedded, skipped = gallery.add_encoder(add_encoder, progress=progress, settling=settling)
        reports.append(IndexReport(0, embedded, 0, 0, skipped))
    return IndexReport.total([*reports, IndexReport(0, 0, 0, 0, given.unused())])
