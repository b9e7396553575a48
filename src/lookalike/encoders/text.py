"""Words -> vectors in the space of pictures: tokenizers without torch, and the text tower of a CLIP-like encoder.

The byte-pair encoding of CLIP is done here (Radford et al., ICML 2021; Sennrich et al., ACL 2016), with the merges from
the encoder's own folder. All other tokenizers run in the package ``tokenizers``, from their ``tokenizer.json``.
"""

from __future__ import annotations

import gzip
import html
import re
import threading
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.encoders.onnx import OnnxEncoder, session
from lookalike.errors import ConfigError, InputError, LookalikeError, MissingDependency
from lookalike.installed import TextCard
from lookalike.types import Embeddings, Float32, Space

Ids: TypeAlias = NDArray[np.int64]

_BROKEN_GZIP = (OSError, EOFError, UnicodeDecodeError, zlib.error)


class Tokenizer(Protocol):
    """Turns a text into the numbers that a text tower takes."""

    def __call__(self, text: str) -> Ids:
        """Return the tokens, (context,) int64; what is longer is cut, with a warning."""
        ...


class WordsAndPictures(OnnxEncoder):
    """An OnnxEncoder that also takes words: a picture model and a text model with one space.

    ``file`` returns the path of one of the encoder's files, checked against its sha256.
    """

    def __init__(self, text: TextCard, file: Callable[[str, str], Path], **pictures: Any) -> None:
        super().__init__(**pictures)
        self._tower = TextTower(text, file, self.space)

    def encode_text(self, words: Sequence[str]) -> Embeddings:
        """Return the embeddings of ``words``, in order: (N, dim), in the pictures' space; see :class:`TextTower`."""
        return self._tower.encode(words)


class TextTower:
    """The half of a CLIP-like encoder that takes words: an ONNX model, (1, context) int64 -> (1, dim).

    ``text`` is the table ``[text]`` of the encoder's card; the tokenizer's files lie beside the model. Both are loaded
    when the first words are encoded.
    """

    def __init__(self, text: TextCard, file: Callable[[str, str], Path], space: Space) -> None:
        self._text, self._file, self._space = text, file, space
        self._loaded: tuple[Tokenizer, Any] | None = None
        self._lock = threading.Lock()

    def encode(self, words: Sequence[str]) -> Embeddings:
        """Return the embeddings of texts, in order: (N, dim), in the space of the pictures.

        Each goes through the model alone, so that a row does not depend on its neighbours. Raise InputError for a text
        that says nothing, or of which the model makes NaN or infinity; ConfigError where model or tokenizer cannot be
        loaded or do not fit; MissingDependency where the tokenizer needs ``[clip]``.
        """
        raw = np.empty((len(words), self._space.dim), np.float32)
        for row, text in zip(raw, words, strict=True):
            row[:] = self._encoded(text)
        return Embeddings.from_raw(raw, self._space)

    def _encoded(self, text: str) -> Float32:
        if not text.strip():
            raise InputError(f"a text to look for says something, got {text!r}")
        split, model = self._parts()
        vector = self._run(model, split(text))
        if not np.isfinite(vector).all():
            raise InputError(f"{self._space.encoder} makes NaN or infinite values of the text {text!r}")
        return vector

    def _run(self, model: Any, ids: Ids) -> Float32:
        name, dim = self._space.encoder, self._space.dim
        try:
            output = model.run(
                [self._text.output] if self._text.output else None, {model.get_inputs()[0].name: ids[None]}
            )
        except Exception as error:
            raise LookalikeError(f"the text model of encoder {name} failed on {len(ids)} tokens: {error}") from error
        vector = np.asarray(output[0], np.float32)
        if vector.shape != (1, dim):
            raise ConfigError(
                f"the text model of encoder {name} gives {vector.shape} for one text, expected (1, {dim})"
            )
        row: Float32 = vector[0]
        return row

    def _parts(self) -> tuple[Tokenizer, Any]:
        with self._lock:
            if self._loaded is None:
                model = self._file(self._text.model, self._text.sha256)
                files = [model.with_name(name) for name in self._text.files]
                split = tokenizer(self._text.tokenizer, files, self._text.context)
                self._loaded = split, session(f"{self._space.encoder} (text)", model)
            return self._loaded


def tokenizer(kind: str, files: Sequence[Path], context: int) -> Tokenizer:
    """Return the tokenizer of a kind ("clip-bpe" or "hf"), made of its one file, that gives ``context`` tokens."""
    if kind not in _KINDS:
        raise ConfigError(f"no tokenizer named {kind!r}; known: {', '.join(_KINDS)}")
    if len(files) != 1:
        raise ConfigError(f"the tokenizer {kind} is made of one file, got {len(files)}")
    return _KINDS[kind](files[0], context)


# --- CLIP's byte-pair encoding ---------------------------------------------------------------------------------------

_START, _END = "<start_of_text>", "<end_of_text>"
_MERGES = 49152 - 256 - 2
_LONGEST_WORD = 2000
_WORD = re.compile(rf"{_START}|{_END}|'(?:[s\u017f]|t|re|ve|m|ll|d)", re.IGNORECASE)


class ClipBpe:
    """CLIP's tokenizer: lower case, byte-pair encoding, <start_of_text> … <end_of_text>, zeros to the end.

    ``merges`` are the lines of ``bpe_simple_vocab_16e6.txt``, the first of which is a heading.
    """

    def __init__(self, merges: Sequence[str], context: int) -> None:
        pairs = [tuple(line.split()) for line in merges[1 : _MERGES + 1]]
        if len(pairs) != _MERGES or any(len(pair) != 2 for pair in pairs):
            raise ConfigError(f"CLIP's vocabulary has {_MERGES} pairs of tokens after its heading, this one has not")
        letters = list(_BYTES.values())
        entries = [*letters, *(letter + "</w>" for letter in letters), *map("".join, pairs), _START, _END]
        self._ids = {entry: i for i, entry in enumerate(entries)}
        self._ranks = {pair: i for i, pair in enumerate(pairs)}
        self._context = context

    @classmethod
    def of_file(cls, path: Path, context: int) -> ClipBpe:
        """Read the merges from a .txt.gz; raise ConfigError where it is damaged."""
        try:
            text = gzip.decompress(path.read_bytes()).decode()
        except _BROKEN_GZIP as error:
            raise ConfigError(f"the vocabulary {path} cannot be read: {error}") from error
        return cls(text.split("\n"), context)

    def __call__(self, text: str) -> Ids:
        """Return the tokens of ``text``, (context,) int64."""
        room = self._context - 2
        found = list(islice(self._tokens(" ".join(repaired(text).split()).lower()), room + 1))
        _warn_if_cut(text, len(found) > room, self._context)
        ids = np.zeros(self._context, np.int64)
        ids[0] = self._ids[_START]
        ids[1 : 1 + len(found[:room])] = found[:room]
        ids[1 + len(found[:room])] = self._ids[_END]
        return ids

    def _tokens(self, text: str) -> Iterator[int]:
        for word in _words(text):
            if word in (_START, _END):
                yield self._ids[word]
            else:
                # Merging takes the square of a word's length, and no context holds the tokens of such a word anyway.
                yield from (self._ids[part] for part in self._merged(word[:_LONGEST_WORD]))

    def _merged(self, word: str) -> list[str]:
        """Return the parts of a word: its bytes, the pair that was learned first joined, again and again."""
        parts = [_BYTES[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            first = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, _MERGES))
            if first not in self._ranks:
                break
            parts = _joined(parts, first)
        return parts


def _joined(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    i = 0
    while i < len(parts):
        step = 2 if tuple(parts[i : i + 2]) == pair else 1
        result.append("".join(parts[i : i + step]))
        i += step
    return result


def _words(text: str) -> Iterator[str]:
    """Split as CLIP does: an English ending ('s, 't, …), a run of letters, one digit, or a run of anything else."""
    i = 0
    while i < len(text):
        if text[i].isspace():
            i += 1
            continue
        special = _WORD.match(text, i)
        end = special.end() if special else _end_of_run(text, i)
        yield text[i:end]
        i = end


def _end_of_run(text: str, start: int) -> int:
    kind = _kind(text[start])
    if kind == "number":
        return start + 1
    return next((i for i in range(start + 1, len(text)) if _kind(text[i]) != kind), len(text))


def _kind(character: str) -> str:
    category = unicodedata.category(character)[0]
    if category == "L":
        return "letter"
    if category == "N":
        return "number"
    return "space" if character.isspace() else "other"


def _byte_letters() -> dict[int, str]:
    """Return a letter for each byte, in the order of CLIP's vocabulary: those that print stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_BYTES = _byte_letters()


# --- what CLIP's authors repair in a text before it is split (ftfy's plain steps; mojibake is not guessed at) --------

_ESCAPES = re.compile("\033\\[[\\d;]*[a-zA-Z]")
_PAIRS = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LIGATURES = {ord(c): unicodedata.normalize("NFKC", c) for c in "ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬅﬆ"}
_WIDTHS = {0x3000: " "} | {c: unicodedata.normalize("NFKC", chr(c)) for c in range(0xFF01, 0xFFF0)}
_QUOTES = {ord(c): "'" for c in "\u02bc\u2018\u2019\u201a\u201b"} | {ord(c): '"' for c in "\u201c\u201d\u201e\u201f"}
_LINES = dict.fromkeys([0x0D, 0x2028, 0x2029], "\n")
# A control character of Latin-1 is a byte of Windows-1252 that was read as Latin-1; five of them are nothing there.
_WINDOWS = {c: bytes([c]).decode("cp1252") for c in range(0x80, 0xA0) if c not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
_CONTROLS = dict.fromkeys(
    [*range(9), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD)]
)


def repaired(text: str) -> str:
    """Return ``text`` with HTML entities, ligatures, full-width forms, curly quotes and control characters resolved."""
    for table in (_WINDOWS, _LIGATURES, _WIDTHS, _QUOTES, _LINES):
        text = text.translate(table)
    text = _PAIRS.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    text = unicodedata.normalize("NFC", _ESCAPES.sub("", text).translate(_CONTROLS))
    return html.unescape(html.unescape(text)).strip()


# --- all others ------------------------------------------------------------------------------------------------------


class HfTokenizer:
    """A tokenizer of the package ``tokenizers``; its ``tokenizer.json`` says all: cleaning, cut and padding."""

    def __init__(self, path: Path, context: int) -> None:
        self._context = context
        self._tokenizer = _loaded(path)

    def __call__(self, text: str) -> Ids:
        """Return the tokens of ``text``, (context,) int64."""
        encoding = self._tokenizer.encode(repaired(text))
        _warn_if_cut(text, bool(encoding.overflowing), self._context)
        if len(encoding.ids) != self._context:
            raise ConfigError(
                f"the tokenizer gives {len(encoding.ids)} tokens where the model takes {self._context}: "
                "its tokenizer.json must cut and pad to that length"
            )
        return np.array(encoding.ids, np.int64)


def _loaded(path: Path) -> Any:
    try:
        import tokenizers  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingDependency(f"the tokenizer {path.name}", "clip") from error
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises plain Exception
        raise ConfigError(f"the tokenizer {path} cannot be read: {error}") from error


def _warn_if_cut(text: str, cut: bool, context: int) -> None:
    if cut:
        start = text if len(text) <= 40 else text[:40] + "…"
        warnings.warn(f"only the beginning of {start!r} counts: the encoder takes {context} tokens", stacklevel=4)


_KINDS: dict[str, Callable[[Path, int], Tokenizer]] = {"clip-bpe": ClipBpe.of_file, "hf": HfTokenizer}
