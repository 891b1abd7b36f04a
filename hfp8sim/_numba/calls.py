"""Indirect calls: compiled code calls a function through its address.

A loop around a kernel is then compiled once, not once for each kernel. The callee takes one argument, the
address of a record (see `hfp8sim._numba.layouts`). The caller keeps alive the memory that the record points
to, and that arrays at addresses are made of.
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
#: Bytes: that of the widest vectors.
_STACK_ALIGNMENT = 64


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
def record_at(typingctx, address, kind):  # type: ignore[no-untyped-def]
    """The record of a layout at an address."""
    record = _element(kind)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], context.get_value_type(record))

    return record(types.int64, kind), codegen


@intrinsic
def array_at(typingctx, address, shape, kind):  # type: ignore[no-untyped-def]
    """The C-contiguous array at an address.

    Numba would compile `numba.carray`, and `as_strided`, anew for every type of array. This and `strided_at` emit a
    few instructions at the call instead.
    """

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        array, extents = signature.return_type, _indices(context, builder, signature, values, 1)
        steps = [_itemsize(context, array)]
        for extent in extents[:0:-1]:
            steps.insert(0, builder.mul(steps[0], extent))
        return _array(context, builder, array, values[0], extents, steps)

    return types.Array(_element(kind), len(shape), "C")(types.int64, shape, kind), codegen


@intrinsic
def strided_at(typingctx, address, shape, steps, kind):  # type: ignore[no-untyped-def]
    """The array at an address with steps in bytes, as `numpy.lib.stride_tricks.as_strided` makes it."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        extents, steps = (_indices(context, builder, signature, values, i) for i in (1, 2))
        return _array(context, builder, signature.return_type, values[0], extents, steps)

    array = types.Array(_element(kind), len(shape), "A")
    return array(types.int64, shape, steps, kind), codegen


@intrinsic(prefer_literal=True)
def local_array(typingctx, size, kind):  # type: ignore[no-untyped-def]
    """An array of a constant number of elements on the stack, not initialised. It ends with the function.

    Numba would compile `numpy.empty` anew for every type of element, with all that it needs to free memory.
    """
    if not isinstance(size, types.IntegerLiteral):
        return None
    array = types.Array(_element(kind), 1, "C")

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        extent = context.get_constant(types.intp, size.literal_value)
        memory = cgutils.alloca_once(builder, context.get_data_type(array.dtype), extent)
        memory.align = _STACK_ALIGNMENT
        step = _itemsize(context, array)
        return _array(context, builder, array, builder.ptrtoint(memory, _I64), [extent], [step])

    return array(size, kind), codegen


def _element(kind):  # type: ignore[no-untyped-def]
    """Numba's type of an element, of the type of a dtype."""
    from numba.core.typing.npydecl import parse_dtype  # only a compilation needs it

    return parse_dtype(kind)


def _indices(context, builder, signature, values, place):  # type: ignore[no-untyped-def]
    """The elements of an argument that is a tuple of integers, as 64-bit ones."""
    elements = cgutils.unpack_tuple(builder, values[place])
    kinds = zip(elements, signature.args[place])
    return [context.cast(builder, element, kind, types.intp) for element, kind in kinds]


def _itemsize(context, array):  # type: ignore[no-untyped-def]
    return context.get_constant(
        types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype))
    )


def _array(context, builder, kind, address, extents, steps):  # type: ignore[no-untyped-def]
    from numba.np.arrayobj import make_array, populate_array  # only a compilation needs them

    array = make_array(kind)(context, builder)
    data = builder.inttoptr(address, array.data.type)
    populate_array(
        array,
        data=data,
        shape=extents,
        strides=steps,
        itemsize=_itemsize(context, kind),
        meminfo=None,
    )
    return array._getvalue()
