"""Counting events in generated kernels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hfp8sim._numba.simd import I64, Code, Pointer, Value, integer, vector
from hfp8sim.kernels.form import EVENTS
from hfp8sim.kernels.kernel import Kernel


class Counter:
    """Takes the masks of events of a step. This one counts nothing."""

    counts_events = False

    def add(self, event: int, mask: Value) -> None:
        """Count the lanes of a comparison that are true."""


class Totals(Counter):
    """Counts as scalars (int64), by event: for what happens once a chunk. Without counts: counts nothing."""

    def __init__(self, counts: list[Value]) -> None:
        self.counts, self.counts_events = counts, bool(counts)

    def add(self, event: int, mask: Value) -> None:
        """Count the lanes of a comparison that are true."""
        if self.counts_events:
            self.counts[event] = self.counts[event] + mask.count()


class MaskRing:
    """A ring buffer of the masks of the last steps, in memory.

    A step stores its masks there, one bit a lane, and counts all masks of the step SLOTS steps ago at once. Storing a
    mask costs a processor no more than moving it to a scalar register, of which there are too few. If a mask
    were read soon after it is stored, the load would wait for the store.
    """

    SLOTS = 8

    def __init__(self, code: Code, kernel: Kernel) -> None:
        self.code = code
        self.mask, self.bits = integer(max(kernel.lanes, 8)), integer(kernel.lanes)
        masks = kernel.tiling.rows * kernel.tiling.vectors
        self.counts = vector(I64, masks * max(kernel.lanes, 8) // 64)
        self.memory = code.array(self.counts, EVENTS * self.SLOTS)

    def zero(self) -> Value:
        """A vector of zero counts."""
        return self.code.number(0, self.counts)

    def counter(self, step: Value, counts: list[Value]) -> Counter:
        """The counter of a step; it adds to vectors of counts, by event, in place."""
        return _StepMasks(self, step, counts)

    def total(self, event: int, count: Value) -> Value:
        """A vector of counts, with all masks that are still in the ring: their sum, int64."""
        for slot in range(self.SLOTS):
            count = count + self.counted(self.slot(event, self.code.number(slot)))
        lanes = [count.extracted(i) for i in range(count.lanes)]
        total = lanes[0]
        for lane in lanes[1:]:
            total = total + lane
        return total

    def slot(self, event: int, slot: Value) -> Pointer:
        """The address of one slot of an event's ring."""
        return self.memory + (slot + event * self.SLOTS)

    def counted(self, slot: Pointer) -> Value:
        """How many bits are set in a slot, as a vector of counts."""
        return slot.load().population()


class _StepMasks(Counter):
    """Stores the masks of one step in the ring."""

    counts_events = True

    def __init__(self, ring: MaskRing, step: Value, counts: list[Value]) -> None:
        self.ring, self.step, self.counts = ring, step, counts
        self.places: dict[int, Iterator[Pointer]] = {}

    def add(self, event: int, mask: Value) -> None:
        """Store the mask of a comparison."""
        if event not in self.places:
            self.places[event] = self._reuse(event)
        bits = mask.bitcast(self.ring.bits).widened(self.ring.mask)
        next(self.places[event]).store(bits)

    def _reuse(self, event: int) -> Iterator[Pointer]:
        """Count the masks of the step whose slot this one takes; the places of this one's masks."""
        ring = self.ring
        slot = ring.slot(event, self.step & (ring.SLOTS - 1))
        self.counts[event] = self.counts[event] + ring.counted(slot)
        first = slot.as_type(ring.mask)
        return (first + i for i in itertools.count())
