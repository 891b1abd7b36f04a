"""Products of matrices by stochastic bit streams."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.jit import config
from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat
from hfp8sim.kernels import bitstream as kernel
from hfp8sim.units import bitstream as unit
from hfp8sim.units.profile import Profile

Codes = NDArray[np.unsignedinteger[Any]]
#: Bits of all streams of a row, at most: a bit's number is one of 32 bits.
_MAX_BITS = 1 << 32


def bitstream_gemm(
    a: Codes, b: Codes, profile: Profile, a_format: FloatFormat, b_format: FloatFormat, seed: int, stream: int
) -> Codes:  # fmt: skip
    """The product of codes (M, K) × (K, N) by a profile whose multiplier counts bits; codes (M, N).

    Raises:
        InputError: operands beyond ±1 or finer than 2^−32; K times the stream's length of 2^32 or more.
    """
    length, bipolar = profile.stream_length, profile.multiplier == "bipolar"
    if a.shape[1] * length >= _MAX_BITS:
        raise InputError(f"K·L is {a.shape[1]}·{length}; bit streams take less than 2^32")
    left = unit.streams(a, a_format, bipolar, "a")
    right = unit.streams(np.ascontiguousarray(b.T), b_format, bipolar, "b")
    keys = unit.stream_keys_of(seed, stream)
    independent = profile.streams == "independent"
    if config.DISABLE_JIT:
        counts = np.zeros((a.shape[0], b.shape[1]), np.int64)
        unit.plain_counts(*left, *right, keys, length, bipolar, independent, counts)
    else:
        counts = kernel.counts(left, right, keys, length, bipolar, independent)
    return profile.result_format.encode(
        counts / length, rounding=profile.rounding, overflow=profile.overflow
    )
