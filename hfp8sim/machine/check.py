"""Static checks: a program is refused before it runs if any of its instructions would fail.

`check_words` checks each word once: opcodes, registers and their values, formats, loops. `check` also
executes the addresses of the whole program on one core, without values: every tile, row and DRAM address.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from hfp8sim._numba.interpreted import Budget, interpreted
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import enumerate_names, layout, record, tuple_type
from hfp8sim.errors import InputError
from hfp8sim.isa import LINE, Decoded, Program, decode, instruction_text, word_format
from hfp8sim.isa.encoding import meaningful
from hfp8sim.isa.table import (
    BY_OPCODE,
    COUNTERS,
    CSR_BY_ADDRESS,
    CSR_BY_NAME,
    OP,
    OPCODE_LOW,
    OPERANDS,
    PORT,
    Instruction,
    opcodes_with,
    reset_registers,
)
from hfp8sim.machine.arithmetic import multiply_profile, post_conversion
from hfp8sim.machine.boxes import box_stop
from hfp8sim.machine.config import Machine
from hfp8sim.machine.loops import start
from hfp8sim.machine.sequencer import step
from hfp8sim.machine.state import BOX_KIND, FAULT, RESOLVED, fault_text

#: Instructions that a process interprets, in walks and in time models, before it compiles them.
INTERPRETED = Budget(4000)
#: Instructions a program may execute: some hours of a core's time.
MAX_STEPS = 1 << 28


def refuse(program: Program, index: int, reason: object) -> InputError:
    """The error that names an instruction: its index, its text, its layer, and the reason."""
    text = instruction_text(int(program.words[index])).rstrip(" {")
    layer = program.layer_at(index)
    where = f" of layer {layer.name!r} ({layer.phase})" if layer else ""
    return InputError(f"instruction {index}{where}: {' '.join(text.split())}: {reason}")


# -- single words ------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Loop:
    """An open loop: its counter, the first word after its body, and whether cores share its iterations."""

    counter: int
    stop: int
    spread: bool


class _Words:
    """The checks of single words, with the registers and open loops at each of them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.values = reset_registers()
        self.loops: list[_Loop] = []
        self.halted = False
        self.shared = _spread_ahead(program, 0)

    def check(self, index: int) -> None:
        """Check one word; `InputError` without its place."""
        while self.loops and self.loops[-1].stop == index:
            self.loops.pop()
        word = int(self.program.words[index])
        decoded = decode(word)
        if decoded is None:
            raise InputError(_undecodable(word))
        if self.halted:
            raise InputError("is behind halt and is never reached")
        row = decoded.row
        if row.writes_csr:
            self._write(decoded.operands["csr"], decoded.operands["value"])
        if row.opens_loop:
            self._open(decoded, index)
        if row.computes:
            _check_arithmetic(decoded, self.values)
        _check_operand_port(decoded)
        if row.writes_dram and self.shared:
            self._check_store()
        if row.barrier:
            self._pass_barrier(row, index)

    def _write(self, address: int, value: int) -> None:
        """CSRW: the register exists, may hold the value, and no loop is open."""
        csr = CSR_BY_ADDRESS.get(address)
        if csr is None:
            raise InputError(f"there is no register 0x{address:x}")
        if not csr.holds(value):
            raise InputError(f"{csr.name} is {csr.number(value)}, must be {csr.low}..{csr.high}")
        if csr.kind == "format":
            word_format(value)
        if self.loops:
            raise InputError("registers are written outside loops only")
        self.values[address] = csr.number(value)

    def _open(self, decoded: Decoded, index: int) -> None:
        """LOOP: its body nests in the loops around it."""
        counter, stop = decoded.operands["counter"], index + 1 + decoded.operands["body"]
        spread, loops = "spread" in decoded.flags, self.loops
        if stop > min([len(self.program), *(loop.stop for loop in loops)]):
            raise InputError("the body reaches beyond the loop around it or the program's end")
        if counter in [loop.counter for loop in loops]:
            raise InputError(f"counter {COUNTERS[counter]} already runs in a loop around this one")
        if spread and COUNTERS[counter] == "k":
            raise InputError("a loop over k cannot be spread: its steps add to one sum")
        grid = self._grid()
        if spread and any(
            (loop.spread and not grid) or COUNTERS[loop.counter] == "k" for loop in loops
        ):
            raise InputError(
                "a loop can be spread only outside loops over k and other spread loops"
            )
        if spread and grid and not grid[COUNTERS[counter]]:
            raise InputError(
                f"register split.{COUNTERS[counter]} is not set, but others of the grid are"
            )
        loops.append(_Loop(counter, stop, spread))

    def _grid(self) -> dict[str, int]:
        """The registers `split` by counter; empty if none of them is set."""
        grid = {name: self.values[CSR_BY_NAME[f"split.{name}"].address] for name in COUNTERS[:3]}
        return grid if any(grid.values()) else {}

    def _check_store(self) -> None:
        """ST: no two cores execute it for the same tile."""
        spread = [COUNTERS[loop.counter] for loop in self.loops if loop.spread]
        if not spread:
            raise InputError("every core would store this: it must be in the spread loop")
        for name, cores in self._grid().items():
            if cores > 1 and name not in spread:
                raise InputError(
                    f"{cores} cores would store this: it must be in a spread loop over {name}"
                )

    def _pass_barrier(self, row: Instruction, index: int) -> None:
        """FENCE and HALT: no loop is open. The words up to the next barrier may hold a spread loop."""
        if self.loops:
            raise InputError(f"{row.mnemonic} must not be in a loop")
        self.halted = row.opcode == OP.halt
        self.shared = _spread_ahead(self.program, index + 1)


def _spread_ahead(program: Program, start: int) -> bool:
    """Whether a loop is spread between a word and the next barrier."""
    for word in program.words[start:]:
        decoded = decode(int(word))
        if decoded is not None and "spread" in decoded.flags:
            return True
        if int(word) >> OPCODE_LOW == OP.fence:
            return False
    return False


def _check_arithmetic(decoded: Decoded, values: list[int]) -> None:
    """The registers describe an arithmetic that the array or POST can compute."""
    if decoded.row.multiplies:
        multiply_profile(values)
        return
    conversion = post_conversion(values)
    if "bias" in decoded.flags and conversion.bias is None:
        raise InputError("register d.format is not set")


def _check_operand_port(decoded: Decoded) -> None:
    """The port exists."""
    port = decoded.operands.get("operand", 0)
    if port >= len(OPERANDS):
        raise InputError(f"operand {port} does not exist: a, b and d do")


def _undecodable(word: int) -> str:
    """Why a word is no instruction."""
    row = BY_OPCODE.get(word >> OPCODE_LOW)
    if row is None:
        return f"no instruction has opcode 0x{word >> OPCODE_LOW:02x}"
    return f"{row.mnemonic} gives no meaning to bits 0x{word & ~meaningful(row):x}"


def check_words(program: Program) -> None:
    """Refuse undefined opcodes, registers, values and formats, and loops that do not nest.

    Raises:
        InputError: with the instruction's index, its text and the reason.
    """
    words = _Words(program)
    for index in range(len(program)):
        try:
            words.check(index)
        except InputError as error:
            raise refuse(program, index, error) from None
    if not words.halted:
        raise InputError("the program does not end with halt")


# -- all addresses -----------------------------------------------------------------------------------

#: What the walk over all addresses can find beside the faults of `step`, and the text of the error.
_ACCESS_TEXTS = {
    "sound": "",
    "scratchpad": "scratchpad rows {first}..{last} are touched, the machine has {limit}",
    "accumulators": "accumulator rows {first}..{last} are touched, the machine has {limit}",
    "unwritten": "scratchpad row {first} is read before anything wrote it",
    "uncleared": "accumulator row {first} is used before it was cleared",
    "too_long": "the program does not end within {limit} instructions",
}
_ACCESS = enumerate_names("Access", *_ACCESS_TEXTS)

#: The result of a walk.
_WALK = layout(
    fault=np.int64,  # a member of `FAULT`, of `step`
    access=np.int64,  # a member of `_ACCESS`
    index=np.int64,  # of the refused instruction
    first=np.int64,  # refused rows: the first and the last one
    last=np.int64,
    instructions=np.int64,  # executed, HALT included
    stale_operands=np.int64,  # `Findings.stale_operands`
)
_WalkResult = tuple_type("_WalkResult", _WALK)
_MULTIPLIES = opcodes_with("multiplies")
_BARRIER, _WRITES_CSR = opcodes_with("barrier"), opcodes_with("writes_csr")


@jit
def _first_unset(flags, first, stop):
    """The first index of [first, stop) whose flag is not set, or −1.

    The minimum of all flags vectorises, the search does not.
    """
    least = np.uint8(1)
    for row in range(first, stop):
        least = min(least, np.uint8(flags[np.uintp(row)]))
    if least:
        return -1
    while flags[first]:
        first += 1
    return first


@jit
def _check_sizes(op, scratchpad_rows, accumulator_rows, walk):
    """Check that the machine has the rows of an instruction. Returns a member of `_ACCESS`."""
    stop = max(op.read.stop, op.read_second.stop, op.write.stop)
    if stop > scratchpad_rows:
        walk.first = max(op.read.first, op.read_second.first, op.write.first)
        walk.last = stop - 1
        return _ACCESS.scratchpad
    if op.sums.stop > accumulator_rows:
        walk.first, walk.last = op.sums.first, op.sums.stop - 1
        return _ACCESS.accumulators
    return _ACCESS.sound


@jit
def _check_scratchpad(op, written, walk):
    """Check that rows are written before they are read. Returns a member of `_ACCESS`."""
    for rows in (op.read, op.read_second):
        row = _first_unset(written, rows.first, rows.stop)
        if row >= 0:
            walk.first = walk.last = row
            return _ACCESS.unwritten
    written[op.write.first : op.write.stop] = True
    return _ACCESS.sound


@jit
def _check_accumulators(op, cleared, walk):
    """Check that accumulators are cleared before they are used. Returns a member of `_ACCESS`."""
    if op.opcode == OP.clr:
        cleared[op.sums.first : op.sums.stop] = True
        return _ACCESS.sound
    row = _first_unset(cleared, op.sums.first, op.sums.stop)
    if row < 0:
        return _ACCESS.sound
    walk.first = walk.last = row
    return _ACCESS.uncleared


@jit
def _invalidate(op, core, regs, boxes, stale):
    """Mark the ports whose loaded rows this instruction overwrites. A port that LD fills is valid again."""
    for port in range(stale.size):
        box = boxes[port]
        overlap = box.row < op.write.stop and op.write.first < box_stop(box, core, regs)
        if box.kind != BOX_KIND.empty and overlap:
            stale[port] = True
    if op.opcode == OP.ld:
        stale[op.port] = False


@jit
def _track_operands(op, core, regs, boxes, stale, load_modes):
    """Whether this instruction may read an operand that is not what DRAM holds where the registers say."""
    if op.write.stop > op.write.first:
        _invalidate(op, core, regs, boxes, stale)
    if _WRITES_CSR[op.opcode] or _BARRIER[op.opcode]:
        stale[:] = True  # Loaded under other registers, or before other stores.
        load_modes[:] = -1
    if op.opcode == OP.ld:
        box, previous = boxes[op.port], load_modes[op.port]
        load_modes[op.port] = box.kind + 4 * box.transposed + 8 * box.reversed
        return previous >= 0 and previous != load_modes[op.port]
    return _MULTIPLIES[op.opcode] and (stale[PORT.a] or stale[PORT.b])


@jit
def _walk(words, core, regs, boxes, op, written, cleared, limit, walk):
    """Resolve the program to HALT, or to its first fault, and check every access.

    Args:
        words, core, regs, boxes, op: as in `sequencer.step`.
        written, cleared: flags of the scratchpad rows and accumulator rows, all False at first; changed.
        limit: instructions to execute at most.
        walk: a `_WALK` record, filled.
    """
    stale = np.zeros(boxes.size, np.bool_)  # of each port
    load_modes = np.full(
        boxes.size, -1
    )  # kind and flags of each port's loads since registers were written
    for number in range(limit):
        walk.fault = step(words, core, regs, boxes, op)
        walk.index, walk.instructions = op.index, number + 1
        if walk.fault != FAULT.none or core.halted:
            return
        walk.access = _check_sizes(op, written.size, cleared.size, walk)
        if walk.access == _ACCESS.sound:
            walk.access = _check_scratchpad(op, written, walk)
        if walk.access != _ACCESS.sound:
            return
        if _track_operands(op, core, regs, boxes, stale, load_modes):
            walk.stale_operands = 1
        walk.access = _check_accumulators(op, cleared, walk)
        if walk.access != _ACCESS.sound:
            return
    walk.access = _ACCESS.too_long


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
    """Facts about a program that passes the checks."""

    instructions: int  #: that one core executes if it is alone
    #: whether the array may read operands that are not what DRAM holds where the registers say: rows that
    #: another instruction overwrote, or loaded under other registers, or loaded both with and without one of
    #: the flags `image`, `t` and `turned`
    stale_operands: bool


@functools.lru_cache(64)  # a program may run many times
def examine(program: Program, machine: Machine, dram_bytes: int | None = None) -> Findings:
    """`check`, with findings about the program."""
    check_words(program)
    size = program.dram_lines * LINE if dram_bytes is None else dram_bytes
    result = _walk_program(program, machine, size)
    if result.fault != FAULT.none:
        raise refuse(program, result.index, fault_text(result.fault))
    if result.access != _ACCESS.sound:
        limits = {_ACCESS.accumulators: machine.accumulator_rows, _ACCESS.too_long: MAX_STEPS}
        limit = limits.get(result.access, machine.scratchpad_rows)
        text = list(_ACCESS_TEXTS.values())[result.access]
        reason = text.format(first=result.first, last=result.last, limit=limit)
        raise refuse(program, result.index, reason)
    return Findings(result.instructions, bool(result.stale_operands))


def _walk_program(program: Program, machine: Machine, dram_bytes: int) -> Any:
    """The result of a walk over the program, a `_WalkResult`. Short programs are interpreted."""
    words, walk = program.words.astype(np.int64), record(_WALK)

    def arguments(limit: int) -> tuple[Any, ...]:
        core, regs, boxes = start(words, 0, 1, machine.array.columns, dram_bytes)
        written = np.zeros(machine.scratchpad_rows, np.bool_)
        cleared = np.zeros(machine.accumulator_rows, np.bool_)
        return words, core, regs, boxes, record(RESOLVED), written, cleared, limit, walk

    if limit := INTERPRETED.left(_walk, *arguments(MAX_STEPS)):
        interpreted(_walk)(*arguments(limit))
        INTERPRETED.spend(int(walk.instructions))
        if walk.access != _ACCESS.too_long:
            return _WalkResult(*walk.item())
    walk = record(_WALK)
    _walk(*arguments(MAX_STEPS))
    return _WalkResult(*walk.item())
