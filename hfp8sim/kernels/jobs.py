"""Packing operands and encoding results, as functions that are called through addresses.

Each takes the address of a record of its arguments, as the macrokernel does (`macrokernel.JOB`). A loop
over them is compiled once, whatever the kernel, its lanes and the codes.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numpy.lib.stride_tricks import as_strided

from hfp8sim._numba.calls import address_of, call, pointer
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim.kernels import pack
from hfp8sim.kernels.form import PANEL
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

#: The argument of an encoding function: accumulators become a matrix of codes (rows, columns).
ENCODING = layout(
    function=np.int64,  # address of the function
    encoder=np.int64,  # address of a format's encoding parameters, a `pack.ENCODER`
    total=np.int64,  # address of running totals, float32 (row panels, column panels, PANEL, PANEL)
    codes=np.int64,  # address of the matrix; the codes of a row are adjacent
    row_step=np.int64,  # bytes from row to row
    rows=np.int64,
    columns=np.int64,
)

_CODES = {1: np.uint8, 2: np.uint16, 4: np.uint32}


@functools.cache
def packer(code_bytes: int, lane_bits: int) -> Any:
    """The compiled function that packs codes of so many bytes into lanes of so many bits."""
    code = _CODES[code_bytes]
    lane, word = (np.float32, np.uint32) if lane_bits == 32 else (np.float64, np.uint64)
    lane_bytes, side = lane_bits // 8, pack.SIDE

    @jit
    def fill(argument):
        job = carray(pointer(argument), (1,), PACKING)[0]
        shape, steps = (job.rows, job.k_count), (job.row_step, job.k_step)
        codes = as_strided(carray(pointer(job.codes), (1,), code), shape, steps)
        panels, count = job.panels, -(-job.rows // PANEL)
        row = job.panel0 * PANEL  # of the panels
        values = pointer(panels.values + row * panels.depth * lane_bytes)
        exponents = pointer(panels.exponents + row * panels.depth * 4)
        words = pointer(panels.words + row * panels.steps * lane_bytes)
        chunk_words = pointer(panels.chunk_words + row * panels.chunks * 4)
        pack.fill(
            codes, carray(pointer(job.params), (1,), side), job.first, job.k0, job.start,
            carray(values, (count, panels.depth, PANEL), lane),
            carray(exponents, (count, panels.depth, PANEL), np.int32),
            carray(words, (count, panels.steps, PANEL), word),
            carray(chunk_words, (count, panels.chunks, PANEL), np.uint32),
        )  # fmt: skip

    return fill


@functools.cache
def result_encoder(code_bytes: int) -> Any:
    """The compiled function that encodes results as codes of so many bytes."""
    code, parameters = _CODES[code_bytes], pack.ENCODER

    @jit
    def encode(argument):
        job = carray(pointer(argument), (1,), ENCODING)[0]
        shape, steps = (job.rows, job.columns), (job.row_step, code_bytes)
        results = as_strided(carray(pointer(job.codes), (1,), code), shape, steps)
        panels = -(-job.rows // PANEL), -(-job.columns // PANEL), PANEL, PANEL
        total = carray(pointer(job.total), panels, np.float32)
        encoder = carray(pointer(job.encoder), (1,), parameters)
        pack.encode_panels(total, encoder, results)

    return encode


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
def encode_codes(job, address, row_step, rows, columns):
    """Encode rows × columns results into a matrix of codes at an address.

    Args:
        job: an `ENCODING`, its function, encoder and totals set.
    """
    job.codes, job.row_step, job.rows, job.columns = address, row_step, rows, columns
    call(job.function, address_of(job))
