"""A perceptual hash of 256 bits, and all pairs of hashes that differ in few of them.

hash     as PDQ (Facebook, 2019): luma averaged to 64 x 64, the 16 x 16 lowest frequencies of its DCT but for the
         means of rows and columns, and of each one bit: is it above the median?
turns    the eight flips and right-angle turns change signs of coefficients and swap rows with columns: all eight
         hashes come from one transform
parts    the hashes of the four quarters, and of what is left when an even margin is cut off: a collage or a
         screenshot has the hash of what it shows in one of them
pairs    bands of 16 bits: two hashes that differ in at most 31 bits differ in at most one bit in one of the 16
         bands (multi-index hashing: Norouzi, Punjani, Fleet 2012); in at most 15, in no bit of one of them. No pair
         is lost
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.types import Float32

Pixels: TypeAlias = NDArray[np.uint8]
Words: TypeAlias = NDArray[np.uint64]
"""Packed hashes, (..., 4): bit 0 is the lowest of the first word."""

BITS = 256
TURNS = ("upright", "flipped", "upside down", "rotated 180", "transposed", "rotated 90", "rotated 270", "transversed")
"""What was done to a picture, by the row of its hash in ``Fingerprint.hashes``; angles are counter-clockwise."""
FEWEST_DETAILS = 8
"""The quality below which a picture is flat: its hash says nothing."""

_GRID, _KEPT, _PARTS = 64, 16, 5
_STEP, _MOST = 40, 100  # PDQ's: differences of neighbours count in whole fortieths of the range, up to 100


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """What is kept of a picture to find its copies by hash.

    ``hashes`` is (8, 4) uint64: of the picture after each of ``TURNS``. ``quality`` is 0 (one colour) to 100.
    ``parts`` is (5, 4): of the four quarters and of the picture without even margins; ``part_quality`` (5,) uint8, 0
    where there is no such part.
    """

    hashes: Words
    quality: int
    parts: Words
    part_quality: NDArray[np.uint8]

    @property
    def flat(self) -> bool:
        """Tell whether the picture has too little detail for its hash to mean anything."""
        return self.quality < FEWEST_DETAILS


def fingerprint(pixels: Pixels, *, parts: bool = True) -> Fingerprint:
    """Return the fingerprint of (H, W, 3) uint8 pixels; without ``parts`` as if there were none.

    A reduced decode of 64 pixels a side is enough for the whole, of 128 for its parts.
    """
    grey = luma(pixels)
    grids = _grids(grey) if parts else averaged(grey, _GRID, _GRID)[None]
    frequencies, quality = _lowest_frequencies(grids), _quality(grids)
    hashes = _packed(_turned(frequencies[0]))
    if not parts:
        return Fingerprint(hashes, int(quality[0]), np.zeros((_PARTS, 4), np.uint64), np.zeros(_PARTS, np.uint8))
    return Fingerprint(hashes, int(quality[0]), _packed(frequencies[1:]), quality[1:])


def _grids(grey: Float32) -> Float32:
    """Return (6, 64, 64): the whole picture and its five parts."""
    double = averaged(grey, 2 * _GRID, 2 * _GRID)
    rows = double[::2] + double[1::2]
    whole = (rows[:, ::2] + rows[:, 1::2]) / 4
    inner = _without_margins(grey)
    inside = np.zeros_like(whole) if inner is None else averaged(inner, _GRID, _GRID)
    return np.stack([whole, *_quarters(double), inside])


def luma(pixels: Pixels) -> Float32:
    """Return (H, W) luma, 0 to 255, of (H, W, 3) uint8."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    weighted: Float32 = pixels.astype(np.float32) @ weights
    return weighted


def averaged(grey: Float32, height: int, width: int) -> Float32:
    """Return (height, width): each value the mean of a cell of the (H, W) picture."""
    if grey.shape == (height, width):
        return grey
    rows, columns = _cells(grey.shape[0], height), _cells(grey.shape[1], width)
    return np.asarray(rows @ grey @ columns.T, np.float32)


@functools.lru_cache(64)
def _cells(length: int, cells: int) -> Float32:
    """Return (cells, length): how much of each pixel lies in each cell, the sum of a row 1."""
    edges = np.linspace(0, length, cells + 1)
    pixels = np.arange(length)
    lows, highs = edges[:-1, None], edges[1:, None]
    inside = np.clip(np.minimum(pixels + 1, highs) - np.maximum(pixels, lows), 0, None)
    return np.asarray(inside / inside.sum(axis=1, keepdims=True), np.float32)


@functools.cache
def _waves() -> Float32:
    """Return the rows 1 to 16 of the DCT-II of 64 values."""
    k, n = np.arange(1, _KEPT + 1)[:, None], np.arange(_GRID)
    waves = math.sqrt(2 / _GRID) * np.cos(math.pi / _GRID * k * (n + 0.5))
    return waves.astype(np.float32)


def _lowest_frequencies(grids: Float32) -> Float32:
    """Return (N, 16, 16) of (N, 64, 64), rows by vertical frequency."""
    waves = _waves()
    return np.asarray(waves @ grids @ waves.T, np.float32)


def _turned(coefficients: Float32) -> Float32:
    """Return (8, 16, 16): the coefficients of the picture after each of ``TURNS``."""
    # Frequency k (from 1) is antisymmetric where k is odd: mirroring negates it.
    sign = np.where(np.arange(_KEPT) % 2, 1, -1).astype(np.float32)
    across, down = coefficients * sign, coefficients * sign[:, None]
    upright = [coefficients, across, down, across * sign[:, None]]
    swapped = coefficients.T
    # Counter-clockwise by 90: swapped, then upside down.
    turned = [swapped, swapped * sign[:, None], swapped * sign, swapped * sign * sign[:, None]]
    every: Float32 = np.stack(upright + turned)
    return every


def _packed(coefficients: Float32) -> Words:
    flat = coefficients.reshape(-1, BITS)
    middle = np.partition(flat, (BITS // 2 - 1, BITS // 2), axis=1)[:, BITS // 2 - 1 : BITS // 2 + 1]
    bits = flat > middle.mean(axis=1, keepdims=True)  # the median
    packed = np.ascontiguousarray(np.packbits(bits[:, _SPREAD], axis=1, bitorder="little"))
    return packed.view("<u8").astype(np.uint64)


# A band of neighbouring frequencies would hold the same few patterns in most pictures: neighbours go to other bands.
_SPREAD = np.arange(BITS).reshape(16, 16).T.ravel()


def _quality(grids: Float32) -> NDArray[np.uint8]:
    """Return (N,), 0 to 100, of (N, 64, 64)."""
    steps = (np.abs(np.diff(grids, axis=axis)) * (100 / 255) for axis in (1, 2))
    sums = sum(step.astype(np.int32).sum(axis=(1, 2)) for step in steps)
    return np.asarray(np.minimum(sums // 90, _MOST), np.uint8)


def _quarters(grey: Float32) -> list[Float32]:
    middle = grey.shape[0] // 2
    return [grey[:middle, :middle], grey[:middle, middle:], grey[middle:, :middle], grey[middle:, middle:]]


_EVEN = 6
_LEAST_PAPER, _LEAST_MARGIN, _LEAST_INSIDE = 0.03, 0.03, 0.1
_COVERED, _GAP = 0.5, 0.03


def _without_margins(grey: Float32) -> Float32 | None:
    """Return what lies on paper of one colour, without lines of text around it; None where there is no such paper.

    The rows (and of these the columns) that are mostly of another colour than the most frequent one.
    """
    levels = grey.astype(np.int16)
    counts = np.bincount(levels.ravel(), minlength=256)
    paper = int(counts.argmax())
    if counts[max(paper - _EVEN, 0) : paper + _EVEN + 1].sum() < _LEAST_PAPER * grey.size:
        return None
    inked = np.abs(levels - paper) > _EVEN
    top, bottom = _longest_run(inked.mean(axis=1) > _COVERED)
    left, right = _longest_run(inked[top:bottom].mean(axis=0) > _COVERED) if bottom > top else (0, 0)
    inside = grey[top:bottom, left:right]
    kept = inside.shape[0] / grey.shape[0], inside.shape[1] / grey.shape[1]
    return inside if min(kept) <= 1 - _LEAST_MARGIN and kept[0] * kept[1] >= _LEAST_INSIDE else None


def _longest_run(covered: NDArray[np.bool_]) -> tuple[int, int]:
    """Return where the longest run begins and ends; gaps of a few do not end it."""
    places = np.flatnonzero(covered)
    if not len(places):
        return 0, 0
    breaks = np.flatnonzero(np.diff(places) > max(1, round(_GAP * len(covered))))
    firsts, lasts = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(places) - 1]])
    longest = int((places[lasts] - places[firsts]).argmax())
    return int(places[firsts[longest]]), int(places[lasts[longest]]) + 1


def distance(a: Words, b: Words) -> NDArray[np.int64]:
    """Return in how many bits (..., 4) hashes differ, 0 to 256."""
    bits: NDArray[np.int64] = _ones(a ^ b).sum(axis=-1, dtype=np.int64)
    return bits


def pairs_within(hashes: Words, radius: int) -> NearHashes:
    """Return all pairs of (N, 4) hashes that differ in at most ``radius`` bits (0 to 31), each once, lower row first.

    Only in bands that are too full (many pictures of one kind share all 16 bits) pairs are left out: there a hash is
    compared with the first few rows only, so that order should go by content, the most telling first.
    """
    found = _Found(len(hashes), radius)
    for band in range(_BANDS):
        lot = _Sorted.by_band(hashes, band)
        limit = _fullest(len(hashes))
        found.full.update(lot.rows[lot.in_buckets_above(limit)].tolist())
        for bit in _bits_to_flip(radius):
            found.take(lot, lot, *_self_ranges(lot, bit, limit))
        found.settle()
    return found.result()


def pairs_across(queries: Words, hashes: Words, radius: int, most: int | None = None) -> NearHashes:
    """Return all pairs of a row of (Q, 4) ``queries`` and a row of (N, 4) ``hashes`` within ``radius`` bits (0 to 31).

    With ``most``, pairs that differ in up to so many bits are returned too, as far as they come along: with a radius
    of 15, of random pairs 31 bits apart 9 in 10 do. See :func:`pairs_within` for bands that are too full.
    """
    found = _Found(max(len(queries), len(hashes)), max(radius, most or 0), ordered=False)
    for band in range(_BANDS):
        asked, lot = _Sorted.by_band(queries, band), _Sorted.by_band(hashes, band)
        limit = _fullest(len(hashes))
        for bit in _bits_to_flip(radius):
            starts, ends = lot.bucket(asked.keys ^ np.uint16(bit))
            found.take(asked, lot, starts, np.where(ends - starts > limit, starts + _LEADERS, ends))
        found.settle()
    return found.result()


@dataclass(frozen=True, slots=True, eq=False)
class NearHashes:
    """Pairs of rows ``a`` and ``b`` (P,) with their ``distances`` (P,), ordered by a, then b; ``full`` lists the rows
    that were not compared with all of their kind.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    distances: NDArray[np.int64]
    full: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.a)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.a.tolist(), self.b.tolist(), self.distances.tolist(), strict=True)


_BANDS, _BAND_BITS = 16, 16
_LEADERS = 8
_AT_ONCE = 1 << 18
_FARTHEST = 2 * _BANDS - 1


def _bits_to_flip(radius: int) -> list[int]:
    if not 0 <= radius <= _FARTHEST:
        raise InputError(f"pairs of hashes are found within 0 to {_FARTHEST} bits, got {radius}")
    return [0] if radius < _BANDS else [0, *(1 << bit for bit in range(_BAND_BITS))]


def _fullest(count: int) -> int:
    """Return how many hashes may share a band before it is too full: many times what chance gives."""
    return 256 + 8 * (count >> _BAND_BITS)


@dataclass(frozen=True, slots=True, eq=False)
class _Sorted:
    """Hashes in the order of one band: ``keys`` (N,) uint16 ascending, their ``words`` (4, N) and ``rows`` (N,).

    ``telling`` are the words that the band is no part of: hashes of one bucket differ most there.
    """

    keys: NDArray[np.uint16]
    words: Words
    rows: NDArray[np.int64]
    edges: NDArray[np.int64]
    telling: tuple[int, ...]

    @classmethod
    def by_band(cls, hashes: Words, band: int) -> _Sorted:
        keys = (hashes[:, band // 4] >> np.uint64(_BAND_BITS * (band % 4))).astype(np.uint16)
        rows = np.argsort(keys, kind="stable")
        edges = np.zeros((1 << _BAND_BITS) + 1, np.int64)
        np.cumsum(np.bincount(keys, minlength=1 << _BAND_BITS), out=edges[1:])
        telling = tuple(word for word in range(4) if word != band // 4)
        return cls(keys[rows], np.ascontiguousarray(hashes[rows].T), rows, edges, telling)

    def bucket(self, keys: NDArray[np.uint16]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each key where its hashes begin and end."""
        return self.edges[keys.astype(np.int64)], self.edges[keys.astype(np.int64) + 1]

    def in_buckets_above(self, limit: int) -> NDArray[np.bool_]:
        starts, ends = self.bucket(self.keys)
        return ends - starts > limit


def _self_ranges(lot: _Sorted, bit: int, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each place in ``lot`` the places to compare it with, so that each pair comes once."""
    starts, ends = lot.bucket(lot.keys ^ np.uint16(bit))
    full = ends - starts > limit
    if bit:
        ends = np.where(full, starts + _LEADERS, ends)
        return starts, np.where(lot.keys & np.uint16(bit), starts, ends)
    places = np.arange(len(lot.rows))
    # In a full bucket everyone is compared with the leaders, which come first; else with those behind it.
    return np.where(full, starts, places + 1), np.where(full, np.minimum(starts + _LEADERS, places), ends)


class _Found:
    """Gathers pairs within a radius, a bounded number of comparisons at a time."""

    def __init__(self, count: int, radius: int, *, ordered: bool = True) -> None:
        self.full: set[int] = set()
        self._count, self._radius, self._ordered = count, radius, ordered
        self._keys = np.empty(0, np.int64)
        self._distances = np.empty(0, np.int64)
        self._new: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def take(self, asked: _Sorted, lot: _Sorted, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Compare each place of ``asked`` with the places ``starts`` to ``ends`` of ``lot``."""
        for begin, counts, others in _expanded(starts, np.maximum(ends - starts, 0)):
            some = slice(begin, begin + len(counts))
            # Half of the bits rule out nearly all pairs.
            half = sum(_ones(np.repeat(asked.words[k, some], counts) ^ lot.words[k, others]) for k in asked.telling[:2])
            close = np.flatnonzero(half <= self._radius)
            left, right = np.repeat(np.arange(begin, begin + len(counts)), counts)[close], others[close]
            differing = [_ones(asked.words[k, left] ^ lot.words[k, right]) for k in range(4)]
            bits: NDArray[np.int64] = np.sum(differing, axis=0, dtype=np.int64)
            near = bits <= self._radius
            self._new.append((self._key(asked.rows[left[near]], lot.rows[right[near]]), bits[near]))

    def _key(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._ordered:
            a, b = np.minimum(a, b), np.maximum(a, b)
        return a * self._count + b

    def settle(self) -> None:
        """Drop pairs that came more than once."""
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._new)])
        distances = np.concatenate([self._distances, *(bits for _, bits in self._new)])
        self._keys, first = np.unique(keys, return_index=True)
        self._distances = distances[first]
        self._new.clear()

    def result(self) -> NearHashes:
        a, b = np.divmod(self._keys, max(self._count, 1))
        return NearHashes(a, b, self._distances, tuple(sorted(self.full)))


def _expanded(
    starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the first of some places, their ``counts``, and the others from ``starts`` on of one place after another,
    about ``_AT_ONCE`` others at a time.
    """
    totals = np.cumsum(counts)
    begin = 0
    while begin < len(starts):
        before = int(totals[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(totals, before + _AT_ONCE, side="right")))
        some = counts[begin:end]
        if some.any():
            firsts = np.repeat(starts[begin:end] - (totals[begin:end] - some - before), some)
            yield begin, some, firsts + np.arange(int(some.sum()))
        begin = end


if hasattr(np, "bitwise_count"):  # since numpy 2.0

    def _ones(words: Words) -> NDArray[np.uint8]:
        """Return how many bits of each word are set."""
        ones: NDArray[np.uint8] = np.bitwise_count(words)
        return ones
else:
    _ONES_OF_16 = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)

    def _ones(words: Words) -> NDArray[np.uint8]:
        """Return how many bits of each word are set."""
        ones: NDArray[np.uint8] = _ONES_OF_16[words[..., None].view(np.uint16)].sum(axis=-1, dtype=np.uint8)
        return ones
