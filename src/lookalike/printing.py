"""What the verbs of the command share: options, progress, and how things are printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tqdm import tqdm

    from lookalike.apps.doctor import Diagnosis
    from lookalike.apps.mark import MarkResult
    from lookalike.changing import Robustness
    from lookalike.types import Hits, Item, Skipped

FOUND = 11
"""The exit code of a check that found what it looks for."""
GALLERY_VARIABLE = "LOOKALIKE_GALLERY"
gallery_option = click.option(
    "--gallery",
    "-g",
    metavar="DIR",
    envvar=GALLERY_VARIABLE,
    default="lookalike.gallery",
    show_default=f"${GALLERY_VARIABLE}, else lookalike.gallery",
    help="The gallery.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
medical_option = click.option(
    "--medical", is_flag=True, help="Say on the page that it is no diagnosis; said of DICOM files anyway."
)


def parse_box(text: str | None) -> tuple[int, int, int, int] | None:
    """Return the four whole numbers of "X,Y,W,H"."""
    if text is None:
        return None
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"a crop is four whole numbers X,Y,W,H, got {text!r}", param_hint="--crop") from None
    return x, y, width, height


def names_of(text: str) -> tuple[str, ...]:
    """Return the names of "A,B"."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


@contextmanager
def progress(unit: str) -> Iterator[Callable[[int], None]]:
    """Show a counter on stderr while something runs; nothing where stderr is not a terminal."""
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", disable=None, leave=False, smoothing=0.05) as bar:
        yield lambda done: void(bar.update(done))


@contextmanager
def settling() -> Iterator[Callable[[int, int], None]]:
    """Show on stderr how far the approximate index of a large gallery is, if one is made at all."""
    from tqdm import tqdm

    bars: list[tqdm[Any]] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(desc="index for search", unit=" vectors", total=total, disable=None, leave=False))
        bars[0].update(done - bars[0].n)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()


def void(_value: object) -> None:
    """Take a value and give none."""


def safe(text: object) -> str:
    """Return text that does no harm to a terminal, whatever is in a file name."""
    from lookalike.types import display_path

    return display_path(str(text))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object; everything beyond ASCII is escaped, so it is safe wherever it goes."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def print_json_list(name: str, values: Iterable[Mapping[str, Any]]) -> None:
    """Print {name: [...]} one value a line, without holding them all."""
    click.echo(f'{{"{name}": [', nl=False)
    separator = "\n"
    for value in values:
        click.echo(separator + json.dumps(value, allow_nan=False), nl=False)
        separator = ",\n"
    click.echo("\n]}")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines that may hold the names of files."""
    for line in lines:
        click.echo(safe(line))


def print_hits(hits: Hits, *, header: bool) -> None:
    """Print a table: rank, score (and what a re-ranker made of it), id, path."""
    if header:
        click.echo(f"{safe(hits.query)}:")
    for rank, hit in enumerate(hits, 1):
        again = "" if hit.reranked is None else f"{hit.reranked:8.4f}  "
        click.echo(f"{rank:4}  {hit.score:8.4f}  {again}{safe(hit.id)}  {safe(hit.path or '-')}")
    if not hits:
        click.echo("no hit")


def print_marks(marks: Iterable[MarkResult], as_json: bool) -> None:
    """Print one mark a line: what was said, when, and of which two pictures."""
    if as_json:
        return print_json_list("marks", (one.as_dict() for one in marks))
    for one in marks:
        sides = ((one.mark.a, one.a_items), (one.mark.b, one.b_items))
        # Of copies the first stands for all.
        a, b = (safe(items[0].path or items[0].id) if items else content for content, items in sides)
        click.echo(f"{one.said:9}  {one.mark.said_at}  {a}  {b}")
    return None


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one ``name: value`` a line."""
    for name, value in fields.items():
        click.echo(f"{name}: {safe(json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)}")
    click.echo()


def print_diagnosis(found: Diagnosis, at_most: int = 5) -> None:
    """Print each finding: how bad, what, which items first, and what to do."""
    for one in found.findings:
        click.echo(f"{one.severity:7} {one.kind}: {safe(one.told)}")
        for id_, path in one.items[:at_most]:
            click.echo(f"            {safe(path or id_)}")
        if len(one.items) > at_most:
            click.echo(f"            … and {len(one.items) - at_most} more; --json lists them all")
        click.echo(f"        → {one.do}")
    if found.suggestions is not None:
        for drop in found.suggestions.drop:
            click.echo(f"drop    {safe(drop.path or drop.id)}: {safe(drop.why)}")
        for add in found.suggestions.add:
            click.echo(f"add     {safe(add.path or f'pictures of {add.label}')}: {safe(add.why)}")
        if not found.suggestions.drop:
            click.echo("drop    nothing: no label has an item to spare")
        if not found.suggestions.add:
            click.echo("add     nothing: no label needs more, or all new pictures are copies, dark, soft or tiny")
    click.echo(found.summary)


def print_robustness(found: Robustness) -> None:
    """Print a line a change and strength: recall@1 and mean cosine of each encoder; then what to switch on."""
    from lookalike.changing import advice

    names = list(found.points)
    click.echo(f"{'change':12} {'strength':>9}  " + "  ".join(f"{safe(name):>22}" for name in names))
    for row in zip(*found.points.values(), strict=True):
        cells = "  ".join(f"{f'{point.recall:.3f} / {point.score:.3f}':>22}" for point in row)
        click.echo(f"{row[0].change:12} {row[0].strength:9g}  {cells}")
    cells = "  ".join(f"{found.different[name]:22.3f}" for name in names)
    click.echo(f"{'different':12} {'':9}  {cells}")
    viewed = f", and {found.viewed} seen from several viewpoints" if found.viewed else ""
    click.echo(
        f"recall@1 / mean cosine of {found.pictures} changed pictures{viewed}; last line: of different ones, unchanged"
    )
    print_lines((*found.notes, *advice(found.points)))


def print_skipped(skipped: Sequence[Skipped], at_most: int = 20) -> None:
    """Print on stderr what was left out and why: every line of a short list, a count by reason of a long one."""
    for one in skipped[:at_most]:
        click.echo(f"skipped {safe(one.path)}: {safe(one.reason)}", err=True)
    if len(skipped) > at_most:
        click.echo(f"… and {len(skipped) - at_most} more; --json lists them all", err=True)


def item_as_dict(item: Item) -> dict[str, Any]:
    """Return the documented JSON shape of an item."""
    return {
        "id": item.id,
        "path": item.path,
        "metadata": dict(item.metadata),
        "content": item.content,
        "width": item.width,
        "height": item.height,
    }
