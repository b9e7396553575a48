"""``python -m lookalike.training FOLDER``: a request comes in as JSON on stdin, what was learned is left in FOLDER."""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from lookalike.errors import InputError, LookalikeError
from lookalike.training.request import ERROR, Request
from lookalike.training.tuning import Tuning

REFUSED = 2
STOPPED = 130


def main(folder: Path, text: str) -> int:
    """Learn, and leave the result; or leave in ``error.json`` the error that lookalike raises on purpose."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    try:
        _learn(json.loads(text), folder)
    except KeyboardInterrupt:  # the checkpoints stay
        return STOPPED
    except LookalikeError as error:
        traceback.print_exc()
        told = {"input": isinstance(error, InputError), "message": str(error)}
        (folder / ERROR).write_text(json.dumps(told), encoding="utf-8")
        return REFUSED
    return 0


def _learn(asked: dict[str, Any], folder: Path) -> None:
    if "tuning" in asked:
        from lookalike.training.network import tune  # noqa: PLC0415 - loads torch, after all is quiet

        tune(Tuning.from_values(asked["tuning"]), folder)
    else:
        from lookalike.training.head import train_all  # noqa: PLC0415

        train_all(Request(**asked), folder)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.stdin.read()))
