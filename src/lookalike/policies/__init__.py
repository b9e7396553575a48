"""The rules that decide whether two pictures are alike enough; one file a policy.

A new policy: one file here with ``decide`` (``protocols.Policy``), one line in ``tests/test_policies.py``.
"""
