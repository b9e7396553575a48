"""The verb ``lookalike inspect``: learn from good pictures, add more, and tell the defects of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lookalike.printing import (
    FOUND,
    json_option,
    medical_option,
    print_json,
    print_lines,
    print_skipped,
    progress,
    safe,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lookalike.apps.inspect import Fitted
    from lookalike.inspecting import Finding

_REGIONS = 5

template_option = click.option(
    "--template", metavar="FILE", type=click.Path(), help="The golden template: a picture of a part without a defect."
)
map_option = click.option(
    "--template-map",
    metavar="FILE",
    type=click.Path(),
    help="Which template each picture has: CSV or JSONL with the columns path and template.",
)


@click.group()
def inspect() -> None:
    """Find defects from good pictures alone.

    \b
        lookalike inspect fit good/ --as board.inspector              a surface or an object
        lookalike inspect fit good/ --as board.inspector --template golden.png     an aligned part
        lookalike inspect run board.inspector new/ --html found.html
        lookalike inspect add board.inspector more-good/
    """


@inspect.command()
@click.argument("good", nargs=-1, required=True, metavar="GOOD...", type=click.Path())
@click.option("--as", "output", metavar="FILE", required=True, help="Where the inspector goes; it ends in .inspector.")
@template_option
@map_option
@click.option(
    "--mask",
    metavar="FILE",
    type=click.Path(),
    help="What is inspected: white in a picture of the template's shape, else of the pictures'.  [default: all]",
)
@click.option(
    "--false-alarm-rate",
    metavar="RATE",
    type=float,
    help="Which share of good pictures may be called defective.  [default: 0.05, or the least that they support]",
)
@click.option(
    "--encoder", metavar="NAME", default="efficientnet-lite0", show_default=True, help="What sees, without a template."
)
@json_option
def fit(
    good: tuple[str, ...],
    output: str,
    template: str | None,
    template_map: str | None,
    mask: str | None,
    false_alarm_rate: float | None,
    encoder: str,
    as_json: bool,
) -> None:
    """Learn what good looks like, from folders of good pictures or the pictures themselves.

    The threshold is set on these pictures, each judged by what the others taught, so that a good one exceeds it no more
    often than the false alarm rate. A rate takes as many pictures: .05 takes 19, .01 takes 99.
    """
    from lookalike.apps.inspect import fit as run_fit

    with progress("pictures") as count:
        made = run_fit(
            good,
            output,
            template=template,
            template_map=template_map,
            mask=mask,
            rate=false_alarm_rate,
            encoder=encoder,
            progress=count,
        )
    _print_fitted(made, as_json)


@inspect.command()
@click.argument("inspector", metavar="INSPECTOR", type=click.Path())
@click.argument("good", nargs=-1, required=True, metavar="GOOD...", type=click.Path())
@map_option
@json_option
def add(inspector: str, good: tuple[str, ...], template_map: str | None, as_json: bool) -> None:
    """Add good pictures to an inspector: each is judged by what was known, then learned."""
    from lookalike.apps.inspect import add as run_add

    with progress("pictures") as count:
        made = run_add(inspector, good, template_map=template_map, progress=count)
    _print_fitted(made, as_json)


@inspect.command("run")
@click.argument("inspector", metavar="INSPECTOR", type=click.Path())
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@template_option
@map_option
@click.option("--heatmaps", metavar="DIR", type=click.Path(), help="Write each picture with its heat and its regions.")
@click.option("--html", metavar="FILE", type=click.Path(), help="Write a page of the findings, worst first.")
@medical_option
@json_option
def run_(
    inspector: str,
    images: tuple[str, ...],
    template: str | None,
    template_map: str | None,
    heatmaps: str | None,
    html: str | None,
    medical: bool,
    as_json: bool,
) -> int | None:
    """Tell which pictures are defective, and where. Exit code 11 where one is, 0 where none is."""
    from lookalike.apps.inspect import run
    from lookalike.report_inspect import SHOWN, Heatmaps, write_findings
    from lookalike.tables import check_output

    if html:
        check_output(Path(html), ".html", ".htm")
    writer = Heatmaps(Path(heatmaps)) if heatmaps else None

    def each(one: Finding) -> None:
        if writer is not None:
            writer.write(one)
        if not as_json:
            print_lines(_finding(one))

    with progress("pictures") as count:
        found = run(
            inspector,
            images,
            template=template,
            template_map=template_map,
            progress=count,
            each=each,
            heats=SHOWN if html else 0,
        )
    if heatmaps:
        click.echo(f"heatmaps: {safe(heatmaps)}", err=True)
    if html:
        write_findings(Path(html), found.decisions, found.skipped, inspector, medical=medical)
        click.echo(f"report: {safe(html)}", err=True)
    if as_json:
        print_json(found.as_dict())
    else:
        unknown = f", {found.unknown} cannot be judged" if found.unknown else ""
        click.echo(f"{found.defective} of {len(found.decisions)} pictures are defective{unknown}")
        print_skipped(found.skipped)
    return FOUND if found.defective else None


def _finding(found: Finding) -> Iterator[str]:
    """Yield what was decided on a picture, and its strongest regions."""
    said = {True: "defective", False: "good", None: "unknown"}[found.defective]
    yield f"{said:9}  {found.path}  {found.reason}"
    for region in found.regions[:_REGIONS]:
        x, y, width, height = region.box
        yield f"{'':9}  {width}x{height} at {x},{y}: {region.test}, {region.score:.1f} times the usual spread"
    if len(found.regions) > _REGIONS:
        yield f"{'':9}  … and {len(found.regions) - _REGIONS} more; --json lists them"


def _print_fitted(made: Fitted, as_json: bool) -> None:
    if as_json:
        return print_json(made.as_dict())
    told = made.proof.threshold
    low, high = told.interval
    part = "" if made.inspected == 1 else f", {made.inspected:.0%} of the picture inspected"
    click.echo(
        f"{safe(made.path)}: {made.method}, {told.pictures} good pictures{part}, {made.bytes / 1e6:.1f} MB\n"
        f"false alarm rate {told.rate:.1%} in the mean; for these pictures {low:.1%} to {high:.1%} (95 %). "
        f"So many support {told.smallest:.1%} and more"
    )
    if made.several_sizes:
        least_w, most_w, least_h, most_h = made.sizes
        click.echo(
            f"warning: the good pictures are {least_w}x{least_h} to {most_w}x{most_h} pixels; "
            "what is larger in one than in another is another thing: give them one size, or fit one inspector a size",
            err=True,
        )
    for one in made.proof.suspects:
        click.echo(f"warning: {safe(one.path)} {safe(one.reason)}", err=True)
    print_skipped(made.skipped)
    return None
