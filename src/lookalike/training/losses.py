"""The losses by name, from pytorch-metric-learning, with the constants that their authors (or it) propose.

All are of cosines. Those of classes hold a vector for each class that is learned too; those of pairs look at a batch,
and where queries and gallery are two kinds of pictures, at queries against the gallery.
"""

from __future__ import annotations

from typing import Any

from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import CosineSimilarity

from lookalike.errors import ConfigError
from lookalike.training.request import LOSSES

OF_CLASSES = ("arcface", "cosface", "proxy-anchor")


def loss_of(name: str, classes: int, dim: int) -> Any:
    """Return the loss module; raise ConfigError for a name that is none."""
    if name == "triplet":
        return losses.TripletMarginLoss(margin=0.1, distance=CosineSimilarity())
    if name == "contrastive":
        return losses.ContrastiveLoss(pos_margin=0.9, neg_margin=0.4, distance=CosineSimilarity())
    if name == "supcon":
        return losses.SupConLoss(temperature=0.1)
    if name == "arcface":
        return losses.ArcFaceLoss(classes, dim, margin=28.6, scale=16)
    if name == "cosface":
        return losses.CosFaceLoss(classes, dim, margin=0.35, scale=16)
    if name == "proxy-anchor":
        return losses.ProxyAnchorLoss(classes, dim, margin=0.1, alpha=32)
    raise ConfigError(f"no loss named {name!r}; known: {', '.join(LOSSES)}")


def miner_of(name: str) -> Any:
    """Return what picks the triplets that are not solved yet; None for losses that take all."""
    return miners.TripletMarginMiner(margin=0.1, distance=CosineSimilarity()) if name == "triplet" else None
