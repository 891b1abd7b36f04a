"""Filling panels and encoding results as jobs: for compiled code that calls through addresses (`calls`)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numpy.lib.stride_tricks import as_strided

from hfp8sim._jit import jit
from hfp8sim.units.mac_array import pack
from hfp8sim.units.mac_array.calls import pointer
from hfp8sim.units.mac_array.kernel import PANEL

#: Places in the table of filling panels.
(
    # A matrix of codes (rows, k): its address, its shape, and bytes from row to row and from k to k.
    CODES, ROWS, COUNT, ROW_STEP, K_STEP,
    SIDE,  # address of the numbers of a side, see `pack.SIDE`
    FIRST, K0,  # where the codes stand in the whole of A, or of B's transpose
    START,  # the panels' first k
    # The panels: how many, the addresses of their arrays, and their k, steps and chunks.
    PANELS, VALUES, EXPONENTS, WORDS, CHUNK_WORDS, DEPTH, STEPS, CHUNKS,
) = range(17)  # fmt: skip
FILL = 17

#: Places in the table of encoding results.
(
    TOTAL, ACROSS,  # address of panels of accumulators, and how many stand side by side
    ENCODER,  # address of the numbers of a format, see `pack.Encoder`
    # A matrix of codes: its address, its shape, and bytes from row to row.
    RESULTS, RESULT_ROWS, RESULT_COLUMNS, RESULT_STEP,
) = range(7)  # fmt: skip
ENCODE = 7

_CODES = {1: np.uint8, 2: np.uint16, 4: np.uint32}


@functools.cache
def filler(code_bytes: int, lane_bits: int) -> Any:
    """The compiled job of filling panels of such lanes with such codes."""
    code = _CODES[code_bytes]
    lane, word = (np.float32, np.uint32) if lane_bits == 32 else (np.float64, np.uint64)

    @jit
    def fill(job):
        t = carray(pointer(job), (FILL,), np.int64)
        codes = as_strided(
            carray(pointer(t[CODES]), (1,), code), (t[ROWS], t[COUNT]), (t[ROW_STEP], t[K_STEP])
        )
        count = t[PANELS]
        pack.fill(
            codes, carray(pointer(t[SIDE]), (pack.SIDE,), np.int64), t[FIRST], t[K0], t[START],
            carray(pointer(t[VALUES]), (count, t[DEPTH], PANEL), lane),
            carray(pointer(t[EXPONENTS]), (count, t[DEPTH], PANEL), np.int32),
            carray(pointer(t[WORDS]), (count, t[STEPS], PANEL), word),
            carray(pointer(t[CHUNK_WORDS]), (count, t[CHUNKS], PANEL), np.uint32),
        )  # fmt: skip

    return fill


@functools.cache
def encoding(code_bytes: int) -> Any:
    """The compiled job of encoding results as such codes."""
    code = _CODES[code_bytes]

    @jit
    def encode(job):
        t = carray(pointer(job), (ENCODE,), np.int64)
        rows, columns = t[RESULT_ROWS], t[RESULT_COLUMNS]
        results = as_strided(
            carray(pointer(t[RESULTS]), (1,), code), (rows, columns), (t[RESULT_STEP], code_bytes)
        )
        down = -(-rows // PANEL)
        totals = carray(pointer(t[TOTAL]), (down, t[ACROSS], PANEL, PANEL), np.float32)
        numbers = carray(pointer(t[ENCODER]), (pack.ENCODER,), np.uint32)
        pack.encode_panels(totals, numbers, results)

    return encode
