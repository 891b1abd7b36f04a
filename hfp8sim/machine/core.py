"""One emulated core: its memories, and the arithmetic of the current GEMM."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hfp8sim import kernels
from hfp8sim._numba.copies import MOVE_BYTES
from hfp8sim._numba.layouts import record, tuple_type
from hfp8sim.isa import Program
from hfp8sim.isa.table import CSR
from hfp8sim.machine import arithmetic
from hfp8sim.machine.arithmetic import Conversion
from hfp8sim.machine.config import Machine
from hfp8sim.machine.loops import start
from hfp8sim.machine.multiplier import CoreState, Plans, Product, Sum, Sums
from hfp8sim.machine.operands import Operands
from hfp8sim.machine.state import RESOLVED, WORK, Context
from hfp8sim.machine.tiles import TILES
from hfp8sim.ops import no_counts

_Resolved, _Work = tuple_type("_Resolved", RESOLVED), tuple_type("_Work", WORK)


class Core:
    """One emulated core: its memories, and the arithmetic of the current GEMM.

    Args:
        number, cores: of this core, and how many share the program.
        plans: shared by all cores.
        count: also count events of the arithmetic and gated multiply-accumulates.
        threads: of each segment, how many may share a tile.
    """

    def __init__(
        self, program: Program, machine: Machine, dram: NDArray[np.uint8], number: int, cores: int,
        plans: Plans, count: bool, threads: Sequence[int],
    ) -> None:  # fmt: skip
        self.program, self.count, self.plans = program, count, plans
        self.row_bytes = machine.array.columns
        words = program.words.astype(np.int64)
        core, regs, boxes = start(words, number, cores, self.row_bytes, dram.size)
        scratchpad = np.zeros(machine.scratchpad_rows * self.row_bytes + MOVE_BYTES, np.uint8)
        op, spare = record(RESOLVED), np.zeros(0, np.uint8)
        self.context = Context(
            words, core, regs, boxes, op, dram, scratchpad, record(WORK), np.zeros(1, TILES), spare
        )
        #: `op` and `work` as plain integers: Python reads them many times between two runs of the loop.
        self.now, self.work = _Resolved(*op.item()), _Work(*self.context.work.item())
        self.operands = Operands(self.context)
        self.tile_state = CoreState(regs, boxes, op, scratchpad, self.row_bytes)
        memories = [kernels.Reused() for _ in range(max(threads))]
        #: Of each segment, the memories of the threads that share a tile.
        self.memories = [memories[:each] for each in threads]
        self.sums = Sums()
        #: The sums of the current tile; None before the first.
        self.sum: Sum | None = None
        #: Whether Python interprets the loop over the instructions. Each tile then returns to Python.
        self.interpreted = False
        #: What Python has counted.
        self.events = no_counts()
        self.nan = self.gated = 0
        self._product: tuple[tuple[int, ...], Product] | None = None
        self._conversion: tuple[int, Conversion] | None = None

    def update(self) -> None:
        """Read the records that the compiled loop has changed. The caller calls it after each return."""
        self.now = _Resolved(*self.context.op.item())
        self.work = _Work(*self.context.work.item())
        self.operands.update(self.now, self.work.loads)

    def counts(self) -> tuple[NDArray[np.int64], int]:
        """Events by `units.accumulator.EVENT_KINDS`, and gated multiply-accumulates."""
        events, gated = self.sums.counts()
        return self.events + events, self.gated + gated

    def product(self) -> Product:
        """The arithmetic of the current registers and group. It is made again after a CSRW or a FENCE."""
        regs, group = self.context.regs, self.now.group[0]
        key = self.work.csr_writes, self.work.fences, group
        if self._product is None or self._product[0] != key:
            profile, a, b = arithmetic.multiply_profile(regs)
            depth = int(regs[CSR.k])
            plan = self.plans.get(key[:2], profile, a, b, depth, self.operands.tensors)
            seed, stream = arithmetic.seed_and_stream(regs, group)
            self._product = key, Product.make(profile, a, b, depth, seed, stream, plan)
        return self._product[1]

    def conversion(self) -> Conversion:
        """The conversion of the current registers. It is made again after a CSRW."""
        writes = self.work.csr_writes
        if self._conversion is None or self._conversion[0] != writes:
            self._conversion = writes, arithmetic.post_conversion(self.context.regs)
        return self._conversion[1]
