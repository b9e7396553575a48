"""The nearest items, put in a better order by what they say of one another: vectors alone, no pictures.

To add one: a file with ``name`` and ``rerank`` (:class:`lookalike.protocols.Reranker`), a line in ``registry.py``, a
line in the contract of ``tests/test_reranking.py``.
"""
