"""Every error that lookalike raises on purpose.

    LookalikeError
    ├── InputError               the data is wrong          exit 2, HTTP 422
    │   ├── UnreadableImage      .source .reason
    │   ├── SpaceMismatch        .expected .got
    │   └── UnknownId            .ids                       HTTP 404
    ├── ConfigError              the choice is wrong        exit 2, HTTP 400
    │   ├── UnknownComponent     .kind .name .known
    │   └── MissingDependency    .extra                     the message holds the exact pip command
    └── StoreError               the gallery is unusable    exit 3, HTTP 503

A message names the thing, the value and the way out. Leaves carry data, so that a caller need not parse text.
"""

from __future__ import annotations

from collections.abc import Iterable


class LookalikeError(Exception):
    """The root of the tree: catch this to catch all that lookalike raises on purpose."""

    exit_code = 1


class InputError(LookalikeError):
    """The data is wrong: a picture, an id, a file of metadata."""

    exit_code = 2


class UnreadableImage(InputError):
    """A picture could not be read; ``source`` is what was asked for, ``reason`` one plain sentence."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"cannot read {source}: {reason}")
        self.source = source
        self.reason = reason


class SpaceMismatch(InputError):
    """Vectors of two spaces met; they are never compared."""

    def __init__(self, expected: object, got: object, way_out: str = "") -> None:
        message = f"vectors of two spaces cannot be compared: expected {expected}, got {got}"
        super().__init__(f"{message}; {way_out}" if way_out else message)
        self.expected = expected
        self.got = got


class UnknownId(InputError):
    """No item of the gallery has one of these ids (or paths)."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = tuple(ids)
        super().__init__(
            f"no item {', '.join(map(repr, self.ids))} in this gallery; `lookalike list` shows what there is"
        )


class ConfigError(LookalikeError):
    """The choice is wrong: an option, a name, a combination."""

    exit_code = 2


class UnknownComponent(ConfigError):
    """No part of this kind has this name."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        super().__init__(f"no {kind} named {name!r}; known: {', '.join(self.known)}")


class MissingDependency(ConfigError):
    """A part needs an extra that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an extra that is not installed; run: pip install 'lookalike[{extra}]'")


class StoreError(LookalikeError):
    """The gallery is unusable: missing, damaged, newer than this program, locked, or the disk is full."""

    exit_code = 3
