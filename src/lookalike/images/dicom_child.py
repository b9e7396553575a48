"""``python -m lookalike.images.dicom_child``: decodes for ``dicom_apart`` until its stdin is closed."""

from __future__ import annotations

import io
import os
import signal
import sys

import numpy as np

from lookalike.images.dicom import raw_values
from lookalike.images.dicom_apart import ANSWERED, ASKED
from lookalike.images.refusal import plain


def main() -> None:
    """Answer frame by frame."""
    # An interrupt is for who asked; that closes our stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not come between
    asked = sys.stdin.buffer
    while len(head := asked.read(ASKED.size)) == ASKED.size:
        number, length = ASKED.unpack(head)
        try:
            out = io.BytesIO()
            np.save(out, raw_values(asked.read(length), number), allow_pickle=False)
            decoded, payload = True, out.getvalue()
        except Exception as error:
            decoded, payload = False, plain(error).encode()
        answers.write(ANSWERED.pack(decoded, len(payload)) + payload)
        answers.flush()


if __name__ == "__main__":
    main()
