"""What measured something: our own version, those of the packages that decide what comes out, and the machine."""

from __future__ import annotations

import platform
from importlib.metadata import version

from lookalike import __version__
from lookalike.pipeline import worker_count


def versions() -> dict[str, str]:
    """Return what a report is headed by, so that two of them can be compared."""
    return {
        "lookalike": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "onnxruntime", "pillow")},
        "system": f"{platform.system()} {platform.machine()}",
        "workers": str(worker_count()),
    }
