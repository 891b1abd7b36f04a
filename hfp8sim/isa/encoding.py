"""Encoder and decoder of instruction words, both derived from the instruction table."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType

from hfp8sim.errors import InputError, unknown
from hfp8sim.isa.table import BY_MNEMONIC, BY_OPCODE, FLAGS_LOW, OPCODE_LOW, Instruction


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A decoded word: its row of the table, its operands by name, the names of its flags."""

    row: Instruction
    operands: Mapping[str, int]
    flags: tuple[str, ...] = ()


def encode(mnemonic: str, *flags: str, **operands: int) -> int:
    """The word of an instruction.

    Raises:
        InputError: an unknown name, a missing operand, or a number that its field cannot hold.
    """
    row = BY_MNEMONIC.get(mnemonic)
    if row is None:
        raise unknown("instruction", mnemonic, list(BY_MNEMONIC))
    word = row.opcode << OPCODE_LOW
    for field in row.fields:
        if field.name not in operands:
            raise InputError(f"{mnemonic} needs operand {field.name!r}")
        value = operands.pop(field.name)
        if not 0 <= value <= field.mask:
            raise InputError(f"{mnemonic}: {field.name} is {value}, must be 0..{field.mask}")
        word |= value << field.low
    if operands:
        raise unknown("operand", next(iter(operands)), [f.name for f in row.fields], of=mnemonic)
    flag_bits = {flag.name: flag.bit for flag in row.flags}
    for name in flags:
        if name not in flag_bits:
            raise unknown("flag", name, list(flag_bits), of=mnemonic)
        word |= 1 << (FLAGS_LOW + flag_bits[name])
    return word


def meaningful(row: Instruction) -> int:
    """The bits of a word that have a meaning for an instruction."""
    bits = 0xFF << OPCODE_LOW
    for field in row.fields:
        bits |= field.mask << field.low
    for flag in row.flags:
        bits |= 1 << (FLAGS_LOW + flag.bit)
    return bits


_MEANINGFUL = {row.opcode: meaningful(row) for row in BY_OPCODE.values()}


@functools.lru_cache(maxsize=4096)  # Programs repeat their words, and are read more than once.
def decode(word: int) -> Decoded | None:
    """The instruction of a word; None if its opcode is undefined or a bit without meaning is set."""
    row = BY_OPCODE.get(word >> OPCODE_LOW)
    if row is None or word & ~_MEANINGFUL[row.opcode]:
        return None
    operands = {field.name: word >> field.low & field.mask for field in row.fields}
    flags = tuple(flag.name for flag in row.flags if word >> (FLAGS_LOW + flag.bit) & 1)
    return Decoded(row, MappingProxyType(operands), flags)
