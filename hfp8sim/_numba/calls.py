"""Indirect calls: compiled code calls a function through its address.

A loop around a kernel is then compiled once, not once for each kernel. The callee takes one argument, the
address of a record (see `hfp8sim._numba.layouts`). The caller keeps alive the memory that the record points
to.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from hfp8sim._numba.jit import jit

_I64 = ir.IntType(64)


@functools.cache
def address(function: Any) -> int:
    """The address of the machine code of a function under `@jit` that takes one int64; compiles it if needed."""
    signature = (types.int64,)
    function.compile(signature)
    compiled = function.overloads[signature]
    entry: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return entry


@intrinsic
def _call(typingctx, function, argument):  # type: ignore[no-untyped-def]
    """Call the function at an address with one int64; returns Numba's status, 0 if nothing was raised."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        # Numba's calling convention: pointers for the result and for an exception precede the arguments.
        pointer_type = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [pointer_type.as_pointer()] * 2 + [_I64])
        results = [cgutils.alloca_once(builder, pointer_type) for _ in range(2)]
        return builder.call(builder.inttoptr(values[0], kind.as_pointer()), [*results, values[1]])

    return types.int32(types.int64, types.int64), codegen


@jit
def call(function, argument):
    """Call the function at an address with the address of its record.

    Raises:
        MemoryError: the callee raised. Kernels raise nothing else.
    """
    if _call(function, argument):
        raise MemoryError("no memory is left for a kernel")


@intrinsic
def address_of(typingctx, record):  # type: ignore[no-untyped-def]
    """The address of a record."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.ptrtoint(values[0], _I64)

    return types.int64(record), codegen


@intrinsic
def pointer(typingctx, address):  # type: ignore[no-untyped-def]
    """An address as the pointer that `numba.carray` takes."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), codegen
