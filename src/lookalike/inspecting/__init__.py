"""Finding defects from good pictures alone: numbers and pixels, no files.

    surface     textures and objects: patches of a network's middle layers against a bank of good ones (bank), the whole
                picture's mean features, and the fine detail that its surroundings do not explain (detail)
    aligned     parts that always look the same: the picture laid on a golden template, and what differs by more than
                a pixel or two of shift, light and blur explain
    threshold   scores of good pictures -> a threshold that keeps a false alarm rate, and what so few can support
    mask        which part of a picture is inspected
    regions     heat -> boxes      placing  boxes and heat where they lie in the picture
    finding     what is said of a picture, and of what was learned
    inspector   the three methods: fit, update, decide
    kept        an inspector as the bytes of one sealed file

A score is higher the less a picture looks like the good ones.
"""

from __future__ import annotations

from lookalike.inspecting.aligned import AlignedView, TemplateSet
from lookalike.inspecting.finding import Finding, Measured, Proof
from lookalike.inspecting.inspector import SIZE_SLACK, Inspector
from lookalike.inspecting.kept import from_bytes, to_bytes
from lookalike.inspecting.regions import Region
from lookalike.inspecting.threshold import Threshold

__all__ = [
    "SIZE_SLACK",
    "AlignedView",
    "Finding",
    "Inspector",
    "Measured",
    "Proof",
    "Region",
    "TemplateSet",
    "Threshold",
    "from_bytes",
    "to_bytes",
]
