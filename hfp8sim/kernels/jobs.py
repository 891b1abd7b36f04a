"""The work around a kernel, and the kernel itself, as jobs: compiled code that is called through addresses.

A job is told what to do by a table of int64. The table of a product (`Jobs`) holds those of its four jobs:
filling panels of A, filling panels of B, running the kernel, encoding the results. Loops over them are
compiled once, whatever the kernel, the lanes and the codes (see `calls`).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from hfp8sim._numba.calls import address, pointer, run
from hfp8sim._numba.jit import jit
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels import macrokernel as kernels
from hfp8sim.kernels import pack
from hfp8sim.kernels.form import EVENTS, PANEL
from hfp8sim.kernels.panels import Numbers, Panels, State
from hfp8sim.kernels.select import Plan

#: Places in the table of filling panels.
(
    # A matrix of codes (rows, k): its address, its shape, and bytes from row to row and from k to k.
    CODES, ROWS, COUNT, ROW_STEP, K_STEP,
    SIDE,  # address of the numbers of a side, see `pack.SIDE`
    FIRST, K0,  # where the codes stand in the whole of A, or of B's transpose
    START,  # the panels' first k
    # The panels: how many, the addresses of their arrays, and their k, steps and chunks.
    PANELS, VALUES, EXPONENTS, WORDS, CHUNK_WORDS, DEPTH, STEPS, CHUNKS,
    LANE_BYTES,
) = range(18)  # fmt: skip
FILLING = 18

#: Places in the table of encoding results.
(
    TOTAL, ACROSS,  # address of panels of accumulators, and how many stand side by side
    ENCODER,  # address of the numbers of a format, see `pack.Encoder`
    # A matrix of codes: its address, its shape, and bytes from row to row.
    RESULTS, RESULT_ROWS, RESULT_COLUMNS, RESULT_STEP,
) = range(7)  # fmt: skip
ENCODING = 7

#: Places in the table of a product: addresses of functions, and the tables that they are called with.
KERNEL, FILL_A, FILL_B, ENCODE = range(4)
A = 4
B = A + FILLING
RUN = B + FILLING
OUT = RUN + kernels.JOB
END = OUT + ENCODING

#: Of A, of B, and of the results.
Formats = tuple[FloatFormat, FloatFormat, FloatFormat]
_CODES = {1: np.uint8, 2: np.uint16, 4: np.uint32}


# -- jobs --------------------------------------------------------------------------------------------


@functools.cache
def filler(code_bytes: int, lane_bits: int) -> Any:
    """The compiled job of filling panels of such lanes with such codes."""
    code = _CODES[code_bytes]
    lane, word = (np.float32, np.uint32) if lane_bits == 32 else (np.float64, np.uint64)

    @jit
    def fill(job):
        t = carray(pointer(job), (FILLING,), np.int64)
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
        t = carray(pointer(job), (ENCODING,), np.int64)
        rows, columns = t[RESULT_ROWS], t[RESULT_COLUMNS]
        results = as_strided(
            carray(pointer(t[RESULTS]), (1,), code), (rows, columns), (t[RESULT_STEP], code_bytes)
        )
        down = -(-rows // PANEL)
        totals = carray(pointer(t[TOTAL]), (down, t[ACROSS], PANEL, PANEL), np.float32)
        numbers = carray(pointer(t[ENCODER]), (pack.ENCODER,), np.uint32)
        pack.encode_panels(totals, numbers, results)

    return encode


# -- what jobs are told ------------------------------------------------------------------------------


@jit
def tell_kernel(job, a, b, chunk, total, numbers, counts):
    """Tell a kernel's job where panels, state, numbers and counts lie. Whoever made them keeps them."""
    job[kernels.A_VALUES], job[kernels.B_VALUES] = a.values.ctypes.data, b.values.ctypes.data
    job[kernels.A_EXPONENTS] = a.exponents.ctypes.data
    job[kernels.B_EXPONENTS] = b.exponents.ctypes.data
    job[kernels.A_WORDS], job[kernels.B_WORDS] = a.words.ctypes.data, b.words.ctypes.data
    job[kernels.A_CHUNK_WORDS] = a.chunk_words.ctypes.data
    job[kernels.B_CHUNK_WORDS] = b.chunk_words.ctypes.data
    job[kernels.CHUNK], job[kernels.TOTAL] = chunk.ctypes.data, total.ctypes.data
    job[kernels.NUMBERS], job[kernels.COUNTS] = numbers.ctypes.data, counts.ctypes.data
    job[kernels.DEPTH], job[kernels.CHUNKS] = a.values.shape[1], a.chunk_words.shape[1]


@jit
def fill(function, job, place, rows, count, first, k0, start):
    """Fill panels with codes from a place (address, bytes from row to row, bytes from k to k) on."""
    job[CODES], job[ROW_STEP], job[K_STEP] = place
    job[ROWS], job[COUNT], job[PANELS] = rows, count, -(-rows // PANEL)
    job[FIRST], job[K0], job[START] = first, k0, start
    run(function, job)


@jit
def from_row(job, row):
    """The job of filling the panels from one that begins with `row` on."""
    part, wide = job.copy(), job[LANE_BYTES]
    part[VALUES] += row * wide * job[DEPTH]
    part[EXPONENTS] += row * 4 * job[DEPTH]
    part[WORDS] += row * wide * job[STEPS]
    part[CHUNK_WORDS] += row * 4 * job[CHUNKS]
    return part


@jit
def encode(function, job, address, rows, columns, row_step):
    """Encode results to a matrix of codes at an address."""
    job[ACROSS] = -(-columns // PANEL)
    job[RESULTS], job[RESULT_ROWS], job[RESULT_COLUMNS] = address, rows, columns
    job[RESULT_STEP] = row_step
    run(function, job)


class Jobs:
    """The table of a product's jobs, and what it points to.

    Args:
        sides: numbers by which panels of A and of B are filled, see `panels.side`.
        a, b, state: the panels, and the accumulators. (Whoever made b keeps it.)
        more: places that whoever uses the table wants behind the jobs.
    """

    def __init__(
        self, plan: Plan, formats: Formats, sides: tuple[Numbers, Numbers],
        a: Panels, b: Panels, state: State, more: int = 0,
    ) -> None:  # fmt: skip
        assert plan.kernel is not None
        self.a, self.state = a, state
        #: Counts of events, which are added to.
        self.counts = np.zeros(EVENTS, np.int64)
        self.encoder = pack.encoder(formats[2].facts, plan.scale)
        self.table = t = np.zeros(END + more, np.int64)
        t[KERNEL] = plan.function
        for place, fmt in ((FILL_A, formats[0]), (FILL_B, formats[1])):
            t[place] = address(filler(fmt.dtype.itemsize, plan.kernel.bits))
        t[ENCODE] = address(encoding(formats[2].dtype.itemsize))
        for place, panels in ((A, a), (B, b)):
            job = t[place : place + FILLING]
            job[VALUES], job[DEPTH] = panels.values.ctypes.data, panels.values.shape[1]
            job[EXPONENTS] = panels.exponents.ctypes.data
            job[WORDS], job[STEPS] = panels.words.ctypes.data, panels.words.shape[1]
            job[CHUNK_WORDS] = panels.chunk_words.ctypes.data
            job[CHUNKS], job[LANE_BYTES] = panels.chunk_words.shape[1], panels.values.itemsize
        self.draw(sides)
        tell_kernel(t[RUN:OUT], a, b, state.chunk, state.total, plan.numbers, self.counts)
        out: NDArray[np.int64] = t[OUT:END]
        out[TOTAL], out[ENCODER] = state.total.ctypes.data, self.encoder.ctypes.data

    def draw(self, sides: tuple[Numbers, Numbers]) -> None:
        """Fill panels by these numbers from here on (other random words, say)."""
        self.sides = sides
        for place, numbers in zip((A, B), sides):
            self.table[place + SIDE] = numbers.ctypes.data
