"""`gemm` and `batched`: matrix products in the machine's arithmetic."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from hfp8sim import kernels
from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.form import Overflow
from hfp8sim.ops.events import Events, count_nan, no_counts
from hfp8sim.ops.operand import Operand, as_operand
from hfp8sim.ops.plain import plain_gemm
from hfp8sim.ops.results import (
    Results,
    Status,
    allocate_result,
    check_status,
    count_nan_results,
    has_special,
    result_writer,
    share_memory,
)
from hfp8sim.ops.threads import thread_count
from hfp8sim.units.accumulator import DRAWS, check_source, gemm_facts, stream_keys
from hfp8sim.units.profile import Profile, get_profile

_NO_KEYS = np.empty((0, 4), np.uint64)


@overload
def gemm(
    a: ArrayLike | Operand, b: ArrayLike | Operand, profile: str | Profile = ..., *,
    a_format: str | FloatFormat | None = ..., b_format: str | FloatFormat | None = ..., seed: int = ...,
    stream: int = ..., threads: int | None = ..., events: Literal[False] = ...,
    out_dtype: DTypeLike | None = ..., out: Results | None = ..., status: Status | None = ...,
) -> Results: ...  # fmt: skip
@overload
def gemm(
    a: ArrayLike | Operand, b: ArrayLike | Operand, profile: str | Profile = ..., *,
    a_format: str | FloatFormat | None = ..., b_format: str | FloatFormat | None = ..., seed: int = ...,
    stream: int = ..., threads: int | None = ..., events: Literal[True],
    out_dtype: DTypeLike | None = ..., out: Results | None = ..., status: Status | None = ...,
) -> tuple[Results, Events]: ...  # fmt: skip


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
    out_dtype: DTypeLike | None = None,
    out: Results | None = None,
    status: Status | None = None,
) -> Results | tuple[Results, Events]:
    """Multiply matrices of codes as the machine would: every bit of docs/numerics.md, section 3.

    Args:
        a, b: codes of shape (M, K) and (K, N) in `a_format` and `b_format`; K may be 0. Or `Operand`s of
            those shapes, which have formats of their own. Any strides.
        profile: a name or a record.
        a_format, b_format: names or records; the profile's forward formats by default.
        seed, stream: of the random bits, 0 ≤ n < 2^64 (stochastic roundings only).
        threads: worker threads; all cores by default. No result depends on it.
        events: also return the `Events`.
        out_dtype: float32 or float64 for values instead of codes: decode(code) · 2^(the operands' exponents).
            They are exact, but for a float32 that cannot hold a value: it is rounded to nearest, ties to even.
        out: an array of the result's shape and dtype to fill in and return, of any strides. If it overlaps an
            operand, it is filled in when all results are computed.
        status: flags that this product raises: `nonfinite` if a result is infinite or NaN.

    Returns:
        Codes of the profile's `result_format`, or values, of shape (M, N); with `events` a pair.

    Raises:
        InputError: operands that are not matrices of codes of their format or do not fit each other,
            an unknown profile or format, threads < 1; operands with a scale whose result shall be codes;
            `out_dtype` or `out` that is not as above.
    """
    product = check_product(a, b, profile, a_format, b_format)
    return product.compute(seed, stream, threads, events, out_dtype, out, status)


@overload
def batched(
    a: ArrayLike | Operand, b: ArrayLike | Operand, profile: str | Profile = ..., *,
    a_format: str | FloatFormat | None = ..., b_format: str | FloatFormat | None = ..., seed: int = ...,
    stream: int = ..., threads: int | None = ..., events: Literal[False] = ...,
    out_dtype: DTypeLike | None = ..., out: Results | None = ..., status: Status | None = ...,
) -> Results: ...  # fmt: skip
@overload
def batched(
    a: ArrayLike | Operand, b: ArrayLike | Operand, profile: str | Profile = ..., *,
    a_format: str | FloatFormat | None = ..., b_format: str | FloatFormat | None = ..., seed: int = ...,
    stream: int = ..., threads: int | None = ..., events: Literal[True],
    out_dtype: DTypeLike | None = ..., out: Results | None = ..., status: Status | None = ...,
) -> tuple[Results, Events]: ...  # fmt: skip


@standard_arithmetic
def batched(
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
    out_dtype: DTypeLike | None = None,
    out: Results | None = None,
    status: Status | None = None,
) -> Results | tuple[Results, Events]:
    """Multiply stacks of matrices of codes, (G, M, K) × (G, K, N) → (G, M, N), in one compiled call.

    The stacks may have any number of leading axes, which broadcast as those of `numpy.matmul`. Nothing is copied.
    Product g of the stack, counted in row-major order of the leading axes, is bit-equal to
    `gemm(a[g], b[g], …, seed=seed, stream=(stream + g) mod 2^64)`: the rule of a layer's groups
    (docs/numerics.md, section 4).

    Args:
        a, b: codes or `Operand`s of shape (…, M, K) and (…, K, N). Any strides, 0 among them.
        profile, a_format, b_format, seed, threads, out_dtype, out, status: as `gemm`.
        stream: of the first product.
        events: also return the `Events` of all products.

    Returns:
        Codes of the profile's `result_format`, or values, of shape (…, M, N); with `events` a pair.

    Raises:
        InputError: as `gemm`; leading axes that do not broadcast.
    """
    product = check_product(a, b, profile, a_format, b_format, stacks=True)
    return product.compute(seed, stream, threads, events, out_dtype, out, status)


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

    Arguments and errors are those of `gemm`. Only the operands are scanned; no product is computed. On a processor
    with lanes of binary16 the plan has the share of them, `Plan.share`.
    """
    product = check_product(a, b, profile, a_format, b_format)
    plan = product.plan(events)
    if plan.window is None:
        return plan
    share = kernels.share_of_halves(plan, product.a.codes, product.b.codes)
    return dataclasses.replace(plan, share=share)


class Product(NamedTuple):
    """Matrix products whose arguments have been checked: (…, M, K) × (…, K, N)."""

    profile: Profile
    a: Operand
    b: Operand
    leading: tuple[
        int, ...
    ]  #: axes of the result before M and N; those of a and b broadcast to them

    def plan(self, events: bool) -> kernels.Plan:
        """The kernel of the products."""
        if self.profile.multiplier != "exact":
            return kernels.Plan(None, f"{self.profile.multiplier} bit streams are counted")
        a, b = self.a, self.b
        return kernels.shared_plan(
            self.profile, a.format, b.format, a.scan, b.scan, a.shape[-1], events
        )

    def compute(
        self, seed: int, stream: int, threads: int | None, events: bool, out_dtype: DTypeLike | None,
        out: Results | None, status: Status | None,
    ) -> Results | tuple[Results, Events]:  # fmt: skip
        """All products; the arguments and the result are those of `batched`."""
        profile, a, b, leading = self
        depth, exponent, fmt = a.shape[-1], a.exponent + b.exponent, profile.result_format
        shape = *leading, a.shape[-2], b.shape[-1]
        check_status(status)
        result = allocate_result(shape, fmt, exponent, out_dtype, out)
        if out is not None and share_memory(out, a, b):
            answer = self.compute(
                seed, stream, threads, events, out_dtype, np.empty(shape, result.dtype), status
            )
            result[...] = answer[0] if events else answer
            return (result, answer[1]) if events else result
        if profile.multiplier != "exact":
            return self._counted(result, seed, stream, events, status)
        plan, count = self.plan(events), thread_count(threads)
        check_source(seed, stream)
        keys = stream_keys(seed, stream, _size(leading)) if plan.draws else _NO_KEYS
        if result.size == 0:
            return (result, Events()) if events else result
        if plan.kernel is None or depth == 0:
            return self._plain(result, seed, stream, count, events, status)
        outcome = kernels.multiply(
            plan, a.codes, b.codes, (a.format, b.format, fmt), keys, result, count,
            result_writer(plan, fmt, exponent, result),
        )  # fmt: skip
        # Where overflow is proved impossible every result is a number.
        numbers = plan.kernel.form.overflow is Overflow.IMPOSSIBLE
        if status is not None:
            status.nonfinite |= outcome.nonfinite or (not numbers and has_special(result, fmt))
        if not events:
            return result
        counts = no_counts()
        counts[: kernels.EVENTS] = outcome.counts
        counts[DRAWS] = result.size * profile.draws(depth)
        return result, Events.of(counts, 0 if numbers else count_nan_results(result, fmt))

    def _counted(
        self, result: Results, seed: int, stream: int, events: bool, status: Status | None
    ) -> Results | tuple[Results, Events]:
        """`compute` by bit streams; the sum is exact, so there are no events but the last rounding's."""
        from hfp8sim.ops.bitstream import bitstream_gemm

        profile, a, b, leading = self
        fmt = profile.result_format
        check_source(seed, stream)
        codes = result if result.dtype.kind == "u" else np.empty(result.shape, fmt.dtype)
        left = np.broadcast_to(a.codes, (*leading, *a.shape[-2:]))
        right = np.broadcast_to(b.codes, (*leading, *b.shape[-2:]))
        for g, place in enumerate(np.ndindex(leading)):
            number = (stream + g) % (1 << 64)
            codes[place] = bitstream_gemm(
                left[place], right[place], profile, a.format, b.format, seed, number
            )
        if codes is not result:
            result[...] = Operand(codes, fmt, a.exponent + b.exponent).values(result.dtype)
        if status is not None:
            status.nonfinite |= has_special(codes, fmt)
        return (result, Events.of(no_counts(), count_nan(codes, fmt))) if events else result

    def _plain(
        self, result: Results, seed: int, stream: int, threads: int, events: bool, status: Status | None
    ) -> Results | tuple[Results, Events]:  # fmt: skip
        """`compute` by the plain loop."""
        profile, a, b, leading = self
        fmt, counts = profile.result_format, no_counts()
        codes = result if result.dtype.kind == "u" else np.empty(result.shape, fmt.dtype)
        left = np.broadcast_to(a.codes, (*leading, *a.shape[-2:]))
        right = np.broadcast_to(b.codes, (*leading, *b.shape[-2:]))
        for g, place in enumerate(np.ndindex(leading)):
            facts = gemm_facts(profile, a.format, b.format, seed, (stream + g) % (1 << 64))
            counts += plain_gemm(left[place], right[place], facts, codes[place], threads)
        if codes is not result:
            result[...] = Operand(codes, fmt, a.exponent + b.exponent).values(result.dtype)
        if status is not None:
            status.nonfinite |= has_special(codes, fmt)
        return (result, Events.of(counts, count_nan(codes, fmt))) if events else result


def check_product(
    a: ArrayLike | Operand,
    b: ArrayLike | Operand,
    profile: str | Profile,
    a_format: str | FloatFormat | None,
    b_format: str | FloatFormat | None,
    stacks: bool = False,
) -> Product:
    """The arguments of `gemm`, or of `batched`.

    Raises:
        InputError: operands that are not matrices (or stacks) of codes of their format or do not fit each
            other, an unknown profile or format.
    """
    profile = get_profile(profile)
    left = as_operand(a, a_format, profile.a_format, "a")
    right = as_operand(b, b_format, profile.b_format, "b")
    for name, operand in (("a", left), ("b", right)):
        if operand.ndim != 2 and not (stacks and operand.ndim > 2):
            wanted = "a matrix or a stack of matrices" if stacks else "a matrix"
            raise InputError(f"{name} must be {wanted}, not an array of shape {operand.shape}")
    (rows, depth), own = left.shape[-2:], right.shape[-2]
    if depth != own:
        raise InputError(f"a is {rows}×{depth}, so b must have {depth} rows, not {own}")
    leading = left.shape[:-2]
    if right.shape[:-2] != leading:
        try:
            leading = np.broadcast_shapes(leading, right.shape[:-2])
        except ValueError:
            raise InputError(
                f"a is a stack of {leading} matrices, b of {right.shape[:-2]}; they must broadcast"
            ) from None
    return Product(profile, left, right, leading)


def _size(shape: tuple[int, ...]) -> int:
    """Elements of an array of a shape."""
    size = 1
    for n in shape:
        size *= n
    return size
