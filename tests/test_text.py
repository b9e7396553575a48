import gzip
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import tiny_clip
from lookalike import installed, registry
from lookalike.encoders.text import ClipBpe, repaired, tokenizer
from lookalike.errors import ConfigError, InputError, MissingDependency
from lookalike.protocols import TextEncoder
from lookalike.types import Image
from tiny_clip import CONTEXT, END, FIRST_MERGE, START


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    return tmp_path / "encoders"


@pytest.fixture(scope="module")
def bpe() -> ClipBpe:
    return ClipBpe(gzip.decompress(tiny_clip.vocabulary()).decode().split("\n"), CONTEXT)


def words_of(ids: np.ndarray) -> list[int]:
    """The tokens between the first and the end."""
    assert ids.dtype == np.int64
    assert ids[0] == START
    end = int(np.argmax(ids == END))
    assert (ids[end + 1 :] == 0).all()
    return [int(i) for i in ids[1:end]]


def letter(character: str, last: bool = False) -> int:
    """The token of an ASCII letter: they begin with "!", and once more with the end of a word."""
    return ord(character) - ord("!") + 256 * last


# Worked by hand with the merges of tiny_clip: "red" is r+e, then re+d</w>; its second merge is token 512 + 1.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red", [FIRST_MERGE + 1]),
        ("  RED\n blue", [FIRST_MERGE + 1, FIRST_MERGE + 4]),
        ("re", [letter("r"), letter("e", last=True)]),  # r+e</w> was never learned
        ("reds", [FIRST_MERGE, letter("d"), letter("s", last=True)]),
        ("a12", [letter("a", last=True), letter("1", last=True), letter("2", last=True)]),  # digits stand alone
        ("it's", [letter("i"), letter("t", last=True), letter("'"), letter("s", last=True)]),
        ("!?", [letter("!"), letter("?", last=True)]),
    ],
)
def test_words_are_split_and_joined_as_worked_by_hand(bpe: ClipBpe, text: str, expected: list[int]) -> None:
    assert words_of(bpe(text)) == expected


def test_a_text_longer_than_the_context_is_cut_and_says_so(bpe: ClipBpe) -> None:
    with pytest.warns(UserWarning, match="the encoder takes 8 tokens"):
        ids = bpe("red " * 9)
    assert list(ids) == [START, *[FIRST_MERGE + 1] * 6, END]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(bpe("red " * 6)) == list(ids)


def test_a_word_of_a_million_letters_is_cut_in_no_time(bpe: ClipBpe) -> None:
    with pytest.warns(UserWarning, match="only the beginning of 'xxx"):
        assert words_of(bpe("x" * 1_000_000)) == [letter("x")] * (CONTEXT - 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fi\ufb01 \uff21\uff22 \u201cx\u201d \u2018y\u2019", "fifi AB \"x\" 'y'"),
        ("&lt;b&gt; &amp;amp;", "<b> &"),
        ("e\u0301", "\u00e9"),
        ("\x1b[31mred\x1b[0m\x00\ufeff", "red"),
        ("\ud83d\ude00 \ud800", "\U0001f600 \ufffd"),
        ("a\u0085b", "a\u2026b"),
    ],
)
def test_a_text_is_repaired_before_it_is_split(text: str, expected: str) -> None:
    assert repaired(text) == expected


def test_words_lie_where_their_pictures_do() -> None:
    installed.install(*tiny_clip.card_and_files())
    encoder = registry.encoder("tiny-clip")
    assert isinstance(encoder, TextEncoder)
    colours = [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    pictures = encoder.encode([Image(np.full((9, 7, 3), colour, np.uint8), (7, 9)) for colour in colours])
    words = encoder.encode_text(["red", "a BLUE", "green"])
    assert words.space == pictures.space == encoder.space
    np.testing.assert_allclose(words.vectors, pictures.vectors, atol=1e-6)
    assert encoder.encode_text([]).vectors.shape == (0, 3)


def test_a_text_has_one_vector_whatever_stands_beside_it() -> None:
    installed.install(*tiny_clip.card_and_files())
    encoder = registry.encoder("tiny-clip")
    assert isinstance(encoder, TextEncoder)
    together = encoder.encode_text(["red blue", "green"]).vectors
    np.testing.assert_array_equal(together[1], encoder.encode_text(["green"]).vectors[0])


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_text_that_says_nothing_is_refused(text: str) -> None:
    installed.install(*tiny_clip.card_and_files())
    with pytest.raises(InputError, match="says something"):
        registry.encoder("tiny-clip").encode_text([text])  # type: ignore[attr-defined]


def test_a_text_model_that_makes_nan_is_refused() -> None:
    words = {FIRST_MERGE + 1: (np.nan, 0, 0)}
    with pytest.raises(InputError, match="tiny-clip makes NaN or infinite values of the text 'red'"):
        encoded("red", model=tiny_clip.text_model(words=words))


def test_a_text_model_of_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gives \(1, 3\) for one text, expected \(1, 4\)"):
        encoded("red", dim=4)


def test_a_damaged_text_model_is_refused_before_it_is_loaded(home: Path) -> None:
    installed.install(*tiny_clip.card_and_files())
    path = home / "tiny-clip" / "text.onnx"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match=r"text\.onnx has sha256"):
        registry.encoder("tiny-clip").encode_text(["red"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", [b"", b"no gzip", tiny_clip.vocabulary()[:-100], gzip.compress(b"#\na b\n")])
def test_a_damaged_vocabulary_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bpe.txt.gz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="vocabulary"):
        tokenizer("clip-bpe", [path], 77)


def test_a_missing_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.gz cannot be read"):
        tokenizer("clip-bpe", [tmp_path / "none.gz"], 77)


def test_an_unknown_tokenizer_names_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="no tokenizer named 'wordpiece'; known: clip-bpe, hf"):
        tokenizer("wordpiece", [], 77)


def test_a_tokenizer_of_no_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="made of one file, got 0"):
        tokenizer("hf", [], 77)


def test_without_its_extra_a_tokenizer_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependency, match=r"pip install 'lookalike\[clip\]'"):
        tokenizer("hf", [tmp_path / "tokenizer.json"], 77)


HF = {
    "version": "1.0",
    "truncation": {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
    "padding": {
        "strategy": {"Fixed": 5},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    },
    "added_tokens": [],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<pad>": 1, "red": 2, "blue": 3}, "unk_token": "<unk>"},
}


def test_other_tokenizers_do_what_their_file_says(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(HF))
    split = tokenizer("hf", [path], 5)
    assert list(split("Red green")) == [2, 0, 1, 1, 1]
    assert split("red").dtype == np.int64
    with pytest.warns(UserWarning, match="takes 5 tokens"):
        assert list(split("blue " * 6)) == [3] * 5


def test_a_tokenizer_file_that_does_not_pad_to_the_context_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**HF, "padding": None}))
    with pytest.raises(ConfigError, match="gives 1 tokens where the model takes 5"):
        tokenizer("hf", [path], 5)("red")


@pytest.mark.parametrize("content", ["", "{}", "no json", json.dumps(HF)[:-20]])
def test_a_damaged_tokenizer_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json cannot be read"):
        tokenizer("hf", [path], 5)


def encoded(text: str, *, model: bytes | None = None, dim: int = 3) -> np.ndarray:
    """Encode with a tiny CLIP whose text model or width is another."""
    card, files = tiny_clip.card_and_files()
    files["text.onnx"] = model or files["text.onnx"]
    assert card.text is not None
    words = installed.TextCard(
        "text.onnx", tiny_clip.sha256(files["text.onnx"]), "clip-bpe", ("bpe.txt.gz",), CONTEXT, "embedding"
    )
    changed = installed.Card(
        **{name: getattr(card, name) for name in card.__dataclass_fields__} | {"text": words, "dim": dim}
    )
    installed.install(changed, files)
    vectors: np.ndarray = registry.encoder("tiny-clip").encode_text([text]).vectors  # type: ignore[attr-defined]
    return vectors
