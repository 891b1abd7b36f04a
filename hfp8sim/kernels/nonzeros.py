"""Lists of the elements of A that are not zero, for kernels that leave out the others."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from hfp8sim._numba.jit import jit
from hfp8sim._numba.simd import F32, I64, Code, Lanes, vector
from hfp8sim.kernels.form import PANEL, WORD

#: The share of elements of A that are not zero, above which it is faster to leave out none.
LARGEST_SHARE = 0.85


@intrinsic
def _list_word(typingctx, values, steps, words):  # type: ignore[no-untyped-def]
    """List up to WORD steps of a panel of A.

    Args:
        values: address of float32 (steps, PANEL).
        words: address of uint64 (PANEL,). Bit k of word i is set to 1 if element (k, i) is not zero, all others to 0.

    Returns:
        How many bits are 1.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        code = Code(builder)
        lanes, kind = Lanes(code, 32, PANEL), vector(I64, PANEL)
        source, target = (code.pointer(arguments[i], each) for i, each in ((0, F32), (2, I64)))

        def add_step(k, state):  # type: ignore[no-untyped-def]
            bits, place = state
            some = lanes.load(source + k * PANEL, 0, lanes.floats).differs(lanes.zero())
            return [bits | place.where(some, 0), place + place]

        state = [code.number(0, kind), code.number(1, kind)]
        bits, _ = code.repeat(code.value(arguments[1]), add_step, state)
        target.store(bits, align=8)
        counts = bits.population()
        count = counts.extracted(0)
        for i in range(1, PANEL):
            count = count + counts.extracted(i)
        return count.ir

    return types.int64(types.int64, types.int64, types.int64), codegen


@jit
def words_of(length):
    """Words of a row that list so many steps."""
    return (length + WORD - 1) // WORD


@jit
def list_panel(values, steps, words):
    """List the elements of a panel of A that are not zero, in a range of k.

    Args:
        values: address of float32 (steps, PANEL).
        words: address of uint64 (`words_of(steps)`, PANEL). Bit b of word (w, i) is that of element (64·w + b, i).

    Returns:
        How many they are.
    """
    count = 0
    for first in range(0, steps, WORD):
        many = min(steps - first, WORD)
        count += _list_word(values + first * PANEL * 4, many, words + first // WORD * PANEL * 8)
    return count
