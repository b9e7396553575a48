"""Filters: the SQL agrees with a naive evaluator over dicts, and mistakes are pointed at."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lookalike.errors import InputError
from lookalike.stores.sqlite import SqliteStore
from lookalike.stores.where import compile_where
from lookalike.types import FileStamp, Item

ORDERED = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}

# An expression is a tree: (operator, field, value), ("in", field, [values]), ("not", tree), ("and"/"or", [trees]).


def kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


def holds(tree: Any, metadata: dict[str, Any]) -> bool:
    operator = tree[0]
    if operator == "not":
        return not holds(tree[1], metadata)
    if operator in ("and", "or"):
        parts = [holds(part, metadata) for part in tree[1]]
        return all(parts) if operator == "and" else any(parts)
    found, value = metadata.get(tree[1]), tree[2]
    if operator in ORDERED:
        return kind(found) == kind(value) and bool(ORDERED[operator](found, value))
    among = any(same(found, one) for one in (value if "in" in operator else [value]))
    return among if operator in ("=", "in") else not among


def same(found: Any, value: Any) -> bool:
    return kind(found) == kind(value) and found == value


def written(tree: Any) -> str:
    operator = tree[0]
    if operator == "not":
        return f"NOT {written(tree[1])}" if tree[1][0] == "not" else f"not ({written(tree[1])})"
    if operator in ("and", "or"):
        return "(" + f" {operator} ".join(map(written, tree[1])) + ")"
    field = "`" + tree[1].replace("`", "``") + "`"
    if "in" in operator:
        return f"{field} {operator} ({', '.join(map(literal, tree[2]))})"
    return f"{field}{operator}{literal(tree[2])}"


def literal(value: Any) -> str:
    if isinstance(value, str):
        quote = '"' if len(value) % 2 else "'"
        return quote + value.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
    return json.dumps(value)


# Neither NUL, at which older SQLite cuts texts, nor surrogates, which a filter refuses.
alphabet = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
names = st.sampled_from(["a", "b", 'q"uote', "back\\slash", "tick`", "new\nline", "höhe", "$.x[0]", "", "id"])
numbers = st.one_of(
    st.integers(-3, 3), st.integers(-(2**63) + 1, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.one_of(
    st.sampled_from(["", "a", "A", "b", "1", "true", "é", "😀", '"', "\\"]), st.text(alphabet, max_size=4)
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
records = st.dictionaries(names, st.one_of(scalars, st.just([1]), st.just({"a": 1})), max_size=5)
fields = names.filter(bool)
comparisons = st.one_of(
    st.tuples(st.sampled_from(["=", "!="]), fields, scalars),
    st.tuples(st.sampled_from(sorted(ORDERED)), fields, st.one_of(numbers, texts)),
    st.tuples(st.sampled_from(["in", "not in"]), fields, st.lists(scalars, min_size=1, max_size=4)),
)
trees = st.recursive(
    comparisons,
    lambda parts: st.one_of(
        st.tuples(st.just("not"), parts),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(parts, min_size=1, max_size=4)),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE items (id TEXT, root BLOB, path BLOB, metadata TEXT)")
    yield db
    db.close()


@settings(max_examples=400, deadline=None)
@given(tree=trees, metadata=st.lists(records, min_size=1, max_size=6))
@example(tree=(">=", "a", 2020), metadata=[{"a": "2021"}, {"a": True}, {"a": 2020.0}, {}, {"a": None}])
@example(tree=("=", "a", 0.1), metadata=[{"a": 0.1}, {"a": 0.30000000000000004}])
@example(tree=("!=", "a", None), metadata=[{}, {"a": None}, {"a": 0}])
@example(tree=("=", "a", 1), metadata=[{"a": True}, {"a": 1}, {"a": [1]}])
@example(tree=("=", "a", "[1]"), metadata=[{"a": [1]}, {"a": "[1]"}])
def test_sql_agrees_with_a_naive_evaluator(database: sqlite3.Connection, tree: Any, metadata: list[Any]) -> None:
    database.execute("DELETE FROM items")
    database.executemany(
        "INSERT INTO items VALUES (?, NULL, NULL, ?)",
        [(str(i), json.dumps(record, ensure_ascii=False)) for i, record in enumerate(metadata)],
    )
    condition, parameters = compile_where(written(tree))
    found = {int(row[0]) for row in database.execute(f"SELECT id FROM items WHERE {condition}", parameters)}
    assert found == {i for i, record in enumerate(metadata) if holds(tree, record)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    with SqliteStore.create(tmp_path_factory.mktemp("where") / "gallery") as made:
        made.upsert(
            [
                Item("cat-1", {"album": "cats", "year": 2021, "id": "mine"}, file=FileStamp("/r", "cats/1.jpg", 1, 1)),
                Item("cat-2", {"album": "cats", "year": "2021"}, file=FileStamp("/", "cats/2.jpg", 1, 1)),
                Item("dog-1", {"album": "dogs", "year": 2019, "cam.no-1": True}),
                Item("none", {}),
            ]
        )
        yield made


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ('album = "cats" and year >= 2020', ["cat-1"]),
        ("album = 'cats' AND NOT year >= 2020", ["cat-2"]),
        ("not album = 'cats' or year = 2021", ["cat-1", "dog-1", "none"]),
        ("album in ('dogs', null)", ["dog-1", "none"]),
        ("album not in ('dogs')", ["cat-1", "cat-2", "none"]),
        ("cam.no-1 = true", ["dog-1"]),
        ("id >= 'cat-2' and id < 'e'", ["cat-2", "dog-1"]),
        ("id = 'mine'", []),
        ("`id` = 'mine'", ["cat-1"]),
        ("id = 3 or id < 3", []),
        ("path = '/r/cats/1.jpg'", ["cat-1"]),
        ("path = '/cats/2.jpg'", ["cat-2"]),
        ("path = null", ["dog-1", "none"]),
        ("path != '/cats/2.jpg'", ["cat-1", "dog-1", "none"]),
        ("path >= '/r/' and path < '/r0'", ["cat-1"]),
        ("year < -1.5e3 or year > +2020.5", ["cat-1"]),
        ("""album = "x' OR 1=1 --" """, []),
    ],
)
def test_filters_select(store: SqliteStore, where: str, expected: list[str]) -> None:
    assert [item.id for item in store.items(where)] == expected
    assert store.count(where) == len(expected)


@pytest.mark.parametrize(
    ("where", "caret", "expected"),
    [
        ("", 1, "expected the name of a field, the filter ends here"),
        ("year >", 7, "expected a value"),
        ("year 2", 6, "expected one of = != < <= > >= in, got '2'"),
        ("year ~ 2", 6, "unexpected '~'"),
        ('a = "x', 5, 'the quote " is never closed'),
        ("(a = 1", 7, "expected ')', the filter ends here"),
        ("a = 1)", 6, "expected 'and', 'or' or the end, got ')'"),
        ("a = 1 b = 2", 7, "expected 'and', 'or' or the end, got 'b'"),
        ("album = cats", 9, 'a text goes in quotes: "cats"'),
        ("a < null", 3, "'<' needs a number or a text"),
        ("a >= true", 3, "'>=' needs a number or a text"),
        ("a in ()", 7, "expected a value"),
        ("a in 1", 6, "expected '('"),
        ("a not = 1", 7, "expected 'in', got '='"),
        ("and = 1", 1, "expected the name of a field, got 'and'"),
        ("a = 12ab", 5, "unexpected '1'"),
        ("a = 1 and\n\tb ! 2", 14, "unexpected '!'"),
        ("(" * 101 + "a = 1" + ")" * 101, 102, "nested deeper than 100"),
        ("not " * 102 + "a = 1", 405, "nested deeper than 100"),
        ("a = '\ud800'", 5, "valid Unicode"),
    ],
)
def test_a_mistake_is_pointed_at(where: str, caret: int, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        compile_where(where)
    problem, window, pointer = str(caught.value).split("\n")
    assert f"character {caret}:" in problem
    assert expected in problem
    if caret <= len(where) and where[caret - 1].isprintable():
        assert window[pointer.index("^")] == where[caret - 1]


def test_wide_filters_are_no_problem(store: SqliteStore) -> None:
    assert store.count(" or ".join(f"year = {n}" for n in range(5000))) == 2
    assert store.count(f"year in ({','.join(map(str, range(9000)))})") == 2
    assert store.count("(" * 100 + "year = 2021" + ")" * 100) == 1


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (f"a in ({','.join('1' * 10_001)})", "at most 10,000 values"),
        (" " * 2_000_000, "characters long"),
        ("a = 1e999", "too large"),
    ],
)
def test_too_much_is_refused(where: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compile_where(where)


@given(st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_filter_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        compile_where(text)
