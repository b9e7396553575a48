"""Filters: ``album = "cats" and year >= 2020`` -> SQL over the items' metadata.

    filter      = term {"or" term}
    term        = factor {"and" factor}
    factor      = "not" factor | "(" filter ")" | comparison
    comparison  = field ("=" | "!=" | "<" | "<=" | ">" | ">=") value | field ["not"] "in" "(" value {"," value} ")"
    field       = bare (letters, digits, _ - . and no digit or - or . first) | `anything`, with `` for a backquote
    value       = number | "text" | 'text' (\\" \\' \\\\ \\n \\t escaped) | true | false | null

Every comparison is either true or false. A value of another type compares false (``year >= 2020`` does not match the
text "2021"); ``!=``, ``not in`` and ``not`` are the exact opposites. ``null`` stands for what is not there:
``label = null`` holds where there is no label. Texts are ordered by code points; true and false are not ordered.

Bare ``id`` and ``path`` (absolute) are the item's own; in backquotes they are metadata of that name.
Keywords may be written in capitals; a field named like a keyword needs backquotes.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lookalike.errors import InputError

Value: TypeAlias = "str | int | float | bool | None"
Sql: TypeAlias = tuple[str, list[Any]]

_MAX_DEPTH = 100
_MAX_LENGTH = 1_000_000
_MAX_VALUES = 10_000
_KEYWORDS = {"and", "or", "not", "in", "true", "false", "null"}
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}
_ESCAPES = {"n": "\n", "t": "\t"}
_SEPARATOR = os.fsencode(os.sep)

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<quoted>`(?:[^`]|``)+`)
      | (?P<word>[^\W\d][\w.-]*)
      | (?P<operator><=|>=|!=|=|<|>|\(|\)|,)
    """,
    re.VERBOSE | re.DOTALL,
)


def compile_where(text: str) -> Sql:
    """Return (SQL condition, parameters) over the table ``items``; raise InputError that points at the mistake."""
    parser = _Parser(text)
    condition = parser.filter(0)
    if parser.token.kind != "end":
        raise parser.expected("'and', 'or' or the end")
    return condition


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _MAX_LENGTH:
            raise InputError(f"a filter is at most {_MAX_LENGTH:,} characters long, got {len(text):,}")
        self.token = self._read(0)
        self.values = 0

    def filter(self, depth: int) -> Sql:
        return self._chain("or", depth, lambda: self._chain("and", depth, lambda: self._factor(depth)))

    def expected(self, what: str, token: _Token | None = None) -> InputError:
        at = token or self.token
        found = f"got {at.text!r}" if at.kind != "end" else "the filter ends here"
        return self._error(f"expected {what}, {found}", at.start)

    def _chain(self, word: str, depth: int, part: Callable[[], Sql]) -> Sql:
        parts = [part()]
        while self._is_word(word):
            self._next()
            parts.append(part())
        return _joined(parts, word.upper())

    def _factor(self, depth: int) -> Sql:
        if depth > _MAX_DEPTH:
            raise self._error(f"parentheses and 'not' are nested deeper than {_MAX_DEPTH}", self.token.start)
        if self._is_word("not"):
            self._next()
            return _negated(self._factor(depth + 1))
        if self.token.text == "(" and self.token.kind == "operator":
            self._next()
            inner = self.filter(depth + 1)
            self._take(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Sql:
        field = self._field()
        if self._is_word("not"):
            self._next()
            return _negated(self._in(field))
        if self._is_word("in"):
            return self._in(field)
        operator = self.token
        if operator.kind != "operator" or operator.text in "(),":
            raise self.expected("one of = != < <= > >= in")
        self._next()
        value = self._value()
        if operator.text == "=":
            return field.among([value])
        if operator.text == "!=":
            return _negated(field.among([value]))
        if value is None or isinstance(value, bool):
            raise self._error(f"{operator.text!r} needs a number or a text on its right", operator.start)
        return field.ordered(operator.text, value)

    def _in(self, field: _Field) -> Sql:
        if not self._is_word("in"):
            raise self.expected("'in'")
        self._next()
        self._take("(")
        values = [self._value()]
        while self.token.text == "," and self.token.kind == "operator":
            self._next()
            values.append(self._value())
        self._take(")")
        return field.among(values)

    def _field(self) -> _Field:
        token = self.token
        if token.kind == "quoted":
            self._next()
            return _Metadata(token.text[1:-1].replace("``", "`"))
        if token.kind != "word" or token.text.lower() in _KEYWORDS:
            raise self.expected("the name of a field")
        self._next()
        return _OWN.get(token.text) or _Metadata(token.text)

    def _value(self) -> Value:
        token = self.token
        value: Value
        if token.kind == "number":
            value = _number(token.text)
        elif token.kind == "text":
            value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), token.text[1:-1], flags=re.DOTALL)
            if any("\ud800" <= c <= "\udfff" for c in value):
                raise self._error("a text here must be valid Unicode", token.start)
        elif token.kind == "word" and token.text.lower() in _CONSTANTS:
            value = _CONSTANTS[token.text.lower()]
        elif token.kind == "word":
            raise self._error(f'a text goes in quotes: "{token.text}"', token.start)
        else:
            raise self.expected('a value: a number, "text", true, false or null')
        self.values += 1
        if self.values > _MAX_VALUES:
            raise self._error(f"a filter holds at most {_MAX_VALUES:,} values", token.start)
        self._next()
        return value

    def _is_word(self, word: str) -> bool:
        return self.token.kind == "word" and self.token.text.lower() == word

    def _take(self, operator: str) -> None:
        if self.token.kind != "operator" or self.token.text != operator:
            raise self.expected(repr(operator))
        self._next()

    def _next(self) -> None:
        self.token = self._read(self.token.start + len(self.token.text))

    def _read(self, start: int) -> _Token:
        while start < len(self.text):
            match = _TOKEN.match(self.text, start)
            if match is None or match.lastgroup is None:
                raise self._error(self._unknown(start), start)
            if match.lastgroup != "space":
                return _Token(match.lastgroup, match[0], start)
            start = match.end()
        return _Token("end", "", start)

    def _unknown(self, start: int) -> str:
        c = self.text[start]
        return f"the quote {c} is never closed" if c in "\"'`" else f"unexpected {c!r}"

    def _error(self, problem: str, start: int) -> InputError:
        # A window around the place, on one line, so that the caret stands under it.
        left = max(0, start - 60)
        window = "".join(c if c.isprintable() else " " for c in self.text[left : start + 40])
        return InputError(f"bad filter at character {start + 1}: {problem}\n  {window}\n  {' ' * (start - left)}^")


@dataclass(frozen=True, slots=True)
class _Own:
    """A text column of the item itself; ``encode`` makes a parameter of the column's type."""

    sql: str
    encode: Callable[[str], Any]

    def among(self, values: list[Value]) -> Sql:
        texts = [self.encode(v) for v in values if isinstance(v, str)]
        parts: list[Sql] = [(f"{self.sql} IN ({_marks(texts)})", texts)] if texts else []
        if None in values:
            parts.append((f"{self.sql} IS NULL", []))
        return _joined([_two_valued(part) for part in parts] or [("0", [])], "OR")

    def ordered(self, operator: str, value: str | float) -> Sql:
        if not isinstance(value, str):
            return "0", []
        return _two_valued((f"{self.sql} {operator} ?", [self.encode(value)]))


class _Metadata:
    """A value of the item's metadata: SQL for its JSON type and for itself."""

    def __init__(self, name: str) -> None:
        if any("\ud800" <= c <= "\udfff" for c in name):
            raise InputError(f"the name of a field must be valid Unicode, got {name!r}")
        if any(c in '"\\' or ord(c) < 0x20 for c in name):
            # Versions of SQLite differ in how such a name is escaped in a path.
            self.type = "(SELECT type FROM json_each(metadata) WHERE key = ?)"
            self.value = "(SELECT atom FROM json_each(metadata) WHERE key = ?)"
            self.at = name
        else:
            self.type, self.value, self.at = "json_type(metadata, ?)", "json_extract(metadata, ?)", f'$."{name}"'

    def among(self, values: list[Value]) -> Sql:
        texts = [v for v in values if isinstance(v, str)]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        constants = [json.dumps(v) for v in values if v is None or isinstance(v, bool)]
        parts: list[Sql] = []
        if texts:
            parts.append(self._typed(_TEXT, f"IN ({_marks(texts)})", texts))
        if numbers:
            marks = ",".join(map(_number_mark, numbers))
            parts.append(self._typed(_NUMBER, f"IN ({marks})", list(map(_number_parameter, numbers))))
        if constants:
            parts.append((f"ifnull({self.type}, 'null') IN ({_marks(constants)})", [self.at, *constants]))
        return _joined(parts, "OR")

    def ordered(self, operator: str, value: str | float) -> Sql:
        if isinstance(value, str):
            return self._typed(_TEXT, f"{operator} ?", [value])
        return self._typed(_NUMBER, f"{operator} {_number_mark(value)}", [_number_parameter(value)])

    def _typed(self, types: str, condition: str, parameters: list[Any]) -> Sql:
        # The type is looked at second: mostly the value has decided by then.
        sql = f"{self.value} {condition} AND {self.type} IN {types}"
        return _two_valued((sql, [self.at, *parameters, self.at]))


_TEXT = "('text')"
_NUMBER = "('integer', 'real')"
# As os.path.join does it: no second separator after a root that ends in one.
_PATH = (
    f"CAST(CASE WHEN CAST(substr(root, -1) AS BLOB) = x'{_SEPARATOR.hex()}' THEN root "
    f"ELSE root || x'{_SEPARATOR.hex()}' END || path AS BLOB)"
)
_OWN = {"id": _Own("id", str), "path": _Own(_PATH, os.fsencode)}


def _joined(parts: list[Sql], word: str) -> Sql:
    """Join conditions as a balanced tree: SQLite bounds the depth of an expression, not its width."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    left, right = _joined(parts[:middle], word), _joined(parts[middle:], word)
    return f"({left[0]} {word} {right[0]})", [*left[1], *right[1]]


def _negated(condition: Sql) -> Sql:
    return f"(NOT {condition[0]})", condition[1]


def _two_valued(condition: Sql) -> Sql:
    """Make false of SQL's third truth value."""
    return f"ifnull({condition[0]}, 0)", condition[1]


def _marks(values: list[Any]) -> str:
    return ",".join("?" * len(values))


def _number(text: str) -> int | float:
    try:
        value = int(text)
    except ValueError:
        value_or_float = float(text)
        if math.isinf(value_or_float):
            raise InputError(f"the number {text} in a filter is too large") from None
        return value_or_float
    return value if abs(value) < _INT64 else float(value)


def _number_mark(value: float) -> str:
    # A fraction takes the way that metadata take, text -> SQLite, so that equal texts stay equal to the last bit.
    return "?" if isinstance(value, int) else "json_extract(?, '$')"


def _number_parameter(value: float) -> int | str:
    return value if isinstance(value, int) else json.dumps(value)


_INT64 = 1 << 63
_Field: TypeAlias = _Own | _Metadata
