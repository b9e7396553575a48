"""Where galleries are kept; one file a store.

A new store: one file here with the methods of ``protocols.Store``, one line in ``tests/test_store.py``.
"""
