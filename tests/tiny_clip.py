"""A CLIP of a few numbers, of exactly the format that `lookalike encoders export` writes.

Its picture tower gives the mean colour of a picture, its text tower the colours that a text names: so which words are
near which pictures can be seen by eye.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lookalike.installed import Card, TextCard

CONTEXT = 8
FIRST_MERGE = 512
MERGES = ("r e", "re d</w>", "b l", "bl u", "blu e</w>", "g re", "gre e", "gree n</w>")
# What each word adds: the ids are those of its last merge.
WORDS = {FIRST_MERGE + 1: (1, -1, -1), FIRST_MERGE + 4: (-1, -1, 1), FIRST_MERGE + 7: (-1, 1, -1)}
START, END = 49406, 49407


def vocabulary(merges: Sequence[str] = MERGES) -> bytes:
    """Return a ``bpe.txt.gz`` with these merges first; CLIP has 48,894, and the others here fit nothing."""
    filler = [f"none{i} none{i}" for i in range(49152 - 256 - 2 - len(merges))]
    return gzip.compress("\n".join(["# heading", *merges, *filler, ""]).encode(), 1, mtime=0)


def picture_model(size: int = 8) -> bytes:
    """Return (1, 3, size, size) -> (1, 3): the mean of each channel."""
    node = helper.make_node("ReduceMean", ["pixels", "axes"], ["embedding"], keepdims=0)
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    return _model(node, ("pixels", TensorProto.FLOAT, [1, 3, size, size]), [1, 3], [axes])


def text_model(context: int = CONTEXT, words: Mapping[int, Sequence[float]] = WORDS) -> bytes:
    """Return (1, context) -> (1, 3): the sum of the colours of the words; the rest is nothing."""
    table = np.zeros((END + 1, 3), np.float32)
    for token, colour in words.items():
        table[token] = colour
    gather = helper.make_node("Gather", ["table", "tokens"], ["rows"])
    total = helper.make_node("ReduceSum", ["rows", "axes"], ["embedding"], keepdims=0)
    initializers = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axes")]
    return _model([gather, total], ("tokens", TensorProto.INT64, [1, context]), [1, 3], initializers)


def card_and_files(name: str = "tiny-clip") -> tuple[Card, dict[str, bytes]]:
    """Return what ``installed.install`` takes."""
    files = {"model.onnx": picture_model(), "text.onnx": text_model(), "bpe.txt.gz": vocabulary()}
    text = TextCard(
        "text.onnx", sha256(files["text.onnx"]), "clip-bpe", ("bpe.txt.gz",), context=CONTEXT, output="embedding"
    )
    card = Card(
        name=name,
        runtime="onnx",
        model="model.onnx",
        sha256=sha256(files["model.onnx"]),
        dim=3,
        output="embedding",
        recipe={"size": 8},
        text=text,
    )
    return card, files


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _model(nodes: Any, given: tuple[str, int, list[int]], shape: list[int], initializers: list[Any]) -> bytes:
    graph = helper.make_graph(
        nodes if isinstance(nodes, list) else [nodes],
        "tiny",
        [helper.make_tensor_value_info(*given)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, shape)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
