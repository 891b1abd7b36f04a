"""Operations on arrays: products and conversions, arrays in and arrays out.

An operation uses the fast kernels where they are proved right, and else the plain loop; the bits are the same.
`convolutions` is not loaded with the package: products do without.
"""

from hfp8sim.ops.conversions import convert, round_values
from hfp8sim.ops.events import Events, count_nan, no_counts
from hfp8sim.ops.operand import Operand
from hfp8sim.ops.plain import PlainTile, plain_gemm
from hfp8sim.ops.products import batched, explain, gemm
from hfp8sim.ops.results import Status
from hfp8sim.ops.threads import thread_count

__all__ = [
    "Events",
    "Operand",
    "PlainTile",
    "Status",
    "batched",
    "convert",
    "count_nan",
    "explain",
    "gemm",
    "no_counts",
    "plain_gemm",
    "round_values",
    "thread_count",
]
