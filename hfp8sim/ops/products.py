"""`gemm`: a whole matrix product in the machine's arithmetic, codes in and codes out."""

from __future__ import annotations

from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim import kernels
from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.form import Overflow
from hfp8sim.ops.events import Events, count_nan, no_counts
from hfp8sim.ops.operand import Codes, Operand, as_operand
from hfp8sim.ops.plain import plain_gemm
from hfp8sim.ops.threads import thread_count
from hfp8sim.units.accumulator import DRAWS, gemm_facts
from hfp8sim.units.profile import Profile, get_profile


@overload
def gemm(
    a: ArrayLike | Operand, b: ArrayLike | Operand, profile: str | Profile = ..., *, a_format: str | FloatFormat | None = ...,
    b_format: str | FloatFormat | None = ..., seed: int = ..., stream: int = ...,
    threads: int | None = ..., events: Literal[False] = ...,
) -> Codes: ...  # fmt: skip
@overload
def gemm(
    a: ArrayLike | Operand, b: ArrayLike | Operand, profile: str | Profile = ..., *, a_format: str | FloatFormat | None = ...,
    b_format: str | FloatFormat | None = ..., seed: int = ..., stream: int = ...,
    threads: int | None = ..., events: Literal[True],
) -> tuple[Codes, Events]: ...  # fmt: skip


@standard_arithmetic
def gemm(
    a: ArrayLike | Operand,
    b: ArrayLike | Operand,
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
        a, b: codes of shape (M, K) and (K, N) in `a_format` and `b_format`; K may be 0. Or `Operand`s of
            those shapes, which have formats of their own.
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
    product = check_product(a, b, profile, a_format, b_format)
    profile, left, right = product
    facts = gemm_facts(profile, left.format, right.format, seed, stream)
    depth = left.shape[1]
    result = np.empty((left.shape[0], right.shape[1]), profile.result_format.dtype)
    plan, threads = product.plan(events), thread_count(threads)
    if plan.kernel is None or depth == 0:
        counts = plain_gemm(left.codes, right.codes, facts, result, threads)
        return (result, _events(counts, result, profile)) if events else result
    formats = left.format, right.format, profile.result_format
    counted = kernels.multiply(
        plan, left.codes, right.codes, formats, facts.keys, result, threads
    )  # fmt: skip
    if not events:
        return result
    counts = no_counts()
    counts[: kernels.EVENTS], counts[DRAWS] = counted, result.size * profile.draws(depth)
    if (
        plan.kernel.form.overflow is Overflow.IMPOSSIBLE
    ):  # overflow is proved impossible: every result is a number
        return result, Events.of(counts, 0)
    return result, _events(counts, result, profile)


@standard_arithmetic
def explain(
    a: ArrayLike | Operand,
    b: ArrayLike | Operand,
    profile: str | Profile = "hfp8",
    *,
    a_format: str | FloatFormat | None = None,
    b_format: str | FloatFormat | None = None,
    events: bool = False,
) -> kernels.Plan:
    """How `gemm` would compute this product: which kernel, and why it is right. `str` gives one line.

    Arguments and errors are those of `gemm`. Only the operands are scanned; no product is computed.
    """
    return check_product(a, b, profile, a_format, b_format).plan(events)


class Product(NamedTuple):
    """A matrix product whose arguments have been checked: (M, K) × (K, N)."""

    profile: Profile
    a: Operand
    b: Operand

    def plan(self, events: bool) -> kernels.Plan:
        """The kernel of the product."""
        a, b = self.a, self.b
        return kernels.plan(self.profile, a.format, b.format, a.scan, b.scan, a.shape[1], events)


def check_product(
    a: ArrayLike | Operand,
    b: ArrayLike | Operand,
    profile: str | Profile,
    a_format: str | FloatFormat | None,
    b_format: str | FloatFormat | None,
) -> Product:
    """The arguments of `gemm`.

    Raises:
        InputError: operands that are not matrices of codes of their format or do not fit each other,
            an unknown profile or format.
    """
    profile = get_profile(profile)
    left = as_operand(a, a_format, profile.a_format, "a")
    right = as_operand(b, b_format, profile.b_format, "b")
    for name, operand in (("a", left), ("b", right)):
        if operand.ndim != 2:
            raise InputError(f"{name} must be a matrix, not an array of shape {operand.shape}")
    if left.shape[1] != right.shape[0]:
        raise InputError(
            f"a is {left.shape[0]}×{left.shape[1]}, so b must have {left.shape[1]} rows, not {right.shape[0]}"
        )
    return Product(profile, left, right)


def _events(counts: NDArray[np.int64], result: Codes, profile: Profile) -> Events:
    return Events.of(counts, count_nan(result, profile.result_format))
