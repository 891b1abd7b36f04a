"""The plain path: sums of outputs by the integer loop of `units`, for whole GEMMs and tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim import kernels
from hfp8sim.units.accumulator import EVENT_KINDS, GemmFacts, gemm_tile, start_lfsr
from hfp8sim.units.random import LFSR

Codes = NDArray[np.unsignedinteger[Any]]
Counts = NDArray[np.int64]

#: Outputs of a tile (rows, columns), and the longest range of k that is unpacked at once.
_TILE_M, _TILE_N, _TILE_K = 32, 64, 4096


class PlainTile:
    """Sums of a tile of outputs, to which ranges of k are added in order.

    Args:
        facts: of the GEMM.
        depth: K of the GEMM.
        shape: rows and columns of the tile.
        m0, n0: its first row and column in the GEMM, which random bits depend on.
    """

    def __init__(
        self, facts: GemmFacts, depth: int, shape: tuple[int, int], m0: int = 0, n0: int = 0
    ) -> None:
        self.facts, self.depth, self.place = facts, depth, (m0, n0)
        #: Counts by `accumulator.EVENT_KINDS`, which are added to.
        self.events = np.zeros(EVENT_KINDS, np.int64)
        self._chunk, self._total = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        self._lfsr = np.zeros((1, 1), np.uint64)
        if facts.source == LFSR:
            self._lfsr = np.zeros(shape, np.uint64)
            start_lfsr(self._lfsr, m0, n0, facts)

    def add(self, a: Codes, b: Codes, k0: int) -> None:
        """Add the products of codes (rows, kt) × (kt, columns); their first k begins a step."""
        # Copies of one dtype and layout, which can be written: one compiled loop serves every operand.
        a, b = np.array(a, np.uint32, order="C"), np.array(b, np.uint32, order="C")
        gemm_tile(
            a, b, self._chunk, self._total, self._lfsr, *self.place, k0, self.depth, self.facts, self.events
        )  # fmt: skip

    def codes(self, results: Codes) -> None:
        """Copy the sums into `results` (rows, columns). K has ended."""
        results[:] = self._total if self.facts.chunk_length else self._chunk


def plain_gemm(a: Codes, b: Codes, facts: GemmFacts, result: Codes, threads: int) -> Counts:
    """A whole GEMM by tiles, shared among threads.

    Args:
        a, b: codes (M, K) and (K, N).
        result: (M, N), filled in.

    Returns:
        Counts of events by `accumulator.EVENT_KINDS`.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    # Long K is unpacked piece by piece; a piece ends where a chunk does.
    length = facts.chunk_length or max(depth, 1)
    piece = max(_TILE_K // length, 1) * length
    counted: list[Counts] = []

    def compute(place: tuple[slice, slice]) -> None:
        m, n = place
        shape = m.stop - m.start, n.stop - n.start
        tile = PlainTile(facts, depth, shape, m.start, n.start)
        for k in kernels.slices(depth, piece):
            tile.add(a[m, k], b[k, n], k.start)
        tile.codes(result[m, n])
        counted.append(tile.events)

    places = [
        (m, n) for m in kernels.slices(rows, _TILE_M) for n in kernels.slices(columns, _TILE_N)
    ]
    kernels.share(compute, places, threads)
    return sum(counted, np.zeros(EVENT_KINDS, np.int64))
