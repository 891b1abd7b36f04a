"""Segments of a program: what is between two barriers, each a layer in one phase."""

from __future__ import annotations

import dataclasses
import functools
import math

from hfp8sim.isa.encoding import decode
from hfp8sim.isa.format_words import word_format
from hfp8sim.isa.program import Program
from hfp8sim.isa.table import CSR, CSR_BY_ADDRESS, reset_registers
from hfp8sim.network import GemmShape


@dataclasses.dataclass(frozen=True)
class Segment:
    """The words from one barrier to the next, with the layer that the program names there."""

    start: int  #: first word
    stop: int  #: the word after the FENCE or HALT
    name: str  #: of the layer, or `segment N`
    phase: str  #: of the layer, or empty
    shape: GemmShape
    operand_bits: int  #: of the wider operand
    cores: int  #: that have work, if the machine has so many
    grid: tuple[
        int, int, int
    ]  #: cores along g, i and j; zeros: one loop is spread over all of them, or none
    compulsory: int  #: bytes of the layer's tensors, each counted once
    works: bool  #: whether any instruction computes values


@functools.lru_cache(64)
def segments(program: Program) -> tuple[Segment, ...]:
    """The segments of a program that `check` accepts, read from its words without running it."""
    result: list[Segment] = []
    values = reset_registers()
    start, cores, shape, bits, works = 0, 1, GemmShape(1, 1, 1, 0), 8, False
    grid = (0, 0, 0)
    for index in range(len(program)):
        decoded = decode(int(program.words[index]))
        assert decoded is not None, "`check` accepts no undefined word"
        row, operands = decoded.row, decoded.operands
        if row.writes_csr:
            csr = CSR_BY_ADDRESS[operands["csr"]]
            values[csr.address] = csr.number(operands["value"])
        if "spread" in decoded.flags:
            grid = (values[CSR.split_g], values[CSR.split_i], values[CSR.split_j])
            cores = max(
                cores, math.prod(max(size, 1) for size in grid) if any(grid) else operands["count"]
            )
        if row.computes:
            works = True
            shape = GemmShape(values[CSR.groups], values[CSR.m], values[CSR.n], values[CSR.k])
        if row.multiplies:
            formats = [word_format(values[number]) for number in (CSR.a_format, CSR.b_format)]
            bits = max(fmt.bits for fmt in formats)
        if row.barrier:
            layer = program.layer_at(index) or program.layer_at(start)
            label = (layer.name, layer.phase) if layer else (f"segment {len(result)}", "")
            compulsory = layer.compulsory if layer else 0
            result.append(
                Segment(start, index + 1, *label, shape, bits, cores, grid, compulsory, works)
            )
            start, cores, grid, works = index + 1, 1, (0, 0, 0), False
    return tuple(result)
