"""The verb ``lookalike recognize``: the label of a picture by a gallery's references, or unknown."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.printing import gallery_option, json_option, medical_option, print_json, print_skipped, safe


@click.command()
@click.argument("images", nargs=-1, metavar="IMAGE...", required=True, type=click.Path())
@gallery_option
@click.option("--label-field", metavar="NAME", default="label", show_default=True, help="Which metadata is the label.")
@click.option(
    "--k", "-k", "k", metavar="N", type=int, default=3, show_default=True, help="How many references a label vote."
)
@click.option(
    "--unknown-rate",
    metavar="RATE",
    type=float,
    default=0.05,
    show_default=True,
    help="Of pictures of unknown things this share may be named.",
)
@click.option("--html", metavar="FILE", type=click.Path(), help="Write a page: each picture beside its references.")
@medical_option
@json_option
def recognize(
    images: tuple[str, ...],
    gallery: str,
    label_field: str,
    k: int,
    unknown_rate: float,
    html: str | None,
    medical: bool,
    as_json: bool,
) -> None:
    """Name what pictures show by the labelled items of a gallery, or say that it is unknown, and why.

    A folder a label is enough: `lookalike index FOLDER`. One picture a label works, three work much better. A new label
    is learned by indexing its pictures.
    """
    from lookalike.apps.recognize import Recognizer
    from lookalike.gallery import Gallery
    from lookalike.report_recognize import write_recognized
    from lookalike.tables import check_output

    if html:
        check_output(Path(html), ".html", ".htm")
    with Gallery.open(gallery, create=False) as opened:
        found = Recognizer(opened, field=label_field, voters=k).decide(images, unknown_rate)
    if html:
        write_recognized(Path(html), found, medical=medical)
        click.echo(f"report: {safe(html)}", err=True)
    if as_json:
        return print_json(found.as_dict())
    for one in found.decisions:
        click.echo(f"{safe(one.path)}: {one.verdict.value}{f' {safe(one.label)}' if one.label is not None else ''}")
        click.echo(f"    {safe(one.reason)}")
    print_skipped(found.skipped)
    if found.unlabelled:
        click.echo(
            f"{found.unlabelled} of the gallery's items have no {safe(label_field)!r} and took no part", err=True
        )
    return None
