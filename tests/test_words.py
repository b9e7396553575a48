import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import tiny_clip
from conftest import Cli
from lookalike import Gallery, installed
from lookalike.errors import ConfigError, InputError
from lookalike.words import Words

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 255, 0), "purple": (255, 0, 255), "black": (0, 0, 0)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures of one colour each; the encoder that knows the words red, blue and green is installed."""
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    installed.install(*tiny_clip.card_and_files())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, colour in COLOURS.items():
        PIL.Image.new("RGB", (20, 16), colour).save(pictures / f"{name}.png")
    return pictures


@pytest.fixture
def gallery(folder: Path, tmp_path: Path) -> Gallery:
    opened = Gallery.open(tmp_path / "tiny.gallery", encoder="tiny-clip")
    opened.index(folder)
    return opened


def names(hits: object) -> list[str]:
    return [Path(hit.path).stem for hit in hits]  # type: ignore[attr-defined]


@pytest.mark.parametrize("word", ["red", "blue", "green"])
def test_a_word_finds_its_colour(gallery: Gallery, word: str) -> None:
    hits = gallery.search(text=word, k=1)
    assert names(hits) == [word]
    assert hits.query == word
    assert hits[0].score == pytest.approx(1, abs=1e-6)


def test_texts_add_up_and_minus_takes_away(gallery: Gallery) -> None:
    # By hand: red (1,-1,-1) + blue (-1,-1,1) = (0,-2,0); purple (1,-1,1) and black (-1,-1,-1) are nearest to it.
    assert set(names(gallery.search(text=["red", "blue"], k=4))[:4]) == {"red", "blue", "purple", "black"}
    # purple (1,-1,1) - red (1,-1,-1) = (0,0,2): blue and what has blue in it, before what has not.
    found = names(gallery.search(gallery_picture(gallery, "purple"), minus="red", k=5))
    assert set(found[:2]) == {"blue", "purple"}
    assert found[-1] in {"red", "green", "black"}


def gallery_picture(gallery: Gallery, name: str) -> str:
    return next(item.path for item in gallery.items() if item.path and Path(item.path).stem == name)


def test_a_query_is_the_normalized_sum_of_weighted_unit_vectors(gallery: Gallery) -> None:
    pictures = gallery.embed([gallery_picture(gallery, "purple"), gallery_picture(gallery, "black")])
    made = gallery.embed_words(Words(("red", "blue"), ("green",), 0.25), pictures)
    tones = {"red": (1, -1, -1), "blue": (-1, -1, 1), "green": (-1, 1, -1)}
    unit = {word: np.array(tone) / np.sqrt(3) for word, tone in tones.items()}
    for row, picture in zip(made.vectors, pictures.vectors, strict=True):
        expected = picture + 0.25 * unit["red"] + 0.25 * unit["blue"] - 0.25 * unit["green"]
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-6)


def test_the_weight_says_whether_picture_or_words_decide(gallery: Gallery) -> None:
    picture = gallery_picture(gallery, "blue")
    assert names(gallery.search(picture, text="red", text_weight=0.1, k=1)) == ["blue"]
    assert names(gallery.search(picture, text="red", text_weight=10, k=1)) == ["red"]


def test_several_pictures_and_words_make_one_query(gallery: Gallery) -> None:
    both = [gallery_picture(gallery, "red"), gallery_picture(gallery, "blue")]
    hits = gallery.search(both, text="blue -red", k=1)
    assert names(hits) == ["blue"]
    assert hits.query == f"{both[0]} + {both[1]} + blue - red"


@pytest.mark.parametrize(
    ("text", "plus", "minus"),
    [
        ("a street -cars", ("a street",), ("cars",)),
        ("-cars -people a street", ("a street",), ("cars", "people")),
        ("a well-known street - at night", ("a well-known street - at night",), ()),
        ("-20 degrees", ("-20 degrees",), ()),
        ("-cars", (), ("cars",)),
        ("-\u00e9t\u00e9", (), ("\u00e9t\u00e9",)),
    ],
)
def test_words_that_begin_with_a_dash_are_taken_away(text: str, plus: tuple[str, ...], minus: tuple[str, ...]) -> None:
    words = Words.parse([text])
    assert (words.plus, words.minus) == (plus, minus)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_no_positive_number_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match="weight of words is a number above 0"):
        Words(("red",), (), weight)


@pytest.mark.parametrize("text", [[""], ["red", "  "]])
def test_a_text_that_says_nothing_is_refused(text: list[str]) -> None:
    with pytest.raises(InputError, match="says something"):
        Words.parse(text)


def test_only_taking_away_is_refused_without_a_picture(gallery: Gallery) -> None:
    with pytest.raises(ConfigError, match="only takes away"):
        gallery.search(minus="red")


def test_words_that_cancel_out_are_refused(gallery: Gallery) -> None:
    with pytest.raises(InputError, match="'red - red' cancels out"):
        gallery.search(text="red -red")


def test_a_search_for_nothing_is_refused(gallery: Gallery) -> None:
    with pytest.raises(InputError, match="at least one picture, or a text"):
        gallery.search()


def test_an_encoder_without_words_names_those_that_have_them(folder: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "plain.gallery", encoder="color-histogram") as plain:
        plain.index(folder)
        with pytest.raises(ConfigError, match=r"color-histogram knows pictures, no words; .*with words: tiny-clip"):
            plain.search(text="red")
        installed.remove("tiny-clip")
        with pytest.raises(ConfigError, match="none with words is installed; `lookalike encoders`"):
            plain.search(text="red")


# The command


def test_the_command_searches_by_words(cli: Cli, gallery: Gallery, tmp_path: Path) -> None:
    options = ("-g", str(tmp_path / "tiny.gallery"), "-k", "1", "--json")
    (query,) = json.loads(cli("search", "--text", "green", *options).out)["queries"]
    assert (query["query"], Path(query["hits"][0]["path"]).stem) == ("green", "green")
    picture = gallery_picture(gallery, "purple")
    (query,) = json.loads(cli("search", picture, "--text", "blue -red", "--text-weight", "3", *options).out)["queries"]
    assert (query["query"], Path(query["hits"][0]["path"]).stem) == (f"{picture} + blue - red", "blue")
    told = json.loads(cli("search", "--like", picture, "--minus", "red", *options).out)["queries"]
    assert Path(told[0]["hits"][0]["path"]).stem in {"blue", "purple"}


def test_a_contact_sheet_of_words_has_no_picture_of_them(cli: Cli, gallery: Gallery, tmp_path: Path) -> None:
    sheet = tmp_path / "hits.html"
    done = cli("search", "--text", "<b>red", "-g", str(tmp_path / "tiny.gallery"), "--html", str(sheet))
    assert done.code == 0
    assert "&lt;b&gt;red" in sheet.read_text()
    assert "<b>red" not in sheet.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--text", "red", "--decide"), "no threshold was measured on words"),
        (("--text-weight", "2"), "--text-weight belongs to --text and --minus"),
        (("--text", "red", "--text-weight", "-1"), "above 0"),
        (("--text", ""), "says something"),
        (("--minus", "red"), "only takes away"),
        ((), "or only words, with --text"),
    ],
)
def test_the_command_refuses_what_makes_no_query(
    cli: Cli, gallery: Gallery, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = cli("search", *arguments, "-g", str(tmp_path / "tiny.gallery"))
    assert done.code == 2
    assert said in done.err
