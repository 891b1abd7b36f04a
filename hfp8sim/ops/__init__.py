"""What is called on arrays: products and conversions, arrays in and arrays out.

An operation chooses the fast kernels or the plain loop; the bits are the same.
"""

from hfp8sim.ops.conversions import convert
from hfp8sim.ops.products import Events, explain, gemm

__all__ = ["Events", "convert", "explain", "gemm"]
