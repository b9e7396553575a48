"""The contact sheet: one file that needs nothing else, and trusts nothing that it shows."""

from __future__ import annotations

import base64
import io
import os
from html.parser import HTMLParser
from pathlib import Path

import PIL.Image
import pytest

import fakes
from conftest import Cli
from lookalike import Gallery
from lookalike.apps.search import Request, search_with
from lookalike.errors import ConfigError
from lookalike.report import write_contact_sheet

HARMFUL = (
    b"<script>alert(1)</script>.jpg",
    b'" onerror="alert(1)" x=".jpg',
    b"</title><img src=http:x>.jpg",
    b"line\nbreak\x1b[31m\x07.jpg",
    b"=1+1.jpg",
    b"caf\xe9.jpg",
    b"{{ 7*7 }}.jpg",
    "\u202egpj.exe.jpg".encode(),
)


class Page(HTMLParser):
    """What a browser sees: tags with their attributes, and the text outside style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def sheet(photos: Path, tmp_path: Path, counting: fakes.Counting) -> Page:
    """A sheet of a gallery in which every name and every value is out to do harm."""
    for path, name in zip(sorted(photos.iterdir()), HARMFUL, strict=True):
        os.rename(os.fsencode(path), os.fsencode(photos) + b"/" + name.replace(b"/", b"\xe2\x88\x95"))
    with Gallery.open(tmp_path / "g", encoder="counting") as gallery:
        gallery.index(photos, metadata={"<b>note</b>": "</figcaption><script>alert(2)</script>\x00\x1b"})
        queries = [str(path) for path in sorted(photos.iterdir())]
        result = search_with(gallery, queries, (), Request(k=8))
    write_contact_sheet(tmp_path / "hits.html", result.queries, title="<i>t</i>", notes=["<script>3</script>"])
    return Page((tmp_path / "hits.html").read_text("utf-8"))


def test_no_name_and_no_value_becomes_markup(sheet: Page) -> None:
    assert {tag for tag, _ in sheet.tags} == {
        *("html", "head", "meta", "title", "style", "body", "h1", "p", "br", "section", "div", "figure"),
        *("img", "figcaption", "b", "span", "footer"),
    }
    allowed = {"src", "alt", "title", "class", "lang", "charset", "name", "content", "http-equiv"}
    assert {name for _, attributes in sheet.tags for name in attributes} <= allowed
    assert "<script>alert(1)<" in sheet.text
    assert "{{ 7*7 }}.jpg" in sheet.text


def test_no_control_character_is_left(sheet: Page) -> None:
    values = [sheet.text, *(str(value) for _, attributes in sheet.tags for value in attributes.values())]
    left = {c for value in values for c in value if not c.isprintable()}
    assert left == {"\n"}


def test_the_sheet_needs_nothing_from_outside(sheet: Page) -> None:
    assert len(sheet.of("img")) == 8 * 9
    for image in sheet.of("img"):
        head, _, data = str(image["src"]).partition(",")
        assert head == "data:image/jpeg;base64"
        with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            picture.load()
            assert max(picture.size) <= 224
    assert sheet.of("link") == sheet.of("script") == sheet.of("a") == []
    policy = [meta["content"] for meta in sheet.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_each_query_stands_beside_its_hits_in_their_order(photos: Path, tmp_path: Path, cli: Cli) -> None:
    cli("index", photos, "--encoder", "color-histogram")
    query = photos / "coffee.jpg"
    ran = cli("search", query, "-k", 3, "--html", tmp_path / "h.html", "--json")
    assert (ran.code, ran.err) == (0, f"contact sheet: {tmp_path / 'h.html'}\n")
    page = Page((tmp_path / "h.html").read_text())
    names = [str(image["alt"]) for image in page.of("img")]
    hits = ran.json["queries"][0]["hits"]
    assert names == ["coffee.jpg", *(Path(hit["path"]).name for hit in hits)]
    for hit in hits:
        assert f"{hit['score']:.4f}" in page.text
    assert "cosine, every item compared" in page.text


@pytest.mark.parametrize("how", ["like", "together"])
def test_a_query_that_is_no_file_name_still_shows_its_picture(photos: Path, tmp_path: Path, cli: Cli, how: str) -> None:
    cli("index", photos, "--encoder", "color-histogram")
    id_ = cli("list", "--json").json["items"][0]["id"]
    query = ["--like", id_] if how == "like" else ["--together", photos / "coffee.jpg", photos / "coins.jpg"]
    assert cli("search", *query, "-k", 2, "--html", tmp_path / "h.html").code == 0
    assert len(Page((tmp_path / "h.html").read_text()).of("img")) == 3


def test_a_picture_that_is_gone_or_was_never_a_file_is_told(
    photos: Path, tmp_path: Path, counting: fakes.Counting
) -> None:
    with Gallery.open(tmp_path / "g", encoder="counting") as gallery:
        gallery.index(photos)
        with PIL.Image.open(photos / "coffee.jpg") as picture:
            gallery.add(picture, id="from memory")
        result = search_with(gallery, [str(photos / "coffee.jpg")], (), Request(k=2))
        (photos / "coffee.jpg").unlink()
        write_contact_sheet(tmp_path / "h.html", result.queries)
    page = Page((tmp_path / "h.html").read_text())
    assert page.of("img") == []
    assert page.text.count("no such file") == 2
    assert page.text.count("no file") == 1


def test_no_hit_is_said(photos: Path, tmp_path: Path, cli: Cli) -> None:
    cli("index", photos, "--encoder", "color-histogram")
    ran = cli("search", photos / "coffee.jpg", "--where", "year = 1", "--html", tmp_path / "h.html")
    assert ran.out == "no hit\n"
    assert "no hit" in Page((tmp_path / "h.html").read_text()).text


def test_a_sheet_never_takes_the_place_of_a_picture(photos: Path, cli: Cli) -> None:
    cli("index", photos, "--encoder", "color-histogram")
    before = (photos / "coffee.jpg").read_bytes()
    ran = cli("search", photos / "coffee.jpg", "--html", photos / "coffee.jpg")
    assert (ran.code, ran.out) == (2, "")
    assert (photos / "coffee.jpg").read_bytes() == before
    with pytest.raises(ConfigError, match=r"\.html"):
        write_contact_sheet(photos / "coffee.jpg", [])
