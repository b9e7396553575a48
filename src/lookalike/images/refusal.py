"""Why a picture is refused; and the one place where the errors of decoders become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lookalike.errors import LookalikeError, UnreadableImage

_LONGEST = 200


class Refused(Exception):
    """A picture is refused; the text is one plain sentence. Becomes UnreadableImage at the edge, never leaves it."""


@contextmanager
def refusals_name(source: str) -> Iterator[None]:
    """Turn a refusal, and whatever else goes wrong inside, into UnreadableImage(source, reason)."""
    try:
        yield
    except LookalikeError:
        raise
    except Refused as refusal:
        raise UnreadableImage(source, str(refusal)) from refusal
    except MemoryError as error:
        raise UnreadableImage(source, "too large: there is not enough memory to decode it") from error
    except Exception as error:
        raise UnreadableImage(source, f"damaged: {plain(error)}") from error


@contextmanager
def damage_names(kind: str) -> Iterator[None]:
    """Turn what a decoder raises into a refusal that says "truncated JPEG: ..." or "damaged JPEG: ..."."""
    try:
        yield
    except (LookalikeError, Refused, MemoryError):
        raise
    except Exception as error:
        text = plain(error)
        cut_off = isinstance(error, EOFError) or "truncat" in text.lower() or "premature" in text.lower()
        raise Refused(f"{'truncated' if cut_off else 'damaged'} {kind}: {text}") from error


def plain(error: BaseException) -> str:
    """Return the text of an error as one printable line of bounded length."""
    text = "".join(c if c.isprintable() else " " for c in str(error)).strip() or type(error).__name__
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
