"""Splits of a GEMM over the cores of a machine with a ring, and the time of each (docs/silicon.md).

The cores cut M, N, K and the batch into equal shares. One fetch from DRAM serves several cores that need the same
operand. The operands of a share come into the scratchpad beside the computation, as far as its capacity lets them,
and the result leaves at the end. Where K is cut, the partial sums travel over the ring and are added in binary32.

A program cannot cut K: its partial sums would be added in another order than docs/numerics.md defines. Devices do,
so the time of such a split can be asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

from hfp8sim.errors import InputError
from hfp8sim.machine.config import Machine
from hfp8sim.network import GemmShape

SUM_BYTES = 4  #: of a partial sum
RESULT_BYTES = 2  #: of a result, whatever the operands' format
#: Times, and bytes, that differ by less are equal to `best_split`.
_EQUAL_TIMES, _EQUAL_BYTES = 0.1, 0.01


class Split(NamedTuple):
    """Into how many shares the cores cut each loop. Their product is at most the number of cores."""

    groups: int = 1
    m: int = 1
    n: int = 1
    k: int = 1


class Cycles(NamedTuple):
    """Where the cycles of a split go."""

    compute: int
    weight_load: int  #: the arrays wait for blocks of weights
    stall_in: int  #: transfers of operands that no computation hides
    stall_out: int  #: results to DRAM, and partial sums over the ring

    @property
    def total(self) -> int:
        """All cycles."""
        return sum(self)


@dataclasses.dataclass(frozen=True)
class Work:
    """A GEMM on a machine with one split. Times are in cycles, sizes in bytes."""

    shape: GemmShape
    machine: Machine
    operand_bits: int
    compulsory: int  #: bytes of the tensors, each once; 0: those of the matrices
    split: Split

    @property
    def _operand_bytes(self) -> int:
        return -(-self.operand_bits // 8)

    @property
    def _share(self) -> GemmShape:
        """What the busiest core computes."""
        sizes = zip(self.shape, self.split, strict=True)
        return GemmShape(*(-(-size // parts) for size, parts in sizes))

    def _fetches(self, receivers: int) -> int:
        """How often DRAM sends an operand that so many cores need."""
        return -(-receivers // self.machine.ring.receivers)

    # --- bytes

    @property
    def _b_bytes(self) -> int:
        g, _, n, k = self.shape
        return g * n * k * self._operand_bytes

    @property
    def _result_bytes(self) -> int:
        g, m, n, _ = self.shape
        return g * m * n * RESULT_BYTES

    @property
    def _a_bytes(self) -> int:
        """The rest of the tensors: an image is smaller than its unfolded matrix."""
        g, m, _, k = self.shape
        matrix = g * m * k * self._operand_bytes
        rest = self.compulsory - self._b_bytes - self._result_bytes
        return min(matrix, rest) if rest > 0 else matrix

    @property
    def reads(self) -> tuple[int, int]:
        """Bytes of A and of B that DRAM sends, each as often as it is fetched."""
        return (
            self._a_bytes * self._fetches(self.split.n),
            self._b_bytes * self._fetches(self.split.m),
        )

    # --- cycles

    def _transfer(self, size: float) -> float:
        return size / self.machine.transfer_bytes_per_cycle

    @property
    def _storing(self) -> float:
        """Cycles of the result: the channel turns around for it, or the ring is slower."""
        memory, size = self.machine.memory, self._result_bytes
        sustained = memory.sustained_bytes_per_cycle
        turnaround = self.machine.ring.turnaround / (1 << 20)
        turned = turnaround * min(sum(self.reads), size) * (memory.bytes_per_cycle / sustained)
        return max(size / sustained + turned, self._transfer(size))

    @property
    def arrays(self) -> float:
        """Multiply-accumulates of the busiest core. Fewer rows of A than the array has take as long as all."""
        g, m, n, k = self._share
        core = self.machine.macs_per_cycle(self.operand_bits) / self.machine.cores
        return g * max(m, self.machine.array.rows) * n * k / core

    @property
    def weight_blocks(self) -> float:
        """Cycles in which the arrays wait for blocks of weights."""
        g, _, n, k = self._share
        return g * n * k * self._operand_bytes / self.machine.ring.block_bytes_per_cycle

    @property
    def reduction(self) -> float:
        """Partial sums of cores that share a result travel in rounds of halving."""
        g, m, n, _ = self.shape
        once = g * m * n * SUM_BYTES / self.machine.ring.partial_bytes_per_cycle
        return math.log2(self.split.k) * once

    # --- capacity

    @property
    def _scratchpad(self) -> int:
        return self.machine.memory.scratchpad_kib * 1024

    @property
    def _sum_bytes(self) -> int:
        """Of the sums of a core's share."""
        _, m, n, _ = self._share
        return m * n * SUM_BYTES

    @property
    def pieces(self) -> int:
        """Pieces of a core's result whose sums fit in the scratchpad; a quarter is left to the operands."""
        return math.ceil(self._sum_bytes / (self._scratchpad * 3 / 4))

    @property
    def _room(self) -> int:
        """Scratchpad that the sums leave to the operands."""
        return self._scratchpad - min(self._sum_bytes, self._scratchpad * 3 // 4)

    @property
    def slices(self) -> int:
        """Slices of K, two of which fit in the scratchpad: one is multiplied while the next one arrives."""
        _, m, n, k = self._share
        unit = self.machine.array.columns
        depth = self._room // 2 // ((m + n) * self._operand_bytes)
        return -(-k // max(depth // unit * unit, unit))

    def _inputs(self, a: float, b: float, array: float) -> float:
        """Cycles until the operands are multiplied, of cycles of their transfers and of the arrays.

        An operand whose share fits beside the sums may be loaded first; the other one streams while the arrays
        work. Or both are cut along K into slices, with two buffers for each operand: the first slice arrives
        before the arrays begin, and they end after the last one. The schedule with the fewest cycles counts. Where
        the sums do not fit, the result is cut into pieces, and one operand is fetched again for each of them.
        """
        _, m, n, k = self._share
        both = min(a * self.pieces + b, a + b * self.pieces)
        ways = [max(both + array / self.slices, array + both / self.slices)]
        if m * k * self._operand_bytes <= self._room:
            ways.append(a + max(b * self.pieces, array))
        if k * n * self._operand_bytes <= self._room:
            ways.append(b + max(a * self.pieces, array))
        return min(ways)

    def cycles(self) -> Cycles:
        """Where the cycles go."""
        a, b = (self._transfer(size) for size in self.reads)
        array = self.arrays + self.weight_blocks
        return Cycles(
            compute=math.ceil(self.arrays),
            weight_load=math.ceil(self.weight_blocks),
            stall_in=math.ceil(self._inputs(a, b, array) - array),
            stall_out=math.ceil(self._storing + self.reduction),
        )


def check_split(split: Split, shape: GemmShape, machine: Machine) -> None:
    """`InputError` for a split that no program has: too many shares, or a share of K."""
    if split.k != 1:
        raise InputError(
            f"split {'×'.join(map(str, split))} cuts K: its partial sums would be added in another order than "
            "that of the arithmetic; cut the groups, M or N"
        )
    if min(split) < 1 or math.prod(split) > machine.cores:
        raise InputError(
            f"split {'×'.join(map(str, split))} must have positive shares for at most {machine.cores} cores"
        )
    for name, parts, size in zip(("groups", "m", "n"), split, shape, strict=False):
        if parts > size:
            raise InputError(f"split cuts {name} into {parts} shares, but it has only {size}")


@functools.lru_cache(maxsize=1024)
def splits(shape: GemmShape, machine: Machine) -> tuple[Split, ...]:
    """Every split of a GEMM over the cores of a machine that leaves K whole.

    The shares of a loop divide the number of cores. Shares of N have whole rows of the scratchpad.
    """
    limits = (shape.groups, shape.m, -(-shape.n // machine.array.columns))
    divisors = [parts for parts in range(1, machine.cores + 1) if machine.cores % parts == 0]
    ways = ([parts for parts in divisors if parts <= limit] for limit in limits)
    return tuple(
        Split(*parts) for parts in itertools.product(*ways) if math.prod(parts) <= machine.cores
    )


@functools.lru_cache(maxsize=4096)
def best_split(shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int = 0) -> Split:
    """The split with the fewest cycles, to the resolution of the estimate.

    Of the splits within a tenth of the fewest cycles, those that fetch the fewest bytes from DRAM are kept, to one
    per cent. Of these it is the one whose arrays work least, then the one with the fewest cycles, then the one
    with the most shares of the batch.
    """
    works = [
        Work(shape, machine, operand_bits, compulsory, split) for split in splits(shape, machine)
    ]
    totals = [work.cycles().total for work in works]
    most = min(totals) * (1 + _EQUAL_TIMES)
    fast = [pair for pair in zip(totals, works, strict=True) if pair[0] <= most]
    bytes_limit = min(sum(work.reads) for _, work in fast) * (1 + _EQUAL_BYTES)

    def cost(pair: tuple[int, Work]) -> tuple[float, int, int]:
        total, work = pair
        return work.arrays + work.weight_blocks, total, -work.split.groups

    frugal = [pair for pair in fast if sum(pair[1].reads) <= bytes_limit]
    return min(frugal, key=cost)[1].split
