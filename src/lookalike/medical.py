"""What has to be said where medical pictures are compared, and what of their headers is copied on request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from lookalike.errors import InputError
from lookalike.images import read_file, walk
from lookalike.images.dicom import check_fields, fields, is_dicom, split_frame
from lookalike.types import Skipped

NO_DIAGNOSIS = (
    "No diagnosis: these pictures look alike to a program that knows nothing of medicine, that was neither made nor "
    "tested for a medical purpose, and that sees one small picture of each. Who is qualified says what they show."
)
_HEAD = 132


def notice(paths: Iterable[str | None], *, asked: bool = False) -> tuple[str, ...]:
    """Return the sentence that a page of these pictures carries: where one of them is DICOM, or it was asked for."""
    return (NO_DIAGNOSIS,) if asked or any(is_dicom_file(path) for path in paths if path) else ()


def header_fields(
    folders: Sequence[str], names: Sequence[str], *, hidden: bool = False, exclude: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return what the headers of the DICOM files in and under ``folders`` say under ``names``, by absolute path.

    Nothing else of a header is looked at. A file that cannot be read is left to whoever reads its pixels. Raise
    InputError for a name that DICOM does not know.
    """
    check_fields(names)
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for file in walk(folder, hidden=hidden, exclude=exclude):
            if isinstance(file, Skipped) or not is_dicom_file(file.path):
                continue
            try:
                found[os.path.abspath(file.path)] = dict(fields(read_file(file.path).data, names, file.path))
            except InputError:
                continue
    return found


def is_dicom_file(path: str) -> bool:
    """Tell whether a file, or the one that a frame's name means, is DICOM by its first bytes; False without a file."""
    name = os.path.expanduser(path)
    if not os.path.exists(name):
        name = split_frame(name)[0]
    try:
        if not os.path.isfile(name):
            return False
        with open(name, "rb") as file:
            return is_dicom(file.read(_HEAD))
    except OSError:
        return False
