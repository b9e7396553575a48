"""The command ``lookalike``: each verb parses its arguments, calls one app, and prints.

Nothing heavy is imported until a verb runs, so that help is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike import __version__
from lookalike.cli_duplicates import dedupe, leaks
from lookalike.cli_encoders import encoders
from lookalike.cli_inspect import inspect
from lookalike.cli_monitor import monitor
from lookalike.cli_recognize import recognize
from lookalike.cli_recommend import recommend
from lookalike.cli_train import train
from lookalike.printing import (
    FOUND,
    gallery_option,
    item_as_dict,
    json_option,
    medical_option,
    names_of,
    parse_box,
    print_diagnosis,
    print_fields,
    print_hits,
    print_json,
    print_json_list,
    print_lines,
    print_marks,
    print_robustness,
    print_skipped,
    progress,
    safe,
    settling,
)

if TYPE_CHECKING:
    from lookalike.apps.mark import ForgetResult, MarkResult

encoder_option = click.option(
    "--encoder", metavar="NAME", help="Which of the gallery's encoders; for a new gallery, which to use for good."
)


class ReaderGone(Exception):
    """Whoever read our output went away, as ``head`` does."""


class _Verbs(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; a broken pipe is no OSError from here on, of which click would make exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lookalike")
def cli() -> None:
    """Find the pictures that look alike: offline, with real weights, without torch.

    Make a gallery of a folder, then search it; or compare two pictures:

    \b
        lookalike index ~/Pictures
        lookalike search query.jpg
        lookalike compare a.jpg b.jpg

    Results go to stdout, progress and warnings to stderr. Exit codes: 0 fine, 1 unexpected, 2 wrong input or option,
    3 gallery unusable, 11 a check found what it looks for, 130 interrupted.
    """


@cli.command()
@click.argument("folders", nargs=-1, metavar="FOLDER...", type=click.Path())
@gallery_option
@encoder_option
@click.option("--add-encoder", metavar="NAME", help="Embed the items with one more encoder, beside those there are.")
@click.option(
    "--metadata",
    metavar="FILE",
    type=click.Path(),
    help="CSV or JSONL with a column 'path' (relative to FILE) and others.",
)
@click.option(
    "--set", "assignments", metavar="NAME=VALUE", multiple=True, help="Metadata for every picture; repeatable."
)
@click.option(
    "--dicom-field",
    metavar="NAME",
    multiple=True,
    help="Copy this field of DICOM headers into the metadata (else none is), such as BodyPartExamined; repeatable.",
)
@click.option("--prune", is_flag=True, help="Remove items whose files are gone.")
@click.option("--hidden", is_flag=True, help="Take in hidden files and folders.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave out names or relative paths; repeatable.")
@json_option
def index(
    folders: tuple[str, ...],
    gallery: str,
    encoder: str | None,
    add_encoder: str | None,
    metadata: str | None,
    assignments: tuple[str, ...],
    dicom_field: tuple[str, ...],
    prune: bool,
    hidden: bool,
    exclude: tuple[str, ...],
    as_json: bool,
) -> None:
    """Bring a gallery up to date with folders of pictures.

    Makes the gallery where there is none. Only new and changed files are read; renamed files are recognized by their
    content; a bad file is reported and the run goes on. Interrupted, the same command goes on where it was.

    A picture's label is the folder directly under FOLDER that it lies in, unless the metadata says otherwise.
    """
    from lookalike.apps.index import check_folders
    from lookalike.apps.index import index as run
    from lookalike.gallery import Gallery
    from lookalike.metadata import Given, parse_assignments

    if not folders and not add_encoder:
        raise click.UsageError("name a FOLDER to index (or --add-encoder NAME)")
    check_folders(folders)
    given = Given(metadata).and_for_all(parse_assignments(assignments))
    if dicom_field:
        from lookalike.medical import header_fields

        given = given.and_from_headers(header_fields(folders, dicom_field, hidden=hidden, exclude=exclude))
    opening = Gallery.open(gallery, encoder=encoder, create=bool(folders))
    with opening as opened, progress("pictures") as count, settling() as settled:
        report = run(
            opened,
            folders,
            given=given,
            prune=prune,
            hidden=hidden,
            exclude=exclude,
            add_encoder=add_encoder,
            progress=count,
            settling=settled,
        )
    if as_json:
        return print_json(report.as_dict())
    click.echo(
        f"{report.added} added, {report.updated} updated, {report.unchanged} unchanged, {report.removed} removed, "
        f"{len(report.skipped)} skipped"
    )
    print_skipped(report.skipped)
    return None


@cli.command()
@click.argument("images", nargs=-1, metavar="IMAGE...", type=click.Path())
@gallery_option
@encoder_option
@click.option("-k", "k", default=10, show_default=True, type=click.IntRange(min=1), help="How many hits.")
@click.option(
    "--metric",
    metavar="NAME",
    help="cosine, euclidean or manhattan; with --decide also a fusion.  [default: the gallery's own, "
    "with --decide what its calibration decides by]",
)
@click.option("--where", metavar="FILTER", help="Only items for which this holds: 'album = \"cats\" and year >= 2020'.")
@click.option("--crop", metavar="X,Y,W,H", help="Search with this box of the picture, in its upright pixels.")
@click.option("--like", metavar="ID", multiple=True, help="Search with an item of the gallery; repeatable.")
@click.option(
    "--text", metavar="TEXT", multiple=True, help="Look for what a text says, alone or beside the picture; repeatable."
)
@click.option("--minus", metavar="TEXT", multiple=True, help="Take away what a text says; repeatable.")
@click.option(
    "--text-weight",
    metavar="NUMBER",
    type=float,
    help="What each text counts where the picture counts 1.  [default: 1]",
)
@click.option("--together", is_flag=True, help="The pictures show one thing: search once, with all of them.")
@click.option("--exact", is_flag=True, help="Compare every item, also where there is an approximate index.")
@click.option(
    "--rerank",
    metavar="HOW",
    help="Put the nearest in a new order: k-reciprocal, query-expansion; or local: by where the picture lies in them.",
)
@click.option("--decide", is_flag=True, help="Say of each hit whether it matches, and return only those that do.")
@click.option(
    "--false-alarm-rate",
    metavar="RATE",
    type=float,
    help="With --decide: which share of the queries without a true match may return something.  [default: 0.05]",
)
@click.option("--gap", is_flag=True, help="With --decide: cut also at the largest drop of the scores.")
@click.option("--html", metavar="FILE", type=click.Path(), help="Write a contact sheet: each query beside its hits.")
@medical_option
@json_option
def search(
    images: tuple[str, ...],
    gallery: str,
    encoder: str | None,
    k: int,
    metric: str | None,
    where: str | None,
    crop: str | None,
    like: tuple[str, ...],
    text: tuple[str, ...],
    minus: tuple[str, ...],
    text_weight: float | None,
    together: bool,
    exact: bool,
    rerank: str | None,
    decide: bool,
    false_alarm_rate: float | None,
    gap: bool,
    html: str | None,
    medical: bool,
    as_json: bool,
) -> None:
    """Find the items of a gallery that look most like a picture, or like what words say.

    --text needs a gallery of an encoder that knows words (`lookalike encoders`). A word of it that begins with "-" is
    taken away: --text "a street -cars".

    With --decide each hit gets a verdict and its false positive rate, each query its false alarm rate, by the gallery's
    calibration (`lookalike calibrate`): what does not match is left out, and where nothing matches nothing is returned.
    Where nothing was calibrated, every verdict is unsure and nothing is left out.
    """
    from lookalike import wording
    from lookalike.apps.decide import Deciding, search_and_decide
    from lookalike.apps.search import Request, search_with
    from lookalike.gallery import Gallery
    from lookalike.medical import notice
    from lookalike.report import write_contact_sheet
    from lookalike.tables import check_output
    from lookalike.words import Words

    if html:
        check_output(Path(html), ".html", ".htm")
    wrong = {
        "--false-alarm-rate and --gap belong to --decide": not decide and (gap or false_alarm_rate is not None),
        "--decide judges single pictures: thresholds are measured on those, not on the mean that --together makes": (
            decide and together
        ),
        "--decide has an order of its own, by how far a hit is above its threshold: no --rerank": decide and rerank,
        "--text-weight belongs to --text and --minus": text_weight is not None and not (text or minus),
        "--decide judges pictures: no threshold was measured on words": decide and (text or minus),
    }
    for told, is_so in wrong.items():
        if is_so:
            raise click.UsageError(told)
    words = Words.parse(text, minus, 1.0 if text_weight is None else text_weight) if text or minus else None
    request = Request(k, metric, where, parse_box(crop), exact, words, rerank)
    decided = None
    with Gallery.open(gallery, encoder=encoder, create=False) as opened:
        if decide:
            how = Deciding(gap=gap) if false_alarm_rate is None else Deciding(false_alarm_rate, gap)
            decided = search_and_decide(opened, images, request, how, like=like)
        result = decided.result if decided else search_with(opened, images, like, request, together=together)
    if html:
        said = list(map(wording.said_of, decided.decided)) if decided else None
        shown = (*result.pictures, *(hit.path for hits in result.queries for hit in hits))
        notes = [f"gallery: {gallery}", *notice(shown, asked=medical)]
        write_contact_sheet(Path(html), result.queries, pictures=result.pictures, notes=notes, said=said)
        click.echo(f"contact sheet: {safe(html)}", err=True)
    if as_json:
        return print_json((decided or result).as_dict())
    if decided:
        for one in decided.decided:
            print_lines(wording.decided(one))
    else:
        for hits in result.queries:
            print_hits(hits, header=len(result.queries) > 1)
    print_skipped(result.skipped)
    return None


@cli.command()
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option(
    "--gallery", "-g", metavar="DIR", help="Decide by the calibration, and with the encoder, of this gallery."
)
@click.option(
    "--calibration", metavar="FILE", type=click.Path(), help="Decide by a calibration that `calibrate --output` wrote."
)
@click.option("--metric", metavar="NAME", help="Which metric or fusion of the calibration decides.")
@click.option(
    "--encoder",
    metavar="NAME",
    help="Which encoder, where -g and --calibration say none.  [default: efficientnet-lite0]",
)
@click.option("--explain", metavar="FILE", type=click.Path(), help="Draw why, to a .png or a self-contained .html.")
@medical_option
@json_option
def compare(
    a: str,
    b: str,
    gallery: str | None,
    calibration: str | None,
    metric: str | None,
    encoder: str | None,
    explain: str | None,
    medical: bool,
    as_json: bool,
) -> None:
    """Tell whether two pictures show the same thing, by every metric, and why.

    The verdict is by the calibration of -g or --calibration; else by the one that comes with the default encoder, which
    knows nothing of your pictures. Without -g no gallery is opened: neither lookalike.gallery nor that of
    $LOOKALIKE_GALLERY.

    \b
        match      the score passes the threshold
        no_match   it does not
        unsure     between what the calibration promises and what it saw; or nothing is calibrated
        unknown    a picture cannot be judged: black, one colour, a few pixels
    """
    from lookalike import wording
    from lookalike.apps.compare import compare as run
    from lookalike.apps.compare import write_why
    from lookalike.report_pair import ENDINGS
    from lookalike.tables import check_output

    if gallery and calibration:
        raise click.UsageError("the calibration is that of --gallery or that of --calibration: one of the two")
    if explain:
        check_output(Path(explain), *ENDINGS)
    result = run(a, b, gallery=gallery, calibration=calibration, metric=metric, encoder=encoder)
    if explain:
        write_why(result, Path(explain), medical=medical)
        click.echo(f"explanation: {safe(explain)}", err=True)
    if as_json:
        return print_json(result.as_dict())
    print_lines(wording.comparison(result))
    return None


@cli.command()
@gallery_option
@click.option(
    "--pairs", metavar="FILE", type=click.Path(), help="CSV or JSONL of pairs: a, b (paths) and same (0 or 1)."
)
@click.option(
    "--labels",
    metavar="FOLDER|FILE",
    type=click.Path(),
    help="A folder with a folder a class; or CSV or JSONL with path, label, and perhaps group.",
)
@click.option("--unlabeled", is_flag=True, help="The gallery's own pictures, and edited copies of them.")
@click.option(
    "--target-fpr",
    metavar="RATE",
    default=0.01,
    show_default=True,
    type=float,
    help="Which share of the pairs of different things may pass.",
)
@click.option(
    "--metric",
    metavar="NAME",
    help="What decides: cosine, euclidean, manhattan, learned, all_of, any_of, weighted.  [default: the gallery's own]",
)
@click.option("--fixed", is_flag=True, help="Make thresholds that do not adapt to the pictures at hand.")
@click.option("--output", "-o", metavar="FILE", type=click.Path(), help="Write the calibration to a .json file too.")
@click.option("--encoder", metavar="NAME", help="Which of the gallery's encoders.")
@json_option
def calibrate(
    gallery: str,
    pairs: str | None,
    labels: str | None,
    unlabeled: bool,
    target_fpr: float,
    metric: str | None,
    fixed: bool,
    output: str | None,
    encoder: str | None,
    as_json: bool,
) -> None:
    """Measure the thresholds of a gallery, with the error rates that they keep.

    From pairs that somebody judged (--pairs), from labelled pictures (--labels), or from the gallery's own pictures,
    taken to show different things, and edited copies of them (--unlabeled). Marks (`lookalike mark`) count too. The
    result is kept in the gallery in the place of the last one; `compare -g` and `search --decide` read it. A target
    that the pictures cannot support is refused, and says what they can; then the last calibration stays.
    """
    from lookalike import wording
    from lookalike.apps.calibrate import Request
    from lookalike.apps.calibrate import calibrate as run
    from lookalike.gallery import Gallery

    request = Request(target_fpr, metric, pairs, labels, unlabeled, not fixed, output)
    with Gallery.open(gallery, encoder=encoder, create=False) as opened, progress("pictures") as count:
        report = run(opened, request, count)
    if output:
        click.echo(f"calibration: {safe(output)}", err=True)
    if as_json:
        return print_json(report.as_dict())
    print_lines(wording.calibration(report, gallery))
    print_skipped(report.skipped)
    return None


@cli.command()
@click.argument("labeled", metavar="LABELED", type=click.Path())
@click.option(
    "--encoder", metavar="NAME,…", default="efficientnet-lite0", show_default=True, help="Which encoders to measure."
)
@click.option("--metric", metavar="NAME,…", default="cosine", show_default=True, help="With which metrics, each.")
@click.option(
    "--rerank", metavar="HOW,…", help="Each as it is, and re-ranked: by k-reciprocal, query-expansion, or both."
)
@click.option(
    "--split",
    metavar="HOW",
    help="Who asks whom: references:N (N pictures a label are the gallery), half, or of a seed: half:7.",
)
@click.option(
    "--html", metavar="FILE", type=click.Path(), help="Write a page with tables, curves and the worst queries."
)
@click.option("--save", metavar="FILE", type=click.Path(), help="Keep the result in a .json file, as a baseline.")
@click.option("--against", metavar="FILE", type=click.Path(), help="Exit with 11 where it is worse than this baseline.")
@click.option(
    "--margin",
    metavar="LOSS",
    default=0.005,
    show_default=True,
    type=float,
    help="How much may be lost beyond what chance explains.",
)
@click.option("--junit", metavar="FILE", type=click.Path(), help="Write what --against found to an .xml file, for CI.")
@json_option
def benchmark(
    labeled: str,
    encoder: str,
    metric: str,
    rerank: str | None,
    split: str | None,
    html: str | None,
    save: str | None,
    against: str | None,
    margin: float,
    junit: str | None,
    as_json: bool,
) -> int | None:
    """Measure how well encoders and metrics find what is alike, on labelled pictures.

    LABELED is a folder with a folder a class, or a CSV or JSONL with path, label, and perhaps group (pictures of one
    group are not compared), role (query or gallery; empty: both) and ignore. Recall, precision, mAP, ROC and their like
    come with 95 % intervals; then speed and size. With --against, a regression is a loss in recall@1 or map@10 that
    neither chance nor the margin explains: exit 11.
    """
    from lookalike import wording
    from lookalike.apps.benchmark import BenchmarkRequest
    from lookalike.apps.benchmark import benchmark as run

    reranks = names_of(rerank) if rerank else ()
    request = BenchmarkRequest(names_of(encoder), names_of(metric), html, save, against, margin, junit, reranks, split)
    with progress("pictures") as count:
        report = run(labeled, request, count)
    for kind, output in (("report", html), ("baseline", save), ("JUnit", junit)):
        if output:
            click.echo(f"{kind}: {safe(output)}", err=True)
    if as_json:
        print_json(report.as_dict())
    else:
        print_lines(wording.benchmark(report))
        print_skipped(report.skipped)
    return FOUND if report.gate and report.gate.regression else None


@cli.command("list")
@gallery_option
@click.option("--where", metavar="FILTER", help="Only items for which this holds.")
@json_option
def list_(gallery: str, where: str | None, as_json: bool) -> None:
    """List the items of a gallery."""
    from lookalike.gallery import Gallery

    with Gallery.open(gallery, create=False) as opened:
        items = opened.items(where)
        if as_json:
            return print_json_list("items", map(item_as_dict, items))
        for item in items:
            click.echo(f"{safe(item.id)}  {safe(item.path or '-')}")
    return None


@cli.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@gallery_option
@json_option
def show(ids: tuple[str, ...], gallery: str, as_json: bool) -> None:
    """Show what is known of items, given by id or path."""
    from lookalike.gallery import Gallery

    with Gallery.open(gallery, create=False) as opened:
        items = [item_as_dict(item) for item in opened.get(ids)]
    if as_json:
        return print_json({"items": items})
    for item in items:
        print_fields(item)
    return None


@cli.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@gallery_option
@json_option
def remove(ids: tuple[str, ...], gallery: str, as_json: bool) -> None:
    """Remove items from a gallery, by id or path. The picture files are not touched."""
    from lookalike.gallery import Gallery

    with Gallery.open(gallery, create=False) as opened:
        removed = opened.remove(ids)
    if as_json:
        return print_json({"removed": removed})
    click.echo(f"{removed} removed")
    return None


@cli.command()
@click.argument("word", type=click.Choice(["same", "different", "forget", "list"]))
@click.argument("pictures", nargs=-1, metavar="[A B]", type=click.Path())
@gallery_option
@json_option
def mark(word: str, pictures: tuple[str, ...], gallery: str, as_json: bool) -> None:
    """Say of two pictures that they show the same thing, or different things.

    A and B are items, by id or path, or picture files outside of the gallery, or the sha256 of such files. What is said
    goes by what the files hold, so it outlives renames and holds for copies; said again, the last word wins.

    \b
        lookalike mark same A B         they show the same thing
        lookalike mark different A B    they do not, however alike they look
        lookalike mark forget A B       take back what was said
        lookalike mark list             all that was said; the sha256 stands for a picture that is no item
    """
    from lookalike.apps import mark as app
    from lookalike.gallery import Gallery

    if len(pictures) != (0 if word == "list" else 2):
        raise click.UsageError(
            f"`mark {word}` takes {'no picture' if word == 'list' else 'two pictures'}, got {len(pictures)}"
        )
    result: MarkResult | ForgetResult
    with Gallery.open(gallery, create=False) as opened:
        if word == "list":
            return print_marks(app.marks(opened), as_json)
        result = app.forget(opened, *pictures) if word == "forget" else app.mark(opened, *pictures, same=word == "same")
    if as_json:
        return print_json(result.as_dict())
    click.echo(f"{' and '.join(map(safe, pictures))}: {result.said}")
    return None


@cli.command()
@gallery_option
@json_option
def info(gallery: str, as_json: bool) -> None:
    """Tell what a gallery holds."""
    from lookalike.gallery import Gallery

    with Gallery.open(gallery, create=False) as opened:
        facts = opened.info()
    if as_json:
        return print_json(facts)
    print_fields(facts)
    return None


@cli.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@click.option("--output", "-o", required=True, metavar="FILE", type=click.Path(), help="An .npz or .parquet file.")
@click.option("--encoder", default="efficientnet-lite0", show_default=True, metavar="NAME", help="Which encoder.")
@json_option
def embed(images: tuple[str, ...], output: str, encoder: str, as_json: bool) -> None:
    """Write the vectors of pictures (and folders of pictures) to a file, for other tools."""
    from lookalike import registry
    from lookalike.apps.embed import embed as run

    with progress("pictures") as count:
        result = run(images, registry.encoder(encoder), Path(output), count)
    if as_json:
        return print_json(result.as_dict())
    click.echo(f"{result.embedded} pictures embedded, {result.space.dim} numbers each, in {safe(output)}")
    print_skipped(result.skipped)
    return None


@cli.command()
@click.argument("gallery", metavar="GALLERY", type=click.Path())
@click.argument("output", metavar="FILE.parquet", type=click.Path())
@json_option
def export(gallery: str, output: str, as_json: bool) -> None:
    """Write a gallery's items, metadata and vectors to a Parquet file."""
    from lookalike.apps.exchange import export as run
    from lookalike.gallery import Gallery

    with Gallery.open(gallery, create=False) as opened, progress("items") as count:
        result = run(opened, Path(output), count)
    if as_json:
        return print_json(result.as_dict())
    click.echo(f"{result.exported} items written to {safe(output)}")
    return None


@cli.command("import")
@click.argument("file", metavar="FILE.parquet", type=click.Path())
@click.argument("gallery", metavar="GALLERY", type=click.Path())
@click.option("--encoder", metavar="NAME", help="What made the vectors, where the file does not say.")
@json_option
def import_(file: str, gallery: str, encoder: str | None, as_json: bool) -> None:
    """Bring a Parquet file into a gallery: an export, or vectors made elsewhere.

    A file made elsewhere needs a column 'vector' and a column 'id' or 'path'; all others become metadata.
    """
    from lookalike.apps.exchange import import_ as run

    with progress("items") as count, settling() as settled:
        result = run(Path(file), Path(gallery), encoder=encoder, progress=count, settling=settled)
    if as_json:
        return print_json(result.as_dict())
    click.echo(f"{result.added} added, {result.updated} updated, {len(result.skipped)} skipped")
    print_skipped(result.skipped)
    return None


@cli.command()
@gallery_option
@click.option("--queries", metavar="FOLDER", type=click.Path(), help="New pictures: are they like the gallery?")
@click.option("--suggest", metavar="N", type=click.IntRange(min=1), help="Name N items to drop, and N to add.")
@click.option("--fail-on", type=click.Choice(["high", "medium", "low"]), help="Exit 11 if a finding is as severe.")
@click.option("--encoder", metavar="NAME", help="Which of the gallery's encoders.")
@click.option("--html", metavar="FILE", type=click.Path(), help="Write a page: the items of each finding, and a map.")
@json_option
def doctor(
    gallery: str,
    queries: str | None,
    suggest: int | None,
    fail_on: str | None,
    encoder: str | None,
    html: str | None,
    as_json: bool,
) -> int | None:
    """Say what is wrong with a gallery, and what to do.

    Copies, probable wrong labels, strangers, labels with too few or too alike references or that are not told apart,
    dark, blurred and tiny pictures, items that are everyone's neighbour, drift of new pictures. Nothing is changed.

    --suggest names what others stand for, and what to add: the pictures of --queries that the gallery lacks most, or
    the labels that need more.
    """
    from lookalike.apps.doctor import doctor as run
    from lookalike.gallery import Gallery

    with Gallery.open(gallery, encoder=encoder, create=False) as opened, progress("pictures") as count:
        found = run(opened, queries, count, html, suggest)
    if html:
        click.echo(f"report: {safe(html)}", err=True)
    if as_json:
        print_json(found.as_dict())
    else:
        print_diagnosis(found)
        print_skipped(found.skipped)
    return FOUND if fail_on is not None and found.has(fail_on) else None


@cli.command()
@click.argument("source", metavar="FOLDER|LABELED", type=click.Path())
@click.option("--encoder", metavar="A,B", default="efficientnet-lite0", show_default=True, help="Which encoders.")
@click.option(
    "--angle", metavar="COLUMN", help="Which column of a CSV or JSONL holds the angle in degrees.  [default: angle]"
)
@click.option("--html", metavar="FILE", type=click.Path(), help="Write a page of curves, and what to switch on.")
@json_option
def robustness(source: str, encoder: str, angle: str | None, html: str | None, as_json: bool) -> None:
    """Show how far each change of a picture moves it: light, noise, blur, JPEG, scale, rotation, crop, occlusion.

    Pictures of a folder are changed, from mildly to severely, and looked for among all of them. A CSV or JSONL with
    path, label and angle adds viewpoint: pictures are looked for among one reference a label. Encoders made with
    `encoders vary` (another recipe, test-time views) stand side by side.
    """
    from lookalike.apps.robustness import robustness as run

    with progress("pictures") as count:
        found = run(source, names_of(encoder), count, angle=angle, html=html)
    if html:
        click.echo(f"report: {safe(html)}", err=True)
    if as_json:
        return print_json(found.as_dict())
    print_robustness(found)
    print_skipped(found.skipped)
    return None


cli.add_command(dedupe)
cli.add_command(leaks)
cli.add_command(encoders)
cli.add_command(monitor)
cli.add_command(inspect)
cli.add_command(recognize)
cli.add_command(recommend)
cli.add_command(train)
