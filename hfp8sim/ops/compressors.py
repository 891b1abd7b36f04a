"""Compressors of gradients: AdaComp (Chen et al., AAAI 2018) and ScaleCom (Chen et al., NeurIPS 2020).

docs/distributed.md says what they compute and how packets are laid out. A state is an array in, an array out; it is
rounded at a site, so that one in 16 bits can be compared with one in binary32.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.ops.updates import reduce, rounded_sum
from hfp8sim.units.sites import BINARY32, Place, Site, Values

#: Longest bins of AdaComp whose symbols have 1 and 2 bytes.
_BINS = {1: 63, 2: 16383}
#: Bins without elements that one symbol stands for, at most.
_EMPTY = 4


class Words(NamedTuple):
    """Whose random words a compressor draws where a site is stochastic."""

    seed: int = 0
    step: int = 0
    tensor: int = 0
    learner: int = 0


_NO_WORDS = Words()


@dataclasses.dataclass(frozen=True)
class Packet:
    """What AdaComp sends of one layer: signs of some elements, times one scale."""

    size: int  #: elements of the layer
    bin_length: int
    scale: np.float32
    indices: NDArray[np.int64]  #: of the elements that are sent, ascending
    signs: NDArray[np.int8]  #: +1 or −1 of each
    swamped: int = 0  #: elements of the gradient, not zero, that left the state as it was

    @property
    def values(self) -> Values:
        """The layer, float32 (size,): sign · scale where something is sent, else 0."""
        dense = np.zeros(self.size, np.float32)
        dense[self.indices] = self.signs * self.scale
        return dense

    @property
    def compression(self) -> float:
        """Effective compression rate: 32 bits an element over the bits that are sent."""
        return 4 * self.size / len(self.pack())

    def pack(self) -> bytes:
        """The packet as it is sent: the scale in binary32, then symbols of 1 or 2 bytes."""
        width = symbol_bytes(self.bin_length)
        escape = (1 << 8 * width - 2) - 1
        count = -(-self.size // self.bin_length)
        bins, places = np.divmod(self.indices, self.bin_length)
        last = np.append(bins[1:] != bins[:-1], True)[: bins.size]
        symbols = places * 4 + (self.signs < 0) + 2 * last
        # Runs of bins without elements, in front of each bin with some and at the end.
        starts = np.flatnonzero(np.append(True, bins[1:] != bins[:-1])[: bins.size])
        used = bins[starts]
        gaps = np.diff(np.concatenate(([-1], used, [count]))) - 1
        parts = []
        for number, gap in enumerate(gaps):
            runs = [_EMPTY] * int(gap // _EMPTY) + [int(gap % _EMPTY)] * bool(gap % _EMPTY)
            parts.append(np.array([escape * 4 + run - 1 for run in runs], np.int64))
            if number < starts.size:
                stop = starts[number + 1] if number + 1 < starts.size else bins.size
                parts.append(symbols[starts[number] : stop])
        stream = np.concatenate(parts).astype(f"<u{width}")
        return struct.pack("<f", self.scale) + stream.tobytes()

    @classmethod
    def unpack(cls, data: bytes, size: int, bin_length: int) -> Packet:
        """The packet of a layer of so many elements.

        Raises:
            InputError: data that is no packet of such a layer.
        """
        width = symbol_bytes(bin_length)
        wrong = InputError(
            f"{len(data)} bytes are no packet of {size} elements in bins of {bin_length}"
        )
        if len(data) < 4 or (len(data) - 4) % width:
            raise wrong
        escape = (1 << 8 * width - 2) - 1
        symbols = np.frombuffer(data, f"<u{width}", offset=4).astype(np.int64)
        places, state = symbols >> 2, symbols & 3
        empty = places == escape
        steps = np.where(empty, state + 1, state >> 1)
        bins = np.cumsum(steps) - steps  # bins that are complete before each symbol
        indices = (bins * bin_length + places)[~empty]
        complete = steps.sum() == -(-size // bin_length)
        inside = indices.size == 0 or (indices[-1] < size and places[~empty].max() < bin_length)
        if not (complete and inside and (np.diff(indices) > 0).all()):
            raise wrong
        signs = np.where(state[~empty] & 1, -1, 1).astype(np.int8)
        return cls(size, bin_length, np.float32(struct.unpack("<f", data[:4])[0]), indices, signs)


def symbol_bytes(bin_length: int) -> int:
    """Bytes of a symbol for bins of that length: 1 up to 63 elements, 2 up to 16383."""
    length = check_whole_number(bin_length, "bin length of AdaComp", 1, _BINS[2])
    return 1 if length <= _BINS[1] else 2


@standard_arithmetic
def adacomp(
    residue: Values,
    gradient: Values,
    *,
    bin_length: int = 50,
    soft: float = 2.0,
    site: Site = BINARY32,
    words: Words = _NO_WORDS,
) -> tuple[Packet, Values]:
    """AdaComp of one layer at one learner.

    Args:
        residue: R, float32 of any shape; zeros at the start.
        gradient: D, float32 of the same shape.
        bin_length: L_T: 50 for convolutions and 500 for linear layers in the paper.
        soft: s of the soft threshold; 1 is a hard one.
        site: how the state is rounded.
        words: of a stochastic site.

    Returns:
        The packet and the new residue, of the gradient's shape. Packet and residue add up to R + D, but for the
        site's roundings.

    Raises:
        InputError: arrays of different shapes, a bin length out of range.
    """
    r, d = _pair(residue, gradient)
    symbol_bytes(bin_length)
    g = _state(site, words, (1.0, r), (1.0, d))
    h = rounded_sum(Place.RESIDUE, BINARY32, [(1.0, g), (float(np.float32(soft - 1)), d)])
    starts = np.arange(0, g.size, bin_length)
    largest = np.maximum.reduceat(np.abs(g), starts) if g.size else g
    scale = _mean(largest)
    threshold = np.repeat(largest, bin_length)[: g.size]
    indices = np.flatnonzero((np.abs(h) >= threshold) & (threshold > 0) & (g != 0))
    signs = np.sign(g[indices]).astype(np.int8)
    swamped = int(np.count_nonzero((g == r) & (d != 0)))
    packet = Packet(g.size, bin_length, scale, indices, signs, swamped)
    rest = _state(site, words, (1.0, g), (-1.0, packet.values))
    return packet, rest.reshape(np.shape(gradient))


def _mean(largest: Values) -> np.float32:
    """The mean of the bins' largest magnitudes: a sum in binary64, in ascending order, rounded to binary32."""
    if not largest.size:
        return np.float32(0)
    total = np.add.accumulate(largest.astype(np.float64))[-1]
    return np.float32(total / largest.size)


@standard_arithmetic
def sum_of_packets(
    packets: Sequence[Packet], site: Site = BINARY32, *, seed: int = 0, step: int = 0, tensor: int = 0
) -> Values:  # fmt: skip
    """The sum of all learners' packets of a layer, in ascending order, each addition rounded; float32 (size,)."""
    total = packets[0].values
    for learner, packet in enumerate(packets[1:], start=1):
        total = rounded_sum(
            Place.REDUCE, site, [(1.0, total), (1.0, packet.values)], seed=seed, step=step, tensor=tensor,
            hop=learner,
        )  # fmt: skip
    return total


# -- ScaleCom --------------------------------------------------------------------------------------------


@standard_arithmetic
def top_k(p: Values, k: int, *, chunks: bool = False) -> NDArray[np.int64]:
    """Indices of the k largest magnitudes, ascending; of equal ones the lower index.

    Args:
        p: numbers, 1-D.
        k: at least 1, at most the size of p.
        chunks: instead, the largest of each chunk of ⌈size/k⌉ elements: linear time, and short indices.

    Raises:
        InputError: a k out of range.
    """
    magnitudes = np.abs(np.asarray(p, np.float32).reshape(-1))
    check_whole_number(k, "k of ScaleCom", 1, max(magnitudes.size, 1))
    if not chunks:
        return np.sort(np.argsort(-magnitudes, kind="stable")[:k]).astype(np.int64)
    length = -(-magnitudes.size // k)
    padded = np.full(-(-magnitudes.size // length) * length, -1, np.float32)
    padded[: magnitudes.size] = magnitudes
    best = padded.reshape(-1, length).argmax(axis=1)
    chosen: NDArray[np.int64] = best.astype(np.int64) + np.arange(best.size) * length
    return chosen


def index_bytes(size: int, k: int, *, chunks: bool = False) -> int:
    """Bytes of the indices that a leader sends: 4 each, or as many bits as a place in a chunk needs."""
    if not chunks:
        return 4 * k
    count, _, width = _chunks(size, k)
    return -(-count * width // 8)


def pack_indices(indices: NDArray[np.int64], size: int, k: int, *, chunks: bool = False) -> bytes:
    """What a leader sends: each index in 4 bytes, or its place in its chunk in as many bits as that needs.

    Bytes are little-endian, and bits fill them from the lowest.

    Args:
        indices: as `top_k` gives them.
        size: elements of the layer.
    """
    if not chunks:
        return indices.astype("<u4").tobytes()
    _, length, width = _chunks(size, k)
    bits = (indices % length)[:, None] >> np.arange(width) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def unpack_indices(data: bytes, size: int, k: int, *, chunks: bool = False) -> NDArray[np.int64]:
    """The indices of `pack_indices`; `InputError` for data of another length."""
    if len(data) != index_bytes(size, k, chunks=chunks):
        raise InputError(f"{len(data)} bytes are no indices of {k} among {size} elements")
    if not chunks:
        return np.frombuffer(data, "<u4").astype(np.int64)
    count, length, width = _chunks(size, k)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width, bitorder="little")
    places = bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width))
    return np.asarray(places + length * np.arange(count), np.int64)


def _chunks(size: int, k: int) -> tuple[int, int, int]:
    """Number of chunks, elements of a chunk, and bits of a place in one."""
    length = -(-size // k)
    return -(-size // length), length, max(length - 1, 0).bit_length()


@standard_arithmetic
def add_memory(
    memory: Values, gradient: Values, site: Site = BINARY32, words: Words = _NO_WORDS
) -> Values:
    """p = memory + gradient, rounded as the state is; float32, 1-D."""
    m, g = _pair(memory, gradient)
    return _state(site, words, (1.0, m), (1.0, g))


@standard_arithmetic
def filter_memory(
    memory: Values, p: Values, indices: NDArray[np.int64], beta: float, site: Site = BINARY32,
    words: Words = _NO_WORDS,
) -> Values:  # fmt: skip
    """The next memory, (1 − β)·m + β·(p − q), with one rounding; q is p on the indices, else 0.

    Raises:
        InputError: β outside 0 < β ≤ 1.
    """
    if not 0 < beta <= 1:
        raise InputError(f"beta of ScaleCom is {beta}, must be above 0 and at most 1")
    m, p = _pair(memory, p)
    unsent = p.copy()
    unsent[indices] = 0
    new = _state(site, words, (float(np.float32(1 - beta)), m), (float(np.float32(beta)), unsent))
    return new.reshape(np.shape(memory))


class Scaled(NamedTuple):
    """A step of ScaleCom over all learners."""

    mean: Values  #: of the gradients on the indices, else 0; float32 of the gradients' shape
    memories: list[Values]  #: of each learner, after the step
    indices: NDArray[np.int64]  #: that the leader chose
    sums: list[Values]  #: p of each learner, 1-D


@standard_arithmetic
def scalecom(
    memories: Sequence[Values],
    gradients: Sequence[Values],
    k: int,
    step: int,
    *,
    beta: float = 1.0,
    chunks: bool = False,
    site: Site = BINARY32,
    reduce_site: Site = BINARY32,
    seed: int = 0,
    tensor: int = 0,
) -> Scaled:
    """A step of ScaleCom on one layer, all learners together.

    Args:
        memories: m of each learner, float32 of the gradients' shape; zeros at the start.
        gradients: g of each learner.
        k: elements that are sent.
        step: its number mod the number of learners is the leader.
        beta: β of the low-pass filter; 1 is plain error feedback.
        chunks: the leader takes the largest of each chunk.
        site: how memories are rounded.
        reduce_site: how a hop of the sum of values is rounded.
        seed, tensor: of stochastic sites.

    Raises:
        InputError: arrays of different shapes, a k or β out of range.
    """
    count = len(gradients)
    every = [Words(seed, step, tensor, learner) for learner in range(count)]
    sums = [add_memory(m, g, site, w) for m, g, w in zip(memories, gradients, every, strict=True)]
    indices = top_k(sums[step % count], k, chunks=chunks)
    total = reduce(
        [p[indices] for p in sums], reduce_site, seed=seed, step=step, tensor=tensor, encoded=True
    )
    mean = np.zeros(sums[0].size, np.float32)
    mean[indices] = total / np.float32(count)
    new = [
        filter_memory(m, p, indices, beta, site, w)
        for m, p, w in zip(memories, sums, every, strict=True)
    ]
    return Scaled(mean.reshape(np.shape(gradients[0])), new, indices, sums)


# -- measures ---------------------------------------------------------------------------------------------


@standard_arithmetic
def hamming_share(mean: Values, indices: NDArray[np.int64]) -> float:
    """d/k: the share of the indices that are not among the k largest of the mean."""
    return 1 - np.intersect1d(indices, top_k(mean, len(indices))).size / len(indices)


@standard_arithmetic
def cosine_distance(memories: Sequence[Values]) -> float:
    """One minus the mean cosine over all pairs of learners; NaN where a memory is zero."""
    x = np.stack([np.asarray(m, np.float64).reshape(-1) for m in memories])
    norms = np.sqrt(np.square(x).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (x @ x.T) / np.outer(norms, norms)
    return float(1 - cosines[np.triu_indices(len(x), 1)].mean())


@standard_arithmetic
def contraction(mean: Values, indices: NDArray[np.int64]) -> tuple[float, float]:
    """‖y − C(y)‖²/‖y‖² of a mean y that is kept on the indices, and γ = d/k + (1 − d/k)·γ₀.

    γ bounds the mean over all choices of the d largest elements that are missed (Chen et al., 2020, lemma 1). A
    choice that misses the very largest can exceed it.
    """
    y = np.asarray(mean, np.float64).reshape(-1)
    energy = float(np.square(y).sum())
    if energy == 0:
        return 0.0, 0.0
    lost = 1 - float(np.square(y[indices]).sum()) / energy
    best = 1 - float(np.square(y[top_k(mean, len(indices))]).sum()) / energy
    share = hamming_share(mean, indices)
    return lost, share + (1 - share) * best


def _pair(x: Any, y: Any) -> tuple[Values, Values]:
    """Two arrays of one shape as float32, 1-D."""
    if np.shape(x) != np.shape(y):
        raise InputError(f"state of a compressor has shape {np.shape(x)}, must be {np.shape(y)}")
    one, two = (np.ascontiguousarray(a, np.float32).reshape(-1) for a in (x, y))
    return one, two


def _state(site: Site, words: Words, *terms: tuple[float, Values]) -> Values:
    return rounded_sum(
        Place.RESIDUE, site, list(terms), seed=words.seed, step=words.step, tensor=words.tensor,
        hop=words.learner + 1,
    )  # fmt: skip
