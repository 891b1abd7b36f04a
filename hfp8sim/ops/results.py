"""What a product gives: an array of codes or of values, and flags."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hfp8sim import kernels
from hfp8sim.arrays import check_out, checked_dtype
from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat
from hfp8sim.ops.events import count_nan
from hfp8sim.ops.operand import Operand

#: An array of codes, or of float32 or float64.
Results = NDArray[Any]


@dataclasses.dataclass
class Status:
    """Sticky flags, as those of IEEE 754: products raise them, and nothing but the caller lowers them.

    One object may be given to any number of products, those of a whole training step for example.
    """

    nonfinite: bool = False  #: some result was infinite or NaN

    def clear(self) -> None:
        """Lower all flags."""
        self.nonfinite = False


def check_status(status: Status | None) -> None:
    """`InputError` unless the argument `status` can take a product's flags."""
    if status is not None and not isinstance(status, Status):
        raise InputError(f"status is {status!r:.60}; it must be an hs.Status")


def allocate_result(
    shape: tuple[int, ...],
    fmt: FloatFormat,
    exponent: int,
    out_dtype: DTypeLike | None,
    out: Results | None,
) -> Results:
    """The array that a product fills in: `out`, or a new one.

    Args:
        shape: of the results.
        fmt: of the results.
        exponent: of their scale.
        out_dtype: None for codes, else float32 or float64.

    Raises:
        InputError: another dtype; codes of a result with a scale; what `check_out` refuses, or an `out` that is not aligned.
    """
    dtype = fmt.dtype if out_dtype is None else checked_dtype(out_dtype, "out_dtype")
    if out_dtype is not None and dtype not in (np.float32, np.float64):
        raise InputError(f"out_dtype is {dtype}; it must be float32, float64, or None for codes")
    if out_dtype is None and exponent:
        raise InputError(
            f"codes cannot carry the operands' scale of 2^{exponent}; use out_dtype='float32'"
        )
    if out is None:
        try:
            return np.empty(shape, dtype)
        except ValueError:
            raise InputError(f"the result has shape {shape}: more bytes than memory has") from None
    check_out(out, dtype, shape)
    if not out.flags.aligned:
        raise InputError("out is not aligned; its elements must lie at multiples of their size")
    return out


def share_memory(out: Results, *operands: Operand) -> bool:
    """Whether `out` may overlap the codes of an operand: their ranges of addresses do."""
    return any(np.may_share_memory(out, operand.codes) for operand in operands)


def result_writer(
    plan: kernels.Plan, fmt: FloatFormat, exponent: int, result: Results
) -> kernels.Writer:
    """How a plan's accumulators become results of an array's dtype."""
    if result.dtype.kind == "f":
        return kernels.value_writer(fmt, plan.scale, exponent, result.itemsize)
    return kernels.code_writer(fmt, plan.scale)


def has_special(result: Results, fmt: FloatFormat) -> bool:
    """Whether some result that a kernel has written is infinite or NaN, codes or values."""
    if result.dtype.kind == "f":
        return False  # the writer has looked at each value
    return kernels.scan(result, fmt).special


def count_nan_results(result: Results, fmt: FloatFormat) -> int:
    """How many results are NaN, codes or values."""
    if result.dtype.kind == "f":
        return int(np.count_nonzero(np.isnan(result)))
    return count_nan(result, fmt)
