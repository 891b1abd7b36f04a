"""`gemm`: a whole matrix product in the machine's arithmetic, codes in and codes out."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim import kernels
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.form import Overflow
from hfp8sim.ops.events import Events, count_nan, no_counts
from hfp8sim.ops.operands import Codes, Operands, check_operands, thread_count
from hfp8sim.ops.plain import plain_gemm
from hfp8sim.units.accumulator import DRAWS, gemm_facts
from hfp8sim.units.profile import Profile


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
    operands = check_operands(a, b, profile, a_format, b_format)
    a, b, profile = operands.a, operands.b, operands.profile
    facts = gemm_facts(profile, operands.a_format, operands.b_format, seed, stream)
    result = np.empty((a.shape[0], b.shape[1]), profile.result_format.dtype)
    plan, threads = _plan(operands, events), thread_count(threads)
    if plan.kernel is None or a.shape[1] == 0:
        counts = plain_gemm(a, b, facts, result, threads)
        return (result, _events(counts, result, profile)) if events else result
    formats = operands.a_format, operands.b_format, profile.result_format
    counted = kernels.multiply(plan, a, b, formats, facts.keys, result, threads)
    if not events:
        return result
    counts = no_counts()
    counts[: kernels.EVENTS], counts[DRAWS] = counted, result.size * profile.draws(a.shape[1])
    if (
        plan.kernel.form.overflow is Overflow.IMPOSSIBLE
    ):  # overflow is proved impossible: every result is a number
        return result, Events.of(counts, 0)
    return result, _events(counts, result, profile)


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

    Arguments and errors are those of `gemm`. Only the operands are scanned; no product is computed.
    """
    return _plan(check_operands(a, b, profile, a_format, b_format), events)


def _plan(operands: Operands, events: bool) -> kernels.Plan:
    profile, fmt_a, fmt_b, a, b = operands
    scans = kernels.scan(a, fmt_a), kernels.scan(b, fmt_b)
    return kernels.plan(profile, fmt_a, fmt_b, *scans, a.shape[1], events)


def _events(counts: NDArray[np.int64], result: Codes, profile: Profile) -> Events:
    return Events.of(counts, count_nan(result, profile.result_format))
