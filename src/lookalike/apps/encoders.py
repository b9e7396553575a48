"""Add an encoder of one's own; make one smaller, in numbers (int8) or in length (PCA, cut); join several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import installed, registry
from lookalike.encoders import folder
from lookalike.encoders.catalog import Entry, entry
from lookalike.encoders.onnx import OnnxEncoder
from lookalike.errors import ConfigError, InputError
from lookalike.images import read, walk
from lookalike.installed import Card
from lookalike.pipeline import embed_files, in_parallel
from lookalike.preprocess import Recipe, prepare
from lookalike.types import Embeddings, Image, Skipped, Space

Progress = Callable[[int], None]

_RUNTIMES: Mapping[str, str] = {".onnx": "onnx", ".tflite": "litert"}
SAMPLES = 32
"""So many pictures tell the ranges of activations; more were measured to change nothing."""
FEWEST_SAMPLES = 8
_COMPARED = 64
_AT_MOST_PICTURES = 20_000


@dataclass(frozen=True, slots=True)
class About:
    """What a person says of an encoder."""

    licence: str | None = None
    source: str | None = None
    good_for: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """An encoder that was made of another one: its entry, what it was compared by, and what could not be read.

    ``cosine`` is the mean and least cosine to the vectors of the base, over ``pictures`` that did not make it (int8);
    ``kept`` the share of the variance that a shorter vector keeps.
    """

    entry: Entry
    pictures: int
    cosine: tuple[float, float] | None = None
    kept: float | None = None
    skipped: tuple[Skipped, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return a JSON object."""
        cosine = None if self.cosine is None else dict(zip(("mean", "least"), self.cosine, strict=True))
        return {
            "encoder": self.entry.as_dict(),
            "pictures": self.pictures,
            "cosine": cosine,
            "kept": self.kept,
            "skipped": [asdict(one) for one in self.skipped],
        }


def remove(name: str) -> tuple[str, ...]:
    """Remove an installed encoder, and return those that stand on it and cannot be used without it.

    Raise ConfigError where there is none of this name.
    """
    standing = tuple(card.name for card in installed.cards()[0] if name in _bases(card))
    installed.remove(name)
    return standing


def _bases(card: Card) -> tuple[str, ...]:
    try:
        return folder.bases(card)
    except ConfigError:  # it is damaged, and stands on nothing any more
        return ()


def add(model: str, recipe: str, name: str, *, output: str | None = None, about: About = About()) -> Entry:
    """Install a model file as the encoder ``name``, prepared as the TOML file ``recipe`` says; return its entry.

    The model is tried on a picture first. Raise ConfigError where the name is taken, a file cannot be read, or the
    model does not fit the recipe or is damaged: nothing is installed then.
    """
    refuse_taken(name)
    path = _file(model, "model")
    if path.suffix.lower() not in _RUNTIMES:
        raise ConfigError(f"{model} is no model that can be added: it must end in {' or '.join(_RUNTIMES)}")
    runtime, text = _RUNTIMES[path.suffix.lower()], _text(recipe)
    prepared = Recipe.from_toml(text)
    card = Card(
        name=name,
        runtime=runtime,
        model=f"model{path.suffix.lower()}",
        sha256=installed.sha256_of(path),
        dim=folder.width(name, runtime, path, prepared, output),
        output=output,
        source=about.source,
        licence=about.licence,
        good_for=about.good_for,
        made="add",
        recipe=installed.parsed(prepared.to_toml()),
    )
    return _try_and_install(card, {card.model: path})


def recipe_of(name: str) -> str:
    """Return how the encoder ``name`` prepares pictures, as TOML; raise ConfigError where it has no recipe."""
    return _model_of(name).recipe.to_toml()


def vary(base: str, recipe: str, name: str) -> Entry:
    """Install as ``name`` the model of ``base`` under another recipe, that of a TOML file: it has its own space."""
    refuse_taken(name)
    encoder, prepared = _model_of(base), Recipe.from_toml(_text(recipe))
    return _install_onnx(base, encoder, name, encoder.model(), "vary", f"; recipe {prepared.digest}", prepared)


def quantize(base: str, calibration: str, name: str, progress: Progress = lambda _: None) -> Made:
    """Install the encoder ``base`` in int8 as ``name``, its ranges measured on pictures of a folder.

    Up to 32 pictures, by lot, measure them; up to 64 others tell how near its vectors are to the base's. It has a
    space of its own. Raise ConfigError where the base is no ONNX encoder, InputError where there are under 8 pictures.
    """
    from lookalike.encoders.quantizing import quantized  # noqa: PLC0415 - imports onnx

    refuse_taken(name)
    encoder = _model_of(base)
    images, skipped = _sample(calibration, SAMPLES + _COMPARED, encoder.at_least)
    if len(images) < FEWEST_SAMPLES:
        raise InputError(
            f"{len(images)} pictures in {calibration} are too few to measure by: at least {FEWEST_SAMPLES}, better "
            f"{SAMPLES + _COMPARED}"
        )
    used = images[: max(FEWEST_SAMPLES // 2, min(SAMPLES, len(images) // 2))]
    held_back = images[len(used) :]
    progress(len(images))
    model = encoder.model()
    data = model.read_bytes() if isinstance(model, Path) else model
    int8 = quantized(data, lambda number: prepare([used[number]], encoder.recipe), len(used))
    made = _install_onnx(base, encoder, name, int8, "quantize", ", int8", encoder.recipe)
    cosine = _cosines(encoder.encode(held_back), registry.encoder(name).encode(held_back))
    return Made(made, len(used), cosine, None, skipped)


def reduce(
    base: str, dim: int, name: str, pictures: str | None, *, whiten: bool = True, progress: Progress = lambda _: None
) -> Made:
    """Install as ``name`` an encoder whose vectors are those of ``base``, reduced to ``dim`` numbers.

    By PCA, with whitening unless it is switched off, fitted on the ``pictures`` of a folder; without pictures by
    cutting the vectors off, which only models trained for it bear (Matryoshka), and which is refused for others.
    """
    from lookalike.encoders.reduced import cut, packed, pca  # noqa: PLC0415

    refuse_taken(name)
    encoder = registry.encoder(base)
    kept: float | None = None
    skipped: tuple[Skipped, ...] = ()
    count = 0
    if pictures is None:
        _refuse_uncuttable(base, dim)
        mean, components = cut(encoder.space.dim, dim)
        how = f"cut to {dim}"
    else:
        vectors, skipped = _vectors(base, pictures, progress)
        mean, components, kept = pca(vectors, dim, whiten)
        how, count = f"PCA to {dim}{', whitened' if whiten else ''}", len(vectors)
    data = packed(mean, components)
    card = Card(
        name=name,
        runtime="reduced",
        model="projection.npz",
        sha256=installed.sha256_of(data),
        dim=dim,
        made="reduce",
        base=base,
        base_space=f"{encoder.space.version}/{encoder.space.preprocess}",
        **_inherited(base, encoder.space, f"; {how}"),
    )
    return Made(_try_and_install(card, {card.model: data}), count, None, kept, skipped)


def join(weights: Mapping[str, float], name: str) -> Entry:
    """Install as ``name`` several encoders side by side: its cosine is the mean of theirs, each by its weight.

    Raise ConfigError for fewer than two, a weight that is not above 0, or a name that is taken.
    """
    from lookalike.encoders.joined import packed, parts_of, preprocess_of  # noqa: PLC0415

    refuse_taken(name)
    parts = parts_of(weights)
    data = packed(parts)
    of = [entry(one) for one in weights]
    card = Card(
        name=name,
        runtime="joined",
        model="parts.json",
        sha256=installed.sha256_of(data),
        dim=sum(registry.encoder(one).space.dim for one in weights),
        made="join",
        base_space=preprocess_of(parts),
        architecture=" + ".join(f"{weight:g} {one}" for one, weight in weights.items()),
        source=f"made of {' and '.join(weights)}",
        licence=" and ".join(dict.fromkeys(one.licence for one in of if one.licence)) or None,
        good_for="; ".join(one.good_for for one in of if one.good_for) or None,
    )
    return _try_and_install(card, {card.model: data})


def _install_onnx(
    base: str, encoder: OnnxEncoder, name: str, model: Path | bytes, made: str, differs: str, recipe: Recipe
) -> Entry:
    """Install a model made of that of ``base``, with the words that the base has."""
    words = installed.card(base).text if base in installed.names() else None
    card = Card(
        name=name,
        runtime="onnx",
        model="model.onnx",
        sha256=installed.sha256_of(model),
        dim=encoder.space.dim,
        output=encoder.output,
        made=made,
        recipe=installed.parsed(recipe.to_toml()),
        text=words,
        **_inherited(base, encoder.space, differs),
    )
    of_words = (words.model, *words.files) if words else ()
    return _try_and_install(card, {card.model: model, **{file: installed.home() / base / file for file in of_words}})


def _inherited(base: str, space: Space, differs: str) -> dict[str, Any]:
    """Return what a card takes over from the encoder that it was made of."""
    before = entry(base)
    return {
        "architecture": f"{before.architecture or base}{differs}",
        "source": f"made of {base} ({space.version})",
        "licence": before.licence,
        "good_for": before.good_for,
    }


def _try_and_install(card: Card, files: Mapping[str, Path | bytes]) -> Entry:
    _try(card, files)
    installed.install(card, files)
    return entry(card.name)


def refuse_taken(name: str) -> None:
    """Raise ConfigError where no new encoder may have this name."""
    installed.checked_name(name)
    if registry.taken(name):
        raise ConfigError(f"{name!r} is the name of an encoder that comes with lookalike or a plug-in; choose another")
    if name in installed.names():
        raise ConfigError(
            f"an encoder {name!r} is installed already; choose another name, or remove it first: "
            f"lookalike encoders remove {name}"
        )


def _model_of(name: str) -> OnnxEncoder:
    encoder = registry.encoder(name)
    if not isinstance(encoder, OnnxEncoder):
        raise ConfigError(f"encoder {name} is no ONNX model with a recipe: only these can be quantized or varied")
    return encoder


def _refuse_uncuttable(base: str, dim: int) -> None:
    sizes = installed.card(base).sizes if base in installed.names() else ()
    if dim not in sizes:
        raise ConfigError(
            f"the vectors of {base} cannot be cut to {dim} numbers: "
            f"{f'it was trained for {sizes}' if sizes else 'it was not trained for it'}; "
            "name pictures to fit a PCA on: --pictures FOLDER"
        )


def _file(path: str, what: str) -> Path:
    found = Path(path).expanduser()
    if not found.is_file():
        raise ConfigError(f"no {what} {path}: {'it is a folder' if found.is_dir() else 'there is no such file'}")
    return found


def _text(path: str) -> str:
    try:
        return _file(path, "recipe").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe {path} cannot be read: {error}") from error


def _try(card: Card, files: Mapping[str, Path | bytes]) -> None:
    """Encode a picture with what is about to be installed; raise ConfigError where that does not work."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90, np.uint8)], 2)
    with folder.laid_out(files) as place:
        encoder = folder.made(card, lambda file, _sha256: place / file)
        try:
            encoder.encode([Image(pixels, (64, 64), "a picture to try it on")])
        except InputError as error:
            raise ConfigError(f"encoder {card.name} does not work: {error}") from error


def _sample(source: str, count: int, at_least: int | None) -> tuple[list[Image], tuple[Skipped, ...]]:
    """Return up to ``count`` pictures of a folder, by lot but the same each time, and what could not be read."""
    found = list(walk(source))
    paths = [one.path for one in found if not isinstance(one, Skipped)]
    order = np.random.default_rng(0).permutation(len(paths))

    def opened(row: int) -> Image | Skipped:
        try:
            return read(paths[row], at_least)
        except InputError as error:
            return Skipped(paths[row], str(error))

    images: list[Image] = []
    skipped: list[Skipped] = []
    for start in range(0, len(order), count):
        for one in in_parallel(opened, order[start : start + count].tolist()):
            (skipped if isinstance(one, Skipped) else images).append(one)  # type: ignore[arg-type]
        if len(images) >= count:
            break
    return images[:count], tuple(skipped)


def _vectors(base: str, source: str, progress: Progress) -> tuple[np.ndarray, tuple[Skipped, ...]]:
    """Return the vectors of a folder's pictures, (N, D), and what could not be read."""
    rows: list[Embeddings] = []
    skipped: list[Skipped] = []
    for outcome in embed_files(_paths(source), registry.encoder(base)):
        if isinstance(outcome, Skipped):
            skipped.append(outcome)
        else:
            rows.append(outcome[1])
        progress(1)
    if not rows:
        raise InputError(f"no picture in {source} could be read")
    return Embeddings.concatenate(rows).vectors, tuple(skipped)


def _paths(source: str) -> Iterator[str]:
    found = (one.path for one in walk(source) if not isinstance(one, Skipped))
    for _, path in zip(range(_AT_MOST_PICTURES), found, strict=False):
        yield path


def _cosines(a: Embeddings, b: Embeddings) -> tuple[float, float]:
    found = (a.vectors.astype(np.float64) * b.vectors).sum(axis=1)
    return float(found.mean()), float(found.min())
