"""Arrays of numbers into codes and back: the converter at the emulator's edge.

Inputs are float64 (float32 widens exactly), taken apart into integers; the rest is `round_pack`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim.errors import InputError
from hfp8sim.formats.record import MODES, OVERFLOW, mode_number, overflow_number
from hfp8sim.formats.rounding import (
    ERROR,
    FINITE,
    INFINITE,
    INVALID,
    OVERFLOWED,
    STOCHASTIC_A,
    pack_infinity,
    pack_nan,
    round_pack,
    unpack,
)

if TYPE_CHECKING:
    from hfp8sim.formats.record import FloatFormat

#: Random integers have at most this many bits.
MAX_RANDOM_BITS = 24


@jit_inlined
def encode_one(x, fmt, mode, policy, r, random):
    """Round the binary64 number of bit pattern x (int64): (code, flags)."""
    sign = (x >> 63) & 1
    e = (x >> 52) & 0x7FF
    f = x & 0xFFFFFFFFFFFFF
    if e == 0x7FF:
        return pack_nan(fmt) if f else pack_infinity(sign, fmt, policy)
    sig = f | 1 << 52 if e else f
    return round_pack(sign, sig, max(e, 1) - 1075, False, fmt, mode, policy, r, random)


@jit
def _encode_bits(bits, fmt, mode, policy, r, random, codes, flags):
    """Round binary64 bit patterns (int64, 1-D) into `codes` and `flags`."""
    for i in range(bits.size):
        word = random[i] if random.size else 0
        code, flag = encode_one(bits[i], fmt, mode, policy, r, word)
        codes[i] = code
        flags[i] = flag


@jit
def _decode_codes(codes, fmt, values):
    for i in range(codes.size):
        kind, sign, sig, exp = unpack(np.int64(codes[i]), fmt)
        if kind == FINITE:
            value = math.ldexp(float(sig), int(exp))
        else:
            value = np.inf if kind == INFINITE else np.nan
        values[i] = -value if sign else value


def decode(codes: ArrayLike, fmt: FloatFormat) -> NDArray[np.float64]:
    """See `FloatFormat.decode`."""
    array = np.asarray(codes)
    if array.dtype.kind not in "ui":
        raise InputError(f"{fmt.name} codes must be unsigned integers, not {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) >> fmt.bits):
        raise InputError(f"{fmt.name} codes must lie in 0..{(1 << fmt.bits) - 1}")
    values = np.empty(array.size, np.float64)
    _decode_codes(np.ascontiguousarray(array).ravel(), fmt.facts, values)
    return values.reshape(array.shape)


def check_mode(fmt: FloatFormat, rounding: str, overflow: str, r: int) -> tuple[int, int]:
    """The numbers of mode and policy; `InputError` where the format cannot serve them."""
    mode, policy = mode_number(rounding), overflow_number(overflow)
    if OVERFLOW[policy] == "special" and not (fmt.has_nan or fmt.has_inf):
        raise InputError(
            f"format {fmt.name} has neither infinity nor NaN: overflow must be 'saturate' or 'error'"
        )
    if mode >= STOCHASTIC_A and not 1 <= r <= MAX_RANDOM_BITS:
        raise InputError(f"random bits per rounding is {r}, must be 1..{MAX_RANDOM_BITS}")
    return mode, policy


def first_index(where: NDArray[np.bool_]) -> str:
    """The first true place of a mask, as `[i, j]`."""
    return "[" + ", ".join(str(int(i)) for i in np.argwhere(where)[0]) + "]"


def encode(
    x: ArrayLike,
    fmt: FloatFormat,
    rounding: str,
    overflow: str,
    random_bits: ArrayLike | None,
    r: int,
) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.uint8]]:
    """See `FloatFormat.encode`; also the flags of every element, uint8 of x's shape."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise InputError(f"cannot encode an array of {array.dtype}: real numbers are needed")
    values = np.asarray(array, dtype=np.float64, order="C")
    mode, policy = check_mode(fmt, rounding, overflow, r)
    random = np.empty(0, np.int64)
    if mode >= STOCHASTIC_A:
        if random_bits is None:
            raise InputError(f"rounding {rounding!r} needs random_bits, one integer per element")
        random = np.ascontiguousarray(np.broadcast_to(random_bits, values.shape), np.int64).ravel()
        if random.size and (int(random.min()) < 0 or int(random.max()) >> r):
            raise InputError(f"random_bits must lie in 0..{(1 << r) - 1} (bits={r})")
    elif random_bits is not None:
        raise InputError(f"rounding {rounding!r} ({MODES[mode]}) takes no random_bits")
    if not fmt.has_nan and (nan := np.isnan(values)).any():
        raise InputError(f"NaN at {first_index(nan)}: format {fmt.name} has no code for it")

    codes = np.empty(values.size, fmt.dtype)
    flags = np.empty(values.size, np.uint8)
    _encode_bits(values.ravel().view(np.int64), fmt.facts, mode, policy, r, random, codes, flags)
    shaped: Any = codes.reshape(values.shape), flags.reshape(values.shape)
    codes, flags = shaped
    if policy == ERROR:
        for flag, why in ((OVERFLOWED, "overflows"), (INVALID, "has no code in")):
            bad = (flags & flag) != 0
            if bad.any() and not (flag == INVALID and fmt.has_nan and np.isnan(values[bad]).all()):
                index = first_index(bad)
                raise InputError(
                    f"{float(values[bad].flat[0])!r} at {index} {why} {fmt.name} (max {fmt.max})"
                )
    return codes, flags
