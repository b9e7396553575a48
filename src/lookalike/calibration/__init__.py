"""From labelled pairs to thresholds with stated error rates. Plain arithmetic on scores: no picture, no gallery.

    pairs         scored pairs of different (impostor) and of same (genuine) things, and what they share
    resampling    how far a rate may be off: other labels, other pictures
    guarantee     what disjoint pairs prove
    rates         score -> rate with its interval, as a table that can be kept
    background    thresholds that adapt: what a picture scores against strangers, what its quality does to it
    alarms        the rate per query, at a gallery's size
    fitting       a threshold for a target rate, with what is estimated and proven of it, or why there is none
    fusion        several metrics made one
    calibration   all of it together; kept: the numbers of it, read from JSON and checked
    builtin       the calibration that comes with the default encoder

Inside this package scores are *closeness*: higher is closer, whatever the metric (distances are negated).
"""

from __future__ import annotations

from lookalike.calibration.background import Background
from lookalike.calibration.calibration import Calibration
from lookalike.calibration.fitting import Fit, fit
from lookalike.calibration.pairs import ScoredPairs

__all__ = ["Background", "Calibration", "Fit", "ScoredPairs", "fit"]
