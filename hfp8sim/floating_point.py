"""The floating-point environment of a thread: rounding direction, flush-to-zero, denormals-are-zero, traps.

Any library may change it, in any thread: `fesetround`, `torch.set_flush_denormal(True)`, a shared library
that was linked with -Ofast. NumPy's conversions and the compiled kernels obey it. So every public function
that computes with floats runs under `standard_arithmetic`: IEEE 754's default environment inside, and the
caller's own afterwards, errors included.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: Larger than any platform's fenv_t (32 bytes on x86-64, 8 on AArch64).
_Environment = ctypes.c_uint32 * 16
#: glibc, musl and FreeBSD spell FE_DFL_ENV as the pointer −1. It clears flush-to-zero and denormals-are-zero, too.
_DEFAULT = ctypes.c_void_p(-1)


def _library() -> Any:
    """The C library's fegetenv and fesetenv, called without releasing the GIL; None where FE_DFL_ENV is
    spelled otherwise."""
    if not sys.platform.startswith(("linux", "freebsd")):
        return None
    library = ctypes.PyDLL(None)
    for name in ("fegetenv", "fesetenv"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    return library


_LIBRARY = _library()
_X86 = _LIBRARY is not None and os.uname().machine in ("x86_64", "amd64")


def _is_standard(saved: Any) -> bool:
    """Whether a saved environment is the default one, the exception flags aside.

    x86-64: the x87 control word 0x37F stands first, MXCSR at byte 28: all exceptions masked, nearest-even, FTZ
    and DAZ off is 0x1F80; its low six bits are exception flags. Elsewhere it is set in any case.
    """
    return _X86 and saved[7] & ~0x3F == 0x1F80 and saved[0] & 0xFFFF == 0x037F


def _enter() -> Any:
    """Set IEEE 754's default environment; the thread's own, or None if that is the default one."""
    if _LIBRARY is None:
        return None
    saved = _Environment()
    _LIBRARY.fegetenv(saved)
    if _is_standard(saved):
        return None
    _LIBRARY.fesetenv(_DEFAULT)
    return saved


def standard_arithmetic(function: F) -> F:
    """Run a function in IEEE 754's default floating-point environment, whatever the thread's own is."""

    @functools.wraps(function)
    def standard(*args: Any, **kwargs: Any) -> Any:
        saved = _enter()
        if saved is None:
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        finally:
            _LIBRARY.fesetenv(saved)

    return standard  # type: ignore[return-value]
