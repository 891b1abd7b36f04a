"""Packing operands and writing results, as functions that are called through addresses.

Each takes the address of a record of its arguments, as the macrokernel does (`macrokernel.JOB`). A loop
over them is compiled once, whatever the kernel, its lanes and the codes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.calls import address_of, array_at, call, record_at, strided_at
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels import pack
from hfp8sim.kernels.form import PANEL
from hfp8sim.kernels.half import fill_halves
from hfp8sim.kernels.macrokernel import PANELS

#: The argument of a packing function: codes of a range of rows of A (or of B's transpose) and of k.
PACKING = layout(
    function=np.int64,  # address of the function
    params=np.int64,  # address of the packing parameters, a `pack.SIDE`
    # The matrix of codes (rows, k).
    codes=np.int64,  # address of its first element
    row_step=np.int64,  # bytes from row to row
    k_step=np.int64,  # bytes from k to k
    first=np.int64,  # number of its first row in the whole operand: random words depend on it
    rows=np.int64,
    k0=np.int64,  # its first k in the whole operand; a step begins there
    k_count=np.int64,
    # The panels that are filled.
    panels=PANELS,
    panel0=np.int64,  # the panel that gets the first row
    start=np.int64,  # first k of the panels
)

#: The argument of a writing function: accumulators become a matrix of results (rows, columns).
WRITING = layout(
    function=np.int64,  # address of the function
    params=np.int64,  # address of its parameters: a `pack.ENCODER` or a `pack.VALUES`
    total=np.int64,  # address of running totals, float32 (row panels, column panels, PANEL, PANEL)
    results=np.int64,  # address of the matrix
    row_step=np.int64,  # bytes from row to row
    column_step=np.int64,  # bytes from column to column
    rows=np.int64,
    columns=np.int64,
    nonfinite=np.int64,  # a writer of values sets it to 1 if one of them is infinite or NaN
)

_CODES = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_FLOATS: dict[int, Any] = {4: np.float32, 8: np.float64}


@functools.cache
def packer(code_bytes: int, lane_bits: int, aligned: bool, drawn: bool, half: bool = False) -> Any:
    """The compiled function that packs codes of so many bytes into lanes of so many bits.

    Args:
        aligned: with exponents, for aligned sums.
        drawn: with random words.
        half: with panels of binary16 numbers, once all k are packed. What a plan does not need is not compiled.
    """
    code = _CODES[code_bytes]
    lane, word = (np.float32, np.uint32) if lane_bits == 32 else (np.float64, np.uint64)
    lane_bytes, side = lane_bits // 8, pack.SIDE

    @jit
    def fill(argument):
        job = record_at(argument, PACKING)
        shape, steps = (job.rows, job.k_count), (job.row_step, job.k_step)
        codes = strided_at(job.codes, shape, steps, code)
        panels, count = job.panels, -(-job.rows // PANEL)
        row = job.panel0 * PANEL  # of the panels
        packed, depth = record_at(job.params, side), job.k_count
        at = panels.values + row * panels.depth * lane_bytes
        values = array_at(at, (count, panels.depth, PANEL), lane)
        pack.fill_values(codes, packed, job.k0, job.start, values)
        if aligned:
            at = panels.exponents + row * panels.depth * 4
            exponents = array_at(at, (count, panels.depth, PANEL), np.int32)
            pack.fill_aligned(values, packed, job.k0, depth, job.start, exponents)
        if drawn:
            at = panels.words + row * panels.steps * lane_bytes
            words = array_at(at, (count, panels.steps, PANEL), word)
            at = panels.chunk_words + row * panels.chunks * 4
            chunk_words = array_at(at, (count, panels.chunks, PANEL), np.uint32)
            pack.fill_drawn(packed, job.first, job.k0, depth, job.start, words, chunk_words)
        if half:
            whole = job.start == 0 and job.k0 + depth == panels.depth
            if whole and panels.halves:
                fill_halves(panels, packed, job.panel0, count)

    return fill


@dataclasses.dataclass(frozen=True, eq=False)
class Writer:
    """How accumulators become results."""

    function: Any  #: compiled; it takes the address of a `WRITING`
    params: NDArray[np.void]  #: an array of one record
    result_bytes: int  #: of one result


@functools.lru_cache(256)
def code_writer(fmt: FloatFormat, scale: int) -> Writer:
    """The writer of codes of a format; accumulators carry a factor of 2^scale."""
    size = fmt.dtype.itemsize
    return Writer(_code_writer(size), pack.encoder(fmt.facts, scale), size)


@functools.lru_cache(256)
def value_writer(fmt: FloatFormat, scale: int, exponent: int, value_bytes: int) -> Writer:
    """The writer of values of a format, times 2^exponent, as floats of 4 or 8 bytes."""
    params = np.zeros(1, pack.VALUES)
    params["factor"], params["infinite"] = np.ldexp(1.0, exponent - scale), fmt.has_inf
    narrow = value_bytes == 4 and -126 <= exponent - scale <= 127
    return Writer(_value_writer(value_bytes, 4 if narrow else 8), params, value_bytes)


@functools.cache
def _code_writer(code_bytes: int) -> Any:
    """The compiled function that writes results as codes of so many bytes."""
    code, parameters = _CODES[code_bytes], pack.ENCODER

    @jit
    def write(argument):
        job = record_at(argument, WRITING)
        shape, steps = (job.rows, job.columns), (job.row_step, job.column_step)
        results = strided_at(job.results, shape, steps, code)
        panels = -(-job.rows // PANEL), -(-job.columns // PANEL), PANEL, PANEL
        total = array_at(job.total, panels, np.float32)
        pack.encode_panels(total, array_at(job.params, (1,), parameters), results)

    return write


@functools.cache
def _value_writer(value_bytes: int, factor_bytes: int) -> Any:
    """The compiled function that writes results as floats of so many bytes, times one of `factor_bytes`."""
    value, factor = _FLOATS[value_bytes], _FLOATS[factor_bytes]
    parameters = pack.VALUES

    @jit
    def write(argument):
        job = record_at(argument, WRITING)
        shape, steps = (job.rows, job.columns), (job.row_step, job.column_step)
        results = strided_at(job.results, shape, steps, value)
        panels = -(-job.rows // PANEL), -(-job.columns // PANEL), PANEL, PANEL
        total = array_at(job.total, panels, np.float32)
        params = record_at(job.params, parameters)
        job.nonfinite |= pack.panels_to_values(
            total, factor(params.factor), params.infinite, results
        )  # fmt: skip

    return write


@jit
def pack_codes(job, view, k0, k_count, start, panel0):
    """Fill panels, those that begin at k = `start`, from `panel0` on.

    Args:
        job: a `PACKING`, its function, parameters and panels set.
        view: the codes: (address, bytes from row to row, bytes from k to k, first row, rows).
        k0, k_count: the range of k of the codes.
    """
    job.codes, job.row_step, job.k_step, job.first, job.rows = view
    job.k0, job.k_count, job.start, job.panel0 = k0, k_count, start, panel0
    call(job.function, address_of(job))


@jit
def write_results(job, address, row_step, rows, columns):
    """Write rows × columns results into a matrix at an address.

    Args:
        job: a `WRITING`, its function, parameters, totals and column step set.
    """
    job.results, job.row_step, job.rows, job.columns = address, row_step, rows, columns
    call(job.function, address_of(job))
