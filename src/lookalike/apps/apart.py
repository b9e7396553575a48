"""Run what loads torch in a process of its own: it leaves its files in a folder, or the error that ended it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from lookalike.errors import ConfigError, InputError, LookalikeError


def run_apart(module: str, request: str, folder: Path, error: str, what: str, stopped: int | None = None) -> None:
    """Run ``python -m module folder`` with ``request``, JSON, on its stdin.

    ``error`` is the file of ``folder`` in which it leaves an error of the user's, {"input": bool, "message"}: raised
    here as InputError or ConfigError. Raise KeyboardInterrupt where it ended with the code ``stopped``, LookalikeError
    that says how ``what`` failed where it ended otherwise than well.
    """
    ended = subprocess.run(
        [sys.executable, "-m", module, str(folder)],
        input=request,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if (folder / error).exists():
        told = json.loads((folder / error).read_text(encoding="utf-8"))
        raise (InputError if told["input"] else ConfigError)(told["message"])
    if stopped is not None and ended.returncode == stopped:
        raise KeyboardInterrupt
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        killed = " (killed: is there enough memory?)" if ended.returncode < 0 else ""
        raise LookalikeError(f"{what} failed with code {ended.returncode}{killed}: {last}")
