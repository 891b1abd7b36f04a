"""Counting events, as the kernel generator writes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from llvmlite import ir
from numba.core import cgutils

from hfp8sim._numba.simd import Lanes
from hfp8sim.kernels.form import EVENTS, Kernel

_I64 = ir.IntType(64)


class Marks:
    """Where the events of a step go: nowhere."""

    wanted = False

    def add(self, event: int, lanes: Lanes, mask: ir.Value) -> None:
        """Count the lanes of a comparison, if anything is counted."""


class Tally(Marks):
    """Counts of events, int64, one at a time: for what happens once a chunk."""

    def __init__(self, builder: ir.IRBuilder, counts: list[ir.Value]) -> None:
        self.b, self.counts, self.wanted = builder, counts, bool(counts)

    def add(self, event: int, lanes: Lanes, mask: ir.Value) -> None:
        """Count the lanes of a comparison, if anything is counted."""
        if self.wanted:
            self.counts[event] = self.b.add(self.counts[event], lanes.count(mask))


class Ring:
    """Memory for the marks of the last steps. A step writes its masks there, a few bits each, and counts
    all those of a step long ago at once: a processor moves a mask to memory at no more cost than to a
    scalar register, and of those there are too few. Were marks read soon after, it would wait for them."""

    SLOTS = 8

    def __init__(self, builder: ir.IRBuilder, kernel: Kernel) -> None:
        self.b = b = builder
        self.mask, self.lanes = ir.IntType(max(kernel.lanes, 8)), ir.IntType(kernel.lanes)
        words = kernel.rows * kernel.vectors * self.mask.width // 64
        self.counts = ir.VectorType(_I64, words)
        memory = ir.ArrayType(self.counts, EVENTS * self.SLOTS)
        self.memory = b.alloca(memory)
        b.store(ir.Constant(memory, None), self.memory)

    def zero(self) -> ir.Value:
        """A count of nothing, as counts begin with."""
        return ir.Constant(self.counts, None)

    def marks(self, step: ir.Value, counts: list[ir.Value]) -> Marks:
        """Where the events of a step go; counts by event go on in place."""
        return _RingMarks(self, step, counts)

    def total(self, event: int, count: ir.Value) -> ir.Value:
        """The count and all marks that are kept, int64."""
        b = self.b
        for slot in range(self.SLOTS):
            count = b.add(count, self.marked(self.slot(event, _I64(slot))))
        lanes = [b.extract_element(count, _I64(i)) for i in range(self.counts.count)]
        total = lanes[0]
        for lane in lanes[1:]:
            total = b.add(total, lane)
        return total

    def slot(self, event: int, slot: ir.Value) -> ir.Value:
        return self.b.gep(self.memory, [_I64(0), self.b.add(slot, _I64(event * self.SLOTS))])

    def marked(self, slot: ir.Value) -> ir.Value:
        """How many marks a slot has, in parts."""
        kind = ir.FunctionType(self.counts, [self.counts])
        name = f"llvm.ctpop.v{self.counts.count}i64"
        function = cgutils.get_or_insert_function(self.b.module, kind, name)
        return self.b.call(function, [self.b.load(slot)])


class _RingMarks(Marks):
    wanted = True

    def __init__(self, ring: Ring, step: ir.Value, counts: list[ir.Value]) -> None:
        self.ring, self.step, self.counts = ring, step, counts
        self.places: dict[int, Iterator[ir.Value]] = {}

    def add(self, event: int, lanes: Lanes, mask: ir.Value) -> None:
        ring, b = self.ring, self.ring.b
        if event not in self.places:
            self.places[event] = self._take(event)
        bits = b.zext(b.bitcast(mask, ring.lanes), ring.mask)
        b.store(bits, next(self.places[event]))

    def _take(self, event: int) -> Iterator[ir.Value]:
        """Count the marks of the step whose place this one takes; the place of its masks."""
        ring, b = self.ring, self.ring.b
        slot = ring.slot(event, b.and_(self.step, _I64(ring.SLOTS - 1)))
        self.counts[event] = b.add(self.counts[event], ring.marked(slot))
        first = b.bitcast(slot, ring.mask.as_pointer())
        return (b.gep(first, [_I64(i)]) for i in itertools.count())
