"""Exported encoders against the libraries that networks come from: forward pass and preprocessing, on real photos."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import open_clip
import PIL.Image
import pytest
import skimage.data
import timm
import torch
import torchvision
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from lookalike import installed, registry
from lookalike.apps import export as app
from lookalike.encoders.text import ClipBpe, tokenizer
from lookalike.errors import ConfigError, InputError, LookalikeError, MissingDependency
from lookalike.exporting import convert, from_open_clip, from_timm
from lookalike.exporting.export import export
from lookalike.exporting.request import Request
from lookalike.protocols import Encoder, TextEncoder
from lookalike.recipe import Recipe
from lookalike.types import Image

TEXTS = ("a red bicycle in the snow", "two CATS, they're asleep", "caf\u00e9 & stra\u00dfe", "x " * 100)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOKALIKE_ENCODERS", str(tmp_path / "encoders"))
    return tmp_path / "encoders"


@cache
def photos() -> tuple[np.ndarray, ...]:
    whole = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    return (*whole, np.ascontiguousarray(whole[2][31:, 5:340]))


def exported(request: Request, folder: Path) -> Encoder:
    """Export in this process, install, and return what a gallery would get."""
    folder.mkdir()
    card = export(request, folder)
    files = [card.model, *((card.text.model, *card.text.files) if card.text else ())]
    installed.install(card, {name: folder / name for name in files})
    return registry.encoder(request.name)


def unit(vectors: torch.Tensor) -> np.ndarray:
    wide = vectors.detach().numpy().astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def assert_same_pictures(encoder: Encoder, forward: Any, transform: Any) -> None:
    """Pictures all through the library, and all through ours, resizers included."""
    ours = encoder.encode([Image(pixels, pixels.shape[1::-1]) for pixels in photos()]).vectors
    with torch.no_grad():
        theirs = unit(forward(torch.stack([transform(PIL.Image.fromarray(pixels)) for pixels in photos()])))
    cosines = (ours * theirs).sum(1)
    print(f"{encoder.space.encoder}: least cosine {cosines.min():.6f}")
    assert cosines.min() > 0.9999


def assert_same_network(encoder: Encoder, forward: Any, transform: Any) -> None:
    """The same input to both: what torch computes is what ONNX Runtime computes."""
    pixels = torch.stack([transform(PIL.Image.fromarray(photo)) for photo in photos()])
    network = encoder._network  # type: ignore[attr-defined]
    ours = torch.from_numpy(np.concatenate([network.run(row[None].numpy())[0] for row in pixels]))
    with torch.no_grad():
        theirs = forward(pixels)
    assert np.abs(unit(ours) - unit(theirs)).max() < 1e-4
    assert (ours - theirs).abs().max() < 1e-4 * max(1.0, float(theirs.abs().max()))


def alive(module: Any) -> Any:
    """Give batch norms statistics that are not those of a new network, which a wrong fold would not show."""
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.7, 1.3, generator=generator)
    return module.eval()


@pytest.mark.parametrize(
    ("name", "sized"),
    [("resnet18", {}), ("mobilenetv3_large_100", {}), ("vit_small_patch14_dinov2", {"img_size": 56})],
)
def test_a_checkpoint_of_timm_gives_timms_features(name: str, sized: dict[str, int], tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = alive(timm.create_model(name, pretrained=False, **sized))
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in whole.state_dict().items()}, "epoch": 7}, path)
    request = Request("mine", str(path), architecture=f"timm:{name}", size=sized.get("img_size"))
    encoder = exported(request, tmp_path / "made")

    def features(pixels: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = whole.forward_head(whole.forward_features(pixels), pre_logits=True)
        return made

    config = timm.data.resolve_model_data_config(whole)
    if sized:
        config["input_size"] = (3, sized["img_size"], sized["img_size"])
    transform = timm.data.create_transform(**config, is_training=False)
    assert_same_network(encoder, features, transform)
    assert_same_pictures(encoder, features, transform)
    assert installed.card("mine").source == f"weights.pth (timm:{name})"


def test_a_checkpoint_of_torchvision_gives_what_goes_into_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(4)
    whole = alive(torchvision.models.resnet18(weights=None))
    path = tmp_path / "resnet18.pth"
    torch.save(whole.state_dict(), path)
    encoder = exported(Request("tv", str(path), architecture="torchvision:resnet18"), tmp_path / "made")
    seen: list[torch.Tensor] = []
    whole.avgpool.register_forward_hook(lambda _m, _i, out: seen.append(out.flatten(1)))

    def features(pixels: torch.Tensor) -> torch.Tensor:
        whole(pixels)
        return seen[-1]

    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    assert_same_network(encoder, features, transform)
    assert_same_pictures(encoder, features, transform)


def assert_same_words(encoder: Encoder, model: Any, tokenize: Any, folder: Path) -> None:
    assert isinstance(encoder, TextEncoder)
    text = installed.card(encoder.space.encoder).text
    assert text is not None
    ours = tokenizer(text.tokenizer, [folder / name for name in text.files], text.context)
    for words in TEXTS[:3]:
        np.testing.assert_array_equal(ours(words), tokenize([words])[0].numpy())
    with torch.no_grad():
        theirs = unit(model.encode_text(tokenize(list(TEXTS))))
    with pytest.warns(UserWarning, match="only the beginning"):
        found = encoder.encode_text(TEXTS)
    assert found.space == encoder.space
    assert np.abs(found.vectors - theirs).max() < 1e-4


def test_both_towers_of_clip_are_those_of_open_clip(tmp_path: Path) -> None:
    encoder = exported(Request("clip", "open_clip:ViT-B-32", random=True), tmp_path / "made")
    torch.manual_seed(0)  # what --random promises: the same weights each time
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=None)
    model.eval()
    assert_same_network(encoder, model.encode_image, transform)
    assert_same_pictures(encoder, model.encode_image, transform)
    assert_same_words(encoder, model, open_clip.get_tokenizer("ViT-B-32"), tmp_path / "made")


@pytest.mark.parametrize(("tag", "wanted"), [("openai", True), ("laion2b_s34b_b79k", False), (None, False)])
def test_weights_get_the_activation_that_they_were_trained_with(tag: str | None, wanted: bool) -> None:
    assert from_open_clip.quick_gelu("ViT-B-32", tag) is wanted


CORPUS = (
    "a red bicycle in the snow",
    "two cats asleep on a sofa",
    "they are not here",
    "the street at night in winter",
)


def folder_of_open_clip(folder: Path, config: dict[str, Any], *, words: bool) -> Path:
    """Write a model as open_clip's ``local-dir:`` reads it: configuration, weights, and perhaps a tokenizer."""
    folder.mkdir()
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    if words:
        sentencepiece().save_pretrained(folder)
    torch.manual_seed(5)
    model = alive(open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer like that of SigLIP (T5's): a unigram model over words that begin with a bar, </s> at the end."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    made.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>"))
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )


SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 100,
        "hf_tokenizer_name": "in-this-folder",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 64,
        "heads": 4,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}
MOBILECLIP = {
    "embed_dim": 64,
    "custom_text": True,
    "vision_cfg": {
        "timm_model_name": "fastvit_t8",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": None,
        "image_size": 128,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 64,
        "heads": 4,
        "layers": 2,
        "no_causal_mask": True,
    },
}


@pytest.mark.parametrize(("config", "words"), [(SIGLIP, True), (MOBILECLIP, False)], ids=["siglip", "mobileclip2"])
def test_models_of_other_formats_are_those_of_open_clip(config: dict[str, Any], words: bool, tmp_path: Path) -> None:
    name = f"local-dir:{folder_of_open_clip(tmp_path / 'model', config, words=words)}"
    encoder = exported(Request("small", f"open_clip:{name}"), tmp_path / "made")
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.eval()
    assert_same_network(encoder, model.encode_image, transform)
    assert_same_pictures(encoder, model.encode_image, transform)
    assert_same_words(encoder, model, open_clip.get_tokenizer(name), tmp_path / "made")


def many_texts() -> list[str]:
    rng = np.random.default_rng(0)
    plain = list("abcdefghijklmnopqrstuvwxyz     ABCDE'0123.,-!&")
    odd = [chr(c) for block in ((32, 0x24F), (0x391, 0x3C9), (0x400, 0x4FF), (0x3041, 0x3090)) for c in range(*block)]
    drawn = [
        "".join(rng.choice(letters, rng.integers(1, 60)))
        for letters in (plain, [*odd, "\U0001f600"])
        for _ in range(500)
    ]
    return [
        *TEXTS,
        "It's John's dog; I'd say we'll",
        "\ufb02u\ufb03est",
        "&lt;b&gt; &amp;amp;",
        "\u201cq\u201d",
        *drawn,
    ]


def test_clips_tokens_are_those_of_its_authors() -> None:
    theirs, ours = SimpleTokenizer(), ClipBpe.of_file(Path(default_bpe()), 77)
    # Text that was decoded wrongly is not guessed at here, as ftfy does; such is left out, by ftfy's own word.
    texts = [text for text in many_texts() if ftfy.fix_encoding(text) == text]
    assert len(texts) > 700
    for text in texts:
        np.testing.assert_array_equal(ours(text), theirs([text])[0].numpy(), err_msg=repr(text))


class Mean(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3))


def test_a_torchscript_file_is_exported_with_the_recipe_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "mean.torchscript.pt"
    torch.jit.script(Mean()).save(str(path))
    request = Request("script", f"torchscript:{path}", recipe="size = 32\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n")
    encoder = exported(request, tmp_path / "made")
    colour = np.full((40, 50, 3), (255, 0, 102), np.uint8)
    np.testing.assert_allclose(
        encoder.encode([Image(colour, (50, 40))]).vectors[0], np.array([1, 0, 0.4]) / np.sqrt(1.16), atol=1e-6
    )


def test_torchscript_that_opens_files_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "writes.pt"
    path.write_bytes(b"")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/code/__torch__.py", "def forward(self, x):\n  _ = torch.save(x, 'written')\n  return x\n")
    with pytest.raises(InputError, match=r"refused unread.*'save\('"):
        export(Request("bad", f"torchscript:{path}", recipe="size = 8"), tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no archive", pickle.dumps({"a": 1})])
def test_what_is_no_torchscript_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no TorchScript file"):
        export(Request("bad", f"torchscript:{path}", recipe="size = 8"), tmp_path)


class Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("architecture", ["timm:resnet18", "torchvision:resnet18", "open_clip:ViT-B-32"])
def test_a_pickle_that_would_run_code_is_refused_unread(zipped: bool, architecture: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"weights": Runs(f"touch {trace}")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"evil\.pth is refused unread, since a pickle can run code.*system"):
        export(Request("evil", str(path), architecture=architecture), tmp_path)
    assert not trace.exists()


def damaged(path: Path) -> list[tuple[str, str]]:
    """Files that are no checkpoint of resnet18, and what is said of each."""
    torch.manual_seed(0)
    state = timm.create_model("resnet18").state_dict()
    torch.save(state, path / "whole.pth")
    (path / "cut.pth").write_bytes((path / "whole.pth").read_bytes()[:100_000])
    (path / "empty.pth").write_bytes(b"")
    (path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    torch.save({"net": 3}, path / "other.pth")
    torch.save(timm.create_model("resnet34").state_dict(), path / "larger.pth")
    torch.save({key: value for key, value in state.items() if key != "layer2.0.conv1.weight"}, path / "lacks.pth")
    torch.save({**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}, path / "shape.pth")
    return [
        ("none.pth", "there is no file"),
        ("cut.pth", "truncated or damaged"),
        ("empty.pth", "truncated or damaged"),
        ("cut.safetensors", "cannot be read"),
        ("other.pth", "holds no weights"),
        ("larger.pth", r"it has too layer1\.2"),
        ("lacks.pth", r"it lacks layer2\.0\.conv1\.weight"),
        ("shape.pth", r"size mismatch for conv1\.weight"),
    ]


def test_files_that_do_not_fill_their_network_are_refused(tmp_path: Path) -> None:
    for name, said in damaged(tmp_path):
        with pytest.raises(InputError, match=said):
            export(Request("mine", str(tmp_path / name), architecture="timm:resnet18"), tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("timm:resnet18", r"weights of timm:resnet18 cannot be fetched: no network"),
        ("open_clip:ViT-B-32/openai", r"weights of open_clip:ViT-B-32/openai cannot be fetched: no network"),
        ("timm:resnet1800", "timm:resnet1800 cannot be made: Unknown model"),
        ("torchvision:resnet1800", "torchvision:resnet1800 cannot be made"),
        ("torchvision:squeezenet1_0", "no classifier whose input could be taken"),
        ("open_clip:ViT-B-32", r"names no weights: write open_clip:MODEL/PRETRAINED; for ViT-B-32 there are openai"),
        ("open_clip:ViT-B-32/nothing", "cannot be made: Pretrained value 'nothing' is not a known tag"),
    ],
)
def test_what_cannot_be_had_is_said(source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = source == "torchvision:squeezenet1_0"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=said):
        export(Request("none", source, random=random), tmp_path)


def lookalike(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lookalike", *arguments], capture_output=True, text=True, check=False)


def test_the_command_exports_in_a_process_of_its_own(tmp_path: Path, home: Path) -> None:
    done = lookalike("encoders", "export", "timm:test_vit", "--as", "try", "--random", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["name"], told["dim"], told["installed"]) == ("try", 64, True)
    assert "RANDOM WEIGHTS" in told["architecture"]
    assert sorted(path.name for path in (home / "try").iterdir()) == ["encoder.toml", "model.onnx"]
    assert [path.name for path in home.iterdir()] == ["try"]
    again = lookalike("encoders", "export", "timm:test_vit", "--as", "try", "--random")
    assert again.returncode == 2
    assert "there is an encoder 'try' already" in again.stderr
    torch_loaded = (
        "import sys; from lookalike import registry; registry.encoder('try').space; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", torch_loaded], check=False).returncode == 0


def test_an_error_of_the_other_process_is_the_commands_and_nothing_is_installed(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"weights": Runs("true")}, path)
    with pytest.raises(InputError, match="refused unread"):
        app.export(Request("evil", str(path), architecture="timm:resnet18"))
    assert not home.exists() or not list(home.iterdir())


def test_another_process_that_dies_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.apps.apart.sys.executable", "false" if os.name != "nt" else sys.executable)
    with pytest.raises(LookalikeError, match="failed with code 1: it said nothing"):
        app.export(Request("none", "timm:resnet18"))


def test_a_source_whose_export_differs_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = convert.run
    monkeypatch.setattr(convert, "run", lambda *given: run(*given) + 0.1)
    with pytest.raises(ConfigError, match=r"the network gives other vectors as ONNX than in torch: they differ by"):
        export(Request("off", "timm:test_vit", random=True), tmp_path)


def test_a_source_with_other_preprocessing_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(from_timm, "recipe_of", lambda config: Recipe(size=config["input_size"][1], mean=(0, 0, 0)))
    with pytest.raises(ConfigError, match="the recipe does not prepare pictures as the source does: cosine"):
        export(Request("off", "timm:test_resnet", random=True), tmp_path)


def without(modules: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = app.find_spec
    monkeypatch.setattr(app, "find_spec", lambda name: None if name in modules else found(name))


def test_without_its_library_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without(["timm"], monkeypatch)
    with pytest.raises(MissingDependency, match=r"needs timm.*pip install 'lookalike\[export\]'"):
        app.export(Request("none", "timm:resnet18"))


class Eigenvalues(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(pixels.mean(1)).real


class Map(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


def test_a_network_that_onnx_cannot_express_says_at_what(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write this network as ONNX: .*linalg_eig"):
        convert.convert(Eigenvalues().eval(), torch.zeros(1, 3, 8, 8), "pixels", tmp_path / "model.onnx")


def test_weights_beside_the_model_are_refused(tmp_path: Path) -> None:
    # torch puts weights of more than 2 GB there by itself; a card knows one file only.
    (tmp_path / "model.onnx.data").write_bytes(b"x")
    with pytest.raises(ConfigError, match="holds 2: take a smaller network"):
        convert.convert(Mean().eval(), torch.zeros(1, 3, 8, 8), "pixels", tmp_path / "model.onnx")


def test_a_network_that_returns_a_map_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"returns a tensor of shape \(1, 3, 8, 8\)"):
        convert.forward(Map(), torch.zeros(1, 3, 8, 8))
