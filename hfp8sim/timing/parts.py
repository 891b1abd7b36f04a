"""Where a layer's cycles went, and what one layer took: the results of every time model."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from hfp8sim.machine.config import Machine
from hfp8sim.network import GemmShape


class Parts(NamedTuple):
    """Cycles by what the array did or waited for. They add up to the total, always."""

    fill: int = 0  #: sums pass down the array for the first time
    compute: int = 0  #: rows of A stream through weights that are in place
    drain: int = 0  #: the last sums leave the array's columns
    weight_load: int = 0  #: weights come in and no computation hides it
    stall_in: int = 0  #: operands are on their way from DRAM
    stall_out: int = 0  #: results are on their way to DRAM and nothing else can go on
    post: int = 0  #: results are rounded and nothing else can go on

    @property
    def total(self) -> int:
        """All cycles."""
        return sum(self)


@dataclasses.dataclass(frozen=True)
class LayerTime:
    """The time of one layer in one phase under one model."""

    name: str
    phase: str
    shape: GemmShape
    parts: Parts  #: of the core that takes longest
    bytes_in: int  #: DRAM to scratchpads, of all cores
    bytes_out: int
    compulsory: int  #: bytes of the layer's tensors, each once; 0 where nothing says which they are
    operand_bits: int  #: of the wider operand
    instructions: int  #: executed, of all cores

    @property
    def cycles(self) -> int:
        """Total cycles."""
        return self.parts.total

    @property
    def bytes(self) -> int:
        """Bytes between DRAM and scratchpads: compulsory and capacity traffic."""
        return self.bytes_in + self.bytes_out

    @property
    def bound_by(self) -> str:
        """The name of the largest part."""
        return max(zip(self.parts, self.parts._fields), key=lambda pair: pair[0])[1]

    def utilisation(self, machine: Machine) -> float:
        """Multiply-accumulates done, of those the array could have done in these cycles."""
        peak = self.cycles * machine.macs_per_cycle(self.operand_bits)
        return self.shape.macs / peak if peak else 0.0

    def tflops(self, machine: Machine) -> float:
        """Sustained, a multiply-accumulate counted as two operations."""
        return 2e-12 * self.shape.macs / machine.seconds(self.cycles) if self.cycles else 0.0


@dataclasses.dataclass(frozen=True)
class Timing:
    """The time of a program: its layers, one after the other."""

    model: str
    machine: Machine
    layers: tuple[LayerTime, ...]

    @property
    def cycles(self) -> int:
        """Total cycles."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def parts(self) -> Parts:
        """The layers' parts, summed."""
        return Parts(*(sum(column) for column in zip(*(layer.parts for layer in self.layers))))
