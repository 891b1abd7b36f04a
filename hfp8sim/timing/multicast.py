"""The time model `multicast`: a GEMM on cores that share operands over a ring (`lowering.splits`)."""

from __future__ import annotations

from hfp8sim.lowering.splits import Split, Work, best_split
from hfp8sim.machine.config import Machine
from hfp8sim.network import GemmShape
from hfp8sim.timing.parts import Parts


def time_split(
    shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int, split: Split
) -> Parts:
    """The cycles of a GEMM with a given split, by cause."""
    cycles = Work(shape, machine, operand_bits, compulsory, split).cycles()
    return Parts(**cycles._asdict())


def closed_form(shape: GemmShape, machine: Machine, operand_bits: int, compulsory: int) -> Parts:
    """The cycles of a GEMM with the best split, by cause."""
    split = best_split(shape, machine, operand_bits, compulsory)
    return time_split(shape, machine, operand_bits, compulsory, split)
