"""Calls through addresses: compiled code that does not know which kernel it will run.

A loop around a kernel would otherwise be compiled once more for each of them. What is called takes one
argument, the address of a table of int64; whoever made the table keeps alive what it points to.
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
    """Where a function under `@jit` that takes an int64 lies, compiled (or loaded) if it is not yet."""
    kind = (types.int64,)
    function.compile(kind)
    compiled = function.overloads[kind]
    found: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return found


@intrinsic
def _call(typingctx, function, table):  # type: ignore[no-untyped-def]
    """Call the function at an address with the address of an array: 0 if it raised nothing."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        # Numba's convention: places for the result and for an exception come first.
        place = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [place.as_pointer()] * 2 + [_I64])
        places = [cgutils.alloca_once(builder, place) for _ in range(2)]
        array = context.make_array(signature.args[1])(context, builder, values[1])
        at = builder.ptrtoint(array.data, _I64)
        return builder.call(builder.inttoptr(values[0], kind.as_pointer()), [*places, at])

    return types.int32(types.int64, table), codegen


@jit
def run(function, table):
    """Run the function at an address on a table. All that it can raise is that memory is out."""
    if _call(function, table):
        raise MemoryError("no memory is left for a kernel")


@intrinsic
def pointer(typingctx, address):  # type: ignore[no-untyped-def]
    """An address as what `numba.carray` takes."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), codegen
