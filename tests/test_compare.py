"""``lookalike compare`` and ``lookalike.compare``: scores, verdicts and their evidence; pictures out of the way."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import fakes
import lookalike
from conftest import Cli, Ran, forget_registered
from lookalike import Gallery, registry
from lookalike.apps import compare as app
from lookalike.apps.calibrate import Request, calibrate, read_calibration
from lookalike.calibration import resampling
from lookalike.errors import InputError, UnreadableImage
from lookalike.policies.threshold import Threshold
from lookalike.types import Context, Decision, Verdict
from synthetic import labelled, picture, save

KEYS = {
    "a", "b", "scores", "verdict", "score", "threshold", "false_positive_rate", "evidence", "quality", "reason",
    "registration", "structure", "calibration",
}  # fmt: skip
SCORES = {"cosine", "euclidean", "manhattan", "euclidean_raw", "manhattan_raw", "norm_ratio", "ssim", "ms_ssim"}
FUSED = {"all_of", "any_of", "weighted", "learned"}
EVIDENCE_KEYS = {"metric", "score", "threshold", "false_positive_rate", "passed"}
HIGHER = {"cosine", "all_of", "any_of", "weighted", "learned"}
TARGET = 0.05


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a gallery g, its calibration in c.json, and a fixed one in fixed.json; change nothing."""
    folder = tmp_path_factory.mktemp("calibrated")
    pictures = labelled(folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILTIN["encoder"], "counting", "fakes:counting")
        patch.setattr(resampling, "DRAWS", 100)
        forget_registered()
        with Gallery.open(folder / "g", encoder="counting") as gallery:
            gallery.index(pictures)
            fixed = Request(TARGET, labels=str(pictures), adapting=False, output=str(folder / "fixed.json"))
            calibrate(gallery, fixed)
            calibrate(gallery, Request(TARGET, labels=str(pictures), output=str(folder / "c.json")))
    forget_registered()
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two pictures of one label that no calibration has seen."""
    return save(picture(100, 0), tmp_path / "a.png"), save(picture(100, 1), tmp_path / "b.png")


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    return save(picture(101), tmp_path / "stranger.png")


def strict(ran: Ran) -> Any:
    """Return the JSON that was printed; NaN and infinity are none."""
    assert ran.code == 0, ran.err
    return json.loads(ran.out, parse_constant=pytest.fail)


def refused(ran: Ran, *words: str, code: int = 2) -> bool:
    assert (ran.code, ran.out) == (code, ""), (ran.code, ran.out, ran.err)
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err
    return True


# Scores and verdicts


def test_uncalibrated_it_tells_the_scores_and_decides_nothing(
    cli: Cli, counting: fakes.Counting, pair: tuple[Path, Path]
) -> None:
    found = strict(cli("compare", *pair, "--encoder", "counting", "--json"))
    assert set(found) == KEYS
    assert set(found["scores"]) == SCORES
    assert (found["a"], found["b"]) == tuple(map(str, pair))
    assert found["verdict"] == "unsure"
    assert found["reason"].startswith("not calibrated")
    for name in ("score", "threshold", "false_positive_rate", "calibration"):
        assert found[name] is None
    assert [set(one) for one in found["evidence"]] == [EVIDENCE_KEYS] * 5
    for one in found["evidence"]:
        assert found["scores"][one["metric"]] == one["score"]
        assert (one["threshold"], one["false_positive_rate"], one["passed"]) == (None, None, None)


def test_the_scores_are_those_of_the_definitions(cli: Cli, counting: fakes.Counting, pair: tuple[Path, Path]) -> None:
    scores = strict(cli("compare", *pair, "--encoder", "counting", "--json"))["scores"]
    raw_a, raw_b = (fakes.quarters(np.asarray(PIL.Image.open(path))).tolist() for path in pair)
    long_a, long_b = (math.sqrt(sum(x * x for x in raw)) for raw in (raw_a, raw_b))
    a, b = [x / long_a for x in raw_a], [x / long_b for x in raw_b]
    want = {
        "cosine": sum(x * y for x, y in zip(a, b, strict=True)),
        "euclidean": math.dist(a, b),
        "manhattan": sum(abs(x - y) for x, y in zip(a, b, strict=True)),
        "euclidean_raw": math.dist(raw_a, raw_b),
        "manhattan_raw": sum(abs(x - y) for x, y in zip(raw_a, raw_b, strict=True)),
        "norm_ratio": max(long_a, long_b) / min(long_a, long_b),
    }
    assert {name: scores[name] for name in want} == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("file", ["c.json", "fixed.json"])
def test_one_thing_is_a_match_and_two_are_none_with_evidence_that_says_why(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], stranger: Path, file: str
) -> None:
    for b, verdict in ((pair[1], "match"), (stranger, "no_match")):
        found = strict(cli("compare", pair[0], b, "--calibration", calibrated / file, "--json"))
        assert found["verdict"] == verdict
        assert set(found["scores"]) == SCORES | FUSED
        evidence = {one["metric"]: one for one in found["evidence"]}
        assert set(evidence) == FUSED | {"cosine", "euclidean", "manhattan", "ssim", "ms_ssim"}
        for name, one in evidence.items():
            if name in {"ssim", "ms_ssim"}:  # of which no rate is known
                assert (one["threshold"], one["false_positive_rate"], one["passed"]) == (None, None, None)
                continue
            assert 0 <= one["false_positive_rate"] <= 1
            above = one["score"] - one["threshold"]
            assert one["passed"] == ((above if name in HIGHER else -above) >= 0), name
        cosine = evidence["cosine"]
        assert cosine["passed"] == (verdict == "match")
        for name in ("score", "threshold", "false_positive_rate"):
            assert found[name] == cosine[name]
        assert f"{cosine['score']:.4g}" in found["reason"]
        assert f"{cosine['threshold']:.4g}" in found["reason"]
        assert "false positive rate of 5 %" in found["reason"]
        assert (cosine["false_positive_rate"] <= TARGET) == (verdict == "match")
        about = found["calibration"]
        assert set(about) == {"source", "created", "metric", "target_fpr", "adapting", "built_in"}
        assert (about["metric"], about["target_fpr"], about["built_in"]) == ("cosine", TARGET, False)
        assert about["adapting"] == (file == "c.json")
        assert "24 labels" in about["source"]


def test_order_does_not_matter(cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path]) -> None:
    ab, ba = (
        strict(cli("compare", *way, "--calibration", calibrated / "c.json", "--json")) for way in (pair, pair[::-1])
    )
    assert ab["verdict"] == ba["verdict"]
    assert ab["quality"] == {"a": ba["quality"]["b"], "b": ba["quality"]["a"]}
    for name in (SCORES | FUSED) - {"ssim", "ms_ssim"}:
        assert ab["scores"][name] == pytest.approx(ba["scores"][name], rel=1e-4), name


def test_rates_of_pairs_that_the_calibration_has_not_seen_are_about_what_was_promised(
    counting: fakes.Counting, calibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SSIM takes most of the time, and decides nothing.
    none = app.StructuralComparison(lookalike.types.Registration(False, "not looked for"), False, "not compared")
    monkeypatch.setattr(app, "compare_structure", lambda *_: none)
    given = read_calibration(calibrated / "fixed.json")
    rng = np.random.default_rng(0)
    shown = [picture(label) for label in range(200, 240)]
    pairs = [rng.choice(len(shown), 2, replace=False) for _ in range(150)]
    verdicts = [lookalike.compare(shown[i], shown[j], calibration=given).verdict for i, j in pairs]
    assert verdicts.count("match") / len(verdicts) <= 3 * TARGET
    again = [
        lookalike.compare(picture(label), picture(label, 1), calibration=given).verdict for label in range(200, 215)
    ]
    assert again.count("match") >= 13


def test_metric_says_which_score_decides(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path]
) -> None:
    for metric in ("learned", "manhattan", "any_of"):
        way = ("compare", *pair, "-g", calibrated / "g", "--metric", metric)
        found = strict(cli(*way, "--json"))
        (own,) = (one for one in found["evidence"] if one["metric"] == metric)
        assert (found["score"], found["threshold"]) == (own["score"], own["threshold"])
        assert found["reason"].startswith(metric)
        assert found["calibration"]["metric"] == metric
    assert refused(cli("compare", *pair, "-g", calibrated / "g", "--metric", "lerned"), "lerned", "learned", "cosine")
    # Without a calibration there is nothing that could decide, by whichever metric.
    assert (
        strict(cli("compare", *pair, "--encoder", "counting", "--metric", "learned", "--json"))["verdict"] == "unsure"
    )
    assert refused(cli("compare", *pair, "--encoder", "counting", "--metric", "lerned"), "lerned", "learned", "cosine")


# Which calibration


def test_without_a_gallery_none_is_opened_not_even_the_default_one(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_GALLERY", str(calibrated / "g"))
    found = strict(cli("compare", *pair, "--encoder", "counting", "--json"))
    assert (found["verdict"], found["calibration"]) == ("unsure", None)
    assert "$LOOKALIKE_GALLERY" in cli("compare", "--help").out
    assert strict(cli("compare", *pair, "-g", calibrated / "g", "--json"))["verdict"] == "match"


def test_a_gallery_brings_its_encoder_and_its_calibration(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    by_gallery = strict(cli("compare", *pair, "-g", calibrated / "g", "--json"))
    by_file = strict(cli("compare", *pair, "--calibration", calibrated / "c.json", "--json"))
    assert by_gallery == by_file
    assert refused(cli("compare", *pair, "-g", tmp_path / "none"), "none", code=3)
    assert refused(
        cli("compare", *pair, "-g", calibrated / "g", "--calibration", calibrated / "c.json"), "one of the two"
    )
    assert refused(cli("compare", *pair, "-g", calibrated / "g", "--encoder", "second"), "second", "counting")
    empty = tmp_path / "empty"
    Gallery.open(empty, encoder="counting").close()
    assert strict(cli("compare", *pair, "-g", empty, "--json"))["verdict"] == "unsure"


def test_the_built_in_calibration_serves_where_there_is_none_and_is_named(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = read_calibration(calibrated / "fixed.json")
    monkeypatch.setattr(app, "built_in", lambda space: shipped if space == shipped.space else None)
    found = strict(cli("compare", *pair, "--encoder", "counting", "--json"))
    assert (found["verdict"], found["calibration"]["built_in"]) == ("match", True)
    assert "comes with lookalike" in cli("compare", *pair, "--encoder", "counting").out
    own = strict(cli("compare", *pair, "-g", calibrated / "g", "--json"))
    assert own["calibration"]["built_in"] is False
    assert strict(cli("compare", *pair, "--encoder", "second", "--json"))["calibration"] is None


def test_a_calibration_of_another_encoder_is_refused(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    file = calibrated / "c.json"
    assert refused(
        cli("compare", *pair, "--calibration", file, "--encoder", "second"), "second:", "counting:", "calibrate"
    )
    other = tmp_path / "other.gallery"
    Gallery.open(other, encoder="second").close()
    with Gallery.open(other) as gallery, pytest.raises(lookalike.errors.SpaceMismatch):
        lookalike.compare(*pair, gallery=gallery, calibration=file)


def damaged(text: str) -> Mapping[str, bytes | None]:
    changed = json.loads(text)
    changed["fits"]["cosine"]["threshold"] = -1.0
    return {
        "truncated": text[: len(text) // 2].encode(),
        "empty": b"",
        "text": b"a text",
        "binary": bytes(range(256)),
        "list": b"[1, 2]",
        "number": b"7",
        "another object": b'{"a": 1}',
        "deep": b"[" * 100_000,
        "changed by hand": json.dumps(changed).encode(),
        "not a number": text.replace('"target": 0.05', '"target": NaN').encode(),
        "without its seal": json.dumps({k: v for k, v in json.loads(text).items() if k != "sha256"}).encode(),
        "newer": text.replace('"format": 1', '"format": 2').encode(),
        "huge": None,
    }


def test_a_damaged_calibration_is_refused_with_its_name_and_the_way_out(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    file = tmp_path / "broken.json"
    for kind, content in damaged((calibrated / "c.json").read_text()).items():
        with file.open("wb") as out:
            out.write(content or b"")
            if content is None:
                out.truncate(1 << 32)  # a hole: no byte of it is on the disk
        word = "4,294,967,296 bytes" if content is None else "calibration"
        assert refused(cli("compare", *pair, "--calibration", file), "broken.json", word), kind
    file.unlink()
    assert refused(cli("compare", *pair, "--calibration", file), "broken.json", "No such file")
    file.mkdir()
    assert refused(cli("compare", *pair, "--calibration", file), "broken.json", "a folder")


# Pictures that are out of the way


def test_identical_pictures(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    copy = shutil.copy(pair[0], tmp_path / "copy.png")
    for b in (pair[0], copy):
        found = strict(cli("compare", pair[0], b, "--calibration", calibrated / "c.json", "--json"))
        assert found["verdict"] == "match"
        want = {
            "cosine": 1,
            "euclidean": 0,
            "manhattan": 0,
            "euclidean_raw": 0,
            "manhattan_raw": 0,
            "norm_ratio": 1,
            "ssim": 1,
        }
        assert {name: found["scores"][name] for name in want} == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "word"),
    [("black", "all black"), ("white", "all white"), ("grey", "one colour"), ("tiny", "2x2"), ("line", "300x4")],
)
def test_what_cannot_be_judged_is_unknown_and_says_why(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], tmp_path: Path, name: str, word: str
) -> None:
    shapes = {"tiny": (2, 2), "line": (4, 300)}
    levels = {"black": 0, "white": 255, "grey": 128}
    odd = save(np.full((*shapes.get(name, (40, 30)), 3), levels.get(name, 90), np.uint8), tmp_path / f"{name}.png")
    for way in (("--calibration", calibrated / "c.json"), ("--encoder", "counting")):
        for a, b in ((odd, pair[0]), (pair[0], odd), (odd, odd)):
            found = strict(cli("compare", a, b, *way, "--json"))
            assert found["verdict"] == "unknown"
            assert word in found["reason"]
            assert f"{name}.png" in found["reason"]
            assert ("pixel by pixel" in found["reason"]) == (a == b)
            side = "a" if a == odd else "b"
            assert word in found["quality"][side]["problem"]
    printed = cli("compare", odd, pair[0], "--encoder", "counting").out
    assert printed.startswith("unknown: ")
    assert f"quality: {odd} is " in printed


@pytest.mark.parametrize("encoder", ["color-histogram", "efficientnet-lite0"])
def test_one_pixel_is_unknown_whatever_the_encoder(
    cli: Cli, pair: tuple[Path, Path], tmp_path: Path, encoder: str
) -> None:
    dot = save(np.full((1, 1, 3), 90, np.uint8), tmp_path / "dot.png")
    for b in (pair[0], dot):
        found = strict(cli("compare", dot, b, "--encoder", encoder, "--json"))
        assert found["verdict"] == "unknown"
        assert found["reason"].count("dot.png cannot be judged: it is only 1x1 pixels") == 1


def test_pictures_of_two_sizes(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with PIL.Image.open(pair[0]) as small:
        small.resize((100, 70), PIL.Image.Resampling.NEAREST).save(tmp_path / "large.png")
    found = strict(cli("compare", pair[0], tmp_path / "large.png", "--calibration", calibrated / "c.json", "--json"))
    assert found["verdict"] == "match"
    assert found["structure"]
    assert (found["scores"]["ssim"] is None) == ("not compared" in found["structure"])


def test_grey_against_colour_and_16_bit_against_8_bit(
    cli: Cli, counting: fakes.Counting, calibrated: Path, tmp_path: Path, stranger: Path
) -> None:
    levels = picture(100).mean(axis=2).astype(np.uint8)
    grey = tmp_path / "grey.png"
    PIL.Image.fromarray(levels).save(grey)
    as_colour = save(np.repeat(levels[:, :, None], 3, axis=2), tmp_path / "colour.png")
    deep = tmp_path / "deep.png"
    PIL.Image.fromarray(levels.astype(np.uint16) * 257).save(deep)
    for b in (as_colour, deep):
        found = strict(cli("compare", grey, b, "--calibration", calibrated / "c.json", "--json"))
        assert found["verdict"] == "match"
        assert (found["scores"]["cosine"], found["scores"]["ssim"]) == pytest.approx((1, 1), abs=1e-3)
    found = strict(cli("compare", grey, stranger, "--calibration", calibrated / "c.json", "--json"))
    assert found["verdict"] in {"no_match", "unsure"}


def test_of_an_animation_the_first_frame_is_compared(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    frames = [PIL.Image.fromarray(picture(label)) for label in (100, 150, 160)]
    moving = tmp_path / "moving.png"
    frames[0].save(moving, save_all=True, append_images=frames[1:], duration=50)
    found = strict(cli("compare", pair[1], moving, "--calibration", calibrated / "c.json", "--json"))
    assert found["verdict"] == "match"
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=50)
    found = strict(cli("compare", pair[1], tmp_path / "moving.gif", "--calibration", calibrated / "c.json", "--json"))
    assert found["verdict"] == "match"


def test_one_that_cannot_be_read_is_an_error_that_names_it(
    cli: Cli, counting: fakes.Counting, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(pair[0].read_bytes()[:60])
    for odd in (broken, tmp_path / "gone.png", tmp_path, ""):
        for way in ((odd, pair[0]), (pair[0], odd)):
            assert refused(cli("compare", *way, "--encoder", "counting"), str(odd) or "cannot read")
    for arguments in ([], [pair[0]], [*pair, pair[0]]):
        assert refused(cli("compare", *arguments), "Usage")


def test_an_unknown_encoder_is_refused(cli: Cli, pair: tuple[Path, Path]) -> None:
    assert refused(cli("compare", *pair, "--encoder", "clpi"), "clpi", "color-histogram")


# What is printed


def test_the_printed_answer_begins_with_the_verdict_and_lines_its_evidence_up(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path]
) -> None:
    ran = cli("compare", *pair, "--calibration", calibrated / "c.json")
    found = strict(cli("compare", *pair, "--calibration", calibrated / "c.json", "--json"))
    lines = ran.out.splitlines()
    assert lines[0] == f"match: {found['reason']}"
    table = lines[2 : lines.index("", 2)]
    assert table[0].split("  ")[0] == "metric"
    assert [line.split()[0] for line in table[1:]] == [one["metric"] for one in found["evidence"]]
    for line, one in zip(table[1:], found["evidence"], strict=True):
        assert line.split()[1] == f"{one['score']:.4f}"
        assert line.split()[2] == ("-" if one["threshold"] is None else f"{one['threshold']:.4f}")
        assert line.endswith("  passes") == bool(one["passed"])
    ends = {line.index(line.split()[1]) + len(line.split()[1]) for line in table}
    assert len(ends) == 1
    assert f"structure: {found['structure']}" in ran.out
    assert lines[-1] == f"calibration: made on {found['calibration']['source']}, {found['calibration']['created']}"
    assert cli("compare", *pair, "--encoder", "counting").out.endswith("calibration: none\n")


def test_what_is_remarkable_of_a_picture_is_said(
    cli: Cli, counting: fakes.Counting, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).normal(0, 30, (128, 128, 3))
    noisy = save(np.clip(picture(100, 0, 128) * 0.5 + 60 + noise, 0, 255).astype(np.uint8), tmp_path / "noisy.png")
    dark = save((picture(100, 0, 128) // 8), tmp_path / "dark.png")
    out = cli("compare", noisy, dark, "--encoder", "counting").out
    assert f"quality: {noisy} is noisy" in out
    assert f"quality: {dark} is dark" in out
    assert "quality:" not in cli("compare", *pair, "--encoder", "counting").out


def test_no_name_reaches_the_terminal_as_it_is(
    cli: Cli, counting: fakes.Counting, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    odd = tmp_path / "\x1b[2J\nlookalike: all is well.png"
    save(np.zeros((9, 9, 3), np.uint8), odd)
    for extra in ([], ["--json"]):
        ran = cli("compare", odd, pair[0], "--encoder", "counting", *extra)
        lines = (ran.out + ran.err).split("\n")
        assert all(line.isprintable() for line in lines)
        assert not any(line.startswith("lookalike: all is well") for line in lines)


# From Python


def test_whatever_stands_for_a_picture_can_be_compared(counting: fakes.Counting, pair: tuple[Path, Path]) -> None:
    pixels = picture(100)
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "PNG")
    ways: list[Any] = [
        pair[0],
        str(pair[0]),
        pair[0].read_bytes(),
        data.getvalue(),
        pixels,
        PIL.Image.fromarray(pixels),
    ]
    for one in ways:
        found = lookalike.compare(one, pixels, encoder="counting")
        assert isinstance(found, lookalike.Comparison)
        assert found.scores["cosine"] == pytest.approx(1, abs=1e-6)
        json.dumps(found.as_dict(), allow_nan=False)
    with pytest.raises(UnreadableImage, match="gone"):
        lookalike.compare("gone.png", pixels, encoder="counting")
    with pytest.raises(InputError):
        lookalike.compare(pixels.astype(np.float32), pixels, encoder="counting")


def test_a_policy_of_ones_own_decides(counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path]) -> None:
    found = lookalike.compare(*pair, encoder="counting", policy=Threshold("cosine", 0.99, margin=0.001))
    assert (found.verdict, found.decision.threshold, found.decision.false_positive_rate) == ("match", 0.99, None)
    assert "error rate is not known" in found.reason

    class Never:
        def decide(self, scores: Mapping[str, float], context: Context) -> Decision:
            return Decision(Verdict.UNSURE, None, None, f"{len(scores)} scores")

    assert lookalike.compare(*pair, gallery=calibrated / "g", policy=Never()).reason == "7 scores"


def test_an_open_gallery_stays_open(counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path]) -> None:
    with Gallery.open(calibrated / "g") as gallery:
        for _ in range(2):
            assert lookalike.compare(*pair, gallery=gallery).verdict == "match"
        assert gallery.count() == 72
        with pytest.raises(lookalike.errors.SpaceMismatch, match="second"):
            lookalike.compare(*pair, gallery=gallery, encoder="second")


# What explains it


@pytest.mark.parametrize("name", ["why.png", "why.html"])
def test_the_explanation_is_drawn_beside_the_answer(
    cli: Cli, counting: fakes.Counting, calibrated: Path, pair: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    why = tmp_path / name
    way = ("compare", *pair, "--calibration", calibrated / "c.json", "--json")
    ran = cli(*way, "--explain", why)
    assert strict(ran) == strict(cli(*way))
    assert name in ran.err
    if name.endswith(".png"):
        with PIL.Image.open(why) as drawn:
            assert drawn.format == "PNG"
            assert min(drawn.size) > 500
    else:
        page = why.read_text()
        for words in ("Match", strict(ran)["reason"], "cosine", "24 labels"):
            assert words in page
        assert "https://" not in page
        assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_pair_that_cannot_be_judged_or_aligned_is_drawn_too(
    cli: Cli, counting: fakes.Counting, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    black = save(np.zeros((32, 32, 3), np.uint8), tmp_path / "black.png")
    tiny = save(np.full((2, 2, 3), 90, np.uint8), tmp_path / "tiny.png")
    wide = save(picture(103, 0, 64)[:20], tmp_path / "wide.png")
    for number, (a, b) in enumerate([(black, black), (black, pair[0]), (tiny, pair[0]), (wide, pair[0])]):
        why = tmp_path / f"{number}.html"
        assert strict(cli("compare", a, b, "--encoder", "counting", "--explain", why, "--json"))
        page = why.read_text()
        assert page.rstrip().endswith("</html>")
        assert ("cannot be judged" in page) == (a in {black, tiny})
        assert ("black.png is nearly all black" in page) == (a == black)


def test_an_explanation_never_takes_the_place_of_a_picture(
    cli: Cli, counting: fakes.Counting, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    before = pair[0].read_bytes()
    for output, word in (
        (tmp_path / "why.jpg", ".png"),
        (tmp_path / "no" / "why.png", "folder"),
        (tmp_path, ".html"),
        (pair[0], "one of the two pictures"),
    ):
        assert refused(cli("compare", *pair, "--encoder", "counting", "--explain", output), word)
        assert bool(counting.encoded) == (output == pair[0])  # all else is known before the work
    assert pair[0].read_bytes() == before


def test_the_default_encoder_tells_a_photo_from_another(shipped_photos: Path, tmp_path: Path) -> None:
    with PIL.Image.open(shipped_photos / "coffee.jpg") as photo:
        photo.resize((120, 80)).save(tmp_path / "small.jpg", quality=60)
    same = lookalike.compare(shipped_photos / "coffee.jpg", tmp_path / "small.jpg")
    other = lookalike.compare(shipped_photos / "coffee.jpg", shipped_photos / "coins.jpg")
    cosines = [found.scores["cosine"] or 0.0 for found in (same, other)]
    assert cosines[0] > 0.8 > cosines[1]
    for found in (same, other):
        json.dumps(found.as_dict(), allow_nan=False)
        assert found.verdict in {"match", "no_match", "unsure"}
