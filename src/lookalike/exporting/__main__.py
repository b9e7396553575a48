"""``python -m lookalike.exporting FOLDER``: a request comes in as JSON on stdin, an encoder is left in FOLDER."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path

from lookalike.errors import InputError, LookalikeError
from lookalike.exporting.request import ERROR, Request
from lookalike.installed import CARD

REFUSED = 2


def main(folder: Path, text: str) -> int:
    """Export, and leave the card; or leave in ``error.json`` the error that lookalike raises on purpose."""
    # torch announces devices, the libraries their experiments: what matters becomes an error.
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from lookalike.exporting.export import export  # noqa: PLC0415 - loads torch, after all is quiet

        (folder / CARD).write_text(export(Request.from_json(text), folder).to_toml(), encoding="utf-8")
    except LookalikeError as error:
        traceback.print_exc()
        told = {"input": isinstance(error, InputError), "message": str(error)}
        (folder / ERROR).write_text(json.dumps(told), encoding="utf-8")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.stdin.read()))
