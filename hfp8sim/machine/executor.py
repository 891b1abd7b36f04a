"""The executor: runs a program in order and computes every bit of it.

A core is a compiled loop over the program. It moves boxes between DRAM and scratchpad. At the first matrix
tile of a GEMM it pauses, and `multiplier` chooses how its tiles are computed; where that is by a vector kernel,
the loop goes on with the tiles that follow by itself (`tiles`), and with POST where codes come out as they
are. Values do not depend on how many cores there are, so as many are emulated as there are
threads, whatever the machine has: a spread loop's iterations are shared out among them.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,call-arg"

from __future__ import annotations

import contextlib
import dataclasses
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfp8sim import kernels
from hfp8sim._numba.copies import MOVED
from hfp8sim._numba.jit import jit
from hfp8sim._numba.layouts import record, tuple_type
from hfp8sim.errors import InputError
from hfp8sim.floating_point import standard_arithmetic
from hfp8sim.isa import Program, image, instruction_text, outputs
from hfp8sim.isa.segments import segments
from hfp8sim.isa.table import CSR, FLAG, OP, OPERANDS, PORT
from hfp8sim.machine import arithmetic, tiles
from hfp8sim.machine.arithmetic import Conversion
from hfp8sim.machine.boxes import tile_blocks
from hfp8sim.machine.check import MAX_STEPS, examine, refuse
from hfp8sim.machine.config import Machine, get_machine
from hfp8sim.machine.movement import (
    join_blocks,
    load_box,
    locate_a,
    locate_b,
    store_tile,
    tensor_spans,
    unfold,
)
from hfp8sim.machine.multiplier import (
    CoreState,
    FastSum,
    Plans,
    Product,
    Sum,
    Sums,
    Tile,
    count_gated,
)
from hfp8sim.machine.post import post_facts, post_table, post_tile
from hfp8sim.machine.sequencer import start, step
from hfp8sim.machine.state import BOX, BOX_KIND, FAULT, RESOLVED, fault_text
from hfp8sim.ops import Events, count_nan, no_counts, thread_count

#: Why the compiled loop came back.
_HALT, _ERROR, _LIMIT, _MULTIPLY, _POST, _FENCE, _PAUSE = range(7)
_BREATH = kernels.MACS_PER_CALL  # Python handles Ctrl-C between calls of the compiled loop
#: Counts of a core: instructions, the last error, fences, writes of registers, multiply-accumulates, and
#: loads of each port.
_DONE, _WHY, _FENCES, _WRITES, _MACS, _LOADS = range(6)
_POST_FLAGS = FLAG.bias | FLAG.relu | FLAG.clamp
_DONE_SIZE = _LOADS + len(OPERANDS)
#: The dtype of an operand's elements, by their bytes.
#: Records as plain integers.
_Op = tuple_type("_Op", RESOLVED)
_Box = tuple_type("_Box", BOX)
_ELEMENTS = {size: np.dtype(f"u{size}") for size in (1, 2, 4)}


@dataclasses.dataclass(frozen=True)
class Execution:
    """What a program did.

    `outputs` holds codes by symbol name. `instructions` are those of one core that does all. `macs` counts
    multiply-accumulates, `gated` those of them with a zero operand, whose multiplier stands still; `gated`
    and `events` are counted on request only.
    """

    outputs: dict[str, NDArray[Any]]
    dram: NDArray[np.uint8]
    instructions: int
    macs: int
    gated: int | None
    events: Events | None


# -- the compiled loop -------------------------------------------------------------------------------


@jit
def _run(words, core, regs, box, op, dram, scratchpad, limit, breath, done, table, spare):
    """Execute until HALT, a tile or a POST that is not for compiled code alone, FENCE, an error, `limit`
    instructions, or (in tiles) `breath` multiply-accumulates.

    `done` counts what happens. The instruction that stopped the loop is in `op`.
    """
    row_bytes, enough, tile = core.row_bytes, done[_MACS] + breath, table[0]
    for _ in range(limit):
        error = step(words, core, regs, box, op)
        if error != FAULT.none:
            done[_WHY] = error
            return _ERROR
        done[_DONE] += 1
        code = op.opcode
        if code == OP.mm or code == OP.cv:
            done[_MACS] += op.m.count * op.n.count * op.k.count
            if not (tiles.is_autonomous(tile, op) and tiles.has_room(tile, box, op, regs, spare)):
                return _MULTIPLY
            tiles.multiply(tile, regs, box, op, scratchpad, row_bytes, spare)
            if done[_MACS] >= enough:
                return _PAUSE
        elif code == OP.post:
            changed = words[op.index] & _POST_FLAGS
            if changed or not (tile.copies and tiles.is_autonomous(tile, op)):
                return _POST
            tiles.post(tile, op, scratchpad, row_bytes)
        elif code == OP.ld:
            port = op.port
            done[_LOADS + port] += 1
            load_box(box[port], port, regs, dram, scratchpad, row_bytes)
        elif code == OP.st:
            store_tile(op, regs, scratchpad, dram, row_bytes)
        elif code == OP.fence:
            done[_FENCES] += 1
            tile.autonomous = 0
            return _FENCE
        elif code == OP.csrw:
            done[_WRITES] += 1
            tile.autonomous = 0
        elif core.halted:
            return _HALT
    return _LIMIT


class _Core:
    """One emulated core: its memories, and what stands between the compiled loop and the units."""

    def __init__(
        self, program: Program, machine: Machine, dram: NDArray[np.uint8], core: int, cores: int,
        plans: Plans, count: bool, share: list[int],
    ) -> None:  # fmt: skip
        self.program, self.dram, self.count = program, dram, count
        # By the number of fences: what the threads that work at a tile have of their own.
        memories = [kernels.Reused() for _ in range(max(share))]
        self.memories = [memories[:threads] for threads in share]
        self.words = program.words.astype(np.int64)
        self.width = machine.array.columns
        self.state, self.regs, self.box = start(self.words, core, cores, self.width, dram.size)
        self.op = record(RESOLVED)
        self.scratchpad = np.zeros(machine.scratchpad_rows * self.width + MOVED, np.uint8)
        self.done = np.zeros(_DONE_SIZE, np.int64)
        # The last two as plain integers, which are read many times, since the loop came back.
        self.now, self.counts = _Op(*self.op.item()), self.done.tolist()
        self.events = no_counts()
        self.nan = self.gated = 0
        self.plans, self.sums = plans, Sums()
        self.core = CoreState(self.regs, self.box, self.op, self.scratchpad, self.width)
        # The table of the tiles that the compiled loop may compute alone, at first none.
        self.table, self.spare = np.zeros(1, tiles.TILES), np.zeros(0, np.uint8)
        self._configured: tuple[int, ...] = ()
        self._boxes: list[tuple[int, Any]] = [(0, None)] * len(OPERANDS)
        self._product: Product | None = None
        self._conversion: tuple[int, Conversion] | None = None
        self._sum: Sum | None = None

    def run(self, limit: int, fence: Callable[[], object]) -> bool:
        """Execute at most `limit` instructions; False when the program has ended."""
        while True:
            before = self.counts[_DONE]
            why = _run(
                self.words, self.state, self.regs, self.box, self.op, self.dram, self.scratchpad,
                limit, _BREATH, self.done, self.table, self.spare,
            )  # fmt: skip
            self.now, self.counts = _Op(*self.op.item()), self.done.tolist()
            limit -= self.counts[_DONE] - before
            if why == _MULTIPLY:
                self._multiply()
            elif why == _POST:
                self._post()
            elif why == _FENCE:
                fence()
            elif why == _ERROR:
                raise refuse(self.program, self.now.index, fault_text(self.counts[_WHY]))
            if why == _HALT:
                return False
            if limit == 0:
                return True

    def _box(self, port: int) -> Any:
        """A port's box as plain integers, read anew after every load."""
        load = self.counts[_LOADS + port]
        if self._boxes[port][0] != load:
            self._boxes[port] = load, _Box(*self.box[port].item())
        return self._boxes[port][1]

    def _operand_a(self, first: int, stop: int) -> Any:
        """Rows [first, stop) of A's tile, (stop − first, kt)."""
        box, now, rows = self._box(PORT.a), self.now, stop - first
        m0, k0, kt, size = now.m[0] + first, now.k[0], now.k[1], box.element_bytes
        memory, place = self.scratchpad, locate_a(self.box[PORT.a], self.op, first, self.width)
        if box.kind == BOX_KIND.image:
            memory, turned = np.empty(rows * kt * size + MOVED, np.uint8), box.transposed
            unfolded = (k0, kt, m0, rows) if turned else (m0, rows, k0, kt)
            unfold(
                self.scratchpad, self.width, self.box[PORT.a], self.regs, now.group[0], *unfolded, memory
            )  # fmt: skip
            place = (0, size, rows * size) if turned else (0, kt * size, size)
        return _codes((rows, kt), size, memory, place)

    def _operand_b(self) -> Any:
        """B of the tile, (kt, nt)."""
        box, now, memory = self._box(PORT.b), self.now, self.scratchpad
        nt, size = now.n[1], box.element_bytes
        place = locate_b(self.regs, self.box[PORT.b], self.op, self.width)
        if box.transposed:
            _, blocks = tile_blocks(self.regs, self.op)
            if blocks > 1:
                memory = np.empty(blocks * box.columns[1] * nt * size, np.uint8)
                place = join_blocks(
                    self.regs, self.box[PORT.b], self.op, self.scratchpad, self.width, memory
                )
        return _codes((nt, now.k[1]), size, memory, place).T

    def _group_product(self) -> Product:
        """The product of the current registers and group, kept while they stay."""
        regs, group = self.regs, self.now.group[0]
        key = self.counts[_WRITES], self.counts[_FENCES], group
        if key != self._configured or self._product is None:
            profile, a, b = arithmetic.multiply_profile(regs)
            depth = int(regs[CSR.k])
            plan = self.plans.get(key[:2], profile, a, b, depth, self._operand_tensors)
            seed, stream = arithmetic.seed_and_stream(regs, group)
            self._product = Product.make(profile, a, b, depth, seed, stream, plan)
            self._configured = key
        return self._product

    def _operand_tensors(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """All of DRAM that operands A and B of the current GEMM can come from; None if the results of
        the same GEMM may go there."""
        spans = np.zeros((3, 2), np.int64)
        tensor_spans(self.regs, self.box, spans)
        a, b, c = ((int(first), min(int(stop), self.dram.size)) for first, stop in spans)
        if any(c[0] < stop and first < c[1] for first, stop in (a, b)):
            return None
        sizes = (int(self.box[port].element_bytes) for port in (PORT.a, PORT.b))
        parts = (
            self.dram[first:stop].view(f"u{size}") for (first, stop), size in zip((a, b), sizes)
        )
        return next(parts), next(parts)

    def _multiply(self) -> None:
        """MM and CV."""
        self.table["autonomous"] = 0  # until it is sure that this tile is one of many
        product, now = self._group_product(), self.now
        m, n, k = now.m, now.n, now.k
        tile = Tile(now.group[0], m, n, k, self._operand_a, self._operand_b, self.core)
        if k[0] == 0:
            self._sum = self.sums.start(product, tile, self.memories[self.counts[_FENCES]])
        if k[1] == 0 or self._sum is None:
            return
        self._sum.add(tile)
        if self.count:
            self.gated += count_gated(product, tile)
            if sum(k) == product.depth:
                self.events += self._sum.events
        elif isinstance(self._sum, FastSum) and self._sum.product is product:
            self._go_on_alone(self._sum)

    def _go_on_alone(self, sums: FastSum) -> None:
        """Let the compiled loop compute the tiles that come, until something but the tile changes."""
        sums.take_whole_tiles()
        self.table, self.spare = sums.table, sums.spare
        copies = False
        with contextlib.suppress(InputError):  # (which is POST's to raise)
            copies = self._post_conversion().copies
        self.table["autonomous"], self.table["copies"] = 1, copies

    def _post_conversion(self) -> Conversion:
        """The conversion of the current registers, kept while they stay."""
        writes = self.counts[_WRITES]
        if self._conversion is None or self._conversion[0] != writes:
            self._conversion = writes, arithmetic.post_conversion(self.regs)
        return self._conversion[1]

    def _post(self) -> None:
        """POST."""
        now, regs = self.now, self.regs
        conversion = self._post_conversion()
        active = int(self.words[now.index]) & _POST_FLAGS
        mt, nt, first = now.m[1], now.n[1], now.write[0] * self.width
        dtype = conversion.result.dtype
        place = self.scratchpad[first : first + mt * nt * dtype.itemsize]
        aligned = first % dtype.itemsize == 0
        results = place.view(dtype).reshape(mt, nt) if aligned else np.empty((mt, nt), dtype)
        if regs[CSR.k] == 0 or self._sum is None:
            sums: NDArray[Any] = np.zeros((mt, nt), np.uint32)
        elif conversion.copies and not active:
            sums = results
            self._sum.codes(results)
        else:
            sums = np.empty((mt, nt), conversion.sums.dtype)
            self._sum.codes(sums)
        if sums is not results:
            seed, stream = arithmetic.seed_and_stream(regs, now.group[0])
            pitch = int(regs[CSR.c_pitch])
            number = now.group[0] * int(regs[CSR.c_group]) + now.m[0] * pitch + now.n[0]
            post_tile(
                sums, self._biases(active), active, post_facts(conversion), post_table(conversion, active),
                np.uint64(seed), np.uint64(stream), number, pitch, results,
            )  # fmt: skip
        if not aligned:
            place[:] = results.reshape(-1).view(np.uint8)
        if self.count:
            self.nan += count_nan(sums, conversion.sums)

    def _biases(self, active: int) -> NDArray[np.uint32]:
        """The biases of the tile's columns, or none."""
        if not active & FLAG.bias:
            return np.zeros(0, np.uint32)
        box, now = self._box(PORT.d), self.now
        size, row = box.element_bytes, now.group[0] - box.groups[0]
        at = box.row * self.width + (row * box.columns[1] + now.n[0] - box.columns[0]) * size
        biases = _codes((1, now.n[1]), size, self.scratchpad, (at, size, size))
        return np.asarray(biases[0], np.uint32)

    def effect(self) -> str:
        """What the last instruction changed, for the log: rows, and a checksum of what they hold now."""
        op = self.op
        if op.write.stop > op.write.first:
            first, stop = int(op.write.first), int(op.write.stop)
            held = self.scratchpad[first * self.width : first * self.width + int(op.bytes)]
            what = f"s[{first}..{stop - 1}] = {int(op.bytes)} bytes"
            if op.opcode == OP.ld:
                what = f"{OPERANDS[int(op.port)]} → " + what
            return f"{what}, crc {zlib.crc32(held.tobytes()):08x}"
        if op.opcode in (OP.mm, OP.cv):
            tile = f"m {op.m.first}+{op.m.count} n {op.n.first}+{op.n.count} k {op.k.first}+{op.k.count}"
            what = f"c[{op.sums.first}..{op.sums.stop - 1}] {tile}"
            if op.k.first + op.k.count < self.regs[CSR.k]:
                return what
            sums = np.zeros((int(op.m.count), int(op.n.count)), np.uint32)
            if self._sum is not None and op.k.count > 0:
                self._sum.codes(sums)
            return f"{what}, crc {zlib.crc32(sums.tobytes()):08x}"
        if op.opcode == OP.st:
            return f"DRAM = {int(op.bytes)} bytes of s[{op.read.first}..{op.read.stop - 1}]"
        return ""


def _codes(
    shape: tuple[int, int], size: int, memory: NDArray[np.uint8], place: tuple[int, int, int]
) -> NDArray[Any]:
    """A matrix of codes of so many bytes at a place in memory: byte, and bytes from row to row and from
    column to column; a copy where they are not aligned."""
    at, *steps = place
    codes: NDArray[Any] = np.ndarray(shape, _ELEMENTS[size], memory, at, steps)
    return codes if codes.flags.aligned else codes.copy()


# -- programs ----------------------------------------------------------------------------------------


@standard_arithmetic
def execute(
    program: Program,
    inputs: dict[str, ArrayLike],
    machine: str | Machine = "rapid-core",
    *,
    threads: int | None = None,
    count: bool = False,
    log: Callable[[str], object] | None = None,
) -> Execution:
    """Run a program.

    Args:
        inputs: codes of every input symbol.
        machine: its memories bound the program; nothing else of it matters for values.
        threads: emulated cores; as many as this process may use by default. No value depends on it.
        count: also count events of the arithmetic and gated multiply-accumulates.
        log: called with one line per executed instruction, in order: number, index, text, effect.

    Raises:
        InputError: a program that `check` refuses, or inputs that are not those of its symbols.
    """
    machine = get_machine(machine)
    dram = image(program, inputs)
    findings = examine(program, machine, dram.size)
    threads = 1 if log is not None else thread_count(threads)
    busy = [min(segment.cores, threads) for segment in segments(program)]
    cores, share, plans = (
        max(busy),
        [threads // each for each in busy],
        Plans(count, findings.overwritten),
    )
    # Emulated cores run on threads of one pool; threads that are left over split their tiles.
    with ThreadPoolExecutor(threads) as runners:
        team = [
            _Core(program, machine, dram, core, cores, plans, count, share) for core in range(cores)
        ]
        if cores == 1:
            _run_alone(team[0], log)
        else:
            barrier = threading.Barrier(cores)
            ends = [runners.submit(_run_together, core, barrier) for core in team]
            failures = [error for end in ends if (error := end.exception()) is not None]
            for error in sorted(
                failures, key=lambda e: isinstance(e, threading.BrokenBarrierError)
            ):
                raise error  # the cause, not those who waited for it
    counts = sum((core.events for core in team), no_counts())
    events = Events.of(counts, sum(core.nan for core in team))
    return Execution(
        outputs(program, dram),
        dram,
        findings.instructions,
        sum(core.counts[_MACS] for core in team),
        sum(core.gated for core in team) if count else None,
        events if count else None,
    )


def _run_alone(core: _Core, log: Callable[[str], object] | None) -> None:
    if log is None:
        core.run(MAX_STEPS, lambda: None)
        return
    number, running = 0, True
    while running:
        running = core.run(1, lambda: None)
        index = int(core.op.index)
        text = " ".join(instruction_text(int(core.program.words[index])).split())
        log(f"{number:>8} {index:>5}  {text:<40} {core.effect()}".rstrip())
        number += 1


@standard_arithmetic
def _run_together(core: _Core, barrier: threading.Barrier) -> None:
    try:
        core.run(MAX_STEPS, barrier.wait)
    except BaseException:
        barrier.abort()
        raise
