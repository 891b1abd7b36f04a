"""`gemm`: a whole matrix product in the machine's arithmetic, codes in and codes out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim import kernels
from hfp8sim._numba.jit import jit
from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.formats.rounding import is_nan
from hfp8sim.formats.vocabulary import is_stochastic
from hfp8sim.units import accumulator as acc
from hfp8sim.units.profile import Profile, get_profile
from hfp8sim.units.random import LFSR

Codes = NDArray[np.unsignedinteger[Any]]

#: Outputs per tile of the plain loop (rows, columns) and the longest K that is unpacked at once.
_TILE_M, _TILE_N, _TILE_K = 32, 64, 4096


@dataclasses.dataclass(frozen=True)
class Events:
    """What happened inside a GEMM, counted over all outputs.

    `swamped`: steps whose products summed to something other than zero and left the (finite)
    accumulator unchanged. `overflowed`, `underflowed`: roundings that raised the flag. `nan`: outputs that are NaN.
    `draws`: random words used.
    """

    swamped: int = 0
    overflowed: int = 0
    underflowed: int = 0
    nan: int = 0
    draws: int = 0

    def __add__(self, other: Events) -> Events:
        return Events(
            *(x + y for x, y in zip(dataclasses.astuple(self), dataclasses.astuple(other)))
        )


def operand_codes(x: ArrayLike, fmt: FloatFormat, name: str) -> Codes:
    """Check a matrix of codes: 2-D, unsigned integers (or signed, non-negative) below 2**bits."""
    codes = np.asarray(x)
    if codes.dtype.kind not in "ui":
        raise InputError(
            f"{name} must hold {fmt.name} codes (unsigned integers), not {codes.dtype}; "
            f"encode numbers first: get_format({fmt.name!r}).encode(x)"
        )
    if codes.ndim != 2:
        raise InputError(f"{name} must be a matrix, not an array of shape {codes.shape}")
    if codes.dtype == fmt.dtype and fmt.bits == 8 * fmt.dtype.itemsize:
        return codes
    if codes.size and (int(codes.min()) < 0 or int(codes.max()) >> fmt.bits):
        raise InputError(f"{name} holds codes outside 0..{(1 << fmt.bits) - 1} of {fmt.name}")
    return codes.astype(fmt.dtype, copy=False)


@overload
def gemm(
    a: ArrayLike, b: ArrayLike, profile: str | Profile = ..., *, a_format: str | FloatFormat | None = ...,
    b_format: str | FloatFormat | None = ..., seed: int = ..., stream: int = ...,
    threads: int | None = ..., events: Literal[False] = ...,
) -> Codes: ...  # fmt: skip
@overload
def gemm(
    a: ArrayLike, b: ArrayLike, profile: str | Profile = ..., *, a_format: str | FloatFormat | None = ...,
    b_format: str | FloatFormat | None = ..., seed: int = ..., stream: int = ...,
    threads: int | None = ..., events: Literal[True],
) -> tuple[Codes, Events]: ...  # fmt: skip


@standard_arithmetic
def gemm(
    a: ArrayLike,
    b: ArrayLike,
    profile: str | Profile = "hfp8",
    *,
    a_format: str | FloatFormat | None = None,
    b_format: str | FloatFormat | None = None,
    seed: int = 0,
    stream: int = 0,
    threads: int | None = None,
    events: bool = False,
) -> Codes | tuple[Codes, Events]:
    """Multiply matrices of codes as the machine would: every bit of docs/numerics.md, section 3.

    Args:
        a, b: codes of shape (M, K) and (K, N) in `a_format` and `b_format`; K may be 0.
        profile: a name or a record.
        a_format, b_format: names or records; the profile's forward formats by default.
        seed, stream: of the random bits, 0 ≤ n < 2^64 (stochastic roundings only).
        threads: worker threads; all cores by default. No result depends on it.
        events: also return the `Events`.

    Returns:
        Codes of the profile's `result_format`, shape (M, N); with `events` a pair.

    Raises:
        InputError: operands that are not matrices of codes of their format or do not fit each other,
            an unknown profile or format, threads < 1.
    """
    profile, fmt_a, fmt_b, a, b = _operands(a, b, profile, a_format, b_format)
    facts = acc.gemm_facts(profile, fmt_a, fmt_b, seed, stream)
    result = np.empty((a.shape[0], b.shape[1]), profile.result_format.dtype)
    path = _plan(a, b, profile, fmt_a, fmt_b, events)
    if path.kernel is None or a.shape[1] == 0:
        counts = plain_gemm(a, b, facts, result, thread_count(threads))
    else:
        counts = fast_gemm(a, b, fmt_a, fmt_b, profile, facts, path, result, thread_count(threads))
    if not events:
        return result
    never = path.kernel is not None and path.kernel.over == "free"  # all are numbers, and stay so
    return result, Events(
        int(counts[acc.SWAMPED]), int(counts[acc.OVERFLOWS]), int(counts[acc.UNDERFLOWS]),
        0 if never else count_nan(result, profile.result_format), int(counts[acc.DRAWS]),
    )  # fmt: skip


@standard_arithmetic
def explain(
    a: ArrayLike,
    b: ArrayLike,
    profile: str | Profile = "hfp8",
    *,
    a_format: str | FloatFormat | None = None,
    b_format: str | FloatFormat | None = None,
    events: bool = False,
) -> kernels.Plan:
    """How `gemm` would compute this product: which kernel, and why it is right. `str` gives one line.

    Arguments and errors are those of `gemm`; nothing is computed but a look at the operands.
    """
    profile, fmt_a, fmt_b, a, b = _operands(a, b, profile, a_format, b_format)
    return _plan(a, b, profile, fmt_a, fmt_b, events)


def _operands(
    a: ArrayLike,
    b: ArrayLike,
    profile: str | Profile,
    a_format: str | FloatFormat | None,
    b_format: str | FloatFormat | None,
) -> tuple[Profile, FloatFormat, FloatFormat, Codes, Codes]:
    """The arguments of `gemm`, looked up and checked."""
    profile = get_profile(profile)
    fmt_a = get_format(profile.a_format if a_format is None else a_format)
    fmt_b = get_format(profile.b_format if b_format is None else b_format)
    a, b = operand_codes(a, fmt_a, "a"), operand_codes(b, fmt_b, "b")
    if a.shape[1] != b.shape[0]:
        raise InputError(
            f"a is {a.shape[0]}×{a.shape[1]}, so b must have {a.shape[1]} rows, not {b.shape[0]}"
        )
    return profile, fmt_a, fmt_b, a, b


def _plan(
    a: Codes, b: Codes, profile: Profile, fmt_a: FloatFormat, fmt_b: FloatFormat, events: bool
) -> kernels.Plan:
    scans = kernels.scan(a, fmt_a), kernels.scan(b, fmt_b)
    return kernels.plan(profile, fmt_a, fmt_b, *scans, a.shape[1], events)


def fast_gemm(
    a: Codes,
    b: Codes,
    fmt_a: FloatFormat,
    fmt_b: FloatFormat,
    profile: Profile,
    facts: acc.GemmFacts,
    path: kernels.Plan,
    result: Codes,
    threads: int,
) -> NDArray[np.int64]:
    """A kernel of `kernels`; fills `result`, returns event counts (of what the plan counts)."""
    counts = np.zeros(acc.EVENT_KINDS, np.int64)
    counts[: kernels.EVENTS] = kernels.multiply(
        path, a, b, (fmt_a, fmt_b, profile.result_format),
        ((facts.row_key, facts.between_row_key), (facts.column_key, facts.between_column_key)),
        result, threads,
    )  # fmt: skip
    steps, chunks = path.steps(a.shape[1])
    joins = chunks if facts.chunk_length else 0  # without chunks nothing is rounded between them
    draws = steps * is_stochastic(facts.mode) + joins * is_stochastic(facts.between)
    counts[acc.DRAWS] = result.size * draws
    return counts


def thread_count(threads: int | None) -> int:
    """The number of workers; all cores this process may use when None."""
    if threads is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if threads < 1:
        raise InputError(f"threads is {threads}, must be at least 1")
    return threads


def count_nan(codes: Codes, fmt: FloatFormat) -> int:
    """How many of the codes are NaN or the merged NaN-Infinity."""
    return int(_count_nan(np.ascontiguousarray(codes).reshape(codes.size), fmt.facts))


@jit
def _count_nan(codes, facts):
    n = 0
    for i in range(codes.size):
        n += is_nan(np.int64(codes[i]), facts)
    return n


def plain_gemm(
    a: Codes, b: Codes, facts: acc.GemmFacts, result: Codes, threads: int
) -> NDArray[np.int64]:
    """The plain integer loop over tiles of outputs, in parallel; fills `result`, returns event counts."""
    rows, depth = a.shape
    columns = b.shape[1]
    # Long K is unpacked piecewise; the pieces end where a chunk does.
    length = facts.chunk_length or max(depth, 1)
    piece = max(_TILE_K // length, 1) * length

    @standard_arithmetic
    def tile(m0: int, n0: int) -> NDArray[np.int64]:
        shape = (min(_TILE_M, rows - m0), min(_TILE_N, columns - n0))
        chunk, total = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        lfsr = np.zeros(shape, np.uint64)
        counts = np.zeros(acc.EVENT_KINDS, np.int64)
        if facts.source == LFSR:
            acc.start_lfsr(lfsr, m0, n0, facts)
        m, n = slice(m0, m0 + shape[0]), slice(n0, n0 + shape[1])
        for k0 in range(0, depth, piece):
            k = slice(k0, k0 + piece)
            # One dtype and layout, so that one compiled kernel serves every format.
            tile_a = np.ascontiguousarray(a[m, k], np.uint32)
            tile_b = np.ascontiguousarray(b[k, n], np.uint32)
            acc.gemm_tile(tile_a, tile_b, chunk, total, lfsr, m0, n0, k0, depth, facts, counts)
        result[m, n] = total if facts.chunk_length else chunk
        return counts

    places: Iterable[tuple[int, int]] = [
        (m0, n0) for m0 in range(0, rows, _TILE_M) for n0 in range(0, columns, _TILE_N)
    ]
    counts = np.zeros(acc.EVENT_KINDS, np.int64)
    if threads == 1:
        for m0, n0 in places:
            counts += tile(m0, n0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for one in pool.map(lambda place: tile(*place), places):
                counts += one
    return counts
