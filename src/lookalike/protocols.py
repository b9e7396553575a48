"""The five parts that one can replace. A plug-in need not import lookalike: having the methods is enough.

    Encoder   pictures -> vectors          lookalike/encoders
    Metric    vectors  -> scores           lookalike/metrics
    Store     keeps items and finds them   lookalike/stores
    Policy    scores   -> decision         lookalike/policies
    Reranker  what came, in a better order lookalike/reranking

A ``PairMetric`` is the metric's sibling for what two pictures say without vectors (SSIM).
``TextEncoder``, ``FeatureMaps`` and ``FollowsCosine`` are optional abilities; a caller asks
``isinstance(part, FeatureMaps)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lookalike.types import Context, Decision, Embeddings, Float32, Hits, Image, Item, PairScore, Space


@runtime_checkable
class Encoder(Protocol):
    """Turns pictures into vectors. Row i belongs to image i, whatever the batch (to 1e-5 in fp32)."""

    @property
    def space(self) -> Space:
        """Where the vectors live."""
        ...

    @property
    def at_least(self) -> int | None:
        """How many pixels a side a picture must keep when it is decoded reduced; None: read it whole."""
        ...

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """Return the embeddings of ``images``, in order. May be called from several threads at once."""
        ...


@runtime_checkable
class FeatureMaps(Protocol):
    """An encoder that can show where in the picture it saw what."""

    def maps(self, images: Sequence[Image]) -> list[dict[str, Float32]]:
        """Return for each image its spatial feature maps, name -> (C, h, w), from shallow to deep."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """An encoder whose space holds words beside pictures."""

    def encode_text(self, words: Sequence[str]) -> Embeddings:
        """Return the embeddings of ``words``, in order, in the same space as the pictures'."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Tells how alike two vectors are. The direction lives here: nobody asks "is it cosine?"."""

    @property
    def name(self) -> str:
        """The name under which it is asked for."""
        ...

    @property
    def higher_is_closer(self) -> bool:
        """True for a similarity, False for a distance."""
        ...

    def matrix(self, queries: NDArray[Any], gallery: NDArray[Any]) -> NDArray[Any]:
        """Return the (Q, G) scores of (Q, D) against (G, D), in the metric's own units, in the inputs' precision."""
        ...


@runtime_checkable
class PairMetric(Protocol):
    """Tells how alike two pictures of one size are, from their pixels."""

    @property
    def name(self) -> str:
        """The name under which it is asked for."""
        ...

    @property
    def higher_is_closer(self) -> bool:
        """True for a similarity, False for a distance."""
        ...

    def score(self, a: Image, b: Image) -> PairScore:
        """Return the score of the pair, in the metric's own units, and its map where it has one."""
        ...


@runtime_checkable
class FollowsCosine(Protocol):
    """A metric that can order unit vectors as cosine does: then dot products and an index for cosine find its best."""

    @property
    def follows_cosine(self) -> bool:
        """Tell whether, on vectors of length 1, the order is that of cosine."""
        ...


@runtime_checkable
class Store(Protocol):
    """Keeps items and their vectors, durably, and finds the nearest."""

    def upsert(self, items: Sequence[Item], embeddings: Sequence[Embeddings]) -> None:
        """Add or replace ``items``; row i of each of ``embeddings`` (one a space) is item i's.

        Synced to disk when it returns. Without embeddings the items change and their vectors stay.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items and their vectors; return how many there were. Synced when it returns."""
        ...

    def get(self, ids: Sequence[str]) -> list[Item]:
        """Return the items with these ids, in this order; raise UnknownId for those that are not there."""
        ...

    def count(self, where: str | None = None) -> int:
        """Return how many items there are (for which ``where`` holds)."""
        ...

    def search(
        self, queries: Embeddings, k: int, metric: Metric, where: str | None = None, *, exact: bool = False
    ) -> list[Hits]:
        """Return for each query its ``k`` nearest items in the queries' space, best first, ties by id."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Decides from a pair's scores whether the two are alike enough; the spine fills the context."""

    def decide(self, scores: Mapping[str, float], context: Context) -> Decision:
        """Return the verdict on a pair with these scores, by metric and in the metric's own units, and its evidence."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Puts what came for a query in a better order, from the vectors of what came."""

    @property
    def name(self) -> str:
        """The name under which it is asked for."""
        ...

    def rerank(self, query: Float32, candidates: Float32) -> NDArray[np.float64]:
        """Return (N,) how close candidates (N, D) are to a query (D,), higher is closer; all rows have length 1.

        The candidates come best first, by the metric that found them. N may be 0.
        """
        ...


Metadata = Mapping[str, Any]
"""What is known of an item: JSON values under text keys."""
