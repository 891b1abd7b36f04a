"""The microkernel: a register tile of the outputs over a range of k, as LLVM vector code.

`tile(NAME, …)` is a Numba intrinsic. Its first argument is the name of a `Kernel`, a compile-time string; the
code is generated here and in `steps.py`, from portable vector operations. All numbers (significand width, random
bits, limits, chunk length, K) are run-time arguments: a kernel is specialised only in what changes its
instructions. What each form computes, and why it is exact, is in docs/speed.md; `model.py` computes the same by
plain loops.

**Packed panels.** PANEL = 16 rows of A, or columns of B, are packed together, k slowest:

    a:  row    0   1  …  15        b:  column  0   1  …  15
    k = 0     [0] [1] … [15]       k = 0      [0] [1] … [15]
    k = 1    [16][17] … [31]       k = 1     [16][17] … [31]
    …                              …

**The register tile** has `rows` rows of `vectors` vectors. One step k adds an outer product to it; here 8 rows
of 3 vectors of 16 lanes, for which B's vectors come from three panels, `b_stride` elements apart:

                     b: panel j          panel j + 1        panel j + 2
                        [k: 16 lanes]    [k: 16 lanes]      [k: 16 lanes]
    a: row 0 → splat    sum 0            sum 1              sum 2
       row 1 → splat    sum 3            sum 4              sum 5
       …
       row 7 → splat    sum 21           sum 22             sum 23

**State.** Sums of the open chunk are in vector registers for the whole range. Running totals of chunks, which are
accessed once a chunk, are in memory. Sums, too, come from memory and go back, so that a range may begin and end
anywhere between steps.

**Rounding direction.** Some forms need an adder that chops, or rounds down. The direction is a register of the
processor, one for each thread. It is set inside the generated function and restored before that returns; nothing
in between can raise or call.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from hfp8sim._numba.simd import ADDRESS, I64, Block, Code, Value, function
from hfp8sim.kernels.form import Opening
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.steps import DIRECTIONS, Tile, close_chunk, write_step
from hfp8sim.kernels.target import Direction, Implementation

#: The addresses that a microkernel takes, see `tile`.
POINTERS = (
    "a", "b", "a_exponents", "b_exponents", "chunk", "total", "numbers", "rows", "columns",
    "chunk_rows", "chunk_columns", "counts",
)  # fmt: skip
#: Its integers.
INTEGERS = (
    "steps", "left", "length", "close", "fresh", "b_stride", "columns_stride", "chunks_stride"
)  # fmt: skip


#: Those of a lanewise microkernel, see `lanewise_tile`.
LANEWISE_POINTERS = (
    "a", "b", "a_exponents", "b_exponents", "chunk", "total", "numbers", "counts", "a_rows", "a_steps"
)  # fmt: skip
LANEWISE_INTEGERS = ("steps", "left", "length", "close", "fresh", "a_stride", "b_stride")
#: The stride of each kind of panel, by the name of its integer.
_STRIDES = {
    "a": "a_stride", "a_exponents": "a_stride", "b": "b_stride", "b_exponents": "b_stride",
    "columns": "columns_stride", "chunk_columns": "chunks_stride",
}  # fmt: skip


def build(module: Any, kernel: Kernel) -> Any:
    """The function of a kernel in an LLVM module: `tile` or `lanewise_tile` without Numba around it."""
    names = LANEWISE_POINTERS if kernel.lanewise else POINTERS
    numbers = LANEWISE_INTEGERS if kernel.lanewise else INTEGERS

    def write(code: Code, arguments: list[Any]) -> None:
        kinds = Tile.element_types(kernel)
        pointers = {
            name: code.pointer(argument, kinds.get(name, I64))
            for name, argument in zip(names, arguments)
        }
        integers = [code.value(x) for x in arguments[len(names) :]]
        _Range(code, kernel, pointers, dict(zip(numbers, integers, strict=True))).write()

    kinds = [ADDRESS] * len(names) + [I64] * len(numbers)
    return function(module, kernel.name, kinds, write, kernel.strict)


class _Range:
    """The control flow of a kernel: a range of steps, chunk by chunk.

    entry ─▶ fresh ──▶ open ─▶ chunk ─▶ loop over steps ─▶ close ─▶ done
                │        ▲       ▲                     │      │ │      ▲
          carried ───────┼───────┘                     │      │ └──────┤
                         └─────────────────────────────┼──────┘        │
                                                       └───────────────┘
    """

    def __init__(
        self, code: Code, kernel: Kernel, pointers: dict[str, Any], integers: dict[str, Value]
    ) -> None:
        strides = {
            name: integers[stride] for name, stride in _STRIDES.items() if stride in integers
        }
        self.code, self.kernel, self.integers = code, kernel, integers
        self.tile = Tile(code, kernel, pointers, strides)

    def write(self) -> None:
        """Write the whole function, up to its return."""
        code, kernel = self.code, self.kernel
        if kernel.strict:
            mxcsr = kernel.target.direction is Direction.MXCSR
            code.save_environment(mxcsr, kernel.form.underflow.flushes)
            code.set_direction(DIRECTIONS[kernel.form.intra.adder])
        self.tile.begin()
        self._chunks()
        if kernel.strict:
            code.restore_environment()

    def _chunks(self) -> None:
        """Write the loop over chunks: from the state's beginning to its store."""
        code, tile, integers = self.code, self.tile, self.integers
        zeros, zero = tile.zero_state().values(), code.number(0)
        place = [zero, integers["left"], zero]  # step, steps left in its chunk, number of the chunk
        fresh, carried, done = code.block("fresh"), code.block("carried"), code.block("done", zeros)
        opening = code.block("open", [*place, *zeros])
        chunk = code.block("chunk", [*place, *zeros])
        code.choose(integers["fresh"].differs(0), (fresh, []), (carried, []))

        code.write_to(fresh)
        self._clear_totals()
        begun = [*place, *zeros]
        code.choose(integers["steps"] > 0, (opening, begun), (chunk, begun))

        code.write_to(carried)
        code.jump(chunk, [*place, *tile.loaded_state().values()])

        self._open(opening, chunk)
        self._steps(opening, chunk, done)
        tile.store(tile.state_of(code.write_to(done)))

    def _clear_totals(self) -> None:
        """Set the running totals to zero."""
        tile = self.tile
        for r, v in tile.cells:
            place = tile.operands.cell(r, v)
            tile.total.store(tile.total.zero(), tile.operands.pointers["total"], place)

    def _open(self, opening: Block, chunk: Block) -> None:
        """Write the beginning of a chunk, with its first step where that is exact."""
        step, left, number, *state = self.code.write_to(opening)
        if self.kernel.form.opening is Opening.EXACT:
            state = write_step(self.tile, step, state, opening=True)
            step, left = step + 1, left - 1
        self.code.jump(chunk, [step, left, number, *state])

    def _steps(self, opening: Block, chunk: Block, done: Block) -> None:
        """Write a run of steps up to the chunk's or the range's end, and what follows it."""
        code, tile, integers = self.code, self.tile, self.integers
        step, left, number, *state = code.write_to(chunk)
        rest = integers["steps"] - step
        run = left.where(left < rest, rest)
        state = code.repeat(run, lambda i, values: write_step(tile, step + i, values), state)
        now = step + run
        last = now >= integers["steps"]
        closes = run.equals(left) | (last & integers["close"].differs(0))
        closing = code.block("close")
        code.choose(closes, (closing, []), (done, state))

        code.write_to(closing)
        state = close_chunk(tile, number, state)
        begun = [now, integers["length"], number + 1, *state]
        code.choose(last, (done, state), (opening, begun))


@intrinsic(prefer_literal=True)
def tile(
    typingctx, name, a, b, a_exponents, b_exponents, chunk, total, numbers, rows, columns,
    chunk_rows, chunk_columns, counts, steps, left, length, close, fresh,
    b_stride, columns_stride, chunks_stride, wide,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Run a microkernel on one register tile.

    Addresses are of contiguous memory, and point to the tile's first row or column.

    Args:
        name: of the `Kernel`, a literal string.
        a: panel of A, lane floats, from the range's first k on.
        b: panel of B likewise.
        a_exponents: panel of exponents of A's elements, int32; read by aligned sums.
        b_exponents: panel of exponents of B's elements likewise.
        chunk: sums of the open chunk, lane floats, PANEL columns a row and PANEL rows a panel: read (unless
            `fresh`) and written.
        total: running totals of chunks, float32, in the same layout.
        numbers: a record of `NUMBERS`.
        rows: panel of the random words of A's rows, one for each step of the range, as wide as a lane.
        columns: panel of the random words of B's columns likewise.
        chunk_rows: panel of the random words of rows for chunks, uint32, from the first chunk of the range on.
        chunk_columns: panel of the random words of columns for chunks likewise.
        counts: counts of events, int64 (EVENTS,); they are added to.
        steps: in the range.
        left: steps left in the open chunk.
        length: steps of a whole chunk.
        close: not 0: the range's end closes the open chunk.
        fresh: not 0: the state begins as zeros, whatever memory holds.
        b_stride: elements from a panel of columns to the next, in `b` and `b_exponents`.
        columns_stride: likewise in `columns`.
        chunks_stride: likewise in `chunk_columns`.
        wide: False: run the kernel's `narrow` form, for columns that wide tiles leave over.
    """
    if not isinstance(name, types.StringLiteral):
        return None
    kernel = Kernel.parse(name.literal_value)
    pointers = len(POINTERS)
    kinds = [types.uintp] * pointers + [types.int64] * len(INTEGERS)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        if kernel.target.implementation is Implementation.LOOPS:
            from hfp8sim.kernels.model import loops  # other targets do without

            context.compile_internal(builder, loops(kernel), types.void(*kinds), values[1:-1])
        else:
            _call(builder, kernel, pointers, values)
        return context.get_dummy_value()

    return types.void(name, *kinds, types.boolean), codegen


def _call(builder: Any, kernel: Kernel, pointers: int, values: Any) -> None:
    """Call a kernel's function, or that of its `narrow` form.

    Args:
        pointers: how many of the arguments are addresses.
        values: the name, the arguments, and which of the two.
    """
    addresses, integers = values[1 : 1 + pointers], values[1 + pointers : -1]
    arguments = [builder.inttoptr(x, ADDRESS) for x in addresses] + list(integers)
    with builder.if_else(values[-1]) as (wide, narrow):
        for block, which in ((wide, kernel), (narrow, kernel.narrow)):
            with block:
                builder.call(build(builder.module, which), arguments)


@intrinsic(prefer_literal=True)
def lanewise_tile(
    typingctx, name, a, b, a_exponents, b_exponents, chunk, total, numbers, counts, a_rows, a_steps,
    steps, left, length, close, fresh, a_stride, b_stride, wide,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Run a lanewise microkernel on one register tile: `tile`, where column j of row i has an A of its own.

    Args:
        name: of the `Kernel`, a literal string.
        a, a_exponents: panels of A's columns, see `steps.LanewiseOperands`.
        a_rows: places of the tile's rows in them, in elements.
        a_steps: places of the steps likewise, one for each element of k that a step reads.
        a_stride: elements from a panel of columns to the next, in `a` and `a_exponents`.
        others: as in `tile`.
    """
    if not isinstance(name, types.StringLiteral):
        return None
    kernel, pointers = Kernel.parse(name.literal_value), len(LANEWISE_POINTERS)
    kinds = [types.uintp] * pointers + [types.int64] * len(LANEWISE_INTEGERS)

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        _call(builder, kernel, pointers, values)
        return context.get_dummy_value()

    return types.void(name, *kinds, types.boolean), codegen
