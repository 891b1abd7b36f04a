"""Programs are refused before they run: the static checks, and a walk through all addresses.

`check_words` looks at each word once: opcodes, registers and their values, formats, loops. `check` also
walks the whole program the way a core would, without values: every tile, row and DRAM address.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from hfp8sim._numba.jit import jit
from hfp8sim.errors import InputError
from hfp8sim.isa import LINE, Program, decode, instruction_text, word_format
from hfp8sim.isa.encoding import meaningful
from hfp8sim.isa.table import (
    BY_OPCODE,
    COUNTERS,
    CSR_BY_ADDRESS,
    FLAG,
    OP,
    OPCODE_LOW,
    OPERANDS,
    PORT,
    reset_registers,
)
from hfp8sim.machine import sequencer as q
from hfp8sim.machine.arithmetic import multiply_profile, post_conversion
from hfp8sim.machine.config import Machine

_SCRATCHPAD, _ACCUMULATORS, _READ_BEFORE_WRITE, _SUMS_BEFORE_CLEAR, _TOO_LONG = range(-1, -6, -1)
_RUNTIME = {
    _SCRATCHPAD: "scratchpad rows {0}..{1} are touched, the machine has {2}",
    _ACCUMULATORS: "accumulator rows {0}..{1} are touched, the machine has {2}",
    _READ_BEFORE_WRITE: "scratchpad row {0} is read before anything wrote it",
    _SUMS_BEFORE_CLEAR: "accumulator row {0} is used before it was cleared",
    _TOO_LONG: "the program runs on after {2} instructions: more than a machine is given here",
}
#: Instructions a program may execute: some hours of a core's time.
MAX_STEPS = 1 << 28


def refuse(program: Program, index: int, reason: object) -> InputError:
    """The error that names an instruction: its index, its text, its layer, and the reason."""
    text = instruction_text(int(program.words[index])).rstrip(" {")
    layer = program.layer_at(index)
    where = f" of layer {layer.name!r} ({layer.phase})" if layer else ""
    return InputError(f"instruction {index}{where}: {' '.join(text.split())}: {reason}")


def _spread_ahead(program: Program, start: int) -> bool:
    """Whether a loop is spread between a word and the next fence."""
    for word in program.words[start:]:
        code = int(word) >> OPCODE_LOW
        if code == OP.loop and int(word) & FLAG.spread:
            return True
        if code == OP.fence:
            return False
    return False


@dataclasses.dataclass
class _Loop:
    counter: int
    stop: int
    spread: bool


def check_words(program: Program) -> None:
    """Refuse undefined opcodes, registers, values and formats, and loops that do not nest.

    Raises:
        InputError: with the instruction's index, its text and the reason.
    """
    values = reset_registers()
    loops: list[_Loop] = []
    halted, shared = False, _spread_ahead(program, 0)
    for index in range(len(program)):
        while loops and loops[-1].stop == index:
            loops.pop()
        word = int(program.words[index])
        decoded = decode(word)
        if decoded is None:
            raise refuse(program, index, _no_instruction(word))
        if halted:
            raise refuse(program, index, "stands behind halt and is never reached")
        name, operands = decoded.row.mnemonic, decoded.operands
        try:
            if name == "csrw":
                _check_register(operands["csr"], operands["value"], bool(loops))
                value = CSR_BY_ADDRESS[operands["csr"]].number(operands["value"])
                values[operands["csr"]] = value
            elif name == "loop":
                stop = index + 1 + operands["body"]
                _check_loop(
                    operands["counter"], stop, "spread" in decoded.flags, loops, len(program)
                )
                loops.append(_Loop(operands["counter"], stop, "spread" in decoded.flags))
            elif name in ("mm", "cv"):
                multiply_profile(values)
            elif name == "post":
                conversion = post_conversion(values)
                if "bias" in decoded.flags and conversion.bias is None:
                    raise InputError("register d.format is not set")
            elif name == "ld" and operands["operand"] > 2:
                raise InputError(f"operand {operands['operand']} does not exist: a, b and d do")
            elif name == "st" and shared and not any(loop.spread for loop in loops):
                raise InputError("every core would store this: it must stand in the spread loop")
            elif name in ("halt", "fence") and loops:
                raise InputError(f"{name} must not stand in a loop")
        except InputError as error:
            raise refuse(program, index, error) from None
        halted = name == "halt"
        if name == "fence":
            shared = _spread_ahead(program, index + 1)
    if not halted:
        raise InputError("the program does not end with halt")


def _no_instruction(word: int) -> str:
    row = BY_OPCODE.get(word >> OPCODE_LOW)
    if row is None:
        return f"no instruction has opcode 0x{word >> OPCODE_LOW:02x}"
    return f"{row.mnemonic} gives no meaning to bits 0x{word & ~meaningful(row):x}"


def _check_register(address: int, value: int, in_loop: bool) -> None:
    csr = CSR_BY_ADDRESS.get(address)
    if csr is None:
        raise InputError(f"there is no register 0x{address:x}")
    if not csr.holds(value):
        raise InputError(f"{csr.name} is {csr.number(value)}, must be {csr.low}..{csr.high}")
    if csr.kind == "format":
        word_format(value)
    if in_loop:
        raise InputError("registers are written outside loops only")


def _check_loop(counter: int, stop: int, spread: bool, loops: list[_Loop], end: int) -> None:
    if stop > min([end, *(loop.stop for loop in loops)]):
        raise InputError("the body reaches beyond the loop around it or the program's end")
    if counter in [loop.counter for loop in loops]:
        raise InputError(f"counter {COUNTERS[counter]} already runs in a loop around this one")
    if spread and COUNTERS[counter] == "k":
        raise InputError("a loop over k cannot be spread: its steps add to one sum")
    if spread and any(loop.spread or COUNTERS[loop.counter] == "k" for loop in loops):
        raise InputError("a loop can be spread only outside loops over k and other spread loops")


@jit
def _missing(flags, first, stop):
    """The first of the flags [first, stop) that is not set, or −1. (A minimum is taken of many at once;
    a search would look at one after the other.)"""
    least = np.uint8(1)
    for row in range(first, stop):
        least = min(least, np.uint8(flags[np.uintp(row)]))
    if least:
        return -1
    while flags[first]:
        first += 1
    return first


@jit
def _spoil(op, state, regs, box, spoilt):
    """Rows have been written: what ports had loaded there is gone."""
    for port in range(spoilt.size):
        first, stop = q.box_rows(box[port], state, regs)
        if box[port, q.KIND] != q.EMPTY and first < op[q.WRITE_STOP] and op[q.WRITE] < stop:
            spoilt[port] = True
    if op[q.CODE] == OP.ld:
        spoilt[op[q.OPERAND]] = False


@jit
def _walk(words, state, regs, box, written, cleared, spoilt, limit):
    """Walk to HALT. Returns (error, index, first row, last row); error 0 if all is well, and then the
    instructions executed stand for the row. The last of `spoilt` is set as `examine` says."""
    op = np.zeros(q.OP_SIZE, np.int64)
    ports = spoilt[: len(OPERANDS)]
    ways = np.full(ports.size, -1)  # that each port is loaded, since registers were written
    for number in range(limit):
        error = q.step(words, state, regs, box, op)
        if error != q.OK:
            return error, op[q.INDEX], 0, 0
        if state[q.HALTED]:
            return q.OK, 0, number + 1, 0
        rows = max(op[q.READ_STOP], op[q.READ2_STOP], op[q.WRITE_STOP])
        if rows > written.size:
            return _SCRATCHPAD, op[q.INDEX], max(op[q.READ], op[q.READ2], op[q.WRITE]), rows - 1
        if op[q.ACC_STOP] > cleared.size:
            return _ACCUMULATORS, op[q.INDEX], op[q.ACC], op[q.ACC_STOP] - 1
        for first, stop in (
            (op[q.READ], op[q.READ_STOP]),
            (op[q.READ2], op[q.READ2_STOP]),
        ):
            row = _missing(written, first, stop)
            if row >= 0:
                return _READ_BEFORE_WRITE, op[q.INDEX], row, row
        written[op[q.WRITE] : op[q.WRITE_STOP]] = True
        if op[q.WRITE_STOP] > op[q.WRITE]:
            _spoil(op, state, regs, box, ports)
        if op[q.CODE] == OP.csrw or op[q.CODE] == OP.fence:
            ports[:] = True  # loaded under other registers, or before other stores
            ways[:] = -1
        elif op[q.CODE] == OP.ld:
            port = op[q.OPERAND]
            way = box[port, q.KIND] + 4 * box[port, q.TRANSPOSED] + 8 * box[port, q.TURNED]
            spoilt[-1] |= ways[port] >= 0 and ways[port] != way
            ways[port] = way
        elif op[q.CODE] == OP.mm or op[q.CODE] == OP.cv:
            spoilt[-1] |= ports[PORT.a] or ports[PORT.b]
        if op[q.CODE] == OP.clr:
            cleared[op[q.ACC] : op[q.ACC_STOP]] = True
        else:
            row = _missing(cleared, op[q.ACC], op[q.ACC_STOP])
            if row >= 0:
                return _SUMS_BEFORE_CLEAR, op[q.INDEX], row, row
    return _TOO_LONG, op[q.INDEX], 0, 0


def check(program: Program, machine: Machine, dram_bytes: int | None = None) -> None:
    """Refuse a program that this machine cannot run, before anything happens.

    Args:
        dram_bytes: size of DRAM; that of the program's symbols by default.

    Raises:
        InputError: undefined opcode, register, value or format; loops that do not nest; tiles outside
            their matrices; rows that are read before they are written, or that the machine does not
            have; tiles of k out of order; DRAM addresses beyond its end. With the instruction's index,
            its text and the reason.
    """
    examine(program, machine, dram_bytes)


class Findings(NamedTuple):
    """What is known of a sound program before it runs."""

    instructions: int  #: that one core executes if it is alone
    #: whether the array reads operands that are not simply what DRAM holds where the registers say: rows
    #: that something else was written over, or loaded under other registers, or in two ways (`image`, `t`
    #: or `turned`, and not)
    overwritten: bool


@functools.lru_cache(64)  # a program may run many times
def examine(program: Program, machine: Machine, dram_bytes: int | None = None) -> Findings:
    """`check`, and what was found."""
    check_words(program)
    size = program.dram_lines * LINE if dram_bytes is None else dram_bytes
    written = np.zeros(machine.scratchpad_rows, np.bool_)
    cleared = np.zeros(machine.accumulator_rows, np.bool_)
    words = program.words.astype(np.int64)
    state, regs, box = q.start(words, 0, 1, machine.array.columns, size)
    spoilt = np.zeros(len(OPERANDS) + 1, np.bool_)
    error, index, first, last = _walk(words, state, regs, box, written, cleared, spoilt, MAX_STEPS)
    if error > 0:
        raise refuse(program, index, q.ERRORS[error])
    if error < 0:
        limit = {_ACCUMULATORS: cleared.size, _TOO_LONG: MAX_STEPS}.get(error, written.size)
        raise refuse(program, index, _RUNTIME[error].format(first, last, limit))
    return Findings(int(first), bool(spoilt[-1]))
