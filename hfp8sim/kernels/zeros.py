"""How many elements of an array are not zero, and the largest one, by vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.jit import config, jit
from hfp8sim._numba.simd import I64, Code, integer, vector

#: Bytes of a vector.
_VECTOR = 64
#: Elements below which NumPy takes less time than to load or compile this module's functions.
_LEAST_ELEMENTS = 1 << 16


def _vectors_and_mask(code, bits, arguments):
    """Of the arguments of the intrinsics below: a pointer to vectors of words, and a vector of the mask."""
    lanes = 8 * _VECTOR // bits
    source = code.pointer(arguments[1], vector(integer(bits), lanes))
    return source, code.value(arguments[2]).cut(integer(bits)).splat(lanes)


@intrinsic
def _count_vectors(typingctx, words, address, mask, vectors):
    """How many words of some vectors have a bit of the mask.

    Args:
        words: an array with the words' dtype.
        address: of the vectors.
    """
    bits = words.dtype.bitwidth

    def codegen(context, builder, signature, arguments):
        code = Code(builder)
        source, kept = _vectors_and_mask(code, bits, arguments)

        def add(i, total):
            found = (source + i).load(align=1) & kept
            return [total[0] + found.differs(0).count()]

        return code.repeat(code.value(arguments[3]), add, [code.number(0)])[0].ir

    return types.int64(words, types.int64, types.int64, types.int64), codegen


@intrinsic
def _largest_of_vectors(typingctx, words, address, mask, vectors):
    """The largest of the words of some vectors, of which the bits of the mask count; arguments as above."""
    bits = words.dtype.bitwidth

    def codegen(context, builder, signature, arguments):
        code = Code(builder)
        source, kept = _vectors_and_mask(code, bits, arguments)

        def compare(i, most):
            some = (source + i).load(align=1) & kept
            return [some.where(some.is_above(most[0]), most[0])]

        most = code.repeat(code.value(arguments[3]), compare, [code.number(0, source.element)])[0]
        while most.lanes > 1:
            low, high = most.parts(most.lanes // 2)
            most = high.where(high.is_above(low), low)
        return most.extracted(0).widened(I64).ir

    return types.int64(words, types.int64, types.int64, types.int64), codegen


@jit
def count_words(words, mask):
    """How many unsigned integers, contiguous and 1-D, have a bit of a mask."""
    vectors = words.nbytes // _VECTOR
    total = _count_vectors(words, np.int64(words.ctypes.data), mask, vectors)
    for i in range(vectors * (_VECTOR // words.itemsize), words.size):
        total += (np.int64(words[i]) & mask) != 0
    return total


@jit
def largest_word(words, mask):
    """The largest of the bits of a mask in unsigned integers, contiguous and 1-D; 0 if there are none."""
    vectors = words.nbytes // _VECTOR
    most = _largest_of_vectors(words, np.int64(words.ctypes.data), mask, vectors)
    for i in range(vectors * (_VECTOR // words.itemsize), words.size):
        most = max(most, np.int64(words[i]) & mask)
    return most


def count_nonzero(array: NDArray[Any], mask: int = -1) -> int:
    """How many elements are not zero.

    Args:
        array: numbers, or codes. NaN is not zero.
        mask: of codes: the bits that make one other than zero.
    """
    compiled = array.dtype == np.float32 or array.dtype in (np.uint8, np.uint16)
    small = array.size < _LEAST_ELEMENTS
    if small or not compiled or not array.flags.c_contiguous or config.DISABLE_JIT:
        bits = array if mask == -1 else array & array.dtype.type(mask)
        return int(np.count_nonzero(bits != 0))  # booleans: five times as fast
    words = array.reshape(-1)
    if array.dtype == np.float32:
        words, mask = words.view(np.uint32), 0x7FFFFFFF
    return int(count_words(words, mask))
