"""What a program's words say of its layers: the stretches between fences."""

from __future__ import annotations

import dataclasses
import functools

from hfp8sim.isa.encoding import decode
from hfp8sim.isa.format_words import word_format
from hfp8sim.isa.program import Program
from hfp8sim.isa.table import CSR, CSR_BY_ADDRESS, reset_registers
from hfp8sim.network import GemmShape


@dataclasses.dataclass(frozen=True)
class Segment:
    """What lies between two fences: a layer, if the program says so."""

    start: int  #: first word …
    stop: int  #: … and the one after the fence or halt
    name: str
    phase: str
    shape: GemmShape
    operand_bits: int
    cores: int  #: that have something to do, however many there are
    compulsory: int
    works: bool  #: whether anything is multiplied


@functools.lru_cache(64)
def segments(program: Program) -> tuple[Segment, ...]:
    """The program from fence to fence, read off its words alone."""
    found: list[Segment] = []
    values = reset_registers()
    start, cores, shape, bits, works = 0, 1, GemmShape(1, 1, 1, 0), 8, False
    for index in range(len(program)):
        decoded = decode(int(program.words[index]))
        assert decoded is not None  # `check` has been there
        name, operands = decoded.row.mnemonic, decoded.operands
        if name == "csrw":
            csr = CSR_BY_ADDRESS[operands["csr"]]
            values[csr.address] = csr.number(operands["value"])
        elif name == "loop" and "spread" in decoded.flags:
            cores = max(cores, operands["count"])
        elif name in ("mm", "cv", "post"):
            works = True
            shape = GemmShape(values[CSR.groups], values[CSR.m], values[CSR.n], values[CSR.k])
            if name != "post":
                formats = [word_format(values[place]) for place in (CSR.a_format, CSR.b_format)]
                bits = max(fmt.bits for fmt in formats)
        elif name in ("fence", "halt"):
            layer = program.layer_at(index) or program.layer_at(start)
            label = (layer.name, layer.phase) if layer else (f"segment {len(found)}", "")
            compulsory = layer.compulsory if layer else 0
            found.append(Segment(start, index + 1, *label, shape, bits, cores, compulsory, works))
            start, cores, works = index + 1, 1, False
    return tuple(found)
