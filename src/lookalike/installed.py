"""Encoders that a user added: a folder each, with a card (``encoder.toml``), a model and what it needs.

They lie in ``$LOOKALIKE_ENCODERS``, else in the user's data folder. A folder is written beside its place and renamed,
so that there is never half of one; the files' sha256 are checked when a model is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lookalike.errors import ConfigError

CARD = "encoder.toml"
RUNTIMES = ("onnx", "litert", "reduced", "head", "joined")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class TextCard:
    """How words come into the pictures' space: a text model, and which tokenizer with which files."""

    model: str
    sha256: str
    tokenizer: str
    files: tuple[str, ...] = ()
    context: int = 77
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of an installed encoder; ``recipe`` is TOML's table of a recipe, empty where ``base`` brings it.

    ``model`` is a file of the folder, ``dim`` how many numbers come out, ``made`` how it came here. A "reduced" encoder
    (and a "head") stands on another one: ``base``, whose space was ``base_space`` ("version/preprocess"). A "joined"
    one stands on those that its model file names; its ``base_space`` stands for their recipes. ``sizes`` are those to
    which vectors may be cut (Matryoshka). ``cut`` and ``colours`` say through which focus a learned one sees its base;
    ``learned_on`` names the encoder whose whole network learned.
    """

    name: str
    runtime: str
    model: str
    sha256: str
    dim: int
    output: str | None = None
    architecture: str | None = None
    source: str | None = None
    licence: str | None = None
    good_for: str | None = None
    made: str | None = None
    base: str | None = None
    base_space: str | None = None
    learned_on: str | None = None
    sizes: tuple[int, ...] = ()
    cut: float | None = None
    colours: float | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    text: TextCard | None = None

    def __post_init__(self) -> None:
        checked_name(self.name)
        if self.runtime not in RUNTIMES:
            raise ConfigError(f"no runtime named {self.runtime!r}; known: {', '.join(RUNTIMES)}")
        if self.dim < 1:
            raise ConfigError(f"encoder {self.name} must have at least one number, got dim = {self.dim}")

    def to_toml(self) -> str:
        """Return the card as ``encoder.toml`` holds it."""
        tables: dict[str, dict[str, Any]] = {"encoder": asdict(self)}
        tables["recipe"] = dict(tables["encoder"].pop("recipe"))
        text = tables["encoder"].pop("text")
        return "\n".join(table(name, values) for name, values in {**tables, "text": text or {}}.items() if values)

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> Card:
        made: Card = _made(cls, values)
        return made

    @classmethod
    def from_toml(cls, text: str, path: str) -> Card:
        """Return the card of such a text; raise ConfigError that names ``path`` and what is wrong."""
        try:
            data = tomllib.loads(text)
            known = {name: data.pop(name, {}) for name in ("encoder", "recipe", "text")}
            words = _made(TextCard, known["text"]) if known["text"] else None
            return cls._of({**data, **known["encoder"], "recipe": known["recipe"], "text": words})
        except (tomllib.TOMLDecodeError, ConfigError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is no card of an encoder: {error}; remove the folder, or add it anew") from error


def home() -> Path:
    """Return the folder of the installed encoders; it need not exist."""
    from platformdirs import user_data_dir  # noqa: PLC0415 - only where encoders are looked for

    return Path(os.environ.get("LOOKALIKE_ENCODERS") or Path(user_data_dir("lookalike", appauthor=False), "encoders"))


def names() -> list[str]:
    """Return the names of what is installed, sorted; no card is read."""
    try:
        return sorted(entry.name for entry in home().iterdir() if Path(entry, CARD).is_file() and _named(entry.name))
    except OSError:
        return []


def card(name: str) -> Card:
    """Return the card of an installed encoder; raise ConfigError where it is missing or damaged."""
    path = home() / name / CARD
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"no installed encoder {name!r}: {path} cannot be read ({error})") from error
    return Card.from_toml(text, str(path))


def cards() -> tuple[list[Card], list[str]]:
    """Return the cards of all that is installed, and a line for each that is damaged."""
    found, damaged = [], []
    for name in names():
        try:
            found.append(card(name))
        except ConfigError as error:
            damaged.append(str(error))
    return found, damaged


def install(new: Card, files: Mapping[str, Path | bytes], *, replace: bool = False) -> Path:
    """Write a folder with the card and these files, by name; return it. All of it or nothing is there afterwards.

    Raise ConfigError where the name is taken (unless ``replace``), or where the folder cannot be written.
    """
    target = home() / new.name
    if target.exists() and not replace:
        raise ConfigError(
            f"an encoder {new.name!r} is installed already, in {target}; choose another name, or remove it first: "
            f"lookalike encoders remove {new.name}"
        )
    try:
        home().mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=home(), prefix=f".{new.name}."))
        try:
            for name, content in files.items():
                _write(temporary / name, content)
            _write(temporary / CARD, new.to_toml().encode())
            _moved(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise _unwritable(new.name, error) from error
    return target


def check_writable(name: str) -> None:
    """Raise ConfigError where an encoder could not be installed: found now, not after the minutes of making it."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(dir=home(), prefix=f".{name}.")).rmdir()
    except OSError as error:
        raise _unwritable(name, error) from error


def _unwritable(name: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot write encoder {name} to {home()}: {error.strerror or error}; "
        "set LOOKALIKE_ENCODERS to a folder that can be written"
    )


def remove(name: str) -> None:
    """Remove an installed encoder; raise ConfigError where there is none."""
    if name not in names():
        raise ConfigError(f"no installed encoder {name!r}; installed: {', '.join(names()) or 'none'}")
    shutil.rmtree(home() / name)


def checked_name(name: str) -> str:
    """Return the name if a folder may be called so."""
    if not _named(name):
        raise ConfigError(f"an encoder's name is of letters, digits, dots, - and _, at most 64, got {name!r}")
    return name


def sha256_of(content: Path | bytes) -> str:
    """Return the sha256 of a file or of bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(name: str) -> bool:
    return bool(_NAME.fullmatch(name))


def checked(name: str, file: str, sha256: str) -> Path:
    """Return the path of a file of an installed encoder; raise ConfigError where it is not what was installed."""
    path = home() / name / file
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ConfigError(f"the model of encoder {name} cannot be read: {path}: {error.strerror}") from error
    if found != sha256:
        raise ConfigError(
            f"the model of encoder {name} is damaged: {path} has sha256 {found}, expected {sha256}; "
            f"remove it (lookalike encoders remove {name}) and add it anew"
        )
    return path


def _write(path: Path, content: Path | bytes) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_bytes(content)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _moved(folder: Path, target: Path) -> None:
    """Put a folder in its place; what was there is removed after it."""
    old = folder.with_name(f"{folder.name}.old")
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _made(kind: type[Any], values: Mapping[str, Any]) -> Any:
    known = {one.name: one for one in fields(kind)}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"unknown key {name!r}; known: {', '.join(known)}")
        if not _fits(str(known[name].type), value):
            raise ConfigError(f"{name} = {value!r} is no {known[name].type}")
    missing = [one.name for one in known.values() if one.default is MISSING and one.default_factory is MISSING]
    for name in missing:
        if name not in values:
            raise ConfigError(f"{name} is missing")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _fits(kind: str, value: Any) -> bool:
    if kind.startswith("tuple"):
        return isinstance(value, list | tuple) and all(isinstance(one, str if "str" in kind else int) for one in value)
    if kind in {"int", "str"}:
        return isinstance(value, int if kind == "int" else str) and not isinstance(value, bool)
    return value is None or kind != "str | None" or isinstance(value, str)


def parsed(text: str) -> dict[str, Any]:
    """Return a flat TOML text as a table."""
    return tomllib.loads(text)


def table(name: str, values: Mapping[str, Any]) -> str:
    """Return a flat TOML table, without a heading where ``name`` is empty; what is None or empty is left out.

    JSON's strings, numbers and lists are TOML's too.
    """
    lines = [f"[{name}]"] if name else []
    for key, value in values.items():
        if value is not None and value not in ((), []):
            # The one character that JSON leaves as it is and TOML does not take.
            written = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            lines.append(f"{key} = {written}")
    return "\n".join(lines) + "\n"
