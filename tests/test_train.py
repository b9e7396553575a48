"""``lookalike train``: from what a user says to an encoder that works everywhere, or to the word: no gain."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import INTERRUPTIBLE, Cli
from lookalike import installed, registry
from lookalike.apps import train_loss, training_pictures
from lookalike.apps.train import TrainRequest, examples_of, train, wrong_labels
from lookalike.apps.train_focus import FOCUSES, focuses_of
from lookalike.apps.training_pictures import Asked, asked_of, look
from lookalike.encoders.colours import Colours
from lookalike.encoders.focused import PLAIN, focused
from lookalike.errors import ConfigError, InputError
from lookalike.gallery import Gallery
from lookalike.images import read
from lookalike.types import Embeddings, Image, LabelledPicture, Space
from synthetic import save

BASE = "color-histogram"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own for encoders and for what was seen."""
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "cache"))
    registry._installed.cache_clear()
    return tmp_path / "encoders"


def picture(label: int, number: int) -> np.ndarray:
    """Return a picture whose small middle tells its label, on a large background that tells nothing."""
    own = np.random.default_rng([label, number])
    pixels = np.empty((48, 48, 3))
    pixels[:] = np.random.default_rng(own.integers(6)).integers(0, 256, 3)
    pixels[12:36, 12:36] = np.random.default_rng(1000 + label).integers(0, 256, 3)
    return np.clip(pixels + own.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)


def labelled(root: Path, labels: int = 18, each: int = 5) -> Path:
    for label in range(labels):
        for number in range(each):
            save(picture(label, number), root / f"l{label:02}" / f"{number}.png")
    return root


def write(file: Path, columns: str, rows: list[tuple[object, ...]]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([columns.split(","), *rows])
    return file


def test_what_was_learned_is_an_encoder_like_any_other(cli: Cli, tmp_path: Path, home: Path) -> None:
    source = labelled(tmp_path / "pictures")
    ran = cli("train", source, "--as", "mine", "--encoder", BASE, "--json")
    assert ran.code == 0, ran.err
    told = ran.json
    figures = {one["figure"]: one for one in told["figures"]}
    assert told["gained"]
    assert told["saved"]
    assert figures["map@r"]["low"] > 0
    assert sum(told["split"].values()) == 90
    assert sorted(path.name for path in (home / "mine").iterdir()) == [
        "MODEL_CARD.md",
        "calibration.json",
        "encoder.toml",
        "projection.npz",
        "report.html",
        "report.json",
    ]
    card = (home / "mine" / "MODEL_CARD.md").read_text()
    assert "90 pictures of 18 labels" in card
    assert f"{figures['map@r']['after']:.3f}" in card
    assert cli("encoders", "verify", "mine").code == 0
    assert cli("index", source, "-g", tmp_path / "g", "--encoder", "mine").code == 0
    found = cli("search", source / "l00" / "0.png", "-g", tmp_path / "g", "-k", "3", "--json").json
    assert found["queries"][0]["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    compared = cli("benchmark", source, "--encoder", f"{BASE},mine", "--json").json["configurations"]
    assert compared[1]["map@r"] > compared[0]["map@r"]


def test_an_encoder_learned_through_a_focus_is_what_its_numbers_give_by_hand(tmp_path: Path) -> None:
    source = labelled(tmp_path / "pictures")
    assert train(TrainRequest("mine", labelled=str(source), encoder=BASE)).entry is not None
    card = installed.card("mine")
    assert card.colours == 0.3
    assert "colours beside, weight 0.3" in str(card.architecture)
    image = read(source / "l00" / "0.png")
    seen = registry.encoder(BASE).encode([image]).vectors / np.sqrt(1.3)
    beside = Colours().encode([image]).vectors * np.sqrt(0.3 / 1.3)
    with np.load(installed.home() / "mine" / card.model) as numbers:
        whole = np.eye(len(numbers["mean"])) + numbers["into"] @ numbers["back"]
        moved = (np.concatenate([seen, beside], axis=1) - numbers["mean"]) @ whole
    found = registry.encoder("mine").encode([image]).vectors
    np.testing.assert_allclose(found, moved / np.linalg.norm(moved), atol=1e-5)


def test_a_base_that_has_words_is_learned_on_as_it_is() -> None:
    class Worded:
        space = Space("worded", "1", "none", 2)
        at_least = None

        def encode(self, images: list[Image]) -> Embeddings:
            raise NotImplementedError

        def encode_text(self, words: list[str]) -> Embeddings:
            raise NotImplementedError

    assert focuses_of(Worded()) == (PLAIN,)
    assert focuses_of(registry.encoder(BASE))[0] == PLAIN
    assert len(focuses_of(registry.encoder(BASE))) > 1


def test_compare_lists_the_learned_metric_and_decides_by_its_thresholds(cli: Cli, tmp_path: Path) -> None:
    source = labelled(tmp_path / "pictures")
    assert cli("train", source, "--as", "mine", "--encoder", BASE).code == 0
    a, b = source / "l00" / "0.png", source / "l00" / "1.png"
    plain = cli("compare", a, b, "--encoder", BASE, "--json").json
    learned = cli("compare", a, b, "--encoder", "mine", "--json").json
    assert plain["scores"]["learned:mine"] == pytest.approx(learned["scores"]["cosine"], abs=1e-5)
    rows = {one["metric"]: one for one in plain["evidence"]}
    decides = next(one for one in learned["evidence"] if one["metric"] == "cosine")
    assert rows["learned:mine"] == pytest.approx({**decides, "metric": "learned:mine"}, abs=1e-5)
    assert rows["learned:mine"]["threshold"] is not None
    assert "learned:mine" in cli("compare", a, b, "--encoder", BASE).out
    assert "that mine was judged by" in learned["calibration"]["source"]
    assert learned["verdict"] in {"match", "unsure", "no_match"}


def test_without_a_gain_nothing_is_kept_unless_it_is_asked_for(cli: Cli, tmp_path: Path, home: Path) -> None:
    rng = np.random.default_rng(0)
    for label in range(9):
        for number in range(3):
            save(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8), tmp_path / "noise" / f"{label}" / f"{number}.png")
    ran = cli("train", tmp_path / "noise", "--as", "none", "--encoder", BASE)
    assert ran.code == 0
    assert "no gain: nothing was kept" in ran.out
    assert not home.exists() or not list(home.iterdir())
    kept = cli("train", tmp_path / "noise", "--as", "none", "--encoder", BASE, "--keep-anyway")
    assert "no gain: it was kept because of --keep-anyway" in kept.out
    assert installed.names() == ["none"]
    assert "No gain" in (home / "none" / "MODEL_CARD.md").read_text()


def test_the_same_seed_gives_the_same_encoder(tmp_path: Path) -> None:
    source = str(labelled(tmp_path / "pictures"))
    for name in ("one", "two"):
        train(TrainRequest(name, labelled=source, encoder=BASE, keep_anyway=True))
    assert installed.card("one").sha256 == installed.card("two").sha256


def test_queries_are_brought_to_the_gallery_where_roles_say_who_is_who(tmp_path: Path) -> None:
    source = labelled(tmp_path / "pictures", labels=12, each=4)
    rows = [
        (source / f"l{label:02}" / f"{number}.png", f"l{label:02}", "gallery" if number == 0 else "query")
        for label in range(12)
        for number in range(4)
    ]
    file = write(tmp_path / "roles.csv", "path,label,role", rows)
    asked = asked_of(labelled=str(file))
    examples = examples_of(asked, look(asked, registry.encoder(BASE)))
    assert examples.crossing
    assert (examples.asks.sum(), examples.answers.sum()) == (36, 12)
    assert train(TrainRequest("roles", labelled=str(file), encoder=BASE)).changes[0].after > 0


def test_near_duplicates_and_groups_are_never_torn_apart(tmp_path: Path) -> None:
    photo = np.random.default_rng(3).integers(0, 256, (12, 12, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    source = labelled(tmp_path / "pictures", labels=6, each=2)
    save(photo, source / "l00" / "copy.png")
    save(photo[::2, ::2], source / "l03" / "copy.png")
    asked = asked_of(labelled=str(source))
    looked = look(asked, registry.encoder(BASE))
    units = dict(zip([one.path for one in looked.pictures], examples_of(asked, looked).units.tolist(), strict=True))
    assert units[str(source / "l00" / "0.png")] == units[str(source / "l03" / "1.png")]
    assert units[str(source / "l00" / "0.png")] != units[str(source / "l01" / "1.png")]
    grouped = tuple(
        LabelledPicture(one.path, one.label, f"g{place % 5}") for place, one in enumerate(looked.pictures[:10])
    )
    asked = Asked("groups", grouped, ())
    found = examples_of(asked, look(asked, registry.encoder(BASE)))
    assert len(set(found.groups.tolist())) == 5
    for group in range(5):
        assert len(set(found.units[found.groups == group].tolist())) == 1


def pairs_of(source: Path, labels: int, each: int) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for label in range(labels):
        rows += [(source / f"l{label:02}" / "0.png", source / f"l{label:02}" / f"{n}.png", 1) for n in range(1, each)]
        rows.append((source / f"l{label:02}" / "0.png", source / f"l{(label + 1) % labels:02}" / "1.png", 0))
    return rows


def test_pairs_say_the_same_as_labels(cli: Cli, tmp_path: Path) -> None:
    source = labelled(tmp_path / "pictures")
    file = write(tmp_path / "pairs.csv", "a,b,same", pairs_of(source, 18, 5))
    by_pairs = {one.path: one.label for one in asked_of(pairs=str(file)).pictures}
    by_label = {one.path: one.label for one in asked_of(labelled=str(source)).pictures}
    assert by_pairs.keys() == by_label.keys()
    for a, b in itertools.combinations(by_label, 2):
        assert (by_pairs[a] == by_pairs[b]) == (by_label[a] == by_label[b])
    told = cli("train", "--pairs", file, "--as", "paired", "--encoder", BASE, "--json").json
    assert told["saved"]
    assert "18 are said to be different" in " ".join(told["notes"])


def test_marks_of_a_gallery_are_learned_from(tmp_path: Path) -> None:
    source = labelled(tmp_path / "pictures", labels=8, each=3)
    with Gallery.open(tmp_path / "g", encoder=BASE) as gallery:
        gallery.index(source)
        for a, b, same in pairs_of(source, 8, 3):
            gallery.mark(str(a), str(b), bool(same))
    found = train(TrainRequest("marked", marks=str(tmp_path / "g"), encoder=BASE))
    assert (found.found.pictures, found.found.labels) == (24, 8)


def test_without_labels_a_picture_is_to_be_found_by_its_edited_copies(tmp_path: Path, photos: Path) -> None:
    found = train(TrainRequest("copies", unlabeled=str(photos), encoder=BASE))
    assert (found.found.pictures, found.found.labels) == (8 * (training_pictures.COPIES + 1), 8)
    assert "found by 4 edited copies" in found.notes[0]


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        ("path,label", [("l00/0.png", "a"), ("l00/1.png", "a")], "one label only, of 2 pictures"),
        ("path,label", [("l00/0.png", "a"), ("l01/0.png", "b")], "one picture of each of 2 labels"),
        ("path,label", [("none.png", "a"), ("none2.png", "b")], "no labelled picture: .*none.png: no such file"),
        (
            "a,b,same",
            [("l00/0.png", "l00/1.png", 1), ("l00/1.png", "l00/2.png", 1), ("l00/0.png", "l00/2.png", 0)],
            r"contradicts itself: .*0.png and .*2.png are different \(line 4\), and yet the same through other pairs",
        ),
        (
            "a,b,same",
            [("l00/0.png", "l00/1.png", 1), ("l00/0.png", "none.png", 0)],
            "one label only, of 2 pictures: .*; 1 left out, the first: .*none.png: no such file",
        ),
        ("a,b,same", [("l00/0.png", "none.png", 1)], "no pair of .* has both of its pictures: .*none.png"),
    ],
)
def test_what_cannot_be_learned_from_is_said_before_any_picture_is_read(
    columns: str, rows: list[tuple[object, ...]], said: str, cli: Cli, tmp_path: Path, home: Path
) -> None:
    source = labelled(tmp_path / "pictures", labels=2, each=3)
    file = write(source / "given.csv", columns, rows)
    option = ["--pairs"] if columns.startswith("a,") else []
    ran = cli("train", *option, file, "--as", "mine", "--encoder", BASE)
    assert ran.code == 2
    assert re.search(said, ran.err), ran.err
    assert not home.exists()


def test_a_missing_picture_among_others_is_left_out_and_said(tmp_path: Path) -> None:
    source = labelled(tmp_path / "pictures", labels=7, each=3)
    (source / "l00" / "broken.png").write_bytes(b"no picture")
    found = train(TrainRequest("mine", labelled=str(source), encoder=BASE))
    assert [Path(one.path).name for one in found.skipped] == ["broken.png"]
    assert found.found.pictures == 21


def test_wrong_choices_are_refused(cli: Cli, tmp_path: Path) -> None:
    source = labelled(tmp_path / "pictures", labels=7, each=2)
    assert "learn from one of" in cli("train", "--as", "mine").err
    assert "learn from one of" in cli("train", source, "--unlabeled", source, "--as", "mine").err
    assert "'color-histogram' is the name of an encoder that comes with" in cli("train", source, "--as", BASE).err
    assert "an encoder's name is of letters" in cli("train", source, "--as", "a/b").err
    with pytest.raises(InputError, match=r"there are 2 classes .* at least 6 are needed"):
        train(TrainRequest("mine", labelled=str(labelled(tmp_path / "few", labels=2)), encoder=BASE))
    with pytest.raises(ConfigError, match="a learning rate is above 0, got -1"):
        TrainRequest("mine", labelled="x", learner="triplet", rate=-1)


@pytest.mark.parametrize("option", [("--device", "cuda"), ("--head", "mlp"), ("--epochs", "3"), ("--rate", ".1")])
def test_what_only_a_loss_heeds_is_refused_without_one(option: tuple[str, str], cli: Cli, tmp_path: Path) -> None:
    ran = cli("train", tmp_path, "--as", "mine", *option)
    assert ran.code == 2
    assert f"{option[0]} is of a loss" in ran.err


def test_the_page_tells_what_learning_changed_with_its_interval_and_no_cost(
    cli: Cli, tmp_path: Path, home: Path
) -> None:
    told = cli("train", labelled(tmp_path / "p"), "--as", "mine", "--encoder", BASE, "--json").json
    page = (home / "mine" / "report.html").read_text()
    assert "mine, learned from" in page
    for one in told["figures"]:
        assert f"<td>{one['difference']:+.3f}</td><td>{one['low']:+.3f} to {one['high']:+.3f}</td>" in page
    assert "nan" not in page.split("<h2>What learning changed</h2>")[1].split("<h2>Curves</h2>")[0]
    assert "<h2>Cost</h2>" not in page


def test_without_its_extra_a_loss_names_the_command(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_loss, "find_spec", lambda _: None)
    ran = cli("train", tmp_path, "--as", "mine", "--loss", "triplet")
    assert ran.code == 2
    assert "pip install 'lookalike[train]'" in ran.err


def test_pictures_are_seen_through_each_focus_as_the_encoder_sees_them(tmp_path: Path) -> None:
    asked = asked_of(labelled=str(labelled(tmp_path / "pictures", labels=2, each=2)))
    base = registry.encoder(BASE)
    looked = look(asked, base, focuses=FOCUSES)
    images = [read(one.path) for one in looked.pictures]
    for focus in FOCUSES:
        expected = focused(base, focus).encode(images).vectors
        np.testing.assert_allclose(looked.through(focus), expected, atol=1e-6)


def test_what_was_seen_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_of(labelled=str(labelled(tmp_path / "pictures", labels=3, each=2)))
    encoder = registry.encoder(BASE)
    first = look(asked, encoder, focuses=FOCUSES)

    def refuse(*_: object) -> None:
        raise AssertionError("it was embedded before")

    monkeypatch.setattr(training_pictures, "read_bytes", refuse)
    again = look(asked, encoder, focuses=FOCUSES)
    np.testing.assert_array_equal(first.vectors, again.vectors)
    for focus in FOCUSES:
        np.testing.assert_array_equal(first.through(focus), again.through(focus))
    assert first.links == again.links


def test_edited_copies_are_not_called_wrong_labels(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pictures", labels=4, each=3)
    assert wrong_labels(look(asked_of(unlabeled=str(folder)), registry.encoder(BASE)))
    found = train(TrainRequest("copies", unlabeled=str(folder), encoder=BASE))
    assert not any("probably wrong" in line for line in found.advice)


def test_a_place_that_cannot_be_written_is_told_before_any_picture_is_read(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "file" / "encoders"))
    ran = cli("train", labelled(tmp_path / "pictures"), "--as", "mine", "--encoder", BASE)
    assert ran.code == 2
    assert "cannot write encoder mine to" in ran.err
    assert "set LOOKALIKE_ENCODERS" in ran.err
    assert not (tmp_path / "cache").exists()  # where what was seen is remembered


def test_an_interrupt_leaves_nothing_half_saved(tmp_path: Path, home: Path) -> None:
    source = labelled(tmp_path / "pictures", labels=30, each=8)
    command = [*INTERRUPTIBLE, "train", str(source), "--as", "mine", "--encoder", BASE]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode != 0
    assert not home.exists() or not list(home.iterdir())
    shutil.rmtree(home, ignore_errors=True)


def test_the_report_beside_the_encoder_is_what_was_printed(cli: Cli, tmp_path: Path, home: Path) -> None:
    told = cli("train", labelled(tmp_path / "p"), "--as", "mine", "--encoder", BASE, "--json").json
    assert json.loads((home / "mine" / "report.json").read_text()) == told
