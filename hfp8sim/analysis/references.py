"""The references of a result: exact, or in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim.formats import FloatFormat
from hfp8sim.kernels.integer import integer_product

Codes = NDArray[np.unsignedinteger[Any]]


def product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """The float64 product (G, M, N) of A (G, M, K) and B (G, K, N).

    Where sums are inexact, their last bits depend on NumPy's BLAS and on its threads.
    """
    result: NDArray[np.float64] = np.matmul(
        a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
    )
    return result


def product_of_codes(
    a: Codes, b: Codes, a_format: FloatFormat, b_format: FloatFormat, threads: int = 1
) -> NDArray[np.float64]:
    """`product` of the numbers of codes.

    Args:
        a, b: codes (G, M, K) and (G, K, N).
        threads: worker threads, where BLAS is not used.
    """
    exact = []
    for rows, columns in zip(a, b):
        each = integer_product(rows, columns, a_format, b_format, threads)
        if each is None:
            return product(a_format.decode(a), b_format.decode(b))
        exact.append(each)
    return exact[0][None] if len(exact) == 1 else np.stack(exact)
