"""Learning by a loss: the formulas against naive loops, the head against its export, and what may go wrong."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from lookalike import installed, registry
from lookalike.apps import train_judge, train_learn, train_loss
from lookalike.apps.compare import compare
from lookalike.apps.train import TrainRequest, train
from lookalike.encoders.head import unpacked
from lookalike.errors import ConfigError
from lookalike.learning.examples import Examples
from lookalike.learning.linear import unit
from lookalike.learning.splitting import turns
from lookalike.training import head as training
from lookalike.training import network
from lookalike.training.losses import OF_CLASSES, loss_of
from lookalike.training.request import LOSSES
from lookalike.training.request import Request as LossRequest
from lookalike.training.tuning import Tuning

LABELS = torch.tensor([0, 0, 1, 1, 2])


def batch() -> tuple[torch.Tensor, np.ndarray]:
    vectors = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    plain = vectors.numpy().astype(np.float64)
    return vectors, plain / np.linalg.norm(plain, axis=1, keepdims=True)


def others(anchor: int) -> list[int]:
    return [j for j in range(5) if j != anchor]


def same(i: int, j: int) -> bool:
    return bool(LABELS[i] == LABELS[j])


def test_triplet_is_the_mean_of_what_is_short_of_the_margin() -> None:
    vectors, v = batch()
    short = [
        v[a] @ v[n] - v[a] @ v[p] + 0.1
        for a in range(5)
        for p, n in itertools.product(others(a), repeat=2)
        if same(a, p) and not same(a, n)
    ]
    positive = [value for value in short if value > 0]
    assert float(loss_of("triplet", 3, 4)(vectors, LABELS)) == pytest.approx(sum(positive) / len(positive), rel=1e-5)


def test_contrastive_is_the_mean_short_of_either_margin() -> None:
    vectors, v = batch()
    pulls, pushes = [], []
    for a in range(5):
        for b in others(a):
            value = v[a] @ v[b]
            (pulls if same(a, b) else pushes).append(max(0.9 - value, 0) if same(a, b) else max(value - 0.4, 0))
    expected = sum(sum(some) / max(1, sum(one > 0 for one in some)) for some in (pulls, pushes))
    assert float(loss_of("contrastive", 3, 4)(vectors, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_supcon_is_the_mean_log_share_of_ones_own() -> None:
    vectors, v = batch()
    values = []
    for a in range(5):
        mine = [j for j in others(a) if same(a, j)]
        total = sum(math.exp(v[a] @ v[j] / 0.1) for j in others(a))
        if mine:
            values.append(-sum(math.log(math.exp(v[a] @ v[p] / 0.1) / total) for p in mine) / len(mine))
    assert float(loss_of("supcon", 3, 4)(vectors, LABELS)) == pytest.approx(sum(values) / len(values), rel=1e-4)


@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_angular_losses_are_the_softmax_with_a_margin_on_ones_own_class(name: str) -> None:
    vectors, v = batch()
    torch.manual_seed(1)
    loss = loss_of(name, 3, 4)
    w = loss.W.detach().numpy().astype(np.float64).T
    w = w / np.linalg.norm(w, axis=1, keepdims=True)
    values = []
    for a in range(5):
        logits = []
        for c in range(3):
            cosine = float(v[a] @ w[c])
            if c == int(LABELS[a]):
                angle = math.acos(cosine) + math.radians(28.6)
                cosine = math.cos(angle) if name == "arcface" else cosine - 0.35
                assert name == "cosface" or angle < math.pi
            logits.append(16 * cosine)
        values.append(-logits[int(LABELS[a])] + math.log(sum(map(math.exp, logits))))
    assert loss(vectors, LABELS).item() == pytest.approx(sum(values) / 5, rel=1e-4)


def test_proxy_anchor_pulls_and_pushes_each_proxy() -> None:
    vectors, v = batch()
    torch.manual_seed(1)
    loss = loss_of("proxy-anchor", 4, 4)  # the fourth class has no picture in the batch
    p = loss.proxies.detach().numpy().astype(np.float64)
    p = p / np.linalg.norm(p, axis=1, keepdims=True)
    pull = push = 0.0
    for c in range(4):
        cosines = [(float(v[a] @ p[c]), int(LABELS[a]) == c) for a in range(5)]
        pull += math.log(1 + sum(math.exp(-32 * (value - 0.1)) for value, mine in cosines if mine))
        push += math.log(1 + sum(math.exp(32 * (value + 0.1)) for value, mine in cosines if not mine))
    assert loss(vectors, LABELS).item() == pytest.approx(pull / 3 + push / 4, rel=1e-4)


def world(labels: int = 24, each: int = 4) -> Examples:
    """Half of the directions tell labels apart, but only their sum of two; the others are noise."""
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(labels), each)
    places = np.concatenate([rng.normal(size=(labels, 6)), np.zeros((labels, 6))], axis=1)
    vectors = places[of] + np.repeat([0.5, 2.0], 6) * rng.normal(size=(len(of), 12))
    return Examples.of(unit(vectors.astype(np.float32)), of)


def request(tmp_path: Path, **given: Any) -> LossRequest:
    asked: dict[str, Any] = {"loss": "supcon", "epochs": 4, "patience": 4, "checkpoints": str(tmp_path / "kept")}
    return LossRequest(**{**asked, **given})


def learned(asked: LossRequest) -> train_loss.Head:
    examples = world()
    sides = turns(examples.units, [f"{row}.jpg" for row in range(len(examples.labels))])[:1]
    return train_loss.learn_heads(asked, [examples], sides)[0]


def turn(folder: Path) -> None:
    """Leave what one turn learns from."""
    examples = world()
    sides = turns(examples.units, [f"{row}.jpg" for row in range(len(examples.labels))])[0]
    _, _, arrays = train_loss._start(examples.only(sides.train), examples.only(sides.validation), 0)
    np.savez(folder / "turn0.npz", **arrays)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_falls_and_is_never_worse_than_where_it_began(loss: str, tmp_path: Path) -> None:
    found = learned(request(tmp_path, loss=loss, epochs=12, patience=12))
    losses = [one["loss"] for one in found.history[1:]]
    assert min(losses[-3:]) < losses[0]
    assert found.best["map_at_r"] >= found.history[0]["map_at_r"]
    assert loss in OF_CLASSES or len(found.history) == 13


def test_a_training_that_was_cut_off_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn(tmp_path)
    asked = request(tmp_path, loss="arcface", epochs=6, patience=9, batch=16)
    epoch = training._Training._epoch

    def until_the_third(self: Any, number: int) -> float:
        if number == 4:
            raise KeyboardInterrupt
        return epoch(self, number)

    monkeypatch.setattr(training._Training, "_epoch", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        training.train_all(asked, tmp_path)
    assert not (tmp_path / "head0.npz").exists()
    begun: list[int] = []
    monkeypatch.setattr(training._Training, "_epoch", lambda self, n: begun.append(n) or epoch(self, n))
    training.train_all(asked, tmp_path)
    assert begun == [4, 5, 6]
    cut = dict(np.load(tmp_path / "head0.npz"))
    history = json.loads((tmp_path / "history0.json").read_text())
    training.train_all(
        request(tmp_path, loss="arcface", epochs=6, patience=9, batch=16, checkpoints=str(tmp_path / "new")), tmp_path
    )
    np.testing.assert_array_equal(cut["linear"], np.load(tmp_path / "head0.npz")["linear"])
    assert history == json.loads((tmp_path / "history0.json").read_text())


class Astray(torch.nn.Module):
    def forward(self, vectors: torch.Tensor, *_: Any) -> torch.Tensor:
        return (vectors * float("nan")).sum()


def test_a_loss_that_is_no_number_is_said_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn(tmp_path)
    monkeypatch.setattr(training, "loss_of", lambda *_: Astray())
    with pytest.raises(ConfigError, match=r"the supcon loss is nan in epoch 1: .* take a smaller --rate than 0\.001"):
        training.train_all(request(tmp_path), tmp_path)
    assert not (tmp_path / "head0.npz").exists()


def test_a_gpu_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"there is no GPU that torch can use.*leave out --device cuda"):
        training.device_of("cuda")
    assert training.device_of("auto") == "cpu"


def test_a_process_that_dies_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.apps.apart.sys.executable", "false")
    with pytest.raises(Exception, match="the training failed with code 1: it said nothing"):
        learned(request(tmp_path))


def pictures(root: Path) -> Path:
    """Make a folder of twelve labels, four pictures each: a colour of its own in the middle, any colour around it."""
    for label, number in itertools.product(range(12), range(4)):
        own = np.random.default_rng([label, number])
        pixels = np.empty((48, 48, 3), np.uint8)
        pixels[:] = own.integers(0, 256, 3)
        pixels[12:36, 12:36] = np.random.default_rng(1000 + label).integers(0, 256, 3)
        (root / f"l{label:02}").mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(root / f"l{label:02}" / f"{number}.png")
    return root


@pytest.mark.parametrize("shape", ["linear", "mlp"])
def test_a_head_is_installed_as_it_was_learned_and_needs_no_torch(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "cache"))
    registry._installed.cache_clear()
    asked = TrainRequest(
        "mine", str(pictures(tmp_path / "p")), encoder="color-histogram", learner="triplet", head=shape, epochs=3,
        keep_anyway=True,
    )  # fmt: skip
    found = train(asked)
    assert [one["epoch"] for one in found.history] == list(range(len(found.history)))
    data = (tmp_path / "encoders" / "mine" / "projection.npz").read_bytes()
    numbers = unpacked(data, installed.card("mine").dim, "mine")
    assert ("a" in numbers) == (shape == "mlp")
    if shape == "mlp":
        assert numbers["a"].shape[1] == 128
    program = (
        "import sys; from lookalike import registry; from lookalike.images import read; "
        f"e = registry.encoder('mine'); e.encode([read({str(tmp_path / 'p' / 'l00' / '0.png')!r})]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def exported(home: Path, name: str) -> None:
    from lookalike.apps.export import export  # noqa: PLC0415
    from lookalike.exporting.request import Request as Export  # noqa: PLC0415

    export(Export(name, "timm:test_resnet", random=True))


def test_a_network_learns_whole_and_goes_on_where_it_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "cache"))
    registry._installed.cache_clear()
    exported(tmp_path, "small")
    source = str(pictures(tmp_path / "p"))
    asked = TrainRequest("mine", source, encoder="small", learner="supcon", mode="finetune", epochs=2, rate=1e-3)
    seen: list[Any] = []
    tuned = train_learn.tuned
    monkeypatch.setattr(train_learn, "tuned", lambda tuning: seen.append((tuning, tuned(tuning))) or seen[-1][1])
    monkeypatch.setattr(train_judge, "forget_checkpoints", lambda _: None)
    short = train(replace(asked, keep_anyway=True))
    _, longer = tuned(replace(seen[0][0], epochs=4))
    assert longer[:3] == short.history  # those two epochs were not learned again, and are the same
    assert [one["epoch"] for one in longer] == [0, 1, 2, 3, 4]
    assert longer[-1]["loss"] < longer[1]["loss"]
    card = installed.card("mine")
    assert (card.runtime, card.made, card.base) == ("onnx", "train", None)
    pair = [tmp_path / "p" / "l00" / f"{number}.png" for number in (0, 1)]
    beside, by_it = compare(*pair, encoder="small"), compare(*pair, encoder="mine")
    assert beside.scores["learned:mine"] == pytest.approx(by_it.scores["cosine"], abs=1e-6)


def test_checkpoints_go_when_the_encoder_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    monkeypatch.setenv("LOOKALIKE_CACHE", str(tmp_path / "cache"))
    registry._installed.cache_clear()
    source = str(pictures(tmp_path / "p"))
    train(TrainRequest("mine", source, encoder="color-histogram", learner="supcon", epochs=1, keep_anyway=True))
    assert not list((tmp_path / "cache").rglob("*.pt"))


def test_an_encoder_whose_network_is_not_known_cannot_learn_whole(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the network of color-histogram cannot learn whole: that takes eff"):
        train(TrainRequest("mine", str(tmp_path), encoder="color-histogram", learner="supcon", mode="finetune"))
    with pytest.raises(ConfigError, match="a network learns by a loss"):
        TrainRequest("mine", str(tmp_path), mode="finetune")


def test_a_network_sees_queries_beside_their_gallery(tmp_path: Path) -> None:
    source = pictures(tmp_path / "p")
    rows = tuple(
        (str(source / f"l{label:02}" / f"{number}.png"), label, "query" if number else "gallery")
        for label, number in itertools.product(range(8), range(4))
    )
    recipe = "size = 32\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n"
    asked = Tuning("timm:test_resnet", recipe, "triplet", rows, rows[:8], str(tmp_path / "kept"), True, 1, 16)
    learning = network._Tuning(asked, network._backbone(asked), "cpu")
    for batch_ in learning._batches(np.random.default_rng(0)):
        assert len(batch_) == 16
        of = [(rows[row][1], rows[row][2]) for row in batch_]
        for label in {label for label, _ in of}:
            assert of.count((label, "gallery")) == 1
            assert of.count((label, "query")) == 3
    _, history = learning.run()
    assert history[1]["loss"] is not None


def test_a_network_that_went_astray_says_so_and_keeps_no_such_epoch(tmp_path: Path) -> None:
    source = pictures(tmp_path / "p")
    rows = tuple(
        (str(source / f"l{label:02}" / f"{number}.png"), label, "")
        for label, number in itertools.product(range(4), range(4))
    )
    recipe = "size = 32\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n"
    asked = Tuning("timm:test_resnet", recipe, "supcon", rows, rows, str(tmp_path / "kept"), True, 3, 16, rate=1e30)
    with pytest.raises(ConfigError, match=r"in epoch 1: learning went astray; .* --rate than 1e\+30"):
        network._Tuning(asked, network._backbone(asked), "cpu").run()
    (kept,) = (tmp_path / "kept").iterdir()
    assert len(torch.load(kept, weights_only=True)["history"]) == 1
