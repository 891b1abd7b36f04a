"""The microkernel: a register tile of the outputs over a range of k, as LLVM vector code.

`microkernel(kernel)` is compiled once for each `Kernel`, and called through its address. In it, `tile(NAME, …)` is a
Numba intrinsic. Its first argument is the name of the kernel, a compile-time string; the code is generated here and in `steps.py`, from portable vector operations. All numbers (significand width, random
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

import functools
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hfp8sim._numba.calls import address
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import layout
from hfp8sim._numba.simd import ADDRESS, I64, Block, Code, Value, function
from hfp8sim.kernels.form import PANEL, SWAMPED, WORD, Opening
from hfp8sim.kernels.kernel import Kernel
from hfp8sim.kernels.steps import DIRECTIONS, SparseOperands, Tile, close_chunk, write_step
from hfp8sim.kernels.target import Direction, Implementation

_STATE = {
    "chunk": np.int64,  # sums of the open chunk, lane floats, PANEL columns a row and PANEL rows a panel
    "total": np.int64,  # running totals of chunks, float32, in the same layout
    "numbers": np.int64,  # a record of `NUMBERS`
    "counts": np.int64,  # counts of events, int64 (EVENTS,); they are added to
}
_RANGE = {
    "steps": np.int64,  # in the range
    "left": np.int64,  # steps left in the open chunk
    "length": np.int64,  # steps of a whole chunk
    "close": np.int64,  # not 0: the range's end closes the open chunk
    "fresh": np.int64,  # not 0: the state begins as zeros, whatever memory holds; else it is read. It is written.
}

#: The argument of a microkernel: one register tile over a range of k. First addresses of contiguous memory, of the
#: tile's first row or column and of the range's first k; then integers.
TILE = layout(
    a=np.int64,  # panel of A, lane floats
    b=np.int64,  # panel of B likewise
    a_exponents=np.int64,  # panel of exponents of A's elements, int32; read by aligned sums
    b_exponents=np.int64,  # panel of exponents of B's elements likewise
    rows=np.int64,  # panel of the random words of A's rows, one for each step, as wide as a lane
    columns=np.int64,  # panel of the random words of B's columns likewise
    chunk_rows=np.int64,  # panel of the random words of rows for chunks, uint32, from the range's first chunk on
    chunk_columns=np.int64,  # panel of the random words of columns for chunks likewise
    **_STATE,
    **_RANGE,
    b_stride=np.int64,  # elements from a panel of columns to the next, in `b` and `b_exponents`
    columns_stride=np.int64,  # likewise in `columns`
    chunks_stride=np.int64,  # likewise in `chunk_columns`
    wide=np.int64,  # 0: run the kernel's `narrow` form, for columns that wide tiles leave over
)

#: The argument of a lanewise microkernel: a `TILE` where column j of row i has an A of its own.
LANEWISE_TILE = layout(
    a=np.int64,  # panels of A's columns, see `steps.LanewiseOperands`
    b=np.int64,
    a_exponents=np.int64,
    b_exponents=np.int64,
    a_rows=np.int64,  # places of the tile's rows in A's panels, int64, in elements
    a_steps=np.int64,  # places of the steps likewise, one for each element of k that a step reads
    **_STATE,
    **_RANGE,
    a_stride=np.int64,  # elements from a panel of columns to the next, in `a` and `a_exponents`
    b_stride=np.int64,
    wide=np.int64,
)

#: The argument of a microkernel in lanes of binary16: a `TILE` whose sums stay in their window, and are zero before the
#: range and after it.
HALF_TILE = layout(
    a=np.int64,  # panel of A, binary16
    b=np.int64,  # panel of B likewise, HALF_COLUMNS columns
    a_bounds=np.int64,  # a `half.BOUNDS`, of the panel of A
    b_bounds=np.int64,  # likewise of the tile's first panel of B; others follow it
    total=np.int64,
    numbers=np.int64,
    **_RANGE,
    b_stride=np.int64,  # elements from a panel of HALF_COLUMNS columns to the next
    wide=np.int64,
)

#: The argument of a sparse microkernel: rows of a panel, one after another, over a range of k in one chunk.
SPARSE_TILE = layout(
    a=np.int64,
    b=np.int64,
    rows=np.int64,
    columns=np.int64,
    chunk_rows=np.int64,
    chunk_columns=np.int64,
    nonzeros=np.int64,  # `nonzeros.list_panel` of A's panel
    **_STATE,
    steps=np.int64,
    opens=np.int64,  # not 0: the range begins a chunk, whose sums are zero; else they are read
    close=np.int64,  # not 0: the range ends a chunk
    fresh=np.int64,  # not 0: running totals begin as zeros
    keeps=np.int64,  # not 0: sums are written
    b_stride=np.int64,
    columns_stride=np.int64,
    chunks_stride=np.int64,
    wide=np.int64,
)

#: What of a kernel the loops around it read.
KERNEL = layout(
    function=np.int64,  # address of the microkernel
    lane_bytes=np.int64,
    width=np.int64,  # elements of k that a step reads
    draws=np.int64,  # 1: steps read random words
    columns=np.int64,  # of the register tile
    panels=np.int64,  # of columns that it covers, …
    narrow_panels=np.int64,  # … and that the narrow form covers
    rows=np.int64,  # of the register tile, …
    narrow_rows=np.int64,  # … and of the narrow form's
    block_bytes=np.int64,  # of B's panel, in a block of k …
    group_bytes=np.int64,  # … and of A's panels in a group of them
)

#: The stride of each kind of panel, by the name of its integer.
_STRIDES = {
    "a": "a_stride", "a_exponents": "a_stride", "b": "b_stride", "b_exponents": "b_stride",
    "columns": "columns_stride", "chunk_columns": "chunks_stride",
}  # fmt: skip


def _arguments(kernel: Kernel) -> tuple[list[str], list[str]]:
    """Names of the addresses and of the integers that a kernel's function takes."""
    layout = HALF_TILE if kernel.in_halves else LANEWISE_TILE if kernel.lanewise else TILE
    layout = SPARSE_TILE if kernel.sparse else layout
    names = list(layout.names or ())[:-1]
    return names[: names.index("steps")], names[names.index("steps") :]


def build(module: Any, kernel: Kernel) -> Any:
    """The function of a kernel in an LLVM module. Its arguments are the fields of a `TILE`, but for the last."""
    names, numbers = _arguments(kernel)

    def write(code: Code, arguments: list[Any]) -> None:
        half = kernel.target.half
        code.promoted = half is not None and not half.native
        kinds = Tile.element_types(kernel)
        pointers = {
            name: code.pointer(argument, kinds.get(name, I64))
            for name, argument in zip(names, arguments)
        }
        integers = [code.value(x) for x in arguments[len(names) :]]
        control = _SparseRange if kernel.sparse else _Range
        control(code, kernel, pointers, dict(zip(numbers, integers, strict=True))).write()

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

    def _clear_totals(self) -> list[Value]:
        """Set the running totals to zero."""
        for r, v in self.tile.cells:
            self.tile.store_total(self.tile.total.zero(), r, v)
        return []

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


class _SparseRange(_Range):
    """The control flow of a sparse kernel: the rows of a panel, and of each the steps whose element of A is not zero.

    All steps are rounded: where the sum of a chunk's first step is exact, its rounding changes nothing.
    """

    def _chunks(self) -> None:
        """Write the loop over rows."""
        code, tile = self.code, self.tile
        none = code.number(0)
        state = tile.zero_state()
        taken, *counts = code.repeat(PANEL, self._row, [none, *state.counts, *state.masks])
        state = tile.state_of([*state.sums, *state.most, *counts])
        # A step that is left out would have left its sums unchanged.
        left_out = (self.integers["steps"] * PANEL - taken) * self.kernel.columns
        if tile.counts_events:
            state.counts[SWAMPED] = state.counts[SWAMPED] + left_out
            tile.store_counts(state)

    def _row(self, row: Value, values: list[Value]) -> list[Value]:
        """Write the range of one row.

        Args:
            values: steps that have been taken, and the counts of events.

        Returns:
            The same after the row.
        """
        code, tile, integers = self.code, self.tile, self.integers
        assert isinstance(tile.operands, SparseOperands)
        tile.operands.number = self.row = row
        taken, *counts = values
        code.seldom(integers["fresh"].differs(0), self._clear_totals, [])
        zeros = tile.zero_state()

        def read() -> list[Value]:
            return [*tile.loaded_state().sums, *zeros.most]

        sums = code.seldom(integers["opens"].equals(0), read, [*zeros.sums, *zeros.most])
        words = integers["steps"] + (WORD - 1) >> 6
        taken, *state = code.repeat(words, self._word, [taken, *sums, *counts])

        closing, done = code.block("close"), code.block("done", state)
        code.choose(integers["close"].differs(0), (closing, []), (done, state))
        code.write_to(closing)
        code.jump(done, close_chunk(tile, code.number(0), state))
        state = code.write_to(done)
        code.seldom(integers["keeps"].differs(0), lambda: self._store(state), [])
        now = tile.state_of(state)
        return [taken, *now.counts, *now.masks]

    def _word(self, word: Value, values: list[Value]) -> list[Value]:
        """Write the steps of a row that one word lists."""
        tile = self.tile
        taken, *state = values
        bits = (tile.operands.pointers["nonzeros"] + (word * PANEL + self.row)).load()

        def step(i: Value, values: list[Value]) -> list[Value]:
            left, *state = values
            number = word * WORD + left.lowest_one()
            return [left & left - 1, *write_step(tile, number, state, count=taken + i)]

        count = bits.population()
        _, *state = self.code.repeat(count, step, [bits, *state])
        return [taken + count, *state]

    def _store(self, values: list[Value]) -> list[Value]:
        """Write the sums of a row to memory."""
        tile = self.tile
        sums = tile.poisoned(tile.state_of(values))
        for (r, v), value in zip(tile.cells, sums, strict=True):
            tile.step.store(value, tile.operands.pointers["chunk"], tile.operands.cell(r, v))
        return []


@intrinsic(prefer_literal=True)
def tile(typingctx, name, argument):  # type: ignore[no-untyped-def]
    """Run a microkernel on one register tile.

    Args:
        name: of the `Kernel`, a literal string.
        argument: the address of a `TILE`, a `LANEWISE_TILE` or a `HALF_TILE`.
    """
    if not isinstance(name, types.StringLiteral):
        return None
    kernel = Kernel.parse(name.literal_value)
    pointers, integers = map(len, _arguments(kernel))

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        base = builder.inttoptr(values[1], I64.as_pointer())
        *words, is_wide = (
            builder.load(builder.gep(base, [I64(i)])) for i in range(pointers + integers + 1)
        )
        if kernel.target.implementation is Implementation.LOOPS:
            from hfp8sim.kernels.model import loops  # other targets do without

            kinds = [types.uintp] * pointers + [types.int64] * integers
            context.compile_internal(builder, loops(kernel), types.void(*kinds), words)
            return context.get_dummy_value()
        arguments = [builder.inttoptr(x, ADDRESS) for x in words[:pointers]] + words[pointers:]
        with builder.if_else(builder.icmp_signed("!=", is_wide, I64(0))) as (wide, narrow):
            for block, which in ((wide, kernel), (narrow, kernel.narrow)):
                with block:
                    builder.call(build(builder.module, which), arguments)
        return context.get_dummy_value()

    return types.void(name, types.int64), codegen


@functools.cache
def microkernel(kernel: Kernel) -> Any:
    """The compiled microkernel; it takes the address of a `TILE`, of a `LANEWISE_TILE`, or of a `HALF_TILE`."""
    # Only a string is closed over: Numba's disk cache recognises it. It would not recognise an intrinsic made for
    # each kernel.
    name = kernel.name

    @jit
    def run(argument):
        tile(name, argument)

    return run


@functools.cache
def kernel_table(kernel: Kernel) -> NDArray[np.void]:
    """An array of one `KERNEL`, whose microkernel is compiled."""
    tiling, blocking = kernel.tiling, kernel.target.blocking
    table = np.zeros(1, KERNEL)
    table["function"] = address(microkernel(kernel))
    table["lane_bytes"], table["width"] = kernel.form.lane.bytes, kernel.form.width
    table["draws"] = kernel.form.intra.mode.stochastic
    table["columns"], table["panels"] = kernel.columns, kernel.panels
    table["narrow_panels"] = kernel.narrow.panels
    table["rows"], table["narrow_rows"] = tiling.rows, kernel.narrow.tiling.rows
    table["block_bytes"], table["group_bytes"] = blocking.l1_bytes, blocking.l2_bytes
    return table
