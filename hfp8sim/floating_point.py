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
from types import TracebackType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: Larger than any platform's fenv_t (32 bytes on x86-64, 8 on AArch64).
_Environment = ctypes.c_char * 64
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


def _is_standard(saved: bytes) -> bool:
    """Whether a saved environment is the default one, the exception flags aside.

    x86-64: the x87 control word 0x37F stands first, MXCSR at byte 28: all exceptions masked, nearest-even, FTZ
    and DAZ off is 0x1F80; its low six bits are exception flags. Elsewhere it is set in any case.
    """
    if not _X86:
        return False
    mxcsr = int.from_bytes(saved[28:32], "little")
    return mxcsr & ~0x3F == 0x1F80 and saved[:2] == b"\x7f\x03"


class StandardArithmetic:
    """A context: IEEE 754's default floating-point environment inside, the thread's own restored after it."""

    __slots__ = ("_saved",)

    def __enter__(self) -> None:
        self._saved: Any = None
        if _LIBRARY is None:
            return
        saved = _Environment()
        _LIBRARY.fegetenv(saved)
        if not _is_standard(saved.raw):
            self._saved = saved
            _LIBRARY.fesetenv(_DEFAULT)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._saved is not None:
            _LIBRARY.fesetenv(self._saved)


def standard_arithmetic(function: F) -> F:
    """Run a function in IEEE 754's default floating-point environment, whatever the thread's own is."""

    @functools.wraps(function)
    def standard(*args: Any, **kwargs: Any) -> Any:
        with StandardArithmetic():
            return function(*args, **kwargs)

    return standard  # type: ignore[return-value]
