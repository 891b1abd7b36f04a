"""The instruction set: one table, and what is derived from it. Reference: docs/isa.md (generated)."""

from hfp8sim.isa.assembly import assemble, disassemble, instruction_text
from hfp8sim.isa.encoding import Decoded, decode, encode
from hfp8sim.isa.format_words import format_word, word_format
from hfp8sim.isa.program import Program, ProgramLayer, Symbol, image, outputs
from hfp8sim.isa.table import CSRS, INSTRUCTIONS, LINE

__all__ = [
    "CSRS",
    "INSTRUCTIONS",
    "LINE",
    "Decoded",
    "Program",
    "ProgramLayer",
    "Symbol",
    "assemble",
    "decode",
    "disassemble",
    "encode",
    "format_word",
    "image",
    "instruction_text",
    "outputs",
    "word_format",
]
