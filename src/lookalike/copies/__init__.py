"""Copies of pictures: found by content, hash, embedding and local features, each link with its evidence.

Knows pixels, hashes, vectors and pairs of them; neither files nor galleries.
"""

VERSION = "2"
"""Raise it when the same pictures begin to give other fingerprints, features or links: what was kept is made anew."""
