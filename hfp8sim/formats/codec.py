"""Arrays of real numbers to codes and back.

Inputs are float64 (float32 widens exactly). Each is taken apart into integers, and `round_pack` rounds it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from hfp8sim._numba.interpreted import interpreted
from hfp8sim._numba.jit import jit, jit_inlined
from hfp8sim.arrays import (
    check_out,
    checked_array,
    checked_dtype,
    code_bits,
    coded_name,
    widened,
)
from hfp8sim.errors import InputError, check_whole_number
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.formats.dtypes import FORMAT_OF_DTYPE
from hfp8sim.formats.rounding import (
    FINITE,
    INFINITE,
    INVALID,
    OVERFLOWED,
    pack_infinity,
    pack_nan,
    round_pack,
    unpack,
)
from hfp8sim.formats.vocabulary import (
    MAX_RANDOM_BITS,
    MODES,
    Facts,
    Overflow,
    mode_number,
    overflow_number,
    takes_random_bits,
)

Codes = NDArray[np.unsignedinteger[Any]]


class Format(Protocol):
    """What the codec reads of a format's record; `FloatFormat` documents each."""

    @property
    def name(self) -> str: ...
    @property
    def bits(self) -> int: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def max(self) -> float: ...
    @property
    def has_nan(self) -> bool: ...
    @property
    def has_inf(self) -> bool: ...


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
    """Round binary64 bit patterns (int64, 1-D) into `codes` and `flags`; an empty `random` means zeros."""
    for i in range(bits.size):
        word = random[i] if random.size else 0
        code, flag = encode_one(bits[i], fmt, mode, policy, r, word)
        codes[i] = code
        flags[i] = flag


#: Codes that are decoded without a compilation, as for the largest number of a format.
_FEW_CODES = 4
#: Codes of a table that is filled without a compilation: it takes less than a thousandth of a second, once.
_SMALL_TABLE = 256


@jit
def _decode_codes(codes, fmt, values):
    for i in range(codes.size):
        kind, sign, sig, exp = unpack(np.int64(codes[i]), fmt)
        if kind == FINITE:
            value = math.ldexp(float(sig), int(exp))
        else:
            value = np.inf if kind == INFINITE else np.nan
        values[i] = -value if sign else value


# -- arguments: each function returns what it has checked, or raises InputError ----------------------


def code_dtype(bits: int) -> np.dtype[Any]:
    """The narrowest unsigned dtype that holds a code of that many bits: uint8, uint16 or uint32."""
    return np.dtype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)


def check_codes(codes: ArrayLike, name: str, bits: int) -> Codes:
    """`codes` as an array of integers in 0..2^bits − 1; an array of the format's own dtype by its bits."""
    array = checked_array(codes, f"{name} codes")
    if dtype := coded_name(array.dtype):
        if FORMAT_OF_DTYPE[dtype] != name:
            raise InputError(
                f"{name} codes must be unsigned integers; {dtype} are codes of {FORMAT_OF_DTYPE[dtype]}"
            )
        array = code_bits(array)
    if array.dtype.kind == "u" and bits == 8 * array.dtype.itemsize:
        return array
    if array.dtype.kind not in "ui":
        raise InputError(f"{name} codes must be unsigned integers, not {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) >> bits):
        raise InputError(f"{name} codes must lie in 0..{(1 << bits) - 1}")
    return array


def check_numbers(x: ArrayLike) -> NDArray[np.float64]:
    """`x` as float64 in C order; dtypes that float64 does not hold are refused."""
    array = checked_array(x, "x")
    if coded_name(array.dtype):
        array = widened(array)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise InputError(f"cannot encode an array of {array.dtype}: real numbers are needed")
    return np.asarray(array, dtype=np.float64, order="C")


def check_mode(fmt: Format, rounding: str, overflow: str, r: int) -> tuple[int, int]:
    """The numbers of a rounding mode and an overflow policy that the format supports.

    Args:
        fmt: the target format.
        rounding, overflow: public names, see `MODES` and `OVERFLOW`.
        r: random bits of a rounding; only the stochastic modes read it.
    """
    mode, policy = mode_number(rounding), overflow_number(overflow)
    if policy == Overflow.SPECIAL and not (fmt.has_nan or fmt.has_inf):
        raise InputError(
            f"format {fmt.name} has neither infinity nor NaN: overflow must be 'saturate' or 'error'"
        )
    if takes_random_bits(mode):
        check_random_width(r)
    return mode, policy


def check_random_width(r: int) -> int:
    """The number of random bits of a rounding."""
    return check_whole_number(r, "random bits per rounding", 1, MAX_RANDOM_BITS)


def check_random(
    random_bits: ArrayLike | None, shape: tuple[int, ...], rounding: str, r: int
) -> NDArray[np.int64]:
    """The random integers of a stochastic rounding, int64 of the given shape, each below 2^r."""
    if random_bits is None:
        raise InputError(f"rounding {rounding!r} needs random_bits, one integer per element")
    given = checked_array(random_bits, "random_bits")
    if given.dtype.kind not in "iub":
        raise InputError(f"random_bits must be integers, not {given.dtype}")
    try:
        # A view that is broadcast cannot be written, and compiled code would be made for it.
        spread = given if given.shape == shape else np.broadcast_to(given, shape)
        random = np.ascontiguousarray(spread, np.int64)
    except ValueError:
        raise InputError(f"random_bits has shape {given.shape}; it must be {shape}") from None
    if random.size and (int(random.min()) < 0 or int(random.max()) >> r):
        raise InputError(f"random_bits must lie in 0..{(1 << r) - 1} (bits={r})")
    return random.reshape(shape)


def first_index(mask: NDArray[np.bool_]) -> str:
    """The index of the first true element of a mask, as `[i, j]`."""
    return "[" + ", ".join(str(int(i)) for i in np.argwhere(mask)[0]) + "]"


def refuse_nan(values: NDArray[np.float64], name: str) -> None:
    """`InputError` for the first NaN: the format has no code for it."""
    if (nan := np.isnan(values)).any():
        raise InputError(f"NaN at {first_index(nan)}: format {name} has no code for it")


# -- arrays ------------------------------------------------------------------------------------------


@standard_arithmetic
def decode(
    codes: ArrayLike, fmt: Format, dtype: DTypeLike = np.float64, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """The values of codes, see `FloatFormat.decode`."""
    array = check_codes(codes, fmt.name, fmt.bits)
    kind = checked_dtype(dtype, "dtype")
    if kind not in (np.float32, np.float64):
        raise InputError(f"dtype is {kind}; values are float32 or float64")
    if out is not None:
        check_out(out, kind, array.shape)
    fits = out is not None and out.flags.c_contiguous and not np.may_share_memory(out, array)
    values = out if fits and out is not None else np.empty(array.shape, kind)
    _decode(np.ascontiguousarray(array).reshape(-1), fmt, values.reshape(-1))
    if out is not None and not fits:
        out[...] = values
        return out
    return values


def _decode(codes: Codes, fmt: Format, values: NDArray[np.floating[Any]]) -> None:
    """Decode 1-D codes: by a table where that costs less than it saves."""
    if fmt.bits <= 16 and codes.size << 3 >> fmt.bits:
        _look_up(codes, _table(fmt, values.dtype.name), values)  # type: ignore[arg-type]
    else:
        exact = values if values.dtype == np.float64 else np.empty(values.shape, np.float64)
        loop = interpreted(_decode_codes) if codes.size <= _FEW_CODES else _decode_codes
        loop(codes, fmt.facts, exact)
        if exact is not values:
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                values[:] = exact


@functools.lru_cache(16)  # 512 KiB each at most
def _table(fmt: Format, dtype: str) -> NDArray[np.floating[Any]]:
    """The values of all codes."""
    values = np.empty(1 << fmt.bits, np.float64)
    loop = interpreted(_decode_codes) if values.size <= _SMALL_TABLE else _decode_codes
    loop(np.arange(1 << fmt.bits, dtype=code_dtype(fmt.bits)), fmt.facts, values)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return values.astype(dtype)


@jit
def _look_up(codes, table, values):
    for i in range(codes.size):
        values[i] = table[codes[np.uintp(i)]]


@standard_arithmetic
def encode(
    x: ArrayLike,
    fmt: Format,
    rounding: str,
    overflow: str,
    random_bits: ArrayLike | None,
    r: int,
) -> tuple[Codes, NDArray[np.uint8]]:
    """Codes and flags of rounded numbers; arguments and errors are those of `FloatFormat.encode`.

    Returns:
        Codes of dtype `fmt.dtype` and flags (uint8, a bit set), both of x's shape.
    """
    values = check_numbers(x)
    mode, policy = check_mode(fmt, rounding, overflow, r)
    random = np.empty(0, np.int64)
    if takes_random_bits(mode):
        random = check_random(random_bits, values.shape, rounding, r).ravel()
    elif random_bits is not None:
        raise InputError(f"rounding {rounding!r} ({MODES[mode]}) takes no random_bits")
    if not fmt.has_nan:
        refuse_nan(values, fmt.name)
    codes = np.empty(values.shape, fmt.dtype)
    flags = np.empty(values.shape, np.uint8)
    _encode_bits(
        values.ravel().view(np.int64), fmt.facts, mode, policy, r, random, codes.ravel(), flags.ravel()
    )  # fmt: skip
    if policy == Overflow.ERROR:
        _refuse_errors(values, flags, fmt)
    return codes, flags


def _refuse_errors(values: NDArray[np.float64], flags: NDArray[np.uint8], fmt: Format) -> None:
    """`InputError` for the first number that overflows or that the format has no code for."""
    for flag, problem in ((OVERFLOWED, "overflows"), (INVALID, "has no code in")):
        bad = (flags & flag) != 0
        if not bad.any():
            continue
        if flag == INVALID and fmt.has_nan and np.isnan(values[bad]).all():
            continue
        raise InputError(
            f"{float(values[bad].flat[0])!r} at {first_index(bad)} {problem} {fmt.name} (max {fmt.max})"
        )
