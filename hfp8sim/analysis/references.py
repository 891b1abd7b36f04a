"""The references of a result: exact, or in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.integer import integer_product
from hfp8sim.kernels.sparse import sparse_product

Codes = NDArray[np.unsignedinteger[Any]]


def product(a: NDArray[Any], b: NDArray[Any], threads: int = 1) -> NDArray[np.float64]:
    """The float64 product (G, M, N) of A (G, M, K) and B (G, K, N).

    Where sums are inexact, their last bits depend on the order of their additions: that of k, or what NumPy's BLAS and
    its threads make of it.

    Args:
        threads: worker threads, where BLAS is not used.
    """
    parts = []
    for rows, columns in zip(a, b):
        part = sparse_product(rows, columns, threads) if a.dtype == b.dtype == np.float32 else None
        if part is None:
            return _product_by_blas(a, b)
        parts.append(part)
    return _stacked(parts)


def product_of_codes(
    a: Codes, b: Codes, a_format: FloatFormat, b_format: FloatFormat, threads: int = 1
) -> NDArray[np.float64]:
    """The float64 product of the numbers of codes.

    Args:
        a, b: codes (G, M, K) and (G, K, N).
        threads: worker threads, where BLAS is not used.
    """
    parts = []
    for rows, columns in zip(a, b):
        part = integer_product(rows, columns, a_format, b_format, threads)
        if part is None:
            return _product_by_blas(a_format.decode(a), b_format.decode(b))
        parts.append(part)
    return _stacked(parts)


def _product_by_blas(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.matmul(
        a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
    )
    return result


def _stacked(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The products of all groups; that of one group is not copied."""
    return parts[0][None] if len(parts) == 1 else np.stack(parts)
