"""The time model `multicast`: a GEMM on cores that share operands over a ring (docs/silicon.md).

The cores cut M, N, K and the batch into equal shares. One fetch from DRAM serves several cores that need the same
operand. Of a core's share one operand is in its scratchpad before the computation starts, the other one streams
beside the computation, and the result leaves at the end. Where K is cut, the partial sums travel over the ring and
are added in binary32.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

from hfp8sim.machine.config import Machine
from hfp8sim.network import GemmShape
from hfp8sim.timing.parts import Parts

SUM_BYTES = 4  #: of a partial sum
RESULT_BYTES = 2  #: of a result, whatever the operands' format


class Split(NamedTuple):
    """Into how many shares the cores cut each loop. Their product is at most the number of cores."""

    groups: int = 1
    m: int = 1
    n: int = 1
    k: int = 1


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
        sizes = zip(self.shape, (self.split.groups, *self.split[1:]), strict=True)
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

    # --- cycles

    def _transfer(self, size: float) -> float:
        return size / self.machine.memory.bytes_per_cycle

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

    def _inputs(self, a: float, b: float, array: float) -> float:
        """Cycles until the operands are multiplied, of cycles of their transfers and of the arrays.

        An operand whose share fits beside the sums is loaded first; the other one streams while the arrays work.
        If neither fits, both are cut along K: a slice of each is loaded, then multiplied. Where the result is cut
        into pieces, one operand is fetched again for each piece.
        """
        _, m, n, k = self._share
        room = self._scratchpad - min(self._sum_bytes, self._scratchpad * 3 // 4)
        ways = [min(a * self.pieces + b, a + b * self.pieces) + array]
        if m * k * self._operand_bytes <= room:
            ways.append(a + max(b * self.pieces, array))
        if k * n * self._operand_bytes <= room:
            ways.append(b + max(a * self.pieces, array))
        return min(ways)

    def parts(self) -> Parts:
        """Where the cycles go."""
        reads = (
            self._a_bytes * self._fetches(self.split.n),
            self._b_bytes * self._fetches(self.split.m),
        )
        a, b = (self._transfer(size) for size in reads)
        array = self.arrays + self.weight_blocks
        turnaround = self.machine.ring.turnaround / (1 << 20) * min(sum(reads), self._result_bytes)
        return Parts(
            compute=math.ceil(self.arrays),
            weight_load=math.ceil(self.weight_blocks),
            stall_in=math.ceil(self._inputs(a, b, array) - array),
            stall_out=math.ceil(self._transfer(self._result_bytes) + turnaround + self.reduction),
        )


def splits(shape: GemmShape, machine: Machine) -> list[Split]:
    """Every split of a GEMM over the cores of a machine. Shares of N and K are whole rows of the scratchpad."""
    g, m, n, k = shape
    columns = machine.array.columns
    limits = (g, m, -(-n // columns), -(-k // columns))
    divisors = [parts for parts in range(1, machine.cores + 1) if machine.cores % parts == 0]
    return [
        Split(*parts)
        for parts in itertools.product(divisors, repeat=4)
        if math.prod(parts) <= machine.cores
        and all(part <= limit for part, limit in zip(parts, limits, strict=True))
    ]


@functools.lru_cache(maxsize=4096)
def best_split(shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int = 0) -> Split:
    """The split with the fewest cycles.

    Of equal ones, the one with the fewest shares of K, then on the most cores, then with the most shares of the batch.
    """

    def cost(split: Split) -> tuple[int, int, int, int]:
        parts = time_split(shape, machine, operand_bits, compulsory, split)
        return parts.total, split.k, -math.prod(split), -split.groups

    return min(splits(shape, machine), key=cost)


def time_split(
    shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int, split: Split
) -> Parts:
    """The cycles of a GEMM with a given split, by cause."""
    return Work(shape, machine, operand_bits, compulsory, split).parts()


def closed_form(shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int) -> Parts:
    """The cycles of a GEMM with the best split, by cause."""
    split = best_split(shape, machine, operand_bits, compulsory)
    return time_split(shape, machine, operand_bits, compulsory, split)
