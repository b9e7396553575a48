"""How well scores find what is alike, from scores and labels alone: no pictures, no galleries, no files.

    Truth      which item is what, and what may answer which query        truth
    Judged     one value a query of each retrieval metric, and counts     judging
    retrieval  the places of what is relevant -> recall, precision, …     retrieval
    Curve      counts at thresholds -> ROC, rates, precision and recall   verification
    intervals  labels are resampled, then the queries in them             intervals
    gate       is it worse than it was, beyond chance and a margin?       gate

Higher is always closer here, as in :mod:`lookalike.calibration`.
"""
