"""The rules that tell how alike two vectors are; one file a metric.

A new metric: one file here, one line in ``registry``, one line in ``tests/test_metrics.py``.
"""
