"""The operands of the current tile as NumPy arrays, and the tensors that they come from."""
# mypy: disable-error-code="no-untyped-call,call-arg"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.copies import MOVE_BYTES
from hfp8sim._numba.interpreted import Budget, interpreted
from hfp8sim._numba.layouts import SPAN, tuple_type
from hfp8sim.isa.table import OPERANDS, PORT
from hfp8sim.machine.boxes import tile_blocks
from hfp8sim.machine.movement import (
    join_blocks,
    locate_a,
    locate_b,
    tensor_spans,
    unfold,
)
from hfp8sim.machine.state import BOX, BOX_KIND, Context

#: Calls of `tensor_spans` that a process interprets before it compiles: about half as long.
INTERPRETED = Budget(500)
#: The dtype of an operand's elements, by their bytes.
_ELEMENTS = {size: np.dtype(f"u{size}") for size in (1, 2, 4)}
_BoxValues = tuple_type("_BoxValues", BOX)


class Operands:
    """Reads the operands of a core's current tile. `update` must follow every return of the compiled loop."""

    def __init__(self, context: Context) -> None:
        self._context, self._row_bytes = context, int(context.core.row_bytes)
        self._now: Any = None
        self._loads: tuple[int, ...] = ()
        self._boxes: list[tuple[int, Any]] = [(0, None)] * len(OPERANDS)

    def update(self, now: Any, loads: tuple[int, ...]) -> None:
        """Take over the current instruction and the number of loads of each port."""
        self._now, self._loads = now, loads

    def _box(self, port: int) -> Any:
        """A port's box as plain integers. They are read again only after a load."""
        loads = self._loads[port]
        if self._boxes[port][0] != loads:
            self._boxes[port] = loads, _BoxValues(*self._context.boxes[port].item())
        return self._boxes[port][1]

    def matrix_a(self, first: int, stop: int) -> NDArray[Any]:
        """Codes of rows [first, stop) of the tile's A, (stop − first, kt)."""
        box, now, context, rows = self._box(PORT.a), self._now, self._context, stop - first
        (k0, kt), m0, size = now.k, now.m[0] + first, box.element_bytes
        record = context.boxes[PORT.a]
        if box.kind != BOX_KIND.image:
            place = locate_a(record, context.op, first, self._row_bytes)
            return _matrix((rows, kt), size, context.scratchpad, place)
        memory = np.empty(rows * kt * size + MOVE_BYTES, np.uint8)
        ranges = (k0, kt, m0, rows) if box.transposed else (m0, rows, k0, kt)
        unfold(
            context.scratchpad, self._row_bytes, record, context.regs, now.group[0], *ranges, memory
        )  # fmt: skip
        place = (0, size, rows * size) if box.transposed else (0, kt * size, size)
        return _matrix((rows, kt), size, memory, place)

    def matrix_b(self) -> NDArray[Any]:
        """Codes of the tile's B, (kt, nt)."""
        box, context = self._box(PORT.b), self._context
        (_, nt), (_, kt), size = self._now.n, self._now.k, box.element_bytes
        regs, op, record, memory = (
            context.regs,
            context.op,
            context.boxes[PORT.b],
            context.scratchpad,
        )
        blocks = tile_blocks(regs, op)[1] if box.transposed else 1
        if blocks == 1:
            place = locate_b(regs, record, op, self._row_bytes)
        else:
            memory = np.empty(blocks * box.columns[1] * nt * size, np.uint8)
            place = join_blocks(regs, record, op, context.scratchpad, self._row_bytes, memory)
        return _matrix((nt, kt), size, memory, place).T

    def biases(self) -> NDArray[np.uint32]:
        """Codes of the biases of the tile's columns, (nt,)."""
        box, now = self._box(PORT.d), self._now
        size, line = box.element_bytes, now.group[0] - box.groups[0]
        column = line * box.columns[1] + now.n[0] - box.columns[0]
        byte = box.row * self._row_bytes + column * size
        biases = _matrix((1, now.n[1]), size, self._context.scratchpad, (byte, size, size))
        return np.asarray(biases[0], np.uint32)

    def tensors(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """All of DRAM that operands A and B of the current GEMM can come from; None if results of the same
        GEMM may be stored there."""
        context, spans = self._context, np.zeros(3, SPAN)
        dram = context.dram
        find = tensor_spans
        if INTERPRETED.left(tensor_spans, context.regs, context.boxes, spans):
            INTERPRETED.spend(1)
            find = interpreted(tensor_spans)
        find(context.regs, context.boxes, spans)
        a, b, c = ((first, min(stop, dram.size)) for first, stop in spans.tolist())
        if any(c[0] < stop and first < c[1] for first, stop in (a, b)):
            return None
        codes_a, codes_b = (
            dram[first:stop].view(_ELEMENTS[self._box(port).element_bytes])
            for port, (first, stop) in ((PORT.a, a), (PORT.b, b))
        )
        return codes_a, codes_b


def _matrix(
    shape: tuple[int, int], size: int, memory: NDArray[np.uint8], place: tuple[int, int, int]
) -> NDArray[Any]:
    """A matrix of codes in memory, as a view if they are aligned.

    Args:
        size: bytes of a code.
        place: byte of the first code, bytes from row to row, bytes from column to column.
    """
    byte, *steps = place
    codes: NDArray[Any] = np.ndarray(shape, _ELEMENTS[size], memory, byte, steps)
    return codes if codes.flags.aligned else codes.copy()
