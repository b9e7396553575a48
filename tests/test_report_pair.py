"""Why two pictures are alike, drawn: it holds what was found, and trusts nothing that it shows."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from lookalike.errors import ConfigError, InputError
from lookalike.images import read
from lookalike.images.drawing import Mark, colored, marked, overlaid, wrapped
from lookalike.registration import compare_structure
from lookalike.report_pair import Common, PairView, in_common, write_explanation
from lookalike.types import (
    Decision,
    Evidence,
    Explanation,
    Image,
    Link,
    Quality,
    Registration,
    Verdict,
)

HOSTILE = (
    "<script>alert(1)</script>.jpg",
    '" onerror="alert(1)" x=".jpg',
    "</title></svg><img src=http:x>.jpg",
    "line\nbreak\x1b[31m\x07.jpg",
    "caf\udce9 \u05d0\u05d1 \u65e5\u672c.jpg",
    "\u202egpj.exe.jpg",
    "{{ 7*7 }}.jpg",
    "long_" * 2000 + ".jpg",
)
HEAT = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
LINKS = tuple(Link((0.1 * n, 0.1, 0.2, 0.2), (0.5, 0.1 * n, 0.2, 0.2), 0.9 - 0.1 * n) for n in range(8))
NOT_FOUND = Registration(False, "no alignment found: the first picture shows nothing to align by")


class Page(HTMLParser):
    """What a browser sees: tags with their attributes, and the text outside style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._style = False
        self.feed(path.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._style else data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def noise(height: int, width: int, seed: int = 0) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image(pixels, (width, height))


def pair(a: Image, b: Image) -> PairView:
    """A pair of which nothing but the verdict is known."""
    evidence = (
        Evidence("cosine", 0.9312, 0.712, 1.2e-5, True),
        Evidence("manhattan", 9.41, 9.2, 0.0013, False),
        Evidence("ssim", 0.84),
    )
    return PairView(
        names=("a.jpg", "b.jpg"),
        images=(a, b),
        decision=Decision(Verdict.MATCH, 0.9312, 0.712, "cosine 0.9312 is above 0.7120", 1.2e-5, None, evidence),
        quality=(Quality(0.41, 0.21, 2.5, 0.7), Quality(0.0, 0.0, 0.0, 0.0, "black")),
        registration=NOT_FOUND,
        structure="not compared, since their sizes differ",
        calibration="made on 500 free photos",
    )


def full(a: Image, b: Image) -> PairView:
    """A pair of which all is known; b has the size of a."""
    height, width = a.pixels.shape[:2]
    mask = np.ones((height, width), np.bool_)
    mask[:, : width // 4] = False
    return replace(
        pair(a, b),
        explanation=Explanation(HEAT, HEAT.T.copy(), LINKS),
        common=Common(a.pixels, b.pixels, mask, np.full((height, width), 0.5, np.float32)),
        structure="compared where they overlap, after alignment",
        ssim=0.8412,
        ms_ssim=0.9023,
        registration=Registration(
            True, "aligned", (-12.5, 3.0), 8.0, 0.999, 0.97, 0.53, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
        ),
        notes=("b.jpg is blurred",),
    )


def html_of(view: PairView, folder: Path) -> Page:
    write_explanation(folder / "out.html", view)
    return Page(folder / "out.html")


def png_of(view: PairView, folder: Path) -> NDArray[np.uint8]:
    write_explanation(folder / "out.png", view)
    with PIL.Image.open(folder / "out.png") as picture:
        assert picture.format == "PNG"
        return np.array(picture)


def pictures_in(page: Page) -> list[NDArray[np.uint8]]:
    found = []
    for image in page.of("image"):
        head, _, data = str(image["href"]).partition(",")
        assert head == "data:image/jpeg;base64"
        with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            found.append(np.array(picture))
    return found


def test_the_page_says_all_that_is_known(tmp_path: Path) -> None:
    page = html_of(full(noise(6, 8), noise(6, 8, 1)), tmp_path)
    for said in (
        *("Match", "a.jpg", "b.jpg", "cosine 0.9312 is above 0.7120"),
        *("0.7120", "0.0012 %", "✓ passes", "✗ does not pass", "no threshold"),
        *("8 x 6", "0.41", "2.5", "cannot be judged: black", "can be judged"),
        *("SSIM 0.8412, MS-SSIM 0.9023", "shift of -12.5, 3.0 pixels", "8.0 degrees", "0.999", "0.97", "53% of a"),
        *("made on 500 free photos", "b.jpg is blurred", "The brighter a region", "1 - SSIM"),
    ):
        assert said in page.text, said
    assert len(page.of("image")) == 6


def test_at_most_six_links_are_drawn_with_their_numbers_on_both_sides(tmp_path: Path) -> None:
    page = html_of(full(noise(6, 8), noise(6, 8, 1)), tmp_path)
    assert "strongest first: 0.90, 0.80, 0.70, 0.60, 0.50, 0.40." in page.text
    assert len(page.of("text")) == 12
    assert len(page.of("line")) == 12  # each with its outline
    first = [rect for rect in page.of("rect") if rect.get("stroke") == "#e69f00"]
    # 8 x 6 is drawn as 512 x 384; the second picture begins at 512 + 80.
    places = [tuple(float(str(rect[side])) for side in ("x", "y", "width", "height")) for rect in first]
    assert np.allclose(places, [(0, 38.4, 102.4, 76.8), (592 + 256, 0, 102.4, 76.8)])


@pytest.mark.parametrize("end", ["html", "png"])
def test_what_is_missing_says_why_and_takes_less_room(tmp_path: Path, end: str) -> None:
    a, b = noise(6, 8), noise(4, 3, 1)
    bare = replace(pair(a, b), unexplained="the encoder was not asked")
    if end == "html":
        page = html_of(bare, tmp_path)
        assert "No heat and no links: the encoder was not asked." in page.text
        assert "There is no map and no picture of the difference. No SSIM: not compared, since" in page.text
        assert "Where b lies on a is not known: no alignment found: the first picture shows nothing" in page.text
        assert len(page.of("image")) == 2
    else:
        assert len(png_of(bare, tmp_path)) < len(png_of(full(a, noise(6, 8, 1)), tmp_path)) - 700


def test_heat_without_links_says_that_there_are_none(tmp_path: Path) -> None:
    view = replace(full(noise(6, 8), noise(6, 8, 1)), explanation=Explanation(HEAT, HEAT, ()))
    page = html_of(view, tmp_path)
    assert "No links between regions" in page.text
    assert page.of("line") == []


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_becomes_markup_or_a_control_character(tmp_path: Path, name: str) -> None:
    view = full(noise(6, 8), noise(6, 8, 1))
    decision = replace(view.decision, reason=name, evidence=(Evidence(name, 1.0),))
    view = replace(
        view,
        structure=name,
        calibration=name,
        unexplained=name,
        names=(name, name),
        decision=decision,
        quality=(Quality(0.0, 0.0, 0.0, 0.0, name),) * 2,
        registration=Registration(False, name),
        notes=(name,),
    )
    for shown in (view, replace(view, explanation=None, common=None)):
        page = html_of(shown, tmp_path)
        assert {tag for tag, _ in page.tags} <= {
            *("html", "head", "meta", "title", "style", "body", "p", "bdi", "div", "h1", "h2", "figure", "figcaption"),
            *("svg", "image", "line", "rect", "text", "i", "table", "tr", "th", "td", "footer"),
        }
        assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
        values = [page.text, *(str(value) for _, attributes in page.tags for value in attributes.values())]
        assert {c for value in values for c in value if not c.isprintable()} == {"\n"}


def test_hostile_names_are_drawn_as_escapes(tmp_path: Path) -> None:
    name = "".join(HOSTILE)
    view = replace(pair(noise(6, 8), noise(6, 8, 1)), names=(name, name), notes=HOSTILE, structure=name)
    assert png_of(view, tmp_path).shape[1] == 1200


def test_the_page_needs_nothing_from_outside_and_fits_both_schemes(tmp_path: Path) -> None:
    page = html_of(full(noise(6, 8), noise(6, 8, 1)), tmp_path)
    policy = [meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "color-scheme: light dark" in (tmp_path / "out.html").read_text()
    assert page.of("script") == page.of("link") == page.of("a") == page.of("img") == []


@pytest.mark.parametrize("shape", [(1, 1), (5000, 1), (1, 5000), (2, 3), (900, 1600)])
def test_pictures_of_any_shape_are_drawn_in_bounds(tmp_path: Path, shape: tuple[int, int]) -> None:
    view = replace(full(noise(6, 8), noise(6, 8, 1)), images=(noise(*shape), noise(7, 7)))
    for drawn in pictures_in(html_of(view, tmp_path)):
        assert max(drawn.shape) <= 512
    page = png_of(view, tmp_path)
    assert page.shape[1] == 1200
    assert page.shape[0] < 2600
    assert (tmp_path / "out.html").stat().st_size < 1_500_000


def test_a_very_long_text_is_wrapped_and_shortened(tmp_path: Path) -> None:
    view = pair(noise(6, 8), noise(6, 8, 1))
    taller = len(png_of(replace(view, names=("x" * 100_000, "y")), tmp_path)) - len(png_of(view, tmp_path))
    assert 0 < taller < 300
    page = png_of(replace(view, names=("W" * 5000, "y")), tmp_path)
    assert (page[:, -48:] == 255).all(), "the right margin stays empty"


def test_the_same_pair_gives_the_same_bytes(tmp_path: Path) -> None:
    for end in ("png", "html"):
        for name in ("first", "second"):
            write_explanation(tmp_path / f"{name}.{end}", full(noise(6, 8), noise(6, 8, 1)))
        assert (tmp_path / f"first.{end}").read_bytes() == (tmp_path / f"second.{end}").read_bytes()


@pytest.mark.parametrize("name", ["out.jpg", "out", "out.gif"])
def test_another_ending_is_refused_and_leaves_what_is_there(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a photo")
    with pytest.raises(ConfigError, match=r"ends in \.png or \.html or \.htm"):
        write_explanation(tmp_path / name, pair(noise(9, 9), noise(9, 9)))
    assert (tmp_path / name).read_bytes() == b"a photo"


def test_neither_of_the_two_pictures_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"a photo")
    view = replace(pair(noise(9, 9), noise(9, 9)), names=("<array>", str(tmp_path / "b.png")))
    with pytest.raises(ConfigError, match="one of the two pictures"):
        write_explanation(tmp_path / "b.png", view)
    assert (tmp_path / "b.png").read_bytes() == b"a photo"


def test_nothing_is_left_where_drawing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_explanation(tmp_path / "out.png", pair(noise(9, 9), noise(9, 9)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verdict", list(Verdict))
def test_each_verdict_is_said_in_words(tmp_path: Path, verdict: Verdict) -> None:
    view = pair(noise(9, 9), noise(9, 9))
    page = html_of(replace(view, decision=replace(view.decision, verdict=verdict)), tmp_path)
    assert verdict.value.replace("_", " ").capitalize() in page.text


# The common frame


def test_pictures_of_one_size_lie_in_their_own_frame_made_small() -> None:
    a = noise(600, 1200)
    b = Image(np.clip(a.pixels.astype(int) + 9, 0, 255).astype(np.uint8), a.size)
    common = in_common(a, b, compare_structure(a, b))
    assert common is not None
    assert common.a.shape == common.b.shape == (256, 512, 3)
    assert common.mask.all()


def test_what_was_aligned_lies_on_a_where_the_mask_says(shipped_photos: Path) -> None:
    whole = read(shipped_photos / "astronaut.jpg")
    height, width = whole.pixels.shape[:2]
    part = whole.crop(20, 30, width - 40, height - 50)
    common = in_common(whole, part, compare_structure(whole, part))
    assert common is not None
    assert common.a.shape == whole.pixels.shape
    # A crop by whole pixels: laid back, it is the picture, and has pixels in that box alone.
    inside = np.zeros((height, width), np.bool_)
    inside[31 : height - 21, 21 : width - 21] = True
    assert common.mask[inside].all()
    assert common.mask.sum() <= (width - 38) * (height - 48)
    assert np.abs(common.a.astype(int) - common.b)[inside].mean() < 2
    assert common.map[inside].min() > 0.9
    assert common.map[~common.mask].min() == 1, "windows that reach out of b say nothing of it"


def test_a_large_picture_is_aligned_as_well_when_it_is_made_small(shipped_photos: Path) -> None:
    with PIL.Image.open(shipped_photos / "astronaut.jpg") as picture:
        large = read(picture.resize((700, 700), PIL.Image.Resampling.BICUBIC))
    part = large.crop(70, 42, 560, 630)
    common = in_common(large, part, compare_structure(large, part))
    assert common is not None
    assert common.a.shape == (512, 512, 3)
    assert np.abs(common.a.astype(int) - common.b)[common.mask].mean() < 2
    rows, columns = np.nonzero(common.mask)
    # 70 to 630 across and 42 to 672 down, at 512 / 700 of the size
    assert np.allclose([columns.min(), columns.max(), rows.min(), rows.max()], [51, 460, 31, 491], atol=1.5)


def test_what_was_not_compared_has_no_common_frame() -> None:
    a, b = noise(60, 80), noise(40, 30, 1)
    assert in_common(a, b, compare_structure(a, b)) is None


def test_a_common_frame_has_one_shape() -> None:
    picture, mask = noise(4, 4).pixels, np.ones((4, 4), np.bool_)
    with pytest.raises(InputError, match="one height and width"):
        Common(picture, picture, mask, np.ones((4, 5), np.float32))


# Drawing


@pytest.mark.parametrize(
    ("name", "low", "middle", "high"),
    [
        # The ends and the middle of matplotlib's tables.
        ("viridis", (68, 1, 84), (33, 145, 140), (253, 231, 37)),
        ("inferno", (0, 0, 4), (188, 55, 84), (252, 255, 164)),
    ],
)
def test_the_colours_are_the_published_ones_and_grow_in_lightness(
    name: str, low: tuple[int, ...], middle: tuple[int, ...], high: tuple[int, ...]
) -> None:
    ramp = colored(np.linspace(0, 1, 101, dtype=np.float32)[None], name)[0].astype(int)  # type: ignore[arg-type]
    assert np.abs(ramp[[0, 50, 100]] - np.array([low, middle, high])).max() <= 2
    luma = ramp @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luma) > 0).all()


def test_no_heat_leaves_the_picture_s_light_and_full_heat_its_contrast() -> None:
    picture = noise(20, 20).pixels
    weights = np.array((0.299, 0.587, 0.114))
    cold = overlaid(picture, np.zeros((2, 2), np.float32), "viridis")
    assert np.abs(cold @ weights - picture @ weights).max() <= 1
    hot = overlaid(picture, np.ones((2, 2), np.float32), "viridis")
    assert np.corrcoef((hot @ weights).ravel(), (picture @ weights).ravel())[0, 1] > 0.99
    assert np.abs(hot.mean(axis=(0, 1)) - (253, 231, 37)).max() < 60


def test_marks_are_drawn_where_they_say_and_nowhere_else() -> None:
    paper = np.full((100, 300, 3), 255, np.uint8)
    drawn = marked(paper, [Mark("1", "#e69f00", (20, 20, 40, 40), (220, 20, 40, 40))])
    touched = (drawn != 255).any(axis=-1)
    assert touched[38:42, 60:220].any(axis=0).all(), "a line joins the two"
    assert not touched[:15].any()
    assert not touched[66:].any()
    assert not touched[44:56, 25:56].any(), "inside a box the picture stays"
    assert tuple(drawn[59, 40]) == (0xE6, 0x9F, 0x00)


def test_text_is_wrapped_without_losing_a_character() -> None:
    text = "a few words " + "x" * 300 + " and \u00e9\u05d0"
    lines = wrapped(text, 18, 300)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\u00e9\u05d0", "\\xe9\\u05d0")
    assert len(lines) > 5
