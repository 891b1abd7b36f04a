"""Rows of results: one unit over all codes of one of its inputs.

Each loop is compiled for one format and mode as constants. It is the emulator's own source text, and a few
times faster than with both as arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim.formats.codec import encode_one
from hfp8sim.formats.vocabulary import Facts
from hfp8sim.units.mac import fma, operand, product
from hfp8sim.units.sums import Rounder

Row = Callable[..., None]


@jit_inlined
def product_row_of(sig, exp, random, fmt, mode, policy, r, codes, flags):  # type: ignore[no-untyped-def]
    """fma of one exact product sig·2^exp with every accumulator code."""
    for acc in range(codes.size):
        code, flag = fma(np.int64(acc), (sig, exp), Rounder(fmt, mode, policy, r, random))
        codes[acc] = code
        flags[acc] = flag


@jit_inlined
def add_row_of(total, addend, random, fmt, mode, policy, r, codes, flags):  # type: ignore[no-untyped-def]
    """The running total of chunks plus every code of the format `addend`."""
    for code in range(codes.size):
        rounder = Rounder(fmt, mode, policy, r, random)
        result, flag = fma(total, operand(np.int64(code), addend), rounder)
        codes[code] = result
        flags[code] = flag


@jit_inlined
def encode_row_of(bits, random, fmt, mode, policy, r, codes, flags):  # type: ignore[no-untyped-def]
    """Every binary64 number of `bits` (int64), with one random word for all."""
    for i in range(codes.size):
        code, flag = encode_one(bits[i], fmt, mode, policy, r, random)
        codes[i] = code
        flags[i] = flag


@jit
def product_row_any(sig, exp, random, fmt, mode, policy, r, codes, flags):  # type: ignore[no-untyped-def]
    """`product_row_of`, compiled once for all formats and modes."""
    product_row_of(sig, exp, random, fmt, mode, policy, r, codes, flags)


@jit
def add_row_any(total, addend, random, fmt, mode, policy, r, codes, flags):  # type: ignore[no-untyped-def]
    """`add_row_of`, compiled once for all formats and modes."""
    add_row_of(total, addend, random, fmt, mode, policy, r, codes, flags)


@jit
def encode_row_any(bits, random, fmt, mode, policy, r, codes, flags):  # type: ignore[no-untyped-def]
    """`encode_row_of`, compiled once for all formats and modes."""
    encode_row_of(bits, random, fmt, mode, policy, r, codes, flags)


@jit
def product_table(a_fmt, b_fmt, sigs, exps):  # type: ignore[no-untyped-def]
    """The exact product sig·2^exp of every pair of codes, as the units pass it to `fma`."""
    for a in range(sigs.shape[0]):
        x = operand(np.int64(a), a_fmt)
        for b in range(sigs.shape[1]):
            sigs[a, b], exps[a, b] = product(x, operand(np.int64(b), b_fmt))


@functools.cache
def product_row(fmt: Facts, mode: int, policy: int, r: int) -> Row:
    """`product_row_of` with the format and the mode as constants: (sig, exp, random, codes, flags)."""

    @jit
    def row(sig, exp, random, codes, flags):  # type: ignore[no-untyped-def]
        product_row_of(sig, exp, random, fmt, mode, policy, r, codes, flags)

    return row


@functools.cache
def add_row(fmt: Facts, addend: Facts, mode: int, policy: int, r: int) -> Row:
    """`add_row_of` with the formats and the mode as constants: (total, random, codes, flags)."""

    @jit
    def row(total, random, codes, flags):  # type: ignore[no-untyped-def]
        add_row_of(total, addend, random, fmt, mode, policy, r, codes, flags)

    return row


@functools.cache
def encode_row(fmt: Facts, mode: int, policy: int, r: int) -> Row:
    """`encode_row_of` with the format and the mode as constants: (bits, random, codes, flags)."""

    @jit
    def row(bits, random, codes, flags):  # type: ignore[no-untyped-def]
        encode_row_of(bits, random, fmt, mode, policy, r, codes, flags)

    return row


def widened(start: int, count: int) -> NDArray[np.int64]:
    """Bit patterns of binary64 of the binary32 codes start … start + count − 1 (exact)."""
    codes = np.arange(start, start + count, dtype=np.uint32)
    with np.errstate(all="ignore"):
        wide: NDArray[Any] = codes.view(np.float32).astype(np.float64)
    return wide.view(np.int64)
