"""The frames of a video file, a camera or a stream. The only module that knows PyAV, and only when one is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lookalike.errors import InputError, MissingDependency
from lookalike.types import Image

_SECONDS = 10


def frames(source: str) -> Iterator[tuple[Image, float | None]]:
    """Yield each picture and its time in the video in seconds, None where it has none.

    ``source`` is a file, an address (``rtsp://…``), or ``camera:N``. Raise InputError where it cannot be opened or
    breaks off with an error, MissingDependency without PyAV. It ends where the video ends or the stream does.
    """
    av = _av()
    try:
        with _opened(av, source) as container:
            if not container.streams.video:
                raise InputError(f"{source} holds no video")
            for frame in container.decode(video=0):
                pixels = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
                yield Image(pixels, (pixels.shape[1], pixels.shape[0]), source), frame.time
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"cannot read video from {source}: {getattr(error, 'strerror', None) or error}") from error


def _opened(av: Any, source: str) -> Any:
    if source.startswith("camera:"):
        return av.open(f"/dev/video{source.removeprefix('camera:')}", format="v4l2")
    options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    return av.open(source, options=options, timeout=_SECONDS if "://" in source else None)


def _av() -> Any:
    try:
        import av  # noqa: PLC0415 - an extra
        import av.error  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependency("watching a video, a camera or a stream", "video") from error
    return av
