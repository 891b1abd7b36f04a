"""The results of every time model: a layer's cycles by cause, its traffic, and a program's layers."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from hfp8sim.machine.config import Machine
from hfp8sim.network import GemmShape


class Parts(NamedTuple):
    """Cycles by what the array does or waits for; every cycle of a layer belongs to exactly one part.

    The names of the parts are declared here only: columns of reports and the compiled model's record
    have these fields.
    """

    fill: int = 0  #: sums pass down the array for the first time
    compute: int = 0  #: rows of A stream through weights that have been loaded
    drain: int = 0  #: the last sums leave the array's columns
    weight_load: int = 0  #: weights are loaded and no computation hides it
    stall_in: int = 0  #: the array waits for operands from DRAM
    stall_out: int = 0  #: only transfers of results to DRAM are running
    post: int = 0  #: only the rounding of results is running

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
    compulsory: (
        int  #: bytes of the layer's tensors, each once; 0 for a program that does not declare them
    )
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
        """Multiply-accumulates of the layer, as a share of the array's peak in these cycles."""
        peak = self.cycles * machine.macs_per_cycle(self.operand_bits)
        return self.shape.macs / peak if peak else 0.0

    def tflops(self, machine: Machine) -> float:
        """Sustained teraflop/s; a multiply-accumulate counts as two operations."""
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
