"""The verb ``lookalike encoders``: what can be had, and how it comes here. One function a verb; each calls one app."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from lookalike.printing import json_option, print_json, print_skipped, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from lookalike.apps.pull import Offer
    from lookalike.encoders.catalog import Entry


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def encoders(context: click.Context, as_json: bool) -> None:
    """List the encoders, and fetch, make, add, check and remove them.

    Without a verb it lists them: which are installed, where they come from, under which licence.
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@encoders.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the encoders: which are installed, where they come from, under which licence."""
    _list(as_json)


@encoders.command()
@click.argument("name")
@json_option
def info(name: str, as_json: bool) -> None:
    """Tell all that is known of one encoder, and how it comes here."""
    from lookalike.encoders.catalog import entry

    found = entry(name)
    if as_json:
        return print_json(found.as_dict())
    for key, value in found.as_dict().items():
        if value not in (None, {}, ""):
            click.echo(f"{key:13} {value}")
    if not found.installed and found.way:
        click.echo(f"{'to get it':13} {found.way}")
    return None


@encoders.command()
@click.argument("model", type=click.Path())
@click.option("--recipe", metavar="FILE", type=click.Path(), required=True, help="How pictures are prepared: TOML.")
@click.option("--as", "name", metavar="NAME", required=True, help="How it is to be called.")
@click.option("--output", metavar="TENSOR", help="Which output is the embedding, where the model has several.")
@click.option("--licence", metavar="TEXT", help="What its weights may be used for.")
@click.option("--source", metavar="TEXT", help="Where it comes from.")
@click.option("--good-for", metavar="TEXT", help="What it is good for.")
@json_option
def add(
    model: str,
    recipe: str,
    name: str,
    output: str | None,
    licence: str | None,
    source: str | None,
    good_for: str | None,
    as_json: bool,
) -> None:
    """Add a model of your own: .onnx, or .tflite with [litert]. It is tried before it is kept."""
    from lookalike.apps.encoders import About
    from lookalike.apps.encoders import add as run

    made = run(model, recipe, name, output=output, about=About(licence, source, good_for))
    _told(made, as_json)


@encoders.command()
@click.argument("name")
def recipe(name: str) -> None:
    """Print how an encoder prepares pictures, as TOML."""
    from lookalike.apps.encoders import recipe_of

    click.echo(recipe_of(name), nl=False)


@encoders.command()
@click.argument("base", metavar="NAME")
@click.option("--recipe", metavar="FILE", type=click.Path(), required=True, help="How pictures are prepared: TOML.")
@click.option("--as", "name", metavar="NAME", required=True, help="How it is to be called.")
@json_option
def vary(base: str, recipe: str, name: str, as_json: bool) -> None:
    """Make an encoder of the same model under another recipe: denoised, cropped, with test-time views.

    Its vectors live in a space of their own.
    """
    from lookalike.apps.encoders import vary as run

    _told(run(base, recipe, name), as_json)


@encoders.command()
@click.argument("base", metavar="NAME")
@click.option("--calibration", metavar="FOLDER", type=click.Path(), required=True, help="Pictures of your kind.")
@click.option("--as", "name", metavar="NAME", help="How it is to be called.  [default: NAME-int8]")
@json_option
def quantize(base: str, calibration: str, name: str | None, as_json: bool) -> None:
    """Make an encoder of int8 numbers, a quarter of the size and faster.

    Its vectors live in a space of their own. Pictures of the folder measure the ranges, others of them tell how near
    its vectors are to those of the encoder that it was made of.
    """
    from lookalike.apps.encoders import quantize as run

    with progress("pictures") as count:
        made = run(base, calibration, name or f"{base}-int8", count)
    if as_json:
        return print_json(made.as_dict())
    _told(made.entry, as_json)
    if made.cosine:
        click.echo(f"cosine to {base} on pictures held back: mean {made.cosine[0]:.4f}, least {made.cosine[1]:.4f}")
    print_skipped(made.skipped)
    return None


@encoders.command()
@click.argument("base", metavar="NAME")
@click.option("--dim", metavar="N", type=int, required=True, help="How many numbers are to be left.")
@click.option("--pictures", metavar="FOLDER", type=click.Path(), help="Pictures to fit a PCA on; without, cut.")
@click.option("--no-whiten", is_flag=True, help="Do not bring all directions to one variance.")
@click.option("--as", "name", metavar="NAME", help="How it is to be called.  [default: NAME-N]")
@json_option
def reduce(base: str, dim: int, pictures: str | None, no_whiten: bool, name: str | None, as_json: bool) -> None:
    """Make an encoder of shorter vectors: PCA fitted on pictures, or cut where the model was trained for it."""
    from lookalike.apps.encoders import reduce as run

    with progress("pictures") as count:
        made = run(base, dim, name or f"{base}-{dim}", pictures, whiten=not no_whiten, progress=count)
    if as_json:
        return print_json(made.as_dict())
    _told(made.entry, as_json)
    if made.kept is not None:
        click.echo(f"{made.pictures} pictures; {made.kept:.1%} of the variance is kept")
    print_skipped(made.skipped)
    return None


@encoders.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--weights", metavar="W,…", help="What each counts.  [default: all the same]")
@click.option("--as", "name", metavar="NAME", required=True, help="How it is to be called.")
@json_option
def join(names: tuple[str, ...], weights: str | None, name: str, as_json: bool) -> None:
    """Make an encoder that sees with several: its cosine is the weighted mean of theirs.

    Colour beside shape is worth much where the view changes: join efficientnet-lite0 color-histogram.
    """
    from lookalike.apps.encoders import join as run

    _told(run(_weighted(names, weights), name), as_json)


@encoders.command()
@click.argument("name")
@click.option("--photos", metavar="FOLDER", type=click.Path(), help="Real pictures to check on, 12 at least.")
@json_option
@click.pass_context
def verify(context: click.Context, name: str, photos: str | None, as_json: bool) -> None:
    """Check an encoder: same vectors whatever the batch, order and threads, and sense on photos.

    Exit code 1 where a check fails.
    """
    from lookalike.apps.verify import verify as run

    report = run(name, photos)
    if as_json:
        print_json(report.as_dict())
    else:
        for check in report.checks:
            click.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name:24} {check.told}")
    if not report.passed:
        context.exit(1)


@encoders.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove an encoder that was added, fetched or made. Galleries keep its vectors."""
    from lookalike.apps.encoders import remove as run

    standing = run(name)
    click.echo(f"removed: {name}", err=True)
    if standing:
        click.echo(f"note: without it these cannot be used: {', '.join(standing)}", err=True)


@encoders.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Fetch it without asking.")
@json_option
def pull(name: str, yes: bool, as_json: bool) -> None:
    """Fetch an encoder of the catalog: shows its licence and size and asks; goes on where it was interrupted."""
    from lookalike.apps.pull import pull as run

    def ask(offer: Offer) -> bool:
        click.echo(f"{offer.name}: {offer.architecture}\n    from {offer.url}", err=True)
        click.echo(f"    licence {offer.licence}, {offer.size:,} bytes", err=True)
        return yes or click.confirm("Fetch it?", err=True)

    with ExitStack() as shown:
        counters: list[Callable[[int], None]] = []

        def count(more: int) -> None:
            if not counters:  # the counter begins after the question
                counters.append(shown.enter_context(progress("bytes")))
            counters[0](more)

        made = run(name, ask=ask, progress=count)
    _told(made, as_json)


@encoders.command()
@click.argument("source")
@click.option("--as", "name", metavar="NAME", required=True, help="How it is to be called.")
@click.option(
    "--architecture", metavar="LIBRARY:NAME", help="Which network a checkpoint is for, such as timm:resnet18."
)
@click.option(
    "--recipe", metavar="FILE", type=click.Path(), help="How pictures are prepared (TOML), not as SOURCE says."
)
@click.option("--size", metavar="PIXELS", type=click.IntRange(min=1), help="Another side of the input.")
@click.option("--random", is_flag=True, help="Random weights, always the same: to try an export, not to search with.")
@click.option("--licence", metavar="TEXT", help="What its weights may be used for.")
@click.option("--good-for", metavar="TEXT", help="What it is good for.")
@json_option
def export(
    source: str,
    name: str,
    architecture: str | None,
    recipe: str | None,
    size: int | None,
    random: bool,
    licence: str | None,
    good_for: str | None,
    as_json: bool,
) -> None:
    """Make an encoder of a torch model: converted to ONNX, compared with its source, installed. Needs [export].

    \b
    SOURCE is one of
        timm:NAME                      timm:resnet18, timm:vit_small_patch14_dinov2.lvd142m
        torchvision:NAME[/WEIGHTS]     torchvision:resnet50
        open_clip:MODEL/PRETRAINED     open_clip:ViT-B-32/laion2b_s34b_b79k: pictures and words
        FILE                           a checkpoint (.pth, .safetensors), with --architecture
        torchscript:FILE               with --recipe

    The library fetches its weights, if it must, from where it always does. A checkpoint is read without running
    anything; it has to fill its network whole. How pictures are prepared, the library knows.
    """
    from lookalike.apps.export import export as run
    from lookalike.apps.export import read_recipe
    from lookalike.exporting.request import Request

    text = read_recipe(recipe) if recipe else None
    _told(run(Request(name, source, architecture, text, size, random, licence, good_for)), as_json)


def _weighted(names: tuple[str, ...], weights: str | None) -> dict[str, float]:
    """Return each name with its weight; two of one name, or another number of weights, is a wrong option."""
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise click.UsageError(f"{twice} is named twice; name each encoder once")
    try:
        given = [1.0] * len(names) if weights is None else [float(one) for one in weights.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--weights are numbers with commas between them, got {weights!r}") from error
    if len(given) != len(names):
        raise click.UsageError(f"{len(names)} encoders need as many weights, got {len(given)}: {weights}")
    return dict(zip(names, given, strict=True))


def _told(entry: Entry, as_json: bool) -> None:
    """Say what is installed now."""
    if as_json:
        return print_json(entry.as_dict())
    click.echo(f"installed: {entry.name} ({entry.dim} numbers); lookalike index FOLDER --encoder {entry.name}")
    return None


def _list(as_json: bool) -> None:
    from lookalike.encoders.catalog import catalog
    from lookalike.installed import cards

    entries = catalog()
    for line in cards()[1]:
        click.echo(f"warning: {line}", err=True)
    if as_json:
        return print_json({"encoders": [entry.as_dict() for entry in entries]})
    for entry in entries:
        state = "installed" if entry.installed else f"not installed: {entry.way}"
        click.echo(f"{entry.name}  ({entry.dim} numbers, {entry.licence or 'licence not told'}; {state})")
        click.echo(f"    {entry.good_for or entry.architecture or ''}\n    from {entry.source}")
    return None
