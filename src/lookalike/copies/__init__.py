"""Copies of pictures: found by content, hash, embedding and local features, each link with its evidence.

Knows pixels, hashes, vectors and pairs of them; neither files nor galleries.
"""
