"""The arguments of an operation, looked up and checked."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim.errors import InputError
from hfp8sim.formats import FloatFormat, get_format
from hfp8sim.units.profile import Profile, get_profile

Codes = NDArray[np.unsignedinteger[Any]]


class Operands(NamedTuple):
    """A matrix product: a profile, and codes (M, K) and (K, N) in their formats."""

    profile: Profile
    a_format: FloatFormat
    b_format: FloatFormat
    a: Codes
    b: Codes


def check_operands(
    a: ArrayLike,
    b: ArrayLike,
    profile: str | Profile,
    a_format: str | FloatFormat | None,
    b_format: str | FloatFormat | None,
) -> Operands:
    """The operands of `ops.gemm`.

    Raises:
        InputError: operands that are not matrices of codes of their format or do not fit each other,
            an unknown profile or format.
    """
    profile = get_profile(profile)
    fmt_a = get_format(profile.a_format if a_format is None else a_format)
    fmt_b = get_format(profile.b_format if b_format is None else b_format)
    a, b = check_codes(a, fmt_a, "a"), check_codes(b, fmt_b, "b")
    if a.shape[1] != b.shape[0]:
        raise InputError(
            f"a is {a.shape[0]}×{a.shape[1]}, so b must have {a.shape[1]} rows, not {b.shape[0]}"
        )
    return Operands(profile, fmt_a, fmt_b, a, b)


def check_codes(x: ArrayLike, fmt: FloatFormat, name: str) -> Codes:
    """A matrix of codes of a format: 2-D, integers 0 ≤ code < 2^bits, returned in the format's dtype."""
    codes = check_code_values(x, fmt, name)
    if codes.ndim != 2:
        raise InputError(f"{name} must be a matrix, not an array of shape {codes.shape}")
    return codes


def check_code_values(x: ArrayLike, fmt: FloatFormat, name: str) -> Codes:
    """Codes of a format, of any shape: integers 0 ≤ code < 2^bits, returned in the format's dtype."""
    codes = np.asarray(x)
    if codes.dtype.kind not in "ui":
        raise InputError(
            f"{name} must hold {fmt.name} codes (unsigned integers), not {codes.dtype}; "
            f"encode numbers first: get_format({fmt.name!r}).encode(x)"
        )
    if codes.dtype == fmt.dtype and fmt.bits == 8 * fmt.dtype.itemsize:
        return codes
    if codes.size and (int(codes.min()) < 0 or int(codes.max()) >> fmt.bits):
        raise InputError(f"{name} holds codes outside 0..{(1 << fmt.bits) - 1} of {fmt.name}")
    return codes.astype(fmt.dtype, copy=False)


def thread_count(threads: int | None) -> int:
    """The number of threads to use: all cores that this process may use for None.

    Raises:
        InputError: threads < 1.
    """
    if threads is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if threads < 1:
        raise InputError(f"threads is {threads}, must be at least 1")
    return threads
